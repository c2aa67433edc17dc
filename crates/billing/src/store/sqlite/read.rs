//! From columns to checked types. A value that does not fit was not written by this program.

use crate::error::Error;
use rusqlite::types::Type;
use rusqlite::{ErrorCode, Row};
use units::{Amount, Instant};

/// A failed constraint is a broken invariant; everything else is the database's trouble.
pub(super) fn sql(error: rusqlite::Error) -> Error {
    match error.sqlite_error_code() {
        Some(ErrorCode::ConstraintViolation) => Error::Bug(error.to_string()),
        _ => Error::Store(error.to_string()),
    }
}

/// A value that does not fit its type.
pub(super) fn corrupt(column: usize, what: &'static str) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Text, what.into())
}

/// A number as the database has it.
pub(super) fn int(value: u64) -> Result<i64, Error> {
    i64::try_from(value).map_err(|_| Error::Bug(format!("{value} is beyond what the database can hold")))
}

/// Reads the columns of a row from left to right.
pub(super) struct Columns<'a, 'r> {
    row: &'a Row<'r>,
    next: usize,
}

type Read<T> = rusqlite::Result<T>;

impl<'a, 'r> Columns<'a, 'r> {
    pub(super) fn of(row: &'a Row<'r>) -> Self {
        Self { row, next: 0 }
    }

    fn take<T: rusqlite::types::FromSql>(&mut self) -> Read<T> {
        let value = self.row.get(self.next);
        self.next = self.next.saturating_add(1);
        value
    }

    fn fit<T>(&self, value: Option<T>, what: &'static str) -> Read<T> {
        value.ok_or_else(|| corrupt(self.next.saturating_sub(1), what))
    }

    pub(super) fn i64(&mut self) -> Read<i64> {
        self.take()
    }

    pub(super) fn u64(&mut self) -> Read<u64> {
        let value: i64 = self.take()?;
        self.fit(u64::try_from(value).ok(), "below zero")
    }

    pub(super) fn u32(&mut self) -> Read<u32> {
        let value: i64 = self.take()?;
        self.fit(u32::try_from(value).ok(), "no small number")
    }

    pub(super) fn maybe_u64(&mut self) -> Read<Option<u64>> {
        let value: Option<i64> = self.take()?;
        value.map(|value| self.fit(u64::try_from(value).ok(), "below zero")).transpose()
    }

    pub(super) fn flag(&mut self) -> Read<bool> {
        Ok(self.i64()? != 0)
    }

    pub(super) fn amount(&mut self) -> Read<Amount> {
        let value = self.i64()?;
        self.fit(Amount::new(value).ok(), "no amount")
    }

    pub(super) fn at(&mut self) -> Read<Instant> {
        self.i64().map(Instant::from_micros)
    }

    pub(super) fn maybe_at(&mut self) -> Read<Option<Instant>> {
        let value: Option<i64> = self.take()?;
        Ok(value.map(Instant::from_micros))
    }

    pub(super) fn text(&mut self) -> Read<String> {
        self.take()
    }

    pub(super) fn maybe_text(&mut self) -> Read<Option<String>> {
        self.take()
    }

    /// An identifier.
    pub(super) fn id<T: TryFrom<String>>(&mut self) -> Read<T> {
        let text = self.text()?;
        self.fit(T::try_from(text).ok(), "no identifier")
    }

    pub(super) fn maybe_id<T: TryFrom<String>>(&mut self) -> Read<Option<T>> {
        let text = self.maybe_text()?;
        text.map(|text| self.fit(T::try_from(text).ok(), "no identifier")).transpose()
    }

    /// A word of an enumeration.
    pub(super) fn word<T>(&mut self, parse: impl Fn(&str) -> Option<T>) -> Read<T> {
        let text = self.text()?;
        self.fit(parse(&text), "no known word")
    }

    pub(super) fn maybe_word<T>(&mut self, parse: impl Fn(&str) -> Option<T>) -> Read<Option<T>> {
        let text = self.maybe_text()?;
        text.map(|text| self.fit(parse(&text), "no known word")).transpose()
    }
}
