//! A file of blocks that is allocated while there is room, and takes pre-images while there is none.
//!
//! A pre-image takes a run of neighbouring blocks, its head in the first. The data is on disk before the head is written, so a
//! head never speaks of data that is not there; a free run has no head. Nothing but heads says what is in use.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::PathBuf;

use theriac_model::id::Digest;

use crate::disk::{Directory, Disk as _, DiskFile as _};
use crate::segment::DiskError;

const NAME: &str = "arena";
/// A page, and the unit in which file systems allocate.
const BLOCK: u64 = 4096;
const HEAD: usize = 48;
const MAGIC: [u8; 4] = *b"ThPI";

/// The open arena.
#[derive(Debug)]
pub(super) struct Arena {
    file: File,
    path: PathBuf,
    blocks: u64,
    held: BTreeMap<Digest, Run>,
}

/// Where a pre-image is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Run {
    block: u64,
    packed: u64,
}

impl Run {
    const fn blocks(self) -> u64 {
        (HEAD as u64 + self.packed).div_ceil(BLOCK)
    }
}

impl Arena {
    /// Opens the arena, or allocates one of that many bytes.
    pub(super) fn open(directory: &Directory, bytes: u64) -> Result<Self, DiskError> {
        let path = directory.locate(NAME);
        let failed = |action| DiskErrorAt { action, path: &path };
        let file = match directory.open(NAME) {
            Ok(file) if file.metadata().is_ok_and(|metadata| metadata.len() >= BLOCK) => file,
            found => {
                if found.is_ok() {
                    // Its making was cut short.
                    directory.remove(NAME).map_err(|source| failed("remove").because(source))?;
                }
                let file = directory.create(NAME, bytes.max(BLOCK).next_multiple_of(BLOCK));
                let file = file.map_err(|source| failed("create").because(source))?;
                directory.sync_directory().map_err(|source| failed("sync the directory of").because(source))?;
                file
            }
        };
        let blocks = file.length().map_err(|source| failed("read").because(source))? / BLOCK;
        let mut arena = Self { file, path: path.clone(), blocks, held: BTreeMap::new() };
        arena.find_heads()?;
        Ok(arena)
    }

    fn find_heads(&mut self) -> Result<(), DiskError> {
        let mut block = 0;
        while block < self.blocks {
            let mut head = [0; HEAD];
            self.file.read_at(block * BLOCK, &mut head).map_err(|source| self.failed("read", source))?;
            let found = decode(&head).map(|(content, packed)| (content, Run { block, packed }));
            match found.filter(|(_, run)| block + run.blocks() <= self.blocks) {
                Some((content, run)) => {
                    self.held.insert(content, run);
                    block += run.blocks();
                }
                None => block += 1,
            }
        }
        Ok(())
    }

    pub(super) fn holds(&self, content: &Digest) -> bool {
        self.held.contains_key(content)
    }

    pub(super) fn contents(&self) -> Vec<Digest> {
        self.held.keys().copied().collect()
    }

    /// Free runs of blocks, as first block and number.
    fn free(&self) -> Vec<(u64, u64)> {
        let mut held: Vec<Run> = self.held.values().copied().collect();
        held.sort_by_key(|run| run.block);
        let (mut free, mut next) = (Vec::new(), 0);
        for run in held {
            free.push((next, run.block.saturating_sub(next)));
            next = run.block + run.blocks();
        }
        free.push((next, self.blocks.saturating_sub(next)));
        free
    }

    /// The most packed bytes that fit in one run.
    pub(super) fn largest_free(&self) -> u64 {
        let blocks = self.free().into_iter().map(|(_, blocks)| blocks).max().unwrap_or(0);
        (blocks * BLOCK).saturating_sub(HEAD as u64)
    }

    /// Keeps packed bytes of at most [`Arena::largest_free`]; durable when this returns.
    pub(super) fn put(&mut self, content: Digest, packed: &[u8]) -> Result<(), DiskError> {
        let run = Run { block: 0, packed: packed.len() as u64 };
        // The tightest run that is wide enough, so that large ones stay whole.
        let fits = self.free().into_iter().filter(|(_, blocks)| *blocks >= run.blocks());
        let Some((block, _)) = fits.min_by_key(|(_, blocks)| *blocks) else {
            return Err(self.failed("write", rustix::io::Errno::NOSPC.into()));
        };
        let run = Run { block, ..run };
        let write = |offset, bytes: &[u8]| {
            self.file.write_at(offset, bytes)?;
            self.file.sync()
        };
        write(block * BLOCK + HEAD as u64, packed)
            .and_then(|()| write(block * BLOCK, &encode(&content, packed.len())))
            .map_err(|source| self.failed("write", source))?;
        self.held.insert(content, run);
        Ok(())
    }

    /// The packed bytes, as they were put in; whether they are still right is seen when they are unpacked.
    pub(super) fn get(&self, content: &Digest) -> Result<Vec<u8>, DiskError> {
        let Some(run) = self.held.get(content) else { return Ok(Vec::new()) };
        let mut packed = vec![0; usize::try_from(run.packed).unwrap_or(0)];
        let read = self.file.read_at(run.block * BLOCK + HEAD as u64, &mut packed);
        read.map_err(|source| self.failed("read", source))?;
        Ok(packed)
    }

    /// Frees one pre-image's blocks.
    pub(super) fn remove(&mut self, content: &Digest) -> Result<u64, DiskError> {
        let Some(run) = self.held.get(content).copied() else { return Ok(0) };
        let erased = self.file.write_at(run.block * BLOCK, &[0; HEAD]).and_then(|()| self.file.sync());
        erased.map_err(|source| self.failed("write", source))?;
        self.held.remove(content);
        Ok(run.packed)
    }

    /// Frees everything that is not in `keep`.
    pub(super) fn retain(&mut self, keep: &BTreeSet<Digest>) -> Result<u64, DiskError> {
        let unwanted: Vec<Digest> = self.held.keys().filter(|content| !keep.contains(content)).copied().collect();
        unwanted.iter().try_fold(0, |freed, content| Ok(freed + self.remove(content)?))
    }

    fn failed(&self, action: &'static str, source: std::io::Error) -> DiskError {
        DiskError { action, path: self.path.clone(), source }
    }
}

struct DiskErrorAt<'a> {
    action: &'static str,
    path: &'a PathBuf,
}

impl DiskErrorAt<'_> {
    fn because(&self, source: std::io::Error) -> DiskError {
        DiskError { action: self.action, path: self.path.clone(), source }
    }
}

fn encode(content: &Digest, packed: usize) -> Vec<u8> {
    let mut head = MAGIC.to_vec();
    head.extend_from_slice(content.as_bytes());
    head.extend_from_slice(&(packed as u64).to_le_bytes());
    head.extend_from_slice(&crc32fast::hash(&head).to_le_bytes());
    head
}

fn decode(head: &[u8; HEAD]) -> Option<(Digest, u64)> {
    let (covered, crc) = head.split_last_chunk()?;
    let (magic, rest) = covered.split_first_chunk()?;
    let (content, rest) = rest.split_first_chunk()?;
    let (packed, _) = rest.split_first_chunk()?;
    let right = *magic == MAGIC && crc32fast::hash(covered) == u32::from_le_bytes(*crc);
    right.then(|| (Digest::from_bytes(*content), u64::from_le_bytes(*packed)))
}
