//! JSON pointers (RFC 6901), by which an operator says where an unknown provider states its usage.

/// A way from the top of a document to one value in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pointer {
    steps: Vec<Box<[u8]>>,
}

/// Steps of a pointer, and bytes of a step. No provider's usage lies deeper.
const STEPS_MAX: usize = 16;
const STEP_MAX: usize = 64;

impl Pointer {
    /// Reads a pointer such as `/usage/total`. `None` if it does not begin with `/`, has a `~` that is neither `~0`
    /// nor `~1` (RFC 6901, section 3), more than 16 steps, or a step of more than 64 bytes.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let rest = text.strip_prefix('/')?;
        let steps: Vec<Box<[u8]>> = rest
            .split('/')
            .map(|step| unescaped(step).filter(|step| step.len() <= STEP_MAX))
            .collect::<Option<_>>()?;
        (steps.len() <= STEPS_MAX).then_some(Self { steps })
    }

    pub(crate) fn len(&self) -> usize {
        self.steps.len()
    }

    /// Does the step at that depth lead through this key of an object?
    pub(crate) fn has_key(&self, depth: usize, key: &[u8]) -> bool {
        self.steps.get(depth).is_some_and(|step| **step == *key)
    }

    /// Does it lead through this element of an array? It does so in one spelling only, without leading zeros.
    pub(crate) fn has_index(&self, depth: usize, index: u64) -> bool {
        let Some(step) = self.steps.get(depth) else { return false };
        let plain = step.iter().all(u8::is_ascii_digit) && (step.len() == 1 || step.first() != Some(&b'0'));
        plain && core::str::from_utf8(step).is_ok_and(|step| step.parse() == Ok(index))
    }
}

fn unescaped(step: &str) -> Option<Box<[u8]>> {
    let mut parts = step.split('~');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (sign, rest) = match part.as_bytes().first()? {
            b'0' => ('~', part.strip_prefix('0')?),
            b'1' => ('/', part.strip_prefix('1')?),
            _ => return None,
        };
        text.push(sign);
        text.push_str(rest);
    }
    Some(text.into_bytes().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pointer_is_read_as_the_rfc_says() {
        let steps = |text: &str| {
            let pointer = Pointer::parse(text)?;
            Some(pointer.steps.iter().map(|s| String::from_utf8(s.to_vec()).unwrap()).collect::<Vec<_>>())
        };
        assert_eq!(steps("/usage/total").unwrap(), ["usage", "total"]);
        assert_eq!(steps("/a~1b/~0~01/").unwrap(), ["a/b", "~~1", ""]);
        assert_eq!(steps("/").unwrap(), [""]);
        for bad in ["", "usage", "/a~", "/a~2", "#/a", &"/a".repeat(17), &format!("/{}", "a".repeat(65))] {
            assert_eq!(steps(bad), None, "{bad}");
        }
        assert!(Pointer::parse(&"/a".repeat(16)).is_some());
    }

    #[test]
    fn an_index_has_one_spelling() {
        let pointer = |text| Pointer::parse(text).unwrap();
        assert!(pointer("/0").has_index(0, 0) && pointer("/12").has_index(0, 12));
        for bad in ["/00", "/01", "/+1", "/-", "/", "/1 ", "/１"] {
            assert!(!(0..3).any(|index| pointer(bad).has_index(0, index)), "{bad}");
        }
        assert!(pointer("/0").has_key(0, b"0") && !pointer("/0").has_key(1, b"0"));
    }
}
