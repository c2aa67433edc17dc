//! One per VM: gathers what its streams ask and report, speaks with billing for all of them, and answers each.

mod talk;

pub use talk::{Answer, Fault, Pass, Question, Report};
