//! One number of a JSON document, digit by digit: is it one, is it plain, and which?

/// What is known of a number so far.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Number {
    part: Part,
    /// Its value, while it is written in nothing but digits and fits.
    plain: Option<u64>,
    /// The power of ten of its first digit that is not zero.
    lead: Option<i64>,
    fraction: i64,
    exponent: i64,
    negative_exponent: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Nothing,
    Minus,
    Zero,
    Digits,
    Point,
    Fraction,
    Mark,
    Sign,
    Exponent,
    Wrong,
}

/// From here on readers differ on what is a number.
const MAGNITUDE_MAX: i64 = 308;

impl Number {
    pub(crate) const fn new() -> Self {
        Self {
            part: Part::Nothing,
            plain: Some(0),
            lead: None,
            fraction: 0,
            exponent: 0,
            negative_exponent: false,
        }
    }

    /// Takes a byte that can stand in a number; false if the number ended before it.
    pub(crate) fn takes(&mut self, byte: u8) -> bool {
        let digit = byte.is_ascii_digit().then_some(byte & 0x0F);
        let Some(digit) = digit else {
            if !matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E') {
                return false;
            }
            self.plain = None;
            self.part = match (self.part, byte) {
                (Part::Nothing, b'-') => Part::Minus,
                (Part::Zero | Part::Digits, b'.') => Part::Point,
                (Part::Zero | Part::Digits | Part::Fraction, b'e' | b'E') => Part::Mark,
                (Part::Mark, b'+' | b'-') => {
                    self.negative_exponent = byte == b'-';
                    Part::Sign
                }
                _ => Part::Wrong,
            };
            return true;
        };
        self.part = match self.part {
            Part::Nothing | Part::Minus if digit == 0 => Part::Zero,
            Part::Nothing | Part::Minus | Part::Digits => Part::Digits,
            Part::Point | Part::Fraction => Part::Fraction,
            Part::Mark | Part::Sign | Part::Exponent => Part::Exponent,
            Part::Zero | Part::Wrong => Part::Wrong,
        };
        self.weigh(digit);
        true
    }

    /// What the digit adds to value and magnitude.
    fn weigh(&mut self, digit: u8) {
        match self.part {
            Part::Digits => {
                let plain = self.plain.and_then(|n| n.checked_mul(10));
                self.plain = plain.and_then(|n| n.checked_add(u64::from(digit)));
                self.lead = Some(self.lead.map_or(0, |lead| lead.saturating_add(1)));
            }
            Part::Fraction => {
                self.fraction = self.fraction.saturating_add(1);
                if self.lead.is_none() && digit != 0 {
                    self.lead = Some(self.fraction.saturating_neg());
                }
            }
            Part::Exponent => {
                self.exponent = self.exponent.saturating_mul(10).saturating_add(i64::from(digit));
            }
            _ => {}
        }
    }

    /// True if it may end here.
    pub(crate) const fn is_whole(&self) -> bool {
        if !matches!(self.part, Part::Zero | Part::Digits | Part::Fraction | Part::Exponent) {
            return false;
        }
        let exponent = if self.negative_exponent { self.exponent.saturating_neg() } else { self.exponent };
        match self.lead {
            Some(lead) => lead.saturating_add(exponent) < MAGNITUDE_MAX,
            None => true,
        }
    }

    /// Its value, if it is written as a whole number of digits only and fits.
    pub(crate) const fn plain(&self) -> Option<u64> {
        self.plain
    }
}
