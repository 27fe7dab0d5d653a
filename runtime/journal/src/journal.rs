//! The runner's journal: typed entries in segments, their tree, and its checkpoints.
//!
//! Keeps every entry for ever in this version: the ledger's leaves are the entries themselves, and dropping some needs
//! exported tiles first.

use std::path::{Path, PathBuf};

use theriac_model::record::{Entry, Record};
use theriac_model::time::{GuardTime, Timestamp};

use crate::disk::Directory;
use crate::ledger::checkpoint::VerifierKeyError;
use crate::ledger::tree::{Frontier, Hash, leaf_hash};
use crate::ledger::{Checkpoint, Checkpoints, Follower, Mismatch, SealError, Signer, VerifierKey};
use crate::log;
use crate::segment::{self, Damage, DiskError, Segments, Tail};

pub use crate::segment::Durability;

/// How a journal is kept.
#[derive(Default)]
pub struct Options {
    /// Its segments.
    pub segments: segment::Options,
    /// Its checkpoints; without them a cut end goes unnoticed.
    pub ledger: Option<LedgerOptions>,
}

/// How checkpoints are made.
pub struct LedgerOptions {
    /// The directory they go to.
    pub directory: PathBuf,
    /// The ledger's name in every checkpoint; unique for this host.
    pub origin: String,
    /// The host's key.
    pub signer: Box<dyn Signer>,
    /// One after that many records.
    pub every: u64,
    /// The segments the checkpoints are kept in; a checkpoint takes about 300 bytes.
    pub segments: segment::Options,
}

impl LedgerOptions {
    /// In `directory`, with the usual sizes: 256 records are a few dozen runs, and one signature and one sync for them cost
    /// nothing that can be felt.
    pub fn new(directory: PathBuf, origin: String, signer: Box<dyn Signer>) -> Self {
        let segments = segment::Options { segment_bytes: 256 << 10, spares: 2 };
        Self { directory, origin, signer, every: 256, segments }
    }
}

/// What was true when a record was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Wall clock.
    pub at: Timestamp,
    /// Guard time.
    pub guard: GuardTime,
    /// The runner's fencing epoch.
    pub epoch: u64,
}

/// The ledger's head, signed or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// How many entries.
    pub size: u64,
    /// Their root.
    pub root: Hash,
}

/// A journal and what was in it.
#[derive(Debug)]
pub struct Opened {
    /// Ready for more.
    pub journal: Journal,
    /// Every entry.
    pub entries: Vec<Entry>,
    /// How it ended.
    pub tail: Tail,
}

/// Why the journal can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The journal's own directory.
    #[error("can't open the journal")]
    Journal(#[source] segment::OpenError),
    /// The checkpoints' directory.
    #[error("can't open the ledger")]
    Ledger(#[source] segment::OpenError),
    /// The host's key can't sign anything worth checking.
    #[error("can't use the host's key")]
    Key(#[from] VerifierKeyError),
    /// The entries are not those that were signed.
    #[error("of the records {from} to {} at least one is not what this host signed", to.saturating_sub(1))]
    Exchanged {
        /// The first in question.
        from: u64,
        /// One past the last.
        to: u64,
    },
    /// Entries are missing at the end: an old copy was put back, or the end was cut off.
    #[error("this host signed {signed} records, and {have} are there")]
    Cut {
        /// There are.
        have: u64,
        /// There were.
        signed: u64,
    },
}

impl OpenError {
    /// What a person can do about it.
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::Journal(error) | Self::Ledger(error) => error.hint(),
            Self::Key(_) => "make a new host key",
            Self::Exchanged { .. } | Self::Cut { .. } => {
                "put the newest copy of journal and ledger back; cooldowns, holds and open runs are in the missing records"
            }
        }
    }
}

/// The journal, open for appending. One per state directory: it holds the directory's lock.
#[derive(Debug)]
pub struct Journal {
    segments: Segments<Directory>,
    tree: Frontier,
    ledger: Option<(Checkpoints, u64)>,
    unsealed: Option<SealError>,
}

impl Journal {
    /// Opens the journal and reads every entry.
    pub fn open(directory: &Path, options: Options) -> Result<Opened, OpenError> {
        let mut entries = Vec::new();
        let (journal, tail) = Self::open_with(directory, options, &mut |entry| entries.push(entry))?;
        Ok(Opened { journal, entries, tail })
    }

    /// Opens the journal and shows every entry once, in order. What was shown counts only if this returns `Ok`.
    pub fn open_with(
        directory: &Path,
        options: Options,
        show: &mut dyn FnMut(Entry),
    ) -> Result<(Self, Tail), OpenError> {
        let (ledger, signed) = match options.ledger {
            Some(options) => {
                let (checkpoints, signed, every) = open_ledger(options)?;
                (Some((checkpoints, every)), signed)
            }
            None => (None, Vec::new()),
        };
        let disk = Directory::open(directory).map_err(|error| OpenError::Journal(error.into()))?;
        let (mut follower, mut mismatch) = (Follower::new(signed), None);
        let opened = Segments::open(disk, options.segments, &mut |seq, payload, _| {
            show(decode(seq, payload)?);
            follower.push(leaf_hash(payload)).map_err(|found| {
                mismatch = Some(found);
                Damage::Altered
            })
        });
        let (segments, tail) = match (opened, mismatch) {
            (_, Some(mismatch)) => return Err(mismatch.into()),
            (opened, None) => opened.map_err(OpenError::Journal)?,
        };
        if segments.start() > 0 {
            return Err(OpenError::Exchanged { from: 0, to: segments.start() });
        }
        let tree = follower.finish()?;
        Ok((Self { segments, tree, ledger, unsealed: None }, tail))
    }

    /// Appends one record. With [`Durability::Synced`] it is on disk when this returns.
    pub fn append(&mut self, stamp: Stamp, record: Record, durability: Durability) -> Result<Entry, log::AppendError> {
        let Stamp { at, guard, epoch } = stamp;
        let entry = Entry { seq: self.segments.end(), at, guard, epoch, record };
        let payload = serde_json::to_vec(&entry).map_err(log::AppendError::Encode)?;
        self.segments.append(&payload, durability)?;
        self.tree.push(leaf_hash(&payload));
        if let Some((checkpoints, every)) = &self.ledger
            && self.tree.size() - checkpoints.latest() >= *every
        {
            // The record is there whatever becomes of its checkpoint; the caller asks `unsealed` when it wants to know.
            self.unsealed = self.seal().err();
        }
        Ok(entry)
    }

    /// Makes every record appended so far durable.
    pub fn sync(&mut self) -> Result<(), log::AppendError> {
        Ok(self.segments.sync()?)
    }

    /// Signs a checkpoint over everything appended so far, unless there is one; on stop, and whenever one is to be sent away.
    pub fn seal(&mut self) -> Result<Option<Checkpoint>, SealError> {
        self.segments.sync().map_err(SealError::Journal)?;
        match &mut self.ledger {
            Some((checkpoints, _)) if checkpoints.latest() < self.tree.size() => {
                checkpoints.seal(&self.tree).map(Some).map_err(SealError::Ledger)
            }
            Some(_) | None => Ok(None),
        }
    }

    /// Why the last checkpoint that was due was not written.
    pub const fn unsealed(&self) -> Option<&SealError> {
        self.unsealed.as_ref()
    }

    /// Size and root of the ledger now.
    pub fn head(&self) -> Head {
        Head { size: self.tree.size(), root: self.tree.root() }
    }

    /// At most `limit` entries from position `from` on.
    pub fn read(&self, from: u64, limit: usize) -> Result<Vec<Entry>, log::ReadError> {
        let decode = |(seq, payload): (u64, Vec<u8>)| {
            serde_json::from_slice(&payload).map_err(|source| log::ReadError::Decode { seq, source })
        };
        self.segments.read(from, limit)?.into_iter().map(decode).collect()
    }

    /// The leaf hashes of all entries, for proofs. Reads the whole journal.
    pub fn leaves(&self) -> Result<Vec<Hash>, log::ReadError> {
        /// Entries held in memory at a time.
        const BATCH: usize = 1024;
        let mut leaves = Vec::new();
        loop {
            let batch = self.segments.read(leaves.len() as u64, BATCH)?;
            if batch.is_empty() {
                return Ok(leaves);
            }
            leaves.extend(batch.iter().map(|(_, payload)| leaf_hash(payload)));
        }
    }

    /// Bytes that can be appended without a free block, in records of at most `record` bytes: what a run will need must fit
    /// before it starts.
    pub fn room(&self, record: u64) -> u64 {
        self.segments.room(record)
    }

    /// Fills up the spare segments again; to be called now and then.
    pub fn top_up(&mut self) -> Result<(), DiskError> {
        self.segments.top_up()
    }
}

fn open_ledger(options: LedgerOptions) -> Result<(Checkpoints, Vec<Checkpoint>, u64), OpenError> {
    let LedgerOptions { directory, origin, signer, every, segments } = options;
    let key = VerifierKey::of(signer.as_ref())?;
    let (checkpoints, signed) =
        Checkpoints::open(&directory, segments, origin, signer, &key).map_err(OpenError::Ledger)?;
    Ok((checkpoints, signed, every.max(1)))
}

pub(crate) fn decode(seq: u64, payload: &[u8]) -> Result<Entry, Damage> {
    match serde_json::from_slice::<Entry>(payload) {
        Ok(entry) if entry.seq == seq => Ok(entry),
        Ok(entry) => Err(Damage::OutOfPlace { found: entry.seq }),
        Err(error) => Err(Damage::Unreadable { reason: error.to_string() }),
    }
}

impl From<Mismatch> for OpenError {
    fn from(mismatch: Mismatch) -> Self {
        match mismatch {
            Mismatch::Exchanged { from, to } => Self::Exchanged { from, to },
            Mismatch::Cut { have, signed } => Self::Cut { have, signed },
        }
    }
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options").field("segments", &self.segments).field("ledger", &self.ledger).finish()
    }
}

impl std::fmt::Debug for LedgerOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("LedgerOptions");
        shown.field("directory", &self.directory).field("origin", &self.origin).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
