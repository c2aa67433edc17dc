//! The verdict, for people and for machines.

use crate::Plan;
use crate::books::{DOUBLED, LOST, Line, OVERSPENT};
use crate::field::BROKE_OFF;
use crate::judge::FIVE;
use crate::looks::{BUGS, BY_ITSELF, NOT_DUE};
use crate::tally::{Odd, Tally};
use serde::Serialize;
use stage::{During as _, Result};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// What must never be counted.
const NEVER: [&str; 20] = [
    "traps (vm_reload)",
    "traps (log)",
    BUGS[0],
    BUGS[1],
    BY_ITSELF,
    NOT_DUE,
    BROKE_OFF,
    "hung",
    FIVE,
    "pushes after which a filter had forgotten who it is",
    "honest: not served",
    "risking: not served",
    "events, clear: not taken",
    "events: never taken",
    "hostile: not refused",
    "hostile: no account",
    "hostile: upstream's failure not passed on",
    "poor: neither served nor refused",
    "savers: neither served nor refused",
    "books: never settled",
];

/// How often something was counted that must never be.
pub(crate) fn defects(tally: &Tally) -> u64 {
    NEVER.iter().map(|what| tally.get(what)).fold(0, u64::saturating_add)
}

/// What was counted, and what must hold.
#[derive(Debug, Serialize)]
pub struct Summary {
    seconds: u64,
    seed: u64,
    passed: bool,
    verdict: Vec<Verdict>,
    counts: BTreeMap<String, u64>,
    odd: Vec<Odd>,
}

#[derive(Debug, Serialize)]
struct Verdict {
    what: String,
    holds: bool,
    figures: String,
}

impl Summary {
    pub(crate) fn new(plan: &Plan, tally: &Tally, books: Vec<Line>) -> Self {
        let never = NEVER.map(|what| {
            let count = tally.get(what);
            Verdict { what: format!("never: {what}"), holds: count == 0, figures: count.to_string() }
        });
        let books = books.into_iter().map(|Line { what, holds, figures }| Verdict { what, holds, figures });
        let verdict: Vec<_> = never.into_iter().chain(books).collect();
        let (mut counts, odd) = tally.all();
        counts.retain(|name, _| {
            !["quiet ", "cut "].iter().any(|kind| name.starts_with(kind)) && !name.starts_with("bought by ")
        });
        let passed = verdict.iter().all(|line| line.holds);
        Self { seconds: plan.length.as_secs(), seed: plan.seed, passed, verdict, counts, odd }
    }

    /// True if everything holds.
    #[must_use]
    pub const fn passed(&self) -> bool {
        self.passed
    }

    /// How often something was counted.
    #[must_use]
    pub fn count(&self, name: &str) -> u64 {
        self.counts.get(name).copied().unwrap_or(0)
    }

    /// A table for people.
    #[must_use]
    pub fn table(&self) -> String {
        let mut text = format!("\nSoak: {} s, seed {}\n\n", self.seconds, self.seed);
        for (name, count) in &self.counts {
            _ = writeln!(text, "  {count:>9}  {name}");
        }
        text.push('\n');
        for Verdict { what, holds, figures } in &self.verdict {
            _ = writeln!(text, "  {}  {what}: {figures}", if *holds { "ok    " } else { "BROKEN" });
        }
        for Odd { what, detail } in &self.odd {
            _ = writeln!(text, "  odd: {what}: {}", detail.chars().take(300).collect::<String>());
        }
        let [overspent, lost, doubled] = [OVERSPENT, LOST, DOUBLED].map(|what| self.count(what));
        let (hung, five) = (self.count("hung"), self.count(FIVE));
        _ = writeln!(
            text,
            "\noverspent {overspent}, lost beyond the bound {lost}, doubled {doubled}, hung {hung}, filter-made 5xx {five}"
        );
        _ = writeln!(text, "{}", if self.passed { "Everything holds." } else { "Something is broken." });
        text
    }

    /// Prints the table and writes target/soak/summary.json; whether everything holds.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn report(&self) -> Result<bool> {
        println!("{}", self.table());
        let folder = stage::tools::root()?.join("target/soak");
        let path = folder.join("summary.json");
        let deed = format!("write {}", path.display());
        std::fs::create_dir_all(&folder).during(&deed)?;
        let json = serde_json::to_string_pretty(self).during(&deed)?;
        std::fs::write(&path, json + "\n").during(deed)?;
        Ok(self.passed)
    }
}
