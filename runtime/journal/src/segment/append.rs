//! An open log: append, sync, read back, drop what is no longer needed.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;

use super::frame::{self, HEAD};
use super::header::{HEADER, Header};
use super::scan::{BadRecord, Damage, Extent};
use super::{DiskError, Durability, Options, file_name};
use crate::disk::{Disk, DiskFile, is_full};

/// A log that is open for appending.
#[derive(Debug)]
pub struct Segments<D: Disk> {
    disk: D,
    options: Options,
    /// Begun, ascending; the last is the one in use.
    extents: Vec<Extent>,
    active: Option<D::File>,
    spares: VecDeque<Spare<D::File>>,
    /// The last record's checksum.
    prev: u32,
    // INVARIANT: every record before this position is on disk.
    durable: u64,
    poisoned: Option<String>,
}

/// A blank segment, ready to be begun.
#[derive(Debug)]
pub(super) struct Spare<F> {
    pub(super) number: u32,
    pub(super) bytes: u64,
    pub(super) file: F,
}

/// Why a record was not appended, or is not known to be.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// It fits into no segment.
    #[error("a record of {bytes} bytes is larger than the {most} a segment holds")]
    TooLarge {
        /// Its size.
        bytes: u64,
        /// The largest.
        most: u64,
    },
    /// The segments and the reserve are used up and the disk is full. Nothing was written; it works again when there is room.
    #[error("no room for a record of {bytes} bytes: the reserve is used up and the disk is full")]
    NoRoom {
        /// Its size.
        bytes: u64,
    },
    /// The disk failed: whether the record is there is unknown, and nothing is appended any more.
    #[error("the record may be lost")]
    Failed(#[source] DiskError),
    /// It failed before.
    #[error("nothing is appended any more after an earlier failure: {reason}")]
    Poisoned {
        /// The failure.
        reason: String,
    },
}

impl AppendError {
    /// The process has to stop: what the disk holds is no longer known. (A retried sync would succeed without having written.)
    pub const fn is_fatal(&self) -> bool {
        match self {
            Self::TooLarge { .. } | Self::NoRoom { .. } => false,
            Self::Failed(_) | Self::Poisoned { .. } => true,
        }
    }
}

/// Why records can't be read back.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// They changed since they were written.
    #[error("damaged: {0}")]
    Damaged(BadRecord),
}

impl<D: Disk> Segments<D> {
    pub(super) fn assemble(
        disk: D,
        options: Options,
        (extents, prev): (Vec<Extent>, u32),
        active: Option<D::File>,
        spares: Vec<Spare<D::File>>,
    ) -> Self {
        let durable = extents.last().map_or(0, |extent| extent.end_seq);
        Self { disk, options, extents, active, spares: spares.into(), prev, durable, poisoned: None }
    }

    /// The position of the next record.
    pub fn end(&self) -> u64 {
        self.extents.last().map_or(0, |extent| extent.end_seq)
    }

    /// The position of the first record still kept.
    pub fn start(&self) -> u64 {
        self.extents.first().map_or(0, |extent| extent.first_seq)
    }

    /// Every record before this position is on disk.
    pub const fn durable(&self) -> u64 {
        self.durable
    }

    /// Bytes that can be appended without a free block, in records of at most `record` bytes.
    pub fn room(&self, record: u64) -> u64 {
        let usable = |bytes: u64| bytes.saturating_sub(record + HEAD as u64);
        let active = self.extents.last().map_or(0, |extent| usable(extent.room()));
        active + self.spares.iter().map(|spare| usable(spare.bytes - HEADER as u64)).sum::<u64>()
    }

    pub(super) fn has_room(&self) -> bool {
        self.active.is_some() || !self.spares.is_empty()
    }

    /// Appends one record and says its position.
    pub fn append(&mut self, payload: &[u8], durability: Durability) -> Result<u64, AppendError> {
        self.healthy()?;
        let bytes = payload.len() as u64;
        let (need, most) = (bytes + HEAD as u64, self.options.segment_bytes - HEADER as u64);
        let too_large = || AppendError::TooLarge { bytes, most: most - HEAD as u64 };
        if need > most {
            return Err(too_large());
        }
        if self.extents.last().is_none_or(|extent| extent.room() < need) {
            self.begin_next(bytes)?;
        }
        let (Some(extent), Some(file)) = (self.extents.last_mut(), self.active.as_ref()) else {
            return Err(AppendError::NoRoom { bytes });
        };
        let seq = extent.end_seq;
        let (record, crc) = frame::encode(&extent.salt, seq, self.durable, self.prev, payload).ok_or_else(too_large)?;
        let number = extent.number;
        if let Err(error) = file.write_at(extent.end, &record) {
            return Err(self.poison("write", number, error));
        }
        extent.extend(record.len());
        self.prev = crc;
        match durability {
            Durability::Synced => self.sync()?,
            Durability::Buffered => {}
        }
        Ok(seq)
    }

    /// Makes every record appended so far durable.
    pub fn sync(&mut self) -> Result<(), AppendError> {
        self.healthy()?;
        let end = self.end();
        if self.durable == end {
            return Ok(());
        }
        if let (Some(file), Some(extent)) = (self.active.as_ref(), self.extents.last())
            && let Err(error) = file.sync()
        {
            let number = extent.number;
            return Err(self.poison("sync", number, error));
        }
        self.durable = end;
        Ok(())
    }

    /// Fills up the spare segments. To be called now and then: after a full disk this is what restores the reserve.
    pub fn top_up(&mut self) -> Result<(), DiskError> {
        while self.spares.len() < self.options.spares {
            let last = self.spares.back().map(|spare| spare.number).or_else(|| self.extents.last().map(|e| e.number));
            let number = last.map_or(0, |number| number.saturating_add(1));
            let name = file_name(number);
            let bytes = self.options.segment_bytes;
            let failed = |action| move |source| DiskError { action, path: PathBuf::new(), source };
            let at = |error: DiskError| DiskError { path: self.disk.locate(&name), ..error };
            let file = self.disk.create(&name, bytes).map_err(failed("create")).map_err(at)?;
            self.disk.sync_directory().map_err(failed("sync the directory of")).map_err(at)?;
            self.spares.push_back(Spare { number, bytes, file });
        }
        Ok(())
    }

    /// At most `limit` records from position `from` on, with their positions.
    pub fn read(&self, from: u64, limit: usize) -> Result<Vec<(u64, Vec<u8>)>, ReadError> {
        let mut records = Vec::new();
        let first = self.extents.partition_point(|extent| extent.end_seq <= from);
        for extent in self.extents.iter().skip(first) {
            let wanted = limit.saturating_sub(records.len());
            if wanted == 0 {
                break;
            }
            self.read_segment(extent, from.max(extent.first_seq), wanted, &mut records)?;
        }
        Ok(records)
    }

    fn read_segment(
        &self,
        extent: &Extent,
        from: u64,
        limit: usize,
        records: &mut Vec<(u64, Vec<u8>)>,
    ) -> Result<(), ReadError> {
        let name = file_name(extent.number);
        let failed = |source| DiskError { action: "read", path: self.disk.locate(&name), source };
        let file = self.disk.open(&name).map_err(failed)?;
        let (mut seq, mut offset) = extent.mark_before(from);
        let until = extent.end_seq.min(from.saturating_add(limit as u64));
        while seq < until {
            let bad = || BadRecord { file: self.disk.locate(&name), offset, seq, damage: Damage::Altered };
            let mut bytes = vec![0; HEAD];
            file.read_at(offset, &mut bytes).map_err(failed)?;
            let length = frame::payload_length(&bytes).filter(|length| *length as u64 <= extent.end - offset);
            let length = length.ok_or_else(|| ReadError::Damaged(bad()))?;
            bytes.resize(HEAD + length, 0);
            file.read_at(offset + HEAD as u64, bytes.get_mut(HEAD..).unwrap_or_default()).map_err(failed)?;
            let record = frame::decode(&extent.salt, &bytes).filter(|record| record.seq == seq);
            let record = record.ok_or_else(|| ReadError::Damaged(bad()))?;
            if seq >= from {
                records.push((seq, record.payload.to_vec()));
            }
            offset += record.length() as u64;
            seq += 1;
        }
        Ok(())
    }

    /// Removes the oldest segments that hold only records before `seq`; the one in use always stays.
    pub fn drop_before(&mut self, seq: u64) -> Result<(), DiskError> {
        while self.extents.len() > 1
            && let Some(oldest) = self.extents.first().filter(|oldest| oldest.end_seq <= seq)
        {
            let name = file_name(oldest.number);
            let failed = |action| move |source| (action, source);
            let removed = self.disk.remove(&name).map_err(failed("remove"));
            // One at a time and synced: a gap in the numbers would refuse the next start.
            removed
                .and_then(|()| self.disk.sync_directory().map_err(failed("sync the directory of")))
                .map_err(|(action, source)| DiskError { action, path: self.disk.locate(&name), source })?;
            self.extents.remove(0);
        }
        Ok(())
    }

    /// Begins the next segment. Its header is on disk before its first record is written, and everything in the segment
    /// before it too, so that a segment with a successor is known to be whole.
    fn begin_next(&mut self, bytes: u64) -> Result<(), AppendError> {
        self.sync()?;
        if self.spares.is_empty() {
            match self.top_up() {
                Ok(()) => {}
                Err(error) if is_full(&error.source) && !self.spares.is_empty() => {}
                Err(error) if is_full(&error.source) => return Err(AppendError::NoRoom { bytes }),
                Err(error) => return Err(AppendError::Failed(error)),
            }
        }
        let spare = self.spares.pop_front().ok_or(AppendError::NoRoom { bytes })?;
        let begun = self.disk.salt().and_then(|salt| {
            let header = Header { first_seq: self.end(), salt };
            spare.file.write_at(0, &header.encode())?;
            spare.file.sync()?;
            Ok(header)
        });
        match begun {
            Ok(header) => {
                self.extents.push(Extent::new(spare.number, spare.bytes, header));
                self.active = Some(spare.file);
                // Not needed yet; whether the reserve is whole shows in `room`, and the next call tries again.
                self.top_up().ok();
                Ok(())
            }
            Err(error) => Err(self.poison("begin", spare.number, error)),
        }
    }

    fn healthy(&self) -> Result<(), AppendError> {
        match &self.poisoned {
            None => Ok(()),
            Some(reason) => Err(AppendError::Poisoned { reason: reason.clone() }),
        }
    }

    /// Every failure counts, want of room too: in a segment that was written before it can't happen (but for copy-on-write
    /// disks), and a record of which a part was written may turn up whole after a restart, though its writer was refused.
    fn poison(&mut self, action: &'static str, number: u32, source: io::Error) -> AppendError {
        let error = DiskError { action, path: self.disk.locate(&file_name(number)), source };
        self.poisoned = Some(format!("{error}: {}", error.source));
        AppendError::Failed(error)
    }
}
