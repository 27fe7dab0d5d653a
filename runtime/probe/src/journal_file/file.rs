//! One file: its header, and bounded reads of its objects. Nothing it says about itself is believed before it was compared with
//! the file's real length.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::fs::OFlags;

use super::FileError;
use super::budget::Budget;
use super::bytes::{id_at, u32_at, u64_at};
use super::hash;
use super::payload::{Coding, MAX_STORED, decoded};

const SIGNATURE: &[u8] = b"LPKSHHRH";
/// All that the first versions wrote; later fields are not needed here.
const HEADER: usize = 208;
/// Compressions and the two below.
const KNOWN: u32 = 0b1_1111;
const KEYED_HASH: u32 = 1 << 2;
const COMPACT: u32 = 1 << 4;
/// Mode bits that let others write.
const OTHERS_WRITE: u32 = 0o022;
/// Every object's type, flags and size.
const OBJECT: usize = 16;
/// journald begins another file when a chain of its table grows beyond 100.
const MAX_CHAIN: usize = 4096;

/// The types of object that are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Data,
    Entry,
    EntryArray,
}

impl Kind {
    const fn number(self) -> u8 {
        match self {
            Self::Data => 1,
            Self::Entry => 3,
            Self::EntryArray => 6,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Data => "a data object",
            Self::Entry => "an entry",
            Self::EntryArray => "an entry array",
        }
    }

    /// Bytes before its variable part.
    pub(super) const fn fixed(self) -> usize {
        match self {
            Self::Data | Self::Entry => 64,
            Self::EntryArray => 24,
        }
    }
}

/// One open file.
#[derive(Debug)]
pub(super) struct JournalFile {
    file: File,
    /// Bytes that are both said and really there.
    length: u64,
    flags: u32,
    id: [u8; 16],
    table: (u64, u64),
    newest: u64,
}

/// The fixed part of an object, and the object's size.
#[derive(Debug)]
pub(super) struct Object {
    at: u64,
    kind: Kind,
    coding: u8,
    pub(super) size: u64,
    head: Vec<u8>,
}

impl Object {
    pub(super) fn number(&self, at: usize) -> Result<u64, FileError> {
        u64_at(&self.head, at).ok_or_else(|| self.damaged())
    }

    pub(super) fn id(&self, at: usize) -> Result<[u8; 16], FileError> {
        id_at(&self.head, at).ok_or_else(|| self.damaged())
    }

    /// Where its variable part begins.
    pub(super) const fn start(&self) -> u64 {
        self.at.saturating_add(self.kind.fixed() as u64)
    }

    pub(super) const fn damaged(&self) -> FileError {
        FileError::Damaged { what: self.kind.name(), at: self.at }
    }
}

impl JournalFile {
    /// Opens a regular file that only root, or the user this runs as, can have written.
    pub(super) fn open(path: &Path, budget: &mut Budget) -> Result<Self, FileError> {
        let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC).bits().cast_signed();
        let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(FileError::NotJournal);
        }
        let (owner, mode) = (metadata.uid(), metadata.mode() & 0o7777);
        let trusted = owner == 0 || owner == rustix::process::geteuid().as_raw();
        if !trusted || mode & OTHERS_WRITE != 0 {
            return Err(FileError::Writable { owner, mode });
        }
        if metadata.len() < HEADER as u64 {
            return Err(FileError::NotJournal);
        }
        budget.pay(HEADER)?;
        let mut header = [0; HEADER];
        file.read_exact_at(&mut header, 0)?;
        Self::with_header(file, metadata.len(), &header)
    }

    fn with_header(file: File, real: u64, header: &[u8; HEADER]) -> Result<Self, FileError> {
        if !header.starts_with(SIGNATURE) {
            return Err(FileError::NotJournal);
        }
        let damaged = FileError::Damaged { what: "the header", at: 0 };
        let number = |at| u64_at(header, at);
        let (Some(flags), Some(id), Some(size), Some(arena), Some(table), Some(table_size), Some(newest)) =
            (u32_at(header, 12), id_at(header, 24), number(88), number(96), number(104), number(112), number(192))
        else {
            return Err(damaged);
        };
        if flags & !KNOWN != 0 {
            return Err(FileError::Unknown { flags });
        }
        let buckets = table_size / 16;
        if size < HEADER as u64 || buckets == 0 {
            return Err(damaged);
        }
        let length = size.saturating_add(arena).min(real);
        Ok(Self { file, length, flags, id, table: (table, buckets), newest })
    }

    /// The time of the newest entry, in microseconds since 1970.
    pub(super) const fn newest(&self) -> u64 {
        self.newest
    }

    pub(super) const fn is_compact(&self) -> bool {
        self.flags & COMPACT != 0
    }

    /// Bytes of one offset in an entry array.
    pub(super) const fn array_item(&self) -> usize {
        if self.is_compact() { 4 } else { 8 }
    }

    /// Bytes of one item of an entry: an offset, and in the older form a hash.
    pub(super) const fn entry_item(&self) -> usize {
        if self.is_compact() { 4 } else { 16 }
    }

    const fn payload_at(&self) -> usize {
        if self.is_compact() { 72 } else { 64 }
    }

    pub(super) fn read(&self, at: u64, length: usize, budget: &mut Budget) -> Result<Vec<u8>, FileError> {
        let end = at.checked_add(length as u64).filter(|end| *end <= self.length);
        end.ok_or(FileError::Damaged { what: "a part", at })?;
        budget.pay(length)?;
        let mut bytes = vec![0; length];
        self.file.read_exact_at(&mut bytes, at)?;
        Ok(bytes)
    }

    /// The fixed part of the object there, if it is one of that kind and lies within the file.
    pub(super) fn object(&self, at: u64, kind: Kind, budget: &mut Budget) -> Result<Object, FileError> {
        let damaged = || FileError::Damaged { what: kind.name(), at };
        if at < HEADER as u64 || !at.is_multiple_of(8) {
            return Err(damaged());
        }
        let head = self.read(at, kind.fixed(), budget)?;
        let (number, coding) = (head.first().copied(), head.get(1).copied().ok_or_else(damaged)?);
        let size = u64_at(&head, OBJECT - 8).ok_or_else(damaged)?;
        let ends = at.checked_add(size).is_some_and(|end| end <= self.length);
        if number != Some(kind.number()) || size < kind.fixed() as u64 || !ends {
            return Err(damaged());
        }
        Ok(Object { at, kind, coding, size, head })
    }

    /// The variable part of an object, at most `most` bytes of it.
    pub(super) fn tail_of(&self, object: &Object, most: usize, budget: &mut Budget) -> Result<Vec<u8>, FileError> {
        self.part(object, object.kind.fixed(), most, budget)
    }

    fn part(&self, object: &Object, from: usize, most: usize, budget: &mut Budget) -> Result<Vec<u8>, FileError> {
        let rest = object.size.checked_sub(from as u64).ok_or_else(|| object.damaged())?;
        let length = usize::try_from(rest).unwrap_or(usize::MAX).min(most);
        self.read(object.at.saturating_add(from as u64), length, budget)
    }

    /// The first `most` bytes of a field, `NAME=value`.
    pub(super) fn field(&self, data: &Object, most: usize, budget: &mut Budget) -> Result<Vec<u8>, FileError> {
        let coding = Coding::of(data.coding).ok_or_else(|| data.damaged())?;
        let stored = if coding == Coding::Plain { most } else { MAX_STORED };
        let stored = self.part(data, self.payload_at(), stored, budget)?;
        decoded(coding, &stored, most).ok_or_else(|| data.damaged())
    }

    /// Whether a field begins like this; costs no more than that for fields that are stored as they are.
    pub(super) fn begins(&self, data: &Object, with: &[u8], budget: &mut Budget) -> Result<bool, FileError> {
        Ok(self.field(data, with.len(), budget)? == with)
    }

    /// The object that holds exactly this field, through the table of hashes.
    pub(super) fn find(&self, field: &[u8], budget: &mut Budget) -> Result<Option<(u64, Object)>, FileError> {
        let wanted = if self.flags & KEYED_HASH == 0 { hash::jenkins(field) } else { hash::keyed(&self.id, field) };
        let (table, buckets) = self.table;
        let bucket = wanted.checked_rem(buckets).unwrap_or(0).saturating_mul(16);
        let head = self.read(table.saturating_add(bucket), 8, budget)?;
        let mut next = u64_at(&head, 0).unwrap_or(0);
        let mut seen = 0;
        for _ in 0..MAX_CHAIN {
            if next == 0 {
                return Ok(None);
            }
            // Chains grow at their end, as the file does: one that goes back would never end.
            if next <= seen {
                break;
            }
            let data = self.object(next, Kind::Data, budget)?;
            if data.number(16)? == wanted && self.field(&data, field.len() + 1, budget)? == field {
                return Ok(Some((next, data)));
            }
            seen = next;
            next = data.number(24)?;
        }
        Err(FileError::Damaged { what: "a chain of the hash table", at: seen })
    }
}
