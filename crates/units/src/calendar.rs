//! Months in UTC, as whoever bills by the month counts them.

use crate::Instant;
use time::{Date, Month, OffsetDateTime};

const DAY: i64 = 86_400_000_000;

impl Instant {
    /// The same day of the month and time of day, so many months later (or earlier), in UTC; the last day of a month that
    /// is too short. Always counted from the same anchor, 31 January leads to 28 February and 31 March (Stripe,
    /// "Subscriptions: billing cycle anchor"). [`Instant::FAR`] beyond the year 9999, and for what is no date.
    #[must_use]
    pub fn plus_months(self, months: i32) -> Self {
        self.moved(months).unwrap_or(Self::FAR)
    }

    fn moved(self, months: i32) -> Option<Self> {
        let day = OffsetDateTime::from_unix_timestamp(self.secs()).ok()?.date();
        let of_day = self.micros().rem_euclid(DAY);
        let count =
            day.year().checked_mul(12)?.checked_add(i32::from(u8::from(day.month())))?.checked_sub(1)?;
        let count = count.checked_add(months)?;
        let (year, month) = (count.div_euclid(12), count.rem_euclid(12).checked_add(1)?);
        if !(0..=9999).contains(&year) {
            return None;
        }
        let month = Month::try_from(u8::try_from(month).ok()?).ok()?;
        let date = Date::from_calendar_date(year, month, day.day().min(month.length(year))).ok()?;
        let midnight = date.midnight().assume_utc().unix_timestamp();
        Some(Self::from_micros(midnight.checked_mul(1_000_000)?.checked_add(of_day)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Instant {
        Instant::from_rfc3339(text).unwrap()
    }

    #[test]
    fn the_anchor_is_kept_and_short_months_end_it_early() {
        let months = |from: &str| (0..5).map(|n| at(from).plus_months(n).to_rfc3339()).collect::<Vec<_>>();
        let expected = ["2026-01-31", "2026-02-28", "2026-03-31", "2026-04-30", "2026-05-31"]
            .map(|day| format!("{day}T23:59:59Z"));
        assert_eq!(months("2026-01-31T23:59:59Z"), expected);
        assert_eq!(at("2028-01-31T00:00:00Z").plus_months(1), at("2028-02-29T00:00:00Z"));
        assert_eq!(at("2028-02-29T00:00:00Z").plus_months(12), at("2029-02-28T00:00:00Z"));
        assert_eq!(at("2026-03-31T07:00:00Z").plus_months(-1), at("2026-02-28T07:00:00Z"));
        assert_eq!(at("2026-12-15T00:00:00.5Z").plus_months(1), at("2027-01-15T00:00:00.5Z"));
        assert_eq!(Instant::FAR.plus_months(1), Instant::FAR);
    }

    #[test]
    fn every_day_of_thirty_years_moves_to_the_same_day_or_the_last_one() {
        let mut day = at("2020-01-01T12:34:56Z");
        while day < at("2050-01-01T00:00:00Z") {
            let parts = |at: Instant| at.to_rfc3339();
            for n in 1..=13 {
                let moved = day.plus_months(n);
                let (was, is) = (parts(day), parts(moved));
                assert_eq!(was.get(10..), is.get(10..), "the time of day");
                let dom = |text: &str| text.get(8..10).unwrap().parse::<u8>().unwrap();
                let last = parts(Instant::from_micros(moved.micros() + DAY)).get(8..10) == Some("01");
                assert!(dom(&was) == dom(&is) || dom(&is) < dom(&was) && last, "{was} {n} {is}");
                assert!(moved > day.plus_months(n - 1) && moved.plus_months(-n) <= day, "{was} {n} {is}");
            }
            day = Instant::from_micros(day.micros() + DAY);
        }
    }
}
