//! Reading a directory of segments from the first record to the last, without changing anything: shared by start and audit.

use std::fmt;
use std::path::PathBuf;

use super::frame::{self, Frame, Rest, Salt};
use super::header::{Found, HEADER, Header, VERSION};
use super::open::{OpenError, Tail};
use super::{DiskError, LARGEST_SEGMENT, file_name, parse_name};
use crate::disk::{Disk, DiskFile};

/// One record is remembered in this many, so that a read in the middle does not start at the segment's beginning.
const MARK_EVERY: u64 = 64;

/// Where a bad record is, and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadRecord {
    /// In which file.
    pub file: PathBuf,
    /// At which byte of it.
    pub offset: u64,
    /// Which record should be there.
    pub seq: u64,
    /// What is wrong.
    pub damage: Damage,
}

/// What is wrong with a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Damage {
    /// The segment's first 64 bytes are not what was written.
    Header,
    /// The bytes are not what was written, and a later record shows that they had been.
    Altered,
    /// An intact record, but of another place.
    OutOfPlace {
        /// Its own position.
        found: u64,
    },
    /// It does not follow the record before it: one of the two was exchanged.
    Unchained,
    /// The segment after this one begins later: records are missing.
    Missing {
        /// The next record that is there.
        next: u64,
    },
    /// The payload is not what the log's records look like.
    Unreadable {
        /// What the parser said.
        reason: String,
    },
}

impl fmt::Display for BadRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` at byte {}, record {}: {}", self.file.display(), self.offset, self.seq, self.damage)
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header => f.write_str("the segment's header was altered"),
            Self::Altered => f.write_str("altered or erased after it was written"),
            Self::OutOfPlace { found } => write!(f, "record {found} is in its place"),
            Self::Unchained => f.write_str("it does not follow the record before it, so one of the two was exchanged"),
            Self::Missing { next } => write!(f, "missing; the next one there is {next}"),
            Self::Unreadable { reason } => write!(f, "can't be understood: {}", reason.escape_debug()),
        }
    }
}

/// A segment that was begun.
#[derive(Debug, Clone)]
pub(crate) struct Extent {
    pub(crate) number: u32,
    pub(crate) capacity: u64,
    pub(crate) salt: Salt,
    pub(crate) first_seq: u64,
    /// One past its last record.
    pub(crate) end_seq: u64,
    /// Where the next record goes.
    pub(crate) end: u64,
    /// Position and offset of some records, ascending.
    marks: Vec<(u64, u64)>,
}

impl Extent {
    pub(crate) const fn new(number: u32, capacity: u64, header: Header) -> Self {
        let Header { first_seq, salt } = header;
        Self { number, capacity, salt, first_seq, end_seq: first_seq, end: HEADER as u64, marks: Vec::new() }
    }

    /// Takes note of one more record.
    pub(crate) fn extend(&mut self, bytes: usize) {
        if (self.end_seq - self.first_seq).is_multiple_of(MARK_EVERY) {
            self.marks.push((self.end_seq, self.end));
        }
        self.end_seq += 1;
        self.end += bytes as u64;
    }

    /// A record at or before `seq`, and where it is.
    pub(crate) fn mark_before(&self, seq: u64) -> (u64, u64) {
        let after = self.marks.partition_point(|(marked, _)| *marked <= seq);
        after.checked_sub(1).and_then(|at| self.marks.get(at)).copied().unwrap_or((self.first_seq, HEADER as u64))
    }

    pub(crate) const fn room(&self) -> u64 {
        self.capacity.saturating_sub(self.end)
    }
}

/// A segment that was not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Blank {
    pub(crate) number: u32,
    pub(crate) bytes: u64,
    /// A crash tore its header while it was being begun.
    pub(crate) torn: bool,
}

/// What a scan found.
#[derive(Debug)]
pub(crate) struct Scanned {
    pub(crate) extents: Vec<Extent>,
    pub(crate) blanks: Vec<Blank>,
    /// The last record's checksum.
    pub(crate) prev: u32,
    /// The first record of the last segment that is not known to be on disk; its offset.
    pub(crate) unsure_from: u64,
    pub(crate) tail: Tail,
}

/// Sees each record once, in order, with its place; what it does not understand is damage.
pub(crate) type Visit<'v> = dyn FnMut(u64, &[u8], Place) -> Result<(), Damage> + 'v;

/// Where a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) number: u32,
    pub(crate) offset: u64,
}

/// Scans the directory.
pub(crate) fn scan<D: Disk>(disk: &D, visit: &mut Visit<'_>) -> Result<Scanned, OpenError> {
    let (begun, blanks) = survey(disk)?;
    let mut walk = Walk { disk, prev: None, durable: 0, unsure_from: HEADER as u64, visit };
    let mut extents: Vec<Extent> = Vec::with_capacity(begun.len());
    let mut tail = Tail::Clean;
    let mut rest = begun.into_iter().peekable();
    while let Some((number, capacity, header)) = rest.next() {
        let mut extent = Extent::new(number, capacity, header);
        let next = rest.peek().map(|(_, _, next)| next.first_seq);
        tail = walk.segment(&mut extent, next)?;
        extents.push(extent);
    }
    let (prev, unsure_from) = (walk.prev.unwrap_or(0), walk.unsure_from);
    Ok(Scanned { extents, blanks, prev, unsure_from, tail })
}

type Begun = (u32, u64, Header);

/// Sorts the segment files into begun and blank ones, and refuses every order that no crash can leave.
fn survey<D: Disk>(disk: &D) -> Result<(Vec<Begun>, Vec<Blank>), OpenError> {
    let failed = |source| DiskError { action: "list", path: disk.locate(""), source };
    let mut numbers: Vec<u32> = disk.list().map_err(failed)?.iter().filter_map(|name| parse_name(name)).collect();
    numbers.sort_unstable();
    if let Some(gap) = numbers.array_windows().find_map(|[a, b]| (*b != a + 1).then_some(a + 1)) {
        return Err(OpenError::Missing { file: disk.locate(&file_name(gap)) });
    }
    let (mut begun, mut blanks): (Vec<Begun>, Vec<Blank>) = (Vec::new(), Vec::new());
    for number in numbers {
        let (bytes, found) = read_header(disk, number)?;
        match (found, blanks.first()) {
            (Found::Newer(found), _) => {
                return Err(OpenError::Newer { file: disk.locate(&file_name(number)), found, known: VERSION });
            }
            (Found::Begun(header), None) => begun.push((number, bytes, header)),
            // A blank one before it: its header, or the whole file, was erased.
            (Found::Begun(_), Some(blank)) => return Err(bad_header(disk, blank.number)),
            (Found::Blank, _) => blanks.push(Blank { number, bytes, torn: false }),
            (Found::Broken, None) => blanks.push(Blank { number, bytes, torn: true }),
            (Found::Broken, Some(_)) => return Err(bad_header(disk, number)),
        }
    }
    // Nothing is appended before its header is on disk. A spare that holds anything would be begun as it is, and refuse the start
    // after that one; and every spare is looked at, because it is begun one day.
    for blank in &blanks {
        let bytes = read_whole(disk, blank.number)?;
        if bytes.iter().skip(HEADER).any(|byte| *byte != 0) {
            return Err(bad_header(disk, blank.number));
        }
    }
    Ok((begun, blanks))
}

fn bad_header<D: Disk>(disk: &D, number: u32) -> OpenError {
    OpenError::Damaged(BadRecord { file: disk.locate(&file_name(number)), offset: 0, seq: 0, damage: Damage::Header })
}

fn read_header<D: Disk>(disk: &D, number: u32) -> Result<(u64, Found), DiskError> {
    let name = file_name(number);
    let failed = |source| DiskError { action: "read", path: disk.locate(&name), source };
    let file = disk.open(&name).map_err(failed)?;
    let length = file.length().map_err(failed)?;
    let mut bytes = [0; HEADER];
    if length < HEADER as u64 {
        // The creation of a spare was cut short.
        return Ok((length, Found::Blank));
    }
    file.read_at(0, &mut bytes).map_err(failed)?;
    Ok((length, Header::decode(&bytes)))
}

/// The whole file; what a hostile one has beyond the largest segment is left out.
fn read_whole<D: Disk>(disk: &D, number: u32) -> Result<Vec<u8>, DiskError> {
    let name = file_name(number);
    let failed = |source| DiskError { action: "read", path: disk.locate(&name), source };
    let file = disk.open(&name).map_err(failed)?;
    let length = file.length().map_err(failed)?.min(LARGEST_SEGMENT);
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
    file.read_at(0, &mut bytes).map_err(failed)?;
    Ok(bytes)
}

struct Walk<'d, 'v, 'w, D> {
    disk: &'d D,
    prev: Option<u32>,
    durable: u64,
    unsure_from: u64,
    visit: &'w mut Visit<'v>,
}

impl<D: Disk> Walk<'_, '_, '_, D> {
    /// Walks one segment; `next` is where the one after it begins.
    fn segment(&mut self, extent: &mut Extent, next: Option<u64>) -> Result<Tail, OpenError> {
        let bytes = read_whole(self.disk, extent.number)?;
        self.unsure_from = HEADER as u64;
        let mut offsets = Vec::new();
        loop {
            let at = usize::try_from(extent.end).unwrap_or(usize::MAX);
            let here = bytes.get(at..).unwrap_or_default();
            let Some(record) = frame::decode(&extent.salt, here) else { break self.end(extent, here, next) };
            self.check(extent, record)?;
            let place = Place { number: extent.number, offset: extent.end };
            (self.visit)(record.seq, record.payload, place).map_err(|damage| self.bad(extent, damage))?;
            (self.prev, self.durable) = (Some(record.crc), record.durable);
            offsets.push(extent.end);
            extent.extend(record.length());
        }
        .inspect(|_| {
            // The records from `durable` on; none, when the last one says that all before it are sure, save itself.
            let sure = usize::try_from(self.durable.saturating_sub(extent.first_seq)).unwrap_or(usize::MAX);
            self.unsure_from = offsets.get(sure).copied().unwrap_or(extent.end);
        })
    }

    /// An intact record can't be the work of a crash: in the wrong place it was put there.
    fn check(&self, extent: &Extent, record: Frame<'_>) -> Result<(), OpenError> {
        if record.seq != extent.end_seq {
            return Err(self.bad(extent, Damage::OutOfPlace { found: record.seq }));
        }
        if self.prev.is_some_and(|prev| prev != record.prev) {
            return Err(self.bad(extent, Damage::Unchained));
        }
        Ok(())
    }

    fn end(&self, extent: &Extent, rest: &[u8], next: Option<u64>) -> Result<Tail, OpenError> {
        match (frame::rest(&extent.salt, rest, extent.end_seq), next) {
            (Rest::Blank | Rest::Unfinished { .. }, Some(next)) if next == extent.end_seq => Ok(Tail::Clean),
            (Rest::Blank, Some(next)) => Err(self.bad(extent, Damage::Missing { next })),
            (Rest::Blank, None) => Ok(Tail::Clean),
            (Rest::Unfinished { written }, None) => Ok(Tail::Dropped {
                file: self.disk.locate(&file_name(extent.number)),
                offset: extent.end,
                seq: extent.end_seq,
                bytes: written as u64,
            }),
            (Rest::Unfinished { .. }, Some(_)) | (Rest::Damaged, _) => Err(self.bad(extent, Damage::Altered)),
        }
    }

    fn bad(&self, extent: &Extent, damage: Damage) -> OpenError {
        let file = self.disk.locate(&file_name(extent.number));
        OpenError::Damaged(BadRecord { file, offset: extent.end, seq: extent.end_seq, damage })
    }
}
