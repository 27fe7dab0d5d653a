//! Comparing records with every checkpoint that was signed over them, as they go by.

use super::checkpoint::Checkpoint;
use super::tree::{Frontier, Hash};

/// The checkpoints, and how far the records have been followed.
#[derive(Debug)]
pub(crate) struct Follower {
    /// Ascending by size.
    checkpoints: Vec<Checkpoint>,
    next: usize,
    tree: Frontier,
    agreed: u64,
}

/// The records are not those that were signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mismatch {
    /// A record from `from` up to, but without, `to` was exchanged.
    Exchanged { from: u64, to: u64 },
    /// There are fewer records than were signed.
    Cut { have: u64, signed: u64 },
}

impl Follower {
    pub(crate) fn new(mut checkpoints: Vec<Checkpoint>) -> Self {
        checkpoints.sort_by_key(|checkpoint| checkpoint.size);
        Self { checkpoints, next: 0, tree: Frontier::default(), agreed: 0 }
    }

    /// One more record.
    pub(crate) fn push(&mut self, leaf: Hash) -> Result<(), Mismatch> {
        self.tree.push(leaf);
        self.compare()
    }

    fn compare(&mut self) -> Result<(), Mismatch> {
        while let Some(checkpoint) = self.checkpoints.get(self.next).filter(|next| next.size <= self.tree.size()) {
            if checkpoint.size == self.tree.size() && checkpoint.root != self.tree.root() {
                return Err(Mismatch::Exchanged { from: self.agreed, to: checkpoint.size });
            }
            self.agreed = checkpoint.size;
            self.next += 1;
        }
        Ok(())
    }

    /// Up to where the records are known to be those that were signed.
    pub(crate) const fn agreed(&self) -> u64 {
        self.agreed
    }

    pub(crate) const fn tree(&self) -> &Frontier {
        &self.tree
    }

    /// No more records.
    pub(crate) fn finish(self) -> Result<Frontier, Mismatch> {
        match self.checkpoints.last().filter(|last| last.size > self.tree.size()) {
            Some(last) => Err(Mismatch::Cut { have: self.tree.size(), signed: last.size }),
            None => Ok(self.tree),
        }
    }
}
