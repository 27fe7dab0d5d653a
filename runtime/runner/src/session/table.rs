//! The handles of one run. A number is given out once and never again, so that one that was dropped, or one of another run,
//! stands for nothing.

use std::collections::BTreeMap;

use theriac_model::call::{Handle, Interface};
use theriac_model::denial::{Denial, DenialCause};
use theriac_model::id::Label;
use theriac_model::unit::ProcessId;

use crate::capability::files::{Entry, Identity};

/// What a handle stands for.
#[derive(Debug, Clone)]
pub(crate) enum Held {
    /// What a grant of this interface names.
    Grant(Interface, Label),
    /// An entry of a granted directory.
    Entry(Entry),
    /// A process of a granted group.
    Process(Label, ProcessId),
}

/// The handles that are open.
#[derive(Debug)]
pub(crate) struct Table {
    next: u32,
    open: BTreeMap<Handle, Held>,
    most: usize,
}

impl Table {
    pub(crate) fn new(most: u32) -> Self {
        // Starting at 1: a zeroed handle of a confused guest is none.
        Self { next: 1, open: BTreeMap::new(), most: most as usize }
    }

    /// How many more may be opened.
    pub(crate) fn room(&self) -> usize {
        self.most.saturating_sub(self.open.len())
    }

    pub(crate) fn open(&mut self, held: Held, attempted: &str) -> Result<Handle, Denial> {
        let full = || Denial::new(DenialCause::OverBudget, "limits", "handles", attempted);
        if self.room() == 0 {
            return Err(full());
        }
        let handle = Handle(self.next);
        self.next = self.next.checked_add(1).ok_or_else(full)?;
        self.open.insert(handle, held);
        Ok(handle)
    }

    pub(crate) fn get(&self, handle: Handle) -> Option<&Held> {
        self.open.get(&handle)
    }

    /// This run put another inode under the name of an entry: handles to the old one now stand for the new one.
    pub(crate) fn follow(&mut self, old: &Entry, new: Identity) {
        for held in self.open.values_mut() {
            if let Held::Entry(entry) = held
                && entry.label == old.label
                && entry.below == old.below
                && entry.identity == old.identity
            {
                entry.identity = new;
            }
        }
    }

    pub(crate) fn drop(&mut self, handle: Handle) {
        self.open.remove(&handle);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit() -> Held {
        Held::Grant(Interface::Units, Label::parse("target").unwrap())
    }

    // FS25.
    #[test]
    fn a_number_is_never_used_again() {
        let mut table = Table::new(2);
        let first = table.open(unit(), "open").unwrap();
        table.drop(first);
        let second = table.open(unit(), "open").unwrap();
        assert_ne!(first, second);
        assert!(table.get(first).is_none() && table.get(second).is_some());
    }

    // RS11.
    #[test]
    fn the_cap_counts_open_handles_and_a_drop_makes_room() {
        let mut table = Table::new(2);
        let first = table.open(unit(), "open").unwrap();
        table.open(unit(), "open").unwrap();
        assert_eq!(table.open(unit(), "open").unwrap_err().cause, DenialCause::OverBudget);
        table.drop(first);
        assert!(table.open(unit(), "open").is_ok());
    }
}
