//! A log of typed records (as JSON) in segments: the runner's journal, the agent's inbox.

use std::marker::PhantomData;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::disk::{Directory, Disk};
use crate::segment::{self, Damage, DiskError, Durability, OpenError, Options, Segments, Tail};

/// A log of `T`.
#[derive(Debug)]
pub struct Log<T, D: Disk = Directory> {
    segments: Segments<D>,
    records: PhantomData<fn() -> T>,
}

/// A log and what was in it.
#[derive(Debug)]
pub struct Replayed<T, D: Disk = Directory> {
    /// Ready for more.
    pub log: Log<T, D>,
    /// Every record kept, with its position.
    pub records: Vec<(u64, T)>,
    /// How it ended.
    pub tail: Tail,
}

/// Why a record was not appended.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// It can't be written as JSON.
    #[error("the record can't be written as JSON")]
    Encode(#[source] serde_json::Error),
    /// The segments refused it.
    #[error(transparent)]
    Segment(#[from] segment::AppendError),
}

/// Why records can't be read back.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The segments can't be read.
    #[error(transparent)]
    Segment(#[from] segment::ReadError),
    /// A record is not what this program writes.
    #[error("record {seq} can't be understood")]
    Decode {
        /// Which.
        seq: u64,
        /// What the parser said.
        #[source]
        source: serde_json::Error,
    },
}

impl<T: Serialize + DeserializeOwned> Log<T> {
    /// Opens the log in a directory, which is made (0700) if it is missing and locked against a second process.
    pub fn open(directory: &Path, options: Options) -> Result<Replayed<T>, OpenError> {
        Self::open_on(Directory::open(directory)?, options)
    }
}

impl<T: Serialize + DeserializeOwned, D: Disk> Log<T, D> {
    /// Opens the log on a disk.
    pub fn open_on(disk: D, options: Options) -> Result<Replayed<T, D>, OpenError> {
        let mut records = Vec::new();
        let (segments, tail) = Segments::open(disk, options, &mut |seq, payload, _| {
            let record = serde_json::from_slice(payload);
            records.push((seq, record.map_err(|error| Damage::Unreadable { reason: error.to_string() })?));
            Ok(())
        })?;
        Ok(Replayed { log: Self { segments, records: PhantomData }, records, tail })
    }

    /// Appends one record and says its position.
    pub fn append(&mut self, record: &T, durability: Durability) -> Result<u64, AppendError> {
        let payload = serde_json::to_vec(record).map_err(AppendError::Encode)?;
        Ok(self.segments.append(&payload, durability)?)
    }

    /// Makes every record appended so far durable: a batch costs one sync.
    pub fn sync(&mut self) -> Result<(), AppendError> {
        Ok(self.segments.sync()?)
    }

    /// At most `limit` records from position `from` on.
    pub fn read(&self, from: u64, limit: usize) -> Result<Vec<(u64, T)>, ReadError> {
        let decode = |(seq, payload): (u64, Vec<u8>)| {
            let record = serde_json::from_slice(&payload).map_err(|source| ReadError::Decode { seq, source })?;
            Ok((seq, record))
        };
        self.segments.read(from, limit)?.into_iter().map(decode).collect()
    }

    /// Removes the oldest segments that hold only records before `seq`. Records are dropped by the segment, never singly.
    pub fn drop_before(&mut self, seq: u64) -> Result<(), DiskError> {
        self.segments.drop_before(seq)
    }

    /// The position of the next record.
    pub fn end(&self) -> u64 {
        self.segments.end()
    }

    /// Bytes that can be appended without a free block, in records of at most `record` bytes.
    pub fn room(&self, record: u64) -> u64 {
        self.segments.room(record)
    }

    /// Fills up the spare segments again; to be called now and then.
    pub fn top_up(&mut self) -> Result<(), DiskError> {
        self.segments.top_up()
    }
}

#[cfg(test)]
mod tests;
