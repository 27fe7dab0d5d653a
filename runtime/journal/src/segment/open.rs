//! Opening a log: scan it, drop what a crash left unfinished, make sure of what was read, allocate ahead.

use std::path::PathBuf;

use super::append::{Segments, Spare};
use super::header::HEADER;
use super::scan::{self, BadRecord, Blank, Extent, Scanned, Visit};
use super::{DiskError, Options, file_name};
use crate::disk::{DirectoryError, Disk, DiskFile, is_full};

/// Why a log can't be opened. None of these is repaired by going on with less: cooldowns, holds and open runs would be
/// forgotten.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory can't be used, or is in use.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// A newer program wrote it.
    #[error("`{}` has format {found}, and this program knows {known}", file.display())]
    Newer {
        /// Which file.
        file: PathBuf,
        /// Its version.
        found: u32,
        /// Ours.
        known: u32,
    },
    /// A segment in the middle is gone.
    #[error("`{}` is missing", file.display())]
    Missing {
        /// Which.
        file: PathBuf,
    },
    /// A record that had been on disk is not what it was.
    #[error("damaged: {0}")]
    Damaged(BadRecord),
    /// There is nothing to open, and no room to begin.
    #[error("no room for the first segment of {bytes} bytes, `{}`", file.display())]
    NoRoom {
        /// Which file.
        file: PathBuf,
        /// How large.
        bytes: u64,
    },
}

impl OpenError {
    /// What a person can do about it.
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::Directory(DirectoryError::InUse { .. }) => {
                "stop the other one, or give this one a `--state` of its own"
            }
            Self::Directory(DirectoryError::Open { .. }) | Self::Disk(_) => {
                "look at the disk, and at the owner and mode of the directory"
            }
            Self::Newer { .. } => "install the newer version again",
            Self::Missing { .. } | Self::Damaged(_) => {
                "restore the directory from a backup, or move it away and start anew: holds, cooldowns and open runs are then \
                 forgotten"
            }
            Self::NoRoom { .. } => "free some space; after the first start a full disk does no harm",
        }
    }
}

/// How the log ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tail {
    /// With a whole record.
    Clean,
    /// With something unfinished, which was dropped. Nobody was told that it is durable, unless the disk broke its word.
    Dropped {
        /// In which file.
        file: PathBuf,
        /// From which byte on.
        offset: u64,
        /// Which record was not finished.
        seq: u64,
        /// How many bytes.
        bytes: u64,
    },
}

impl<D: Disk> Segments<D> {
    /// Opens the log in `disk`, shows each record to `visit` once, in order, and makes the log ready to append.
    pub(crate) fn open(disk: D, options: Options, visit: &mut Visit<'_>) -> Result<(Self, Tail), OpenError> {
        let options = options.checked();
        // Names that a start before this one made may not be durable: it may have failed at just this.
        let failed = |source| DiskError { action: "sync the directory", path: disk.locate(""), source };
        disk.sync_directory().map_err(failed)?;
        let Scanned { extents, blanks, prev, unsure_from, tail } = scan::scan(&disk, visit)?;
        let active = match extents.last() {
            Some(extent) => Some(settle(&disk, extent, unsure_from)?),
            None => None,
        };
        let spares = ready_spares(&disk, options, &blanks)?;
        let mut segments = Self::assemble(disk, options, (extents, prev), active, spares);
        match segments.top_up() {
            Ok(()) => {}
            // With a segment in hand the log works; the reserve is filled when there is room again.
            Err(error) if is_full(&error.source) && segments.has_room() => {}
            Err(error) if is_full(&error.source) => {
                return Err(OpenError::NoRoom { file: error.path, bytes: options.segment_bytes });
            }
            Err(error) => return Err(error.into()),
        }
        Ok((segments, tail))
    }
}

/// Blanks the unfinished end, and writes again what was read but may be in memory only. A plain `sync` would not do: after
/// one that failed, the kernel marks the pages clean, and they read well until the power goes.
fn settle<D: Disk>(disk: &D, extent: &Extent, unsure_from: u64) -> Result<D::File, DiskError> {
    let name = file_name(extent.number);
    let failed = |action| DiskErrorAt { disk, name: &name, action };
    let file = disk.open(&name).map_err(|source| failed("open").because(source))?;
    // The header of a segment without a sure record may be in memory only, too.
    let unsure_from = if unsure_from == HEADER as u64 { 0 } else { unsure_from };
    if extent.end > unsure_from {
        let mut bytes = vec![0; usize::try_from(extent.end - unsure_from).unwrap_or(0)];
        file.read_at(unsure_from, &mut bytes).map_err(|source| failed("read").because(source))?;
        file.write_at(unsure_from, &bytes).map_err(|source| failed("write").because(source))?;
    }
    // Blanked although it may read as blank: an earlier start may have blanked it in memory and failed to sync.
    let zeros = vec![0; usize::try_from(extent.room()).unwrap_or(0)];
    file.write_at(extent.end, &zeros).map_err(|source| failed("write").because(source))?;
    file.sync().map_err(|source| failed("sync").because(source))?;
    Ok(file)
}

struct DiskErrorAt<'a, D> {
    disk: &'a D,
    name: &'a str,
    action: &'static str,
}

impl<D: Disk> DiskErrorAt<'_, D> {
    fn because(&self, source: std::io::Error) -> DiskError {
        DiskError { action: self.action, path: self.disk.locate(self.name), source }
    }
}

/// Opens the blank segments; from the first that is too short on (its creation was cut off) they are removed, to be made
/// anew.
fn ready_spares<D: Disk>(disk: &D, options: Options, blanks: &[Blank]) -> Result<Vec<Spare<D::File>>, DiskError> {
    let whole = blanks.iter().take_while(|blank| blank.bytes >= options.segment_bytes).count();
    let (keep, drop) = blanks.split_at_checked(whole).unwrap_or((blanks, &[]));
    for blank in drop.iter().rev() {
        let name = file_name(blank.number);
        let failed = |action| DiskErrorAt { disk, name: &name, action };
        disk.remove(&name).map_err(|source| failed("remove").because(source))?;
        disk.sync_directory().map_err(|source| failed("sync the directory of").because(source))?;
    }
    let mut spares = Vec::with_capacity(keep.len());
    for blank in keep {
        let name = file_name(blank.number);
        let failed = |action| DiskErrorAt { disk, name: &name, action };
        let file = disk.open(&name).map_err(|source| failed("open").because(source))?;
        if blank.torn {
            file.write_at(0, &[0; HEADER]).map_err(|source| failed("write").because(source))?;
            file.sync().map_err(|source| failed("sync").because(source))?;
        }
        spares.push(Spare { number: blank.number, bytes: blank.bytes, file });
    }
    Ok(spares)
}
