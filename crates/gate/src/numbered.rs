//! What has a number, in the order of the numbers; made for numbers that grow, of which the smallest mostly go first.
//!
//! A deque that is searched by halves, in the place of a dozen `BTreeMap`s: how one of those takes something out is 5 KiB of
//! the module for each type of value. What is taken out of the middle leaves a gap; there are never more gaps than values,
//! but for a few, so that what one request does takes constant time in the long run.

use std::collections::VecDeque;

/// Gaps that are not worth closing.
const GAPS: usize = 16;

/// All of them. A number that is put in late moves those behind it, so values should be small where that is usual.
#[derive(Clone, Debug)]
pub struct Numbered<V> {
    places: VecDeque<(u64, Option<V>)>,
    len: usize,
}

impl<V> Default for Numbered<V> {
    fn default() -> Self {
        Self { places: VecDeque::new(), len: 0 }
    }
}

impl<V> Numbered<V> {
    /// How many there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// True if there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Puts one in; what had its number before comes out.
    pub fn insert(&mut self, n: u64, value: V) -> Option<V> {
        let before = match self.find(n) {
            Ok(at) => self.places.get_mut(at).and_then(|(_, place)| place.replace(value)),
            Err(at) if at == self.places.len() => {
                self.places.push_back((n, Some(value)));
                None
            }
            Err(at) => {
                self.places.insert(at, (n, Some(value)));
                None
            }
        };
        self.len = self.len.saturating_add(usize::from(before.is_none()));
        before
    }

    /// The one with this number.
    #[must_use]
    pub fn get(&self, n: u64) -> Option<&V> {
        self.places.get(self.find(n).ok()?)?.1.as_ref()
    }

    /// The same, to be changed.
    pub fn get_mut(&mut self, n: u64) -> Option<&mut V> {
        let at = self.find(n).ok()?;
        self.places.get_mut(at)?.1.as_mut()
    }

    /// Takes one out.
    pub fn remove(&mut self, n: u64) -> Option<V> {
        let at = self.find(n).ok()?;
        let value = self.places.get_mut(at)?.1.take()?;
        self.len = self.len.saturating_sub(1);
        self.close();
        Some(value)
    }

    /// Takes the first one out.
    pub fn pop_first(&mut self) -> Option<V> {
        let n = self.iter().next()?.0;
        self.remove(n)
    }

    /// In order.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &V)> {
        self.places.iter().filter_map(|(n, place)| Some((*n, place.as_ref()?)))
    }

    /// In order, to be changed.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (u64, &mut V)> {
        self.places.iter_mut().filter_map(|(n, place)| Some((*n, place.as_mut()?)))
    }

    /// Without their numbers.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.places.iter().filter_map(|(_, place)| place.as_ref())
    }

    /// Where a number is or would be.
    fn find(&self, n: u64) -> Result<usize, usize> {
        // Whoever comes last is looked for as often as all others.
        match self.places.back() {
            Some((last, _)) if *last < n => Err(self.places.len()),
            Some(_) => self.places.binary_search_by_key(&n, |(known, _)| *known),
            None => Err(0),
        }
    }

    /// Closes the gaps at the front, and all of them if they are too many.
    fn close(&mut self) {
        while self.places.pop_front_if(|(_, place)| place.is_none()).is_some() {}
        let gaps = self.places.len().saturating_sub(self.len);
        if gaps > self.len.saturating_add(GAPS) {
            self.places.retain(|(_, place)| place.is_some());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[derive(Clone, Debug)]
    enum Act {
        Insert(u64),
        Remove(u64),
        PopFirst,
    }

    fn act() -> impl Strategy<Value = Act> {
        prop_oneof![
            4 => (0..200_u64).prop_map(Act::Insert),
            5 => (0..200_u64).prop_map(Act::Remove),
            1 => Just(Act::PopFirst),
        ]
    }

    proptest! {
        #[test]
        fn it_does_what_a_map_does_and_has_few_gaps(acts in prop::collection::vec(act(), 0..400)) {
            let (mut ours, mut map) = (Numbered::default(), BTreeMap::new());
            for (value, act) in acts.into_iter().enumerate() {
                match act {
                    Act::Insert(n) => prop_assert_eq!(ours.insert(n, value), map.insert(n, value)),
                    Act::Remove(n) => prop_assert_eq!(ours.remove(n), map.remove(&n)),
                    Act::PopFirst => prop_assert_eq!(ours.pop_first(), map.pop_first().map(|(_, v)| v)),
                }
                prop_assert_eq!((ours.len(), ours.is_empty()), (map.len(), map.is_empty()));
                prop_assert!(ours.iter().eq(map.iter().map(|(n, v)| (*n, v))));
                prop_assert!(ours.iter_mut().map(|(n, v)| (n, *v)).eq(map.iter().map(|(n, v)| (*n, *v))));
                prop_assert!(ours.values().eq(map.values()));
                for n in 0..200 {
                    prop_assert_eq!(ours.get(n), map.get(&n));
                    prop_assert_eq!(ours.get_mut(n), map.get_mut(&n));
                }
                prop_assert!(ours.places.len() <= 2 * ours.len() + GAPS);
            }
        }
    }

    #[test]
    fn one_that_stays_does_not_keep_the_room_of_all_that_came_after_it() {
        let mut numbered = Numbered::default();
        numbered.insert(0, 0);
        for n in 1..100_000 {
            numbered.insert(n, n);
            assert_eq!(numbered.remove(n), Some(n));
        }
        assert!(numbered.places.len() <= GAPS + 2 && numbered.places.capacity() <= 64);
    }
}
