//! A journal in memory that can be told to fail at one record: that is how an effect fails at the worst moments.

use std::sync::{Mutex, MutexGuard, PoisonError};

use theriac_journal::Durability;
use theriac_model::record::{Entry, Record};
use theriac_model::time::GuardTime;
use theriac_runner::clock;
use theriac_runner::writer::{WriteError, Writer};

/// Where a run is broken off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BreakOff {
    /// Before that effect: its intent can't be written, so it does not happen.
    Before(u32),
    /// After that effect: it happened, and nobody wrote down what came of it.
    After(u32),
}

impl BreakOff {
    fn hits(self, record: &Record) -> bool {
        match (self, record) {
            (Self::Before(at), Record::Intent { index, .. }) | (Self::After(at), Record::Done { index, .. }) => {
                at == *index
            }
            (Self::Before(_) | Self::After(_), _) => false,
        }
    }
}

impl std::fmt::Display for BreakOff {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Before(index) => write!(f, "broken off before effect {}", index + 1),
            Self::After(index) => write!(f, "broken off right after effect {}", index + 1),
        }
    }
}

/// The records of one world.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    entries: Mutex<Vec<Entry>>,
    break_off: Option<BreakOff>,
}

impl Notes {
    pub(crate) fn new(break_off: Option<BreakOff>) -> Self {
        Self { entries: Mutex::default(), break_off }
    }

    pub(crate) fn entries(&self) -> Vec<Entry> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Writer for Notes {
    fn write(&self, record: Record, _durability: Durability) -> Result<Entry, WriteError> {
        if self.break_off.is_some_and(|at| at.hits(&record)) {
            return Err(WriteError { source: std::io::Error::other("the scenario lets it fail here") });
        }
        let mut entries = self.lock();
        let entry = Entry { seq: entries.len() as u64, at: clock::wall(), guard: GuardTime(0), epoch: 1, record };
        entries.push(entry.clone());
        Ok(entry)
    }

    fn guard_now(&self) -> GuardTime {
        GuardTime(0)
    }
}
