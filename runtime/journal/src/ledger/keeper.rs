//! The directory of checkpoints: read at start, written every so many records and on stop.

use std::fmt;
use std::path::Path;

use super::checkpoint::{Checkpoint, CheckpointError, Signer, VerifierKey};
use super::tree::Frontier;
use crate::disk::{Directory, Disk};
use crate::segment::scan::{Visit, scan};
use crate::segment::{AppendError, Damage, Durability, OpenError, Options, Segments};

/// Why no checkpoint was written. The records are safe; only their signature waits.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The journal itself has failed.
    #[error("the journal could not be made durable before signing")]
    Journal(#[source] AppendError),
    /// The ledger's directory has.
    #[error("the checkpoint could not be written")]
    Ledger(#[source] AppendError),
}

/// Keeps checkpoints.
pub(crate) struct Checkpoints {
    segments: Segments<Directory>,
    signer: Box<dyn Signer>,
    origin: String,
    latest: u64,
}

impl fmt::Debug for Checkpoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Checkpoints")
            .field("origin", &self.origin)
            .field("latest", &self.latest)
            .finish_non_exhaustive()
    }
}

impl Checkpoints {
    /// Opens the directory and reads all checkpoints in it.
    pub(crate) fn open(
        path: &Path,
        options: Options,
        origin: String,
        signer: Box<dyn Signer>,
        key: &VerifierKey,
    ) -> Result<(Self, Vec<Checkpoint>), OpenError> {
        let mut found = Vec::new();
        let (segments, _) = Segments::open(Directory::open(path)?, options, &mut collect(&mut found, key))?;
        let latest = found.last().map_or(0, |last| last.size);
        Ok((Self { segments, signer, origin, latest }, found))
    }

    /// The size of the last one.
    pub(crate) const fn latest(&self) -> u64 {
        self.latest
    }

    /// Signs the head of `tree`, whose records are all on disk, and keeps it.
    pub(crate) fn seal(&mut self, tree: &Frontier) -> Result<Checkpoint, AppendError> {
        let checkpoint = Checkpoint { origin: self.origin.clone(), size: tree.size(), root: tree.root() };
        let note = checkpoint.sign(self.signer.as_ref());
        self.segments.append(note.as_bytes(), Durability::Synced)?;
        self.latest = checkpoint.size;
        Ok(checkpoint)
    }
}

/// Reads the checkpoints of a directory that somebody else may be writing.
pub(crate) fn read<D: Disk>(disk: &D, key: &VerifierKey) -> Result<Vec<Checkpoint>, OpenError> {
    let mut found = Vec::new();
    scan(disk, &mut collect(&mut found, key))?;
    Ok(found)
}

fn collect<'a>(found: &'a mut Vec<Checkpoint>, key: &'a VerifierKey) -> Box<Visit<'a>> {
    Box::new(move |_, note, _| {
        let unreadable = |error: CheckpointError| Damage::Unreadable { reason: error.to_string() };
        let checkpoint = Checkpoint::open(note, key).map_err(unreadable)?;
        if found.last().is_some_and(|last| last.size > checkpoint.size || last.origin != checkpoint.origin) {
            let reason = "a checkpoint that is smaller than the one before it, or of another ledger".to_owned();
            return Err(Damage::Unreadable { reason });
        }
        found.push(checkpoint);
        Ok(())
    })
}
