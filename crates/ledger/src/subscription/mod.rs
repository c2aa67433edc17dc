//! Stripe's facts about subscriptions and payments, folded into where an account stands and what it is granted.
//!
//! Order-free: the same facts in any order, any number of times, give the same result. Not here: JSON, HTTP.

mod allowance;
mod change;
mod fact;
mod fold;
mod over;
mod paid;
mod permits;
mod policy;
mod refill;
mod standing;

pub use allowance::{CHANGE, Withheld, allowances, purchase};
pub use fact::{InvoiceLine, InvoicePaid, Item, PurchasePaid, Snapshot, Status};
pub use fold::{Folded, Subscription, Subscriptions};
pub use over::{over, undue};
pub use paid::{Paid, Part, PartKind, Payments};
pub use permits::{PackagesFor, Permits, permits};
pub use policy::{Allowance, OnCancel, OnUpgrade, Plan, Policy, Refill, Rollover, WhileCollectionPaused};
pub use refill::{next_refill, refills};
pub use standing::{Stage, Standing, standing};
