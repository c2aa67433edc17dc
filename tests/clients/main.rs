//! Other people's clients through the whole: the SDKs of OpenAI, Anthropic and Stripe, and a Stripe that sends events of its own.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what does not hold in a test is the test's failure"
)]

mod answers;
mod events;
mod metered_answers;
mod programs;
mod refusals;
