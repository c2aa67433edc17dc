//! Chance out of one number: the same seed throws the same for ever, on every machine (SplitMix64).

/// Where all chance of a field comes from.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// The seed says everything that will be thrown.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = self.0;
        let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// From `least` to `most`, both included.
    pub fn between(&mut self, least: u64, most: u64) -> u64 {
        least + self.next() % (most - least + 1)
    }

    /// The place of something among so many, which are not none.
    pub fn place(&mut self, among: usize) -> usize {
        let among = u64::try_from(among).unwrap();
        usize::try_from(self.between(0, among - 1)).unwrap()
    }

    /// True so many times in a hundred.
    pub fn percent(&mut self, times: u64) -> bool {
        self.between(1, 100) <= times
    }

    /// One of them.
    pub fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.place(of.len())].clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seed_says_everything() {
        let throw = |seed| {
            let mut dice = Dice::new(seed);
            (0..5).map(|_| dice.next()).collect::<Vec<_>>()
        };
        // The published values of SplitMix64 for this seed.
        assert_eq!(throw(1_234_567)[..2], [6_457_827_717_110_365_317, 3_203_168_211_198_807_973]);
        assert_eq!(throw(7), throw(7));
        assert_ne!(throw(7), throw(8));
    }
}
