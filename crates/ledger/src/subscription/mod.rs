//! Stripe's facts about subscriptions and payments, folded into where an account stands and what it is granted.
//!
//! Order-free: the same facts in any order, any number of times, give the same result. Not here: JSON, HTTP.

mod allowance;
mod fact;
mod fold;
mod policy;
mod standing;

pub use allowance::{Withheld, allowances, purchase};
pub use fact::{InvoiceLine, InvoicePaid, Item, PurchasePaid, Snapshot, Status};
pub use fold::{Folded, Subscription, Subscriptions};
pub use policy::{Allowance, OnCancel, Plan, Policy, WhileCollectionPaused};
pub use standing::{Stage, Standing, standing};
