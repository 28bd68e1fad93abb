//! What is going to happen, in order of time; of one moment, in the order in which it was planned.

use std::collections::BTreeMap;

/// A place in the agenda, to strike an entry out again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Entry {
    at: u64,
    number: u64,
}

#[derive(Debug)]
pub(crate) struct Agenda<T> {
    entries: BTreeMap<Entry, T>,
    planned: u64,
}

impl<T> Agenda<T> {
    pub(crate) fn new() -> Agenda<T> {
        Agenda { entries: BTreeMap::new(), planned: 0 }
    }

    pub(crate) fn plan(&mut self, at: u64, what: T) -> Entry {
        let entry = Entry { at, number: self.planned };
        self.planned += 1;
        self.entries.insert(entry, what);
        entry
    }

    pub(crate) fn cancel(&mut self, entry: Entry) {
        self.entries.remove(&entry);
    }

    pub(crate) fn next_at(&self) -> Option<u64> {
        self.entries.first_key_value().map(|(entry, _)| entry.at)
    }

    /// The first entry, if it is due.
    pub(crate) fn pop_due(&mut self, now: u64) -> Option<(u64, T)> {
        let first = self.entries.first_entry().filter(|first| first.key().at <= now)?;
        let (entry, what) = first.remove_entry();
        Some((entry.at, what))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_due_comes_in_order_of_time_and_then_of_planning() {
        let mut agenda = Agenda::new();
        let struck = agenda.plan(1, "struck");
        for (at, what) in [(5, "c"), (2, "a"), (5, "d"), (2, "b"), (9, "later")] {
            agenda.plan(at, what);
        }
        agenda.cancel(struck);
        let due: Vec<_> = std::iter::from_fn(|| agenda.pop_due(5)).collect();
        assert_eq!(due, [(2, "a"), (2, "b"), (5, "c"), (5, "d")]);
        assert_eq!(agenda.next_at(), Some(9));
    }
}
