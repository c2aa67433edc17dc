//! How a story can go wrong; reads the same with `{}` and `{:?}`, so that a test may simply use `?`.

use std::fmt;

/// Why a story cannot go on.
pub enum Failure {
    /// The module cannot be loaded, or wants something from its host that no host has.
    Load(String),
    /// `on_vm_start` or `on_configure` said no; Envoy would not start, or would keep its old configuration.
    Refused {
        /// Everything that was logged meanwhile.
        log: Vec<String>,
    },
    /// The module trapped, or did what makes Envoy itself misbehave. That VM is dead.
    Trap {
        /// During which callback, for which context.
        callback: String,
        /// What the interpreter, or this host, says.
        why: String,
        /// What it logged as an error meanwhile: the panic's message is there.
        last_words: Vec<String>,
    },
    /// The module let something go on that whoever reads it would wait for in vain, or take for something else.
    Misled(String),
    /// The test asks for what Envoy would never do: the test is wrong.
    Impossible(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Load(why) => write!(f, "the module cannot be loaded: {why}"),
            Self::Refused { log } => write!(f, "the configuration was refused:\n{}", log.join("\n")),
            Self::Trap { callback, why, last_words } => {
                write!(f, "trap in {callback}: {why}\n{}", last_words.join("\n"))
            }
            Self::Misled(how) => write!(f, "whoever reads what went on is misled: {how}"),
            Self::Impossible(why) => write!(f, "no Envoy would do this: {why}"),
        }
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Failure {}
