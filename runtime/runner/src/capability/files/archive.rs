//! Archives: a file's content, compressed, on another device. Written, synced and verified before the original goes.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use theriac_model::effect::FileState;
use theriac_model::id::Digest;
use theriac_model::target::MountPath;

use super::place::{Identity, Over, PlaceError, Root};
use super::state::{CHUNK, Range};
use super::{escape, state};
use crate::crash::crash_point;
use crate::gate::Place;

/// zstd's default: logs shrink to a tenth at the speed of a disk.
const LEVEL: i32 = 3;
/// Longest part of an archive's name that comes from the file's path.
const MAX_STEM: usize = 120;

/// One archive file, existing or about to exist.
#[derive(Debug)]
pub(crate) struct Archive {
    root: Root,
    name: PathBuf,
}

/// The path of the archive that one effect of one run makes: nobody else's, so that a leftover is known to be ours.
pub(crate) fn path_for(dir: &MountPath, below: &Path, place: &Place) -> Option<MountPath> {
    let flat = escape(below).replace('/', "_");
    let cut = (0..=MAX_STEM.min(flat.len())).rev().find(|at| flat.is_char_boundary(*at)).unwrap_or(0);
    let stem = flat.get(..cut).unwrap_or_default();
    let slash = if dir.as_str() == "/" { "" } else { "/" };
    MountPath::parse(&format!("{dir}{slash}{stem}.{}-{}.zst", place.run, place.index)).ok()
}

impl Archive {
    /// The archive at that path; whether it exists is found out by what is done with it.
    pub(crate) fn at(path: &MountPath) -> Result<Self, PlaceError> {
        let (dir, name) = path.as_str().rsplit_once('/').ok_or(PlaceError::Gone)?;
        let dir = MountPath::parse(if dir.is_empty() { "/" } else { dir }).map_err(|_not_normal| PlaceError::Gone)?;
        Ok(Self { root: Root::open(&dir)?, name: PathBuf::from(name) })
    }

    /// Compresses the first `size` bytes of the file into it and makes it durable. The digest is of what was read.
    pub(crate) fn write(&self, file: &File, size: u64) -> Result<Digest, PlaceError> {
        let archive = self.root.create(&self.name, 0o600)?;
        let digest = self.fill(&archive, Range::new(file, 0, size));
        digest.map_err(PlaceError::Io)
    }

    fn fill(&self, archive: &File, mut content: Range<'_>) -> io::Result<Digest> {
        let mut encoder = zstd::stream::write::Encoder::new(archive, LEVEL)?;
        encoder.include_checksum(true)?;
        let mut hash = Sha256::new();
        let mut buffer = vec![0; CHUNK];
        loop {
            let n = content.read(&mut buffer)?;
            let Some(part) = buffer.get(..n).filter(|part| !part.is_empty()) else { break };
            hash.update(part);
            encoder.write_all(part)?;
            crash_point("files.archive-half");
        }
        encoder.finish()?;
        archive.sync_all()?;
        self.root.sync_names(&self.name).map_err(io::Error::other)?;
        Ok(Digest::from_bytes(hash.finalize().into()))
    }

    /// The content, decompressed; it ends with an error when it is longer than the file was.
    pub(crate) fn content(&self, size: u64) -> Result<impl Read + use<>, PlaceError> {
        let file = self.root.find(&self.name)?.read()?;
        let decoder = zstd::stream::read::Decoder::with_buffer(BufReader::new(file))?;
        Ok(decoder.take(size.saturating_add(1)))
    }

    /// It holds that content, all of it.
    pub(crate) fn holds(&self, before: &FileState, content: Digest) -> bool {
        let whole = || -> Result<bool, PlaceError> {
            let (digest, length) = drain(self.content(before.size)?)?;
            Ok(digest == content && length == before.size)
        };
        whole().unwrap_or(false)
    }

    /// Takes the file itself, renamed: setting aside.
    pub(crate) fn take_in(&self, from: &Root, below: &Path) -> Result<(), PlaceError> {
        from.rename(below, &self.root, &self.name, Over::Nothing)?;
        self.root.sync_names(&self.name)?;
        from.sync_names(below)
    }

    /// Gives a file that was set aside back.
    pub(crate) fn give_back(&self, to: &Root, below: &Path) -> Result<(), PlaceError> {
        self.root.rename(&self.name, to, below, Over::Nothing)?;
        to.sync_names(below)?;
        self.root.sync_names(&self.name)
    }

    /// The identity of what is there.
    pub(crate) fn identity(&self) -> Option<Identity> {
        self.root.find(&self.name).ok().map(|found| found.identity())
    }

    /// Removes it; one that is not there is removed already.
    pub(crate) fn remove(&self) -> Result<(), PlaceError> {
        match self.root.find(&self.name) {
            Ok(found) => self.root.unlink(&self.name, found.identity()),
            Err(PlaceError::Gone) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// Reads to the end; digest and length.
fn drain(mut reader: impl Read) -> io::Result<(Digest, u64)> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; state::CHUNK];
    let mut length = 0;
    loop {
        match reader.read(&mut buffer)? {
            0 => return Ok((Digest::from_bytes(hash.finalize().into()), length)),
            n => {
                hash.update(buffer.get(..n).unwrap_or_default());
                length += n as u64;
            }
        }
    }
}
