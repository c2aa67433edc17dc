//! Maps and sets that are filled one by one. `collect` sorts first, by a sort of its own for each type: 5 KiB of the module each.

/// All of these, in a map or a set.
pub(crate) fn entered<T, C: Default + Extend<T>>(all: impl IntoIterator<Item = T>) -> C {
    let mut entered = C::default();
    entered.extend(all);
    entered
}
