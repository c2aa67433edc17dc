//! Days and months where a product's customers live: where a window begins and ends, and what it is called.

use super::Period;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use units::Instant;

/// A time zone of the IANA database, which comes with the program: what is a day does not depend on the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone {
    name: String,
    rules: TimeZone,
}

/// A window of time, and the part of its grant's name that tells it from others of its rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// From when.
    pub from: Instant,
    /// Until when, not included; [`Instant::FAR`] if it never ends.
    pub to: Instant,
    /// `2026-11-20`, `2026-11` or `lifetime`; outside of UTC with `@` and the zone, since the same date is another time there.
    pub label: String,
}

impl Default for Zone {
    fn default() -> Self {
        Self { name: "UTC".to_owned(), rules: TimeZone::UTC }
    }
}

impl Zone {
    /// A zone by its name in the IANA database.
    ///
    /// # Errors
    /// What to write instead.
    pub fn named(name: &str) -> Result<Self, String> {
        let rules = TimeZone::get(name).ok().filter(|rules| !rules.is_unknown());
        let rules = rules.ok_or("write a time zone of the IANA database, such as Europe/Berlin or UTC")?;
        let name = rules.iana_name().unwrap_or(name).to_owned();
        Ok(if name == "UTC" { Self::default() } else { Self { name, rules } })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The window that holds `now`; `None` if the calendar has no such time (years beyond 9998).
    #[must_use]
    pub fn stretch(&self, period: Period, now: Instant) -> Option<Stretch> {
        if period == Period::Lifetime {
            return Some(Stretch { from: Instant::EPOCH, to: Instant::FAR, label: "lifetime".to_owned() });
        }
        let today = Timestamp::from_second(now.secs()).ok()?.to_zoned(self.rules.clone()).date();
        let (first, next, date) = match period {
            Period::Month => {
                let first = today.first_of_month();
                (first, first.checked_add(1.month()).ok()?, first.strftime("%Y-%m").to_string())
            }
            _ => (today, today.tomorrow().ok()?, today.to_string()),
        };
        let place = if self.rules == TimeZone::UTC { String::new() } else { format!("@{}", self.name) };
        Some(Stretch { from: self.begin(first)?, to: self.begin(next)?, label: format!("{date}{place}") })
    }

    /// When a day begins: at midnight, or, where a change of the clocks leaves midnight out, right after.
    fn begin(&self, date: Date) -> Option<Instant> {
        let begin = date.to_zoned(self.rules.clone()).ok()?.start_of_day().ok()?;
        Some(Instant::from_secs(begin.timestamp().as_second()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Instant {
        Instant::from_rfc3339(text).unwrap()
    }

    #[track_caller]
    fn check(zone: &str, period: Period, now: &str, from: &str, to: &str, label: &str) {
        let zone = Zone::named(zone).unwrap();
        let stretch = Stretch { from: at(from), to: at(to), label: label.to_owned() };
        let inside = [stretch.from, at(now), Instant::from_micros(stretch.to.micros() - 1)];
        for now in inside {
            assert_eq!(zone.stretch(period, now).as_ref(), Some(&stretch), "{now}");
        }
        assert_ne!(zone.stretch(period, stretch.to), Some(stretch.clone()), "its end is not in it");
        let before = Instant::from_micros(stretch.from.micros() - 1);
        assert_eq!(zone.stretch(period, before).unwrap().to, stretch.from, "no gap and no overlap");
    }

    #[test]
    fn days_are_those_of_the_zone() {
        let day = Period::Day;
        check(
            "UTC",
            day,
            "2026-11-20T09:30:00Z",
            "2026-11-20T00:00:00Z",
            "2026-11-21T00:00:00Z",
            "2026-11-20",
        );
        let berlin = "Europe/Berlin";
        let name = "2026-11-21@Europe/Berlin";
        check(berlin, day, "2026-11-20T23:30:00Z", "2026-11-20T23:00:00Z", "2026-11-21T23:00:00Z", name);
        let name = "2026-11-20@Asia/Kathmandu";
        check(
            "Asia/Kathmandu",
            day,
            "2026-11-20T00:00:00Z",
            "2026-11-19T18:15:00Z",
            "2026-11-20T18:15:00Z",
            name,
        );
    }

    #[test]
    fn a_day_on_which_the_clocks_change_has_23_or_25_hours() {
        let day = Period::Day;
        let spring = "2026-03-29@Europe/Berlin";
        check(
            "Europe/Berlin",
            day,
            "2026-03-29T12:00:00Z",
            "2026-03-28T23:00:00Z",
            "2026-03-29T22:00:00Z",
            spring,
        );
        let autumn = "2026-10-25@Europe/Berlin";
        check(
            "Europe/Berlin",
            day,
            "2026-10-25T01:30:00Z",
            "2026-10-24T22:00:00Z",
            "2026-10-25T23:00:00Z",
            autumn,
        );
        // Where the clocks go forward at midnight, the day begins at one.
        let cairo = "2026-04-24@Africa/Cairo";
        check(
            "Africa/Cairo",
            day,
            "2026-04-24T12:00:00Z",
            "2026-04-23T22:00:00Z",
            "2026-04-24T21:00:00Z",
            cairo,
        );
    }

    #[test]
    fn months_are_those_of_the_calendar() {
        let month = Period::Month;
        check(
            "UTC",
            month,
            "2026-02-11T00:00:00Z",
            "2026-02-01T00:00:00Z",
            "2026-03-01T00:00:00Z",
            "2026-02",
        );
        check(
            "UTC",
            month,
            "2028-02-29T00:00:00Z",
            "2028-02-01T00:00:00Z",
            "2028-03-01T00:00:00Z",
            "2028-02",
        );
        let name = "2026-03@America/New_York";
        check(
            "America/New_York",
            month,
            "2026-03-20T00:00:00Z",
            "2026-03-01T05:00:00Z",
            "2026-04-01T04:00:00Z",
            name,
        );
    }

    #[test]
    fn a_lifetime_has_one_window_and_no_end() {
        let berlin = Zone::named("Europe/Berlin").unwrap();
        for now in ["2026-11-20T09:30:00Z", "2040-01-01T00:00:00Z"] {
            let whole = berlin.stretch(Period::Lifetime, at(now)).unwrap();
            assert_eq!(
                (whole.from, whole.to, whole.label.as_str()),
                (Instant::EPOCH, Instant::FAR, "lifetime")
            );
        }
    }

    #[test]
    fn other_spellings_of_utc_are_utc() {
        for name in ["UTC", "utc"] {
            assert_eq!(Zone::named(name), Ok(Zone::default()), "{name}");
        }
        assert!(Zone::named("").is_err() && Zone::named("+01:00").is_err() && Zone::named("CEST").is_err());
    }

    #[test]
    fn every_instant_of_many_years_is_in_a_day_that_adjoins_the_next() {
        for zone in
            ["America/Sao_Paulo", "Pacific/Apia", "Australia/Lord_Howe", "Asia/Beirut", "America/Havana"]
        {
            let zone = Zone::named(zone).unwrap();
            let (mut now, end) = (at("2005-01-01T00:00:00Z"), at("2037-01-01T00:00:00Z"));
            let mut names = std::collections::BTreeSet::new();
            while now < end {
                let day = zone.stretch(Period::Day, now).unwrap();
                assert!(day.from <= now && now < day.to, "{now} is not in {day:?}");
                assert!(names.insert(day.label.clone()), "{day:?} twice");
                assert_eq!(
                    zone.stretch(Period::Day, Instant::from_micros(day.to.micros() - 1)),
                    Some(day.clone())
                );
                now = day.to;
            }
        }
    }
}
