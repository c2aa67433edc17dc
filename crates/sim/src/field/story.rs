//! What happened, in sentences that a person can read; kept as far as the end of it is worth reading.

use std::collections::VecDeque;
use std::fmt::Write;
use units::Instant;

/// So many sentences are shown, unless `STORY` says how many.
const SHOWN: usize = 60;

/// The last sentences, and a digest of all of them.
#[derive(Clone, Debug)]
pub struct Story {
    began: Instant,
    told: VecDeque<String>,
    shown: usize,
    /// Whether messages are told word by word: if `MESSAGES` is set.
    pub(super) messages: bool,
    digest: u64,
    /// How many sentences there were in all.
    pub steps: u64,
}

impl Story {
    pub(super) fn new(began: Instant) -> Self {
        let shown = std::env::var("STORY").ok().and_then(|shown| shown.parse().ok()).unwrap_or(SHOWN);
        Self {
            began,
            told: VecDeque::new(),
            shown,
            messages: std::env::var_os("MESSAGES").is_some(),
            digest: 0xCBF2_9CE4_8422_2325,
            steps: 0,
        }
    }

    /// One more sentence.
    pub(super) fn tell(&mut self, now: Instant, sentence: &str) {
        let at = now.since(self.began).micros();
        let line = format!("{:>4}.{:03} s  {sentence}", at / 1_000_000, at / 1_000 % 1_000);
        for byte in line.bytes() {
            // FNV-1a.
            self.digest = (self.digest ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3);
        }
        self.steps += 1;
        if self.told.len() >= self.shown {
            self.told.pop_front();
        }
        self.told.push_back(line);
    }

    /// The same for the same story, and for no other.
    #[must_use]
    pub const fn digest(&self) -> u64 {
        self.digest
    }

    /// How it ended.
    #[must_use]
    pub fn end(&self) -> String {
        let mut text = String::new();
        for line in &self.told {
            writeln!(text, "{line}").unwrap();
        }
        text
    }
}
