//! Verifies a journal against its checkpoints and names the first bad record. Reads only, takes no lock, may run beside a
//! working daemon, and takes every byte for hostile.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use theriac_model::id::Digest;
use theriac_model::record::Entry;

use super::checkpoint::{Checkpoint, VerifierKey};
use super::history::{Follower, Mismatch};
use super::{keeper, tree};
use crate::disk::Directory;
use crate::journal::decode;
use crate::segment::scan::{Place, scan};
use crate::segment::{BadRecord, Damage, OpenError, Tail, file_name};

/// What to compare with besides the host's own checkpoints.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Checkpoints that were kept on another machine (a notification, a backup, a witness). Only these show that a whole
    /// host was set back or rewritten.
    pub remembered: Vec<Checkpoint>,
}

/// What the audit found.
#[derive(Debug)]
pub struct Report {
    /// Records that were read, up to the first bad one.
    pub records: u64,
    /// The root over them.
    pub root: Digest,
    /// How many of the host's checkpoints were compared.
    pub checkpoints: usize,
    /// Records covered by a checkpoint that agrees.
    pub sealed: u64,
    /// How the journal ends; a daemon that is just writing leaves an unfinished end too.
    pub tail: Option<Tail>,
    /// The first thing that is wrong.
    pub finding: Option<Finding>,
}

/// What no audit on this host alone can find; printed with every report.
pub const LIMITS: [&str; 3] = [
    "records after the last checkpoint can be cut off unnoticed",
    "an old copy of journal and ledger together looks whole",
    "root can sign anew with the host's key: only a checkpoint kept on another machine shows it",
];

/// The first thing that is wrong.
#[derive(Debug)]
pub enum Finding {
    /// A record, or a segment's header.
    Record(BadRecord),
    /// All checksums fit, but these are not the records that were signed.
    Exchanged {
        /// The file with the first record in question.
        file: PathBuf,
        /// Where it begins.
        offset: u64,
        /// The first record in question.
        from: u64,
        /// One past the last in question.
        to: u64,
    },
    /// More records were signed than are there.
    Cut {
        /// There are.
        have: u64,
        /// There were.
        signed: u64,
    },
    /// The journal can't be read to its end.
    Journal(OpenError),
    /// The checkpoints can't be trusted: damaged, forged, or of another key.
    Ledger(OpenError),
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Record(record) => write!(f, "{record}"),
            Self::Exchanged { file, offset, from, to } => {
                let file = file.display();
                match to.saturating_sub(*from) {
                    1 => write!(f, "`{file}` at byte {offset}, record {from}: not the record that was signed"),
                    _ => write!(
                        f,
                        "`{file}` from byte {offset} on, records {from} to {}: at least one is not the record that was signed",
                        to.saturating_sub(1)
                    ),
                }
            }
            Self::Cut { have, signed } => write!(
                f,
                "records {have} to {} are missing: a checkpoint was signed over {signed} records, and {have} are there",
                signed.saturating_sub(1)
            ),
            Self::Journal(_) => f.write_str("the journal can't be read"),
            Self::Ledger(_) => f.write_str("the checkpoints can't be trusted"),
        }
    }
}

impl std::error::Error for Finding {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Journal(error) | Self::Ledger(error) => Some(error),
            Self::Record(_) | Self::Exchanged { .. } | Self::Cut { .. } => None,
        }
    }
}

/// What of an entry the audit looks at: the reader sees this number, so it must be the true position.
#[derive(Deserialize)]
struct Numbered {
    seq: u64,
}

/// Verifies the journal in `journal` against the checkpoints in `ledger` that `key` signed.
pub fn verify(journal: &Path, ledger: &Path, key: &VerifierKey, options: Options) -> Report {
    // The checkpoints first: of a daemon that goes on writing, the journal is then never the shorter.
    let checkpoints = match Directory::open_to_read(ledger).map_err(OpenError::from) {
        Ok(disk) => keeper::read(&disk, key),
        Err(error) => Err(error),
    };
    let (own, trouble) = match checkpoints {
        Ok(found) => (found, None),
        Err(error) => (Vec::new(), Some(Finding::Ledger(error))),
    };
    let count = own.len();
    let mut walk = Walk {
        follower: Follower::new(own.into_iter().chain(options.remembered).collect()),
        since: Place { number: 0, offset: 0 },
        mismatch: None,
    };
    let scanned = Directory::open_to_read(journal).map_err(OpenError::from).and_then(|disk| {
        let scanned = scan(&disk, &mut |seq, payload, place| walk.record(seq, payload, place));
        scanned.map(|scanned| (scanned.extents.first().map_or(0, |extent| extent.first_seq), scanned.tail))
    });
    let (records, root, sealed) =
        (walk.follower.tree().size(), Digest::from_bytes(walk.follower.tree().root()), walk.follower.agreed());
    let (tail, finding) = conclude(scanned, walk, journal);
    // A bad record says more than a bad checkpoint.
    Report { records, root, checkpoints: count, sealed, tail, finding: finding.or(trouble) }
}

/// At most `limit` entries from position `from` on, and what is wrong where the journal can't be read any further. Compares
/// nothing with any signature: that is [`verify`]'s business.
pub fn entries(journal: &Path, from: u64, limit: usize) -> (Vec<Entry>, Option<Finding>) {
    let mut entries = Vec::new();
    let scanned = Directory::open_to_read(journal).map_err(OpenError::from).and_then(|disk| {
        scan(&disk, &mut |seq, payload, _| {
            if seq >= from && entries.len() < limit {
                entries.push(decode(seq, payload)?);
            }
            Ok(())
        })
    });
    let finding = match scanned {
        Ok(_) => None,
        // What was asked for lies before it.
        Err(_) if entries.len() >= limit => None,
        Err(OpenError::Damaged(record)) => Some(Finding::Record(record)),
        Err(error) => Some(Finding::Journal(error)),
    };
    (entries, finding)
}

fn conclude(scanned: Result<(u64, Tail), OpenError>, walk: Walk, journal: &Path) -> (Option<Tail>, Option<Finding>) {
    if let Some(Mismatch::Exchanged { from, to }) = walk.mismatch {
        let file = journal.join(file_name(walk.since.number));
        return (None, Some(Finding::Exchanged { file, offset: walk.since.offset, from, to }));
    }
    match scanned {
        Err(OpenError::Damaged(record)) => (None, Some(Finding::Record(record))),
        Err(error) => (None, Some(Finding::Journal(error))),
        Ok((first, tail)) if first > 0 => (Some(tail), Some(Finding::Cut { have: 0, signed: first })),
        Ok((_, tail)) => match walk.follower.finish() {
            Err(Mismatch::Cut { have, signed }) => (Some(tail), Some(Finding::Cut { have, signed })),
            Err(Mismatch::Exchanged { .. }) | Ok(_) => (Some(tail), None),
        },
    }
}

struct Walk {
    follower: Follower,
    /// The first record after the last checkpoint that agreed.
    since: Place,
    mismatch: Option<Mismatch>,
}

impl Walk {
    fn record(&mut self, seq: u64, payload: &[u8], place: Place) -> Result<(), Damage> {
        if self.follower.agreed() == seq {
            self.since = place;
        }
        match serde_json::from_slice::<Numbered>(payload) {
            Ok(Numbered { seq: own }) if own == seq => {}
            Ok(Numbered { seq: own }) => return Err(Damage::OutOfPlace { found: own }),
            Err(error) => return Err(Damage::Unreadable { reason: error.to_string() }),
        }
        self.follower.push(tree::leaf_hash(payload)).map_err(|mismatch| {
            self.mismatch = Some(mismatch);
            Damage::Altered
        })
    }
}

#[cfg(test)]
mod tests;
