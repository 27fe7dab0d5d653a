//! Append-only logs of opaque payloads in segment files that are written before they are needed.
//!
//! A segment file keeps its name and size for life: beginning one writes its header in place, appending overwrites zeros. So
//! an append needs no block, no inode and no directory entry. Behind the segment in use wait [`Options::spares`] blank ones:
//! the next, and the reserve. They are segments already and not a file to be deleted in need, because on a full disk
//! whatever fills it takes freed blocks before we do.
//!
//! What is told apart, and how:
//! * a crash leaves an unfinished end: dropped, blanked and reported ([`Tail`]);
//! * damage anywhere else refuses the start and names file and offset ([`OpenError::Damaged`]): each record says which
//!   records were already on disk when it was written, and carries the checksum of the one before it;
//! * damage to the very last record looks like a crash from here. The ledger's checkpoint tells (see [`crate::ledger`]).
//!
//! Copy-on-write file systems (btrfs, zfs) allocate even when overwriting: there the promise about full disks needs a
//! directory with `chattr +C`, or a file system of its own.

mod append;
pub(crate) mod frame;
pub(crate) mod header;
mod open;
pub(crate) mod scan;

use std::io;
use std::path::PathBuf;

pub use append::{AppendError, ReadError, Segments};
pub use open::{OpenError, Tail};
pub use scan::{BadRecord, Damage};

/// How much is allocated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Bytes of one segment file; also the upper bound of one record.
    pub segment_bytes: u64,
    /// Blank segments kept ready; at least 1 for the next, and what is above that is reserve.
    pub spares: usize,
}

impl Default for Options {
    /// A plan over 2,000 files is about 1 MiB as JSON; 8 MiB leave room for the largest the manifest allows, and three files
    /// are 24 MiB of a VPS's disk.
    fn default() -> Self {
        Self { segment_bytes: 8 << 20, spares: 2 }
    }
}

/// A header and a few small records.
const SMALLEST_SEGMENT: u64 = 512;
/// Segments are read into memory one at a time when they are replayed; a hostile file may not choose how much.
pub(crate) const LARGEST_SEGMENT: u64 = 256 << 20;

impl Options {
    fn checked(self) -> Self {
        Self { segment_bytes: self.segment_bytes.clamp(SMALLEST_SEGMENT, LARGEST_SEGMENT), spares: self.spares.max(1) }
    }
}

/// Whether an append waits for the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// On disk when the call returns, with everything appended before it.
    Synced,
    /// Durable with the next synced append, or [`Segments::sync`].
    Buffered,
}

/// A disk operation that failed.
#[derive(Debug, thiserror::Error)]
#[error("can't {action} `{}`", path.display())]
pub struct DiskError {
    /// `read`, `write`, `sync`, …
    pub action: &'static str,
    /// What.
    pub path: PathBuf,
    /// Why.
    #[source]
    pub source: io::Error,
}

/// The file name of a segment.
pub(crate) fn file_name(number: u32) -> String {
    format!("segment-{number:08}")
}

fn parse_name(name: &str) -> Option<u32> {
    let number = name.strip_prefix("segment-")?.parse().ok()?;
    (file_name(number) == name).then_some(number)
}

#[cfg(test)]
mod tests;
