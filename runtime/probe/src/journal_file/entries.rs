//! Which entries of a file are a unit's, newest first, and what they say.

use std::cmp::Ordering;

use theriac_model::id::UnitName;

use super::FileError;
use super::budget::Budget;
use super::bytes::{u32_at, u64_at};
use super::file::{JournalFile, Kind, Object};

/// Entries that name the unit in a field anybody can set and are looked at for systemd's own: who floods it loses these lines.
const MAX_CLAIMED: usize = 2048;
/// Arrays double in size, so this many hold more entries than a file can.
const MAX_ARRAYS: usize = 64;
/// journald's own limit for the fields of an entry.
const MAX_FIELDS: usize = 1024;
/// Bytes of a message; lines are cut further where they are shown.
const MAX_MESSAGE: usize = 32 << 10;

/// An entry, by what tells it from others and orders it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    realtime: u64,
    monotonic: u64,
    boot: [u8; 16],
    sequence: u64,
    contents: u64,
    at: u64,
}

impl Found {
    /// What journald's copies have in common: they keep times and contents, and get another number.
    pub(super) const fn twins(&self) -> (u64, u64, [u8; 16], u64) {
        (self.realtime, self.monotonic, self.boot, self.contents)
    }
}

impl Ord for Found {
    fn cmp(&self, other: &Self) -> Ordering {
        // All that a service wrote at once has one time: its order is that of the numbers.
        let key =
            |found: &Self| (found.realtime, found.monotonic, found.boot, found.sequence, found.contents, found.at);
        key(self).cmp(&key(other))
    }
}

impl PartialOrd for Found {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl JournalFile {
    /// Everything in this file is older than the entry.
    pub(super) fn ends_before(&self, entry: &Found) -> bool {
        self.newest() < entry.realtime
    }

    /// The newest entries of the unit, at most `most` of each of the two sorts, and how many could not be read.
    pub(super) fn newest_of(&self, unit: &UnitName, most: usize, budget: &mut Budget) -> (Vec<Found>, u32) {
        let mut found = Vec::new();
        let mut gaps = 0;
        for read in
            [self.written_by(unit, most, &mut found, budget), self.said_by_systemd(unit, most, &mut found, budget)]
        {
            gaps += read.unwrap_or(1);
        }
        (found, gaps)
    }

    /// What the unit's own processes wrote.
    fn written_by(
        &self,
        unit: &UnitName,
        most: usize,
        found: &mut Vec<Found>,
        budget: &mut Budget,
    ) -> Result<u32, FileError> {
        let Some((_, data)) = self.find(format!("_SYSTEMD_UNIT={unit}").as_bytes(), budget)? else { return Ok(0) };
        let (entries, mut gaps) = self.entries_of(&data, most, budget)?;
        for at in entries {
            match self.entry(at, budget) {
                Ok((entry, _)) => found.push(entry),
                Err(FileError::Spent) => return Err(FileError::Spent),
                Err(_) => gaps += 1,
            }
        }
        Ok(gaps)
    }

    /// What systemd wrote about it. `UNIT=` alone is anybody's word.
    fn said_by_systemd(
        &self,
        unit: &UnitName,
        most: usize,
        found: &mut Vec<Found>,
        budget: &mut Budget,
    ) -> Result<u32, FileError> {
        let Some((systemd, _)) = self.find(b"_PID=1", budget)? else { return Ok(0) };
        let Some((_, data)) = self.find(format!("UNIT={unit}").as_bytes(), budget)? else { return Ok(0) };
        let (entries, mut gaps) = self.entries_of(&data, MAX_CLAIMED, budget)?;
        let mut taken = 0;
        for at in entries {
            match self.entry(at, budget) {
                Ok((entry, fields)) if fields.contains(&systemd) => {
                    found.push(entry);
                    taken += 1;
                }
                Ok(_) => {}
                Err(FileError::Spent) => return Err(FileError::Spent),
                Err(_) => gaps += 1,
            }
            if taken >= most {
                break;
            }
        }
        Ok(gaps)
    }

    /// The newest entries that have this field, newest first. The first lies in the object itself, the others in a chain of arrays.
    fn entries_of(&self, data: &Object, most: usize, budget: &mut Budget) -> Result<(Vec<u64>, u32), FileError> {
        let (arrays, mut gaps) = self.arrays_of(data, budget)?;
        let mut entries = Vec::new();
        for (array, used) in arrays.into_iter().rev() {
            if entries.len() >= most {
                return Ok((entries, gaps));
            }
            match self.newest_in(&array, used, most - entries.len(), budget) {
                Ok(newest) => entries.extend(newest),
                Err(FileError::Spent) => return Err(FileError::Spent),
                Err(_) => gaps += 1,
            }
        }
        let first = data.number(40)?;
        entries.extend(Some(first).filter(|first| *first != 0 && entries.len() < most));
        Ok((entries, gaps))
    }

    /// The arrays, oldest first, each with how many of its items are used.
    fn arrays_of(&self, data: &Object, budget: &mut Budget) -> Result<(Vec<(Object, u64)>, u32), FileError> {
        let mut arrays = Vec::new();
        let mut left = data.number(56)?.saturating_sub(1);
        let (mut next, mut seen) = (data.number(48)?, 0);
        while next != 0 && left > 0 {
            // Each is appended to the file after the one before: a chain that goes back would never end.
            if next <= seen || arrays.len() >= MAX_ARRAYS {
                return Ok((arrays, 1));
            }
            let array = match self.object(next, Kind::EntryArray, budget) {
                Ok(array) => array,
                Err(FileError::Spent) => return Err(FileError::Spent),
                // What comes before the damage is still good.
                Err(_) => return Ok((arrays, 1)),
            };
            seen = next;
            next = array.number(16)?;
            let room = (array.size - Kind::EntryArray.fixed() as u64) / self.array_item() as u64;
            let used = left.min(room);
            left -= used;
            arrays.push((array, used));
        }
        Ok((arrays, 0))
    }

    fn newest_in(&self, array: &Object, used: u64, most: usize, budget: &mut Budget) -> Result<Vec<u64>, FileError> {
        let take = usize::try_from(used).unwrap_or(usize::MAX).min(most);
        let item = self.array_item();
        let skipped = used.saturating_sub(take as u64).saturating_mul(item as u64);
        let bytes = self.read(array.start().saturating_add(skipped), take.saturating_mul(item), budget)?;
        // Zero: journald has counted it and not yet written it.
        Ok(bytes.chunks_exact(item).rev().filter_map(|item| self.offset(item)).filter(|at| *at != 0).collect())
    }

    fn offset(&self, item: &[u8]) -> Option<u64> {
        if self.is_compact() { u32_at(item, 0).map(u64::from) } else { u64_at(item, 0) }
    }

    /// An entry and the places of its fields.
    fn entry(&self, at: u64, budget: &mut Budget) -> Result<(Found, Vec<u64>), FileError> {
        let entry = self.object(at, Kind::Entry, budget)?;
        let found = Found {
            sequence: entry.number(16)?,
            realtime: entry.number(24)?,
            monotonic: entry.number(32)?,
            boot: entry.id(40)?,
            contents: entry.number(56)?,
            at,
        };
        let items = self.tail_of(&entry, MAX_FIELDS * self.entry_item(), budget)?;
        Ok((found, items.chunks_exact(self.entry_item()).filter_map(|item| self.offset(item)).collect()))
    }

    /// What the entry says; `None` where it has no message, or its only message can't be told.
    pub(super) fn message(&self, found: &Found, budget: &mut Budget) -> Result<Option<Vec<u8>>, FileError> {
        const NAME: &[u8] = b"MESSAGE=";
        let (_, fields) = self.entry(found.at, budget)?;
        let mut unread = None;
        for at in fields {
            let data = match self.object(at, Kind::Data, budget) {
                Ok(data) => data,
                Err(FileError::Spent) => return Err(FileError::Spent),
                Err(error) => {
                    unread = Some(error);
                    continue;
                }
            };
            match self.begins(&data, NAME, budget) {
                Ok(false) => {}
                Ok(true) => {
                    let field = self.field(&data, NAME.len() + MAX_MESSAGE, budget)?;
                    return Ok(field.get(NAME.len()..).map(<[u8]>::to_vec));
                }
                Err(FileError::Spent) => return Err(FileError::Spent),
                Err(error) => unread = Some(error),
            }
        }
        unread.map_or(Ok(None), Err)
    }
}
