//! What is wrong with a configuration, in a form that lets its author mend it; every complaint at once.

use std::fmt;

/// One thing to mend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complaint {
    /// Where: the name of a variable, or the path of a key such as `tiers.pro.allowance.credits`.
    pub path: String,
    /// The value that was found, or what stands for it where it is a secret.
    pub value: String,
    /// What is wrong with it and what would be right.
    pub mend: String,
}

/// The list that the reader gets; nothing starts while it is not empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Complaints(pub Vec<Complaint>);

impl Complaints {
    /// Adds one.
    pub fn add(&mut self, path: impl Into<String>, value: impl fmt::Display, mend: impl Into<String>) {
        self.0.push(Complaint { path: path.into(), value: value.to_string(), mend: mend.into() });
    }

    /// The value, if there was nothing to complain about.
    ///
    /// # Errors
    /// The complaints.
    pub fn or<T>(self, value: Option<T>) -> Result<T, Self> {
        match value {
            Some(value) if self.0.is_empty() => Ok(value),
            _ => Err(self),
        }
    }
}

impl fmt::Display for Complaints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Complaint { path, value, mend } in &self.0 {
            writeln!(f, "  {path} is {value}: {mend}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Complaints {}
