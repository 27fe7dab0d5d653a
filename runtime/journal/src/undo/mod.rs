//! Pre-images: what a file held before an effect, kept so that the undo can put it back.
//!
//! A pre-image is durable before [`UndoStore::put`] returns, and the effect happens only afterwards. Small ones travel in the
//! journal record itself; larger ones are files here, named by the digest of their uncompressed content; when the disk is full
//! they go to the [`arena`], a file that was allocated before. What fits nowhere is refused, and so is its effect.
//!
//! Content is hashed again before it is handed out: a damaged pre-image is an error, never a "restored" file.

mod arena;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use theriac_model::effect::Preimage;
use theriac_model::id::Digest;
use theriac_model::units::{Blob, Bytes};

use self::arena::Arena;
use crate::disk::{Directory, DirectoryError, Disk as _, is_full};
use crate::segment::DiskError;

/// Pre-images up to this size are kept in the journal record: below a page a file of its own costs more than it holds.
pub const INLINE: u64 = 4096;

/// Fast enough not to be felt at 100 MB and half the size on text; logs and configuration are text.
const LEVEL: i32 = 3;

/// How much is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Compressed bytes in all, without the arena.
    pub quota: u64,
    /// Bytes allocated ahead for the full disk.
    pub arena: u64,
}

impl Default for Options {
    /// A gibibyte of quota is five percent of a small VPS's disk; 4 MiB of arena hold some dozens of compressed configuration
    /// files, which is what is changed on a full disk (logs are archived elsewhere or removed).
    fn default() -> Self {
        Self { quota: 1 << 30, arena: 4 << 20 }
    }
}

/// Why a pre-image was not kept. The effect must not happen.
#[derive(Debug, thiserror::Error)]
pub enum PutError {
    /// The file that is about to change can't be read.
    #[error("can't read what is about to change")]
    Source(#[source] io::Error),
    /// It would grow the store beyond its quota.
    #[error("the pre-image does not fit into the undo quota of {quota}: {used} are in use")]
    Quota {
        /// The quota.
        quota: Bytes,
        /// In use already.
        used: Bytes,
    },
    /// The disk is full, and it does not fit into the arena.
    #[error("no room for the pre-image: the disk is full and {free} of the undo reserve are free")]
    NoRoom {
        /// The largest that would fit, compressed.
        free: Bytes,
    },
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

/// Why a pre-image can't be had back. The only answer is escalation.
#[derive(Debug, thiserror::Error)]
pub enum GetError {
    /// It is not there.
    #[error("the pre-image {content} is not in the undo store")]
    Missing {
        /// Which.
        content: Digest,
    },
    /// It is not what was put in.
    #[error("the pre-image {content} is damaged")]
    Damaged {
        /// Which.
        content: Digest,
    },
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

/// Why the store can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory can't be used, or is in use.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

/// The pre-images of one runner.
#[derive(Debug)]
pub struct UndoStore {
    directory: Directory,
    options: Options,
    /// Compressed size of each file.
    files: BTreeMap<Digest, u64>,
    /// `None` where the disk was too full to make one.
    arena: Option<Arena>,
}

/// The file a pre-image is written to before it has its name.
const INCOMING: &str = "incoming";
const SUFFIX: &str = ".zst";

impl UndoStore {
    /// Opens the store, and allocates the arena if it is not there yet.
    pub fn open(path: &Path, options: Options) -> Result<Self, OpenError> {
        let directory = Directory::open(path)?;
        let mut store = Self { directory, options, files: BTreeMap::new(), arena: None };
        store.remove_incoming()?;
        for name in store.directory.list().map_err(store.failed("list", ""))? {
            if let Some(content) = content_of(&name) {
                let file = store.directory.open_readable(&name).map_err(store.failed("open", &name))?;
                let length = file.metadata().map_err(store.failed("read", &name))?.len();
                store.files.insert(content, length);
            }
        }
        store.arena = match Arena::open(&store.directory, options.arena) {
            Ok(arena) => Some(arena),
            // The first start on a full disk: pre-images that need it are refused until there is room for one.
            Err(error) if is_full(&error.source) => None,
            Err(error) => return Err(error.into()),
        };
        Ok(store)
    }

    /// Keeps everything `source` has, from its start; durable when this returns.
    pub fn put<R: Read + Seek>(&mut self, source: &mut R) -> Result<Preimage, PutError> {
        source.seek(SeekFrom::Start(0)).map_err(PutError::Source)?;
        let mut small = Vec::new();
        source.by_ref().take(INLINE + 1).read_to_end(&mut small).map_err(PutError::Source)?;
        if small.len() as u64 <= INLINE {
            return Ok(Preimage::Inline(Blob(small)));
        }
        self.put_apart(source)
    }

    /// The same, and never in the record itself, however small: records are exported, and a private key must not be.
    pub fn put_apart<R: Read + Seek>(&mut self, source: &mut R) -> Result<Preimage, PutError> {
        source.seek(SeekFrom::Start(0)).map_err(PutError::Source)?;
        match self.put_file(source) {
            Err(PutError::Disk(error)) if is_full(&error.source) => {
                self.remove_incoming()?;
                source.seek(SeekFrom::Start(0)).map_err(PutError::Source)?;
                self.put_arena(source)
            }
            Err(error) => {
                self.remove_incoming()?;
                Err(error)
            }
            Ok(preimage) => Ok(preimage),
        }
    }

    fn put_file(&mut self, source: &mut dyn Read) -> Result<Preimage, PutError> {
        let incoming = self.directory.create_empty(INCOMING).map_err(self.failed("create", INCOMING))?;
        let used = self.used();
        let mut sink = Capped { inner: &incoming, left: self.options.quota.saturating_sub(used), over: false };
        let (content, bytes) = match compress(source, &mut sink) {
            Ok(done) => done,
            Err(Compress::Source(error)) => return Err(PutError::Source(error)),
            Err(Compress::Sink(_)) if sink.over => {
                return Err(PutError::Quota { quota: Bytes(self.options.quota), used: Bytes(used) });
            }
            Err(Compress::Sink(error)) => return Err(self.failed("write", INCOMING)(error).into()),
        };
        let preimage = Preimage::Stored { content, bytes };
        if self.holds(&preimage) {
            self.remove_incoming()?;
            return Ok(preimage);
        }
        let name = name_of(&content);
        incoming.sync_all().map_err(self.failed("sync", INCOMING))?;
        let length = incoming.metadata().map_err(self.failed("read", INCOMING))?.len();
        self.directory.rename(INCOMING, &name).map_err(self.failed("rename", INCOMING))?;
        self.directory.sync_directory().map_err(self.failed("sync the directory of", &name))?;
        self.files.insert(content, length);
        Ok(preimage)
    }

    fn put_arena(&mut self, source: &mut dyn Read) -> Result<Preimage, PutError> {
        let Some(arena) = &mut self.arena else { return Err(PutError::NoRoom { free: Bytes(0) }) };
        let free = arena.largest_free();
        let mut packed = Vec::new();
        let mut sink = Capped { inner: &mut packed, left: free, over: false };
        let (content, bytes) = match compress(source, &mut sink) {
            Ok(done) => done,
            Err(Compress::Source(error)) => return Err(PutError::Source(error)),
            // The sink is memory: it fails only at its cap.
            Err(Compress::Sink(_)) => return Err(PutError::NoRoom { free: Bytes(free) }),
        };
        if !arena.holds(&content) {
            arena.put(content, &packed)?;
        }
        Ok(Preimage::Stored { content, bytes })
    }

    /// The pre-image's bytes, checked in full before the first is handed out.
    pub fn get<'a>(&'a self, preimage: &'a Preimage) -> Result<Box<dyn Read + 'a>, GetError> {
        match preimage {
            Preimage::Inline(blob) => Ok(Box::new(blob.0.as_slice())),
            Preimage::Stored { content, bytes } => {
                self.check(content, *bytes)?;
                Ok(Box::new(self.unpacked(content)?.take(*bytes)))
            }
        }
    }

    fn check(&self, content: &Digest, bytes: u64) -> Result<(), GetError> {
        let damaged = || GetError::Damaged { content: *content };
        let mut hasher = Hashing { inner: io::sink(), hasher: Sha256::new(), bytes: 0 };
        // One byte more than there should be: a compressed bomb ends here.
        let mut unpacked = self.unpacked(content)?.take(bytes.saturating_add(1));
        io::copy(&mut unpacked, &mut hasher).map_err(|_broken| damaged())?;
        let right = hasher.bytes == bytes && Digest::from_bytes(hasher.hasher.finalize().into()) == *content;
        if right { Ok(()) } else { Err(damaged()) }
    }

    fn unpacked(&self, content: &Digest) -> Result<Box<dyn Read + '_>, GetError> {
        let name = name_of(content);
        let packed: Box<dyn Read> = if self.files.contains_key(content) {
            Box::new(self.directory.open_readable(&name).map_err(self.failed("open", &name))?)
        } else {
            let arena = self.arena.as_ref().filter(|arena| arena.holds(content));
            let arena = arena.ok_or(GetError::Missing { content: *content })?;
            Box::new(io::Cursor::new(arena.get(content)?))
        };
        let unpacked = zstd::stream::read::Decoder::new(packed).map_err(self.failed("unpack", &name))?;
        Ok(Box::new(unpacked))
    }

    fn holds(&self, preimage: &Preimage) -> bool {
        match preimage {
            Preimage::Inline(_) => true,
            Preimage::Stored { content, bytes } => self.check(content, *bytes).is_ok(),
        }
    }

    /// Forgets every pre-image that is not in `keep`, and moves what is left in the arena to files where there is room again.
    /// Says how many compressed bytes were freed.
    pub fn retain(&mut self, keep: &BTreeSet<Digest>) -> Result<u64, DiskError> {
        let mut freed = 0;
        let unwanted: Vec<(Digest, u64)> =
            self.files.iter().filter(|(content, _)| !keep.contains(content)).map(|(c, n)| (*c, *n)).collect();
        for (content, length) in unwanted {
            let name = name_of(&content);
            self.directory.remove(&name).map_err(self.failed("remove", &name))?;
            self.files.remove(&content);
            freed += length;
        }
        if freed > 0 {
            self.directory.sync_directory().map_err(self.failed("sync the directory of", ""))?;
        }
        if let Some(arena) = &mut self.arena {
            freed += arena.retain(keep)?;
        }
        match self.empty_arena() {
            Err(error) if is_full(&error.source) => self.remove_incoming()?,
            other => other?,
        }
        Ok(freed)
    }

    /// The next full disk needs the arena empty.
    fn empty_arena(&mut self) -> Result<(), DiskError> {
        let contents = self.arena.as_ref().map(Arena::contents).unwrap_or_default();
        for content in contents {
            let Some(packed) = self.arena.as_ref().map(|arena| arena.get(&content)).transpose()? else { break };
            if self.used() + packed.len() as u64 > self.options.quota {
                break;
            }
            let name = name_of(&content);
            let mut incoming = self.directory.create_empty(INCOMING).map_err(self.failed("create", INCOMING))?;
            incoming.write_all(&packed).map_err(self.failed("write", INCOMING))?;
            incoming.sync_all().map_err(self.failed("sync", INCOMING))?;
            self.directory.rename(INCOMING, &name).map_err(self.failed("rename", INCOMING))?;
            self.directory.sync_directory().map_err(self.failed("sync the directory of", &name))?;
            self.files.insert(content, packed.len() as u64);
            if let Some(arena) = &mut self.arena {
                arena.remove(&content)?;
            }
        }
        Ok(())
    }

    /// Compressed bytes in files.
    pub fn used(&self) -> u64 {
        self.files.values().sum()
    }

    fn remove_incoming(&self) -> Result<(), DiskError> {
        match self.directory.remove(INCOMING) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(self.failed("remove", INCOMING)(error)),
            Err(_) | Ok(()) => Ok(()),
        }
    }

    fn failed(&self, action: &'static str, name: &str) -> impl Fn(io::Error) -> DiskError + use<> {
        let path: PathBuf = self.directory.locate(name);
        move |source| DiskError { action, path: path.clone(), source }
    }
}

fn name_of(content: &Digest) -> String {
    format!("{}{SUFFIX}", content.hex())
}

fn content_of(name: &str) -> Option<Digest> {
    Digest::parse(&format!("sha256:{}", name.strip_suffix(SUFFIX)?)).ok()
}

enum Compress {
    Source(io::Error),
    Sink(io::Error),
}

/// Compresses all of `source` into `sink`; gives the digest and the number of the uncompressed bytes.
fn compress(source: &mut dyn Read, sink: &mut dyn Write) -> Result<(Digest, u64), Compress> {
    let encoder = zstd::stream::write::Encoder::new(sink, LEVEL).map_err(Compress::Sink)?;
    let mut packed = Hashing { inner: encoder, hasher: Sha256::new(), bytes: 0 };
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = match source.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(Compress::Source(error)),
        };
        packed.write_all(buffer.get(..read).unwrap_or_default()).map_err(Compress::Sink)?;
    }
    packed.inner.finish().map_err(Compress::Sink)?;
    Ok((Digest::from_bytes(packed.hasher.finalize().into()), packed.bytes))
}

struct Hashing<W> {
    inner: W,
    hasher: Sha256,
    bytes: u64,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hasher.update(bytes.get(..written).unwrap_or_default());
        self.bytes += written as u64;
        Ok(written)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Refuses to write more than `left`.
struct Capped<W> {
    inner: W,
    left: u64,
    over: bool,
}

impl<W: Write> Write for Capped<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() as u64 > self.left {
            self.over = true;
            return Err(io::Error::from(io::ErrorKind::QuotaExceeded));
        }
        let written = self.inner.write(bytes)?;
        self.left -= written as u64;
        Ok(written)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// A file opened by the runner can be put as it is.
impl UndoStore {
    /// [`UndoStore::put`] for a file that is shared: its own offset is not moved.
    pub fn put_open_file(&mut self, file: &File) -> Result<Preimage, PutError> {
        let mut reader = AtOffset { file, offset: 0 };
        self.put(&mut reader)
    }
}

struct AtOffset<'f> {
    file: &'f File,
    offset: u64,
}

impl Read for AtOffset<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = std::os::unix::fs::FileExt::read_at(self.file, buffer, self.offset)?;
        self.offset += read as u64;
        Ok(read)
    }
}

impl Seek for AtOffset<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        match to {
            SeekFrom::Start(offset) => self.offset = offset,
            SeekFrom::Current(_) | SeekFrom::End(_) => return Err(io::ErrorKind::Unsupported.into()),
        }
        Ok(self.offset)
    }
}

#[cfg(test)]
mod tests;
