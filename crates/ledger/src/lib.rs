//! Credits, leases and subscriptions as pure state machines: commands in; changed rows, a reply and effects out.
//!
//! [`step`] moves the [`Book`] of one account; [`subscription`] folds Stripe's facts into a standing. Not here:
//! storage, clocks, HTTP, prices. Whoever calls writes the changed rows in one transaction, or drops the book.
#![deny(clippy::arithmetic_side_effects)]

mod book;
mod bug;
mod cell;
mod command;
mod grant;
mod outcome;
mod step;
pub mod subscription;
mod window;
mod words;

pub use book::{Account, Balance, Book, Ids};
pub use bug::Bug;
pub use cell::{Cell, CellId, CellState, HOLD_GENERATION_MIN, Totals};
pub use command::{
    Abandon, Command, CrashPolicy, Expire, Exposure, Lane, Leg, Mode, Need, Report, Rows, Shortfall,
    TakeBack, Timing, Upto, Void, VoidTarget,
};
pub use grant::{Grant, GrantId, Origin, Reversed, Source, Terms};
pub use outcome::{
    CellAnswer, CellGrant, Changes, Decision, Effect, ExpireAnswer, GrantAnswer, Granted, JournalEntry,
    JournalKind, Late, NeedAnswer, NoteKind, Outcome, Refusal, Refused, Reply, ReportAnswer, ReportRefused,
    TakenBack, VoidAnswer, WindowStatus,
};
pub use step::step;
pub use window::WindowRule;
