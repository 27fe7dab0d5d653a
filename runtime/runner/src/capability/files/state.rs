//! A file's content and metadata as far as an undo restores them, read and put back.

use std::fs::{File, Metadata};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, fchown};

use rustix::fs::{Timespec, Timestamps, XattrFlags};
use sha2::{Digest as _, Sha256};
use theriac_model::effect::FileState;
use theriac_model::id::Digest;
use theriac_model::time::Timestamp;
use theriac_model::units::Blob;

/// Read and written at once.
pub(crate) const CHUNK: usize = 256 << 10;
/// The kernel's own limit for a list of attribute names, and for one value.
const MAX_XATTR: usize = 64 << 10;

/// Metadata without content.
pub(crate) fn of(file: &File, meta: &Metadata) -> io::Result<FileState> {
    Ok(FileState {
        content: None,
        size: meta.size(),
        mode: meta.mode(),
        uid: meta.uid(),
        gid: meta.gid(),
        mtime: (meta.mtime(), u32::try_from(meta.mtime_nsec()).unwrap_or(0)),
        xattrs: xattrs(file)?,
    })
}

/// Metadata and the content's digest.
pub(crate) fn with_content(file: &File) -> io::Result<FileState> {
    let state = of(file, &file.metadata()?)?;
    Ok(FileState { content: Some(digest(file, 0, state.size)?), ..state })
}

/// The digest of a range, by positioned reads: the descriptor's offset stays where it is.
pub(crate) fn digest(file: &File, from: u64, length: u64) -> io::Result<Digest> {
    let mut hash = Sha256::new();
    let mut reader = Range::new(file, from, length);
    let mut buffer = vec![0; CHUNK];
    loop {
        match reader.read(&mut buffer)? {
            0 => return Ok(Digest::from_bytes(hash.finalize().into())),
            n => hash.update(buffer.get(..n).unwrap_or_default()),
        }
    }
}

/// A range of a file as a reader. It reads by position: nobody else's offset moves.
#[derive(Debug)]
pub(crate) struct Range<'a> {
    file: &'a File,
    from: u64,
    length: u64,
    done: u64,
}

impl<'a> Range<'a> {
    pub(crate) const fn new(file: &'a File, from: u64, length: u64) -> Self {
        Self { file, from, length, done: 0 }
    }
}

impl Seek for Range<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let target = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::Current(by) => self.done.checked_add_signed(by),
            SeekFrom::End(by) => self.length.checked_add_signed(by),
        };
        self.done = target.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.done)
    }
}

impl Read for Range<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.length.saturating_sub(self.done);
        let want = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let Some(part) = buffer.get_mut(..want) else { return Ok(0) };
        let n = self.file.read_at(part, self.from.saturating_add(self.done))?;
        self.done += n as u64;
        Ok(n)
    }
}

/// Puts owner, mode, attributes and (last, because the others touch nothing but ctime) the modification time on a file.
/// Attributes that can't be set by us (a foreign namespace) are an error only where they differ.
pub(crate) fn restore_metadata(file: &File, state: &FileState) -> io::Result<()> {
    let meta = file.metadata()?;
    if (meta.uid(), meta.gid()) != (state.uid, state.gid) {
        fchown(file, Some(state.uid), Some(state.gid))?;
    }
    // After the owner: chown clears setuid.
    rustix::fs::fchmod(file, rustix::fs::Mode::from_raw_mode(state.mode & 0o7777))?;
    let present = xattrs(file)?;
    for (name, _) in present.iter().filter(|(name, _)| !state.xattrs.iter().any(|(kept, _)| kept == name)) {
        rustix::fs::fremovexattr(file.as_fd(), name.as_str())?;
    }
    for (name, value) in state.xattrs.iter().filter(|pair| !present.contains(pair)) {
        rustix::fs::fsetxattr(file.as_fd(), name.as_str(), &value.0, XattrFlags::empty())?;
    }
    restore_mtime(file, state)
}

/// Only the modification time.
pub(crate) fn restore_mtime(file: &File, state: &FileState) -> io::Result<()> {
    let keep = Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT };
    let mtime = Timespec { tv_sec: state.mtime.0, tv_nsec: state.mtime.1.into() };
    Ok(rustix::fs::futimens(file, &Timestamps { last_access: keep, last_modification: mtime })?)
}

/// Mode, owner and attributes are the same, and the content where both were read; times are not compared.
pub(crate) fn same(a: &FileState, b: &FileState) -> bool {
    let content = match (a.content, b.content) {
        (Some(a), Some(b)) => a == b,
        (None, _) | (_, None) => true,
    };
    content && a.size == b.size && a.mode == b.mode && (a.uid, a.gid) == (b.uid, b.gid) && a.xattrs == b.xattrs
}

/// Seconds since the younger of mtime and ctime: a file whose mtime was set to 1970 is as young as that change.
pub(crate) fn age(meta: &Metadata, now: Timestamp) -> u64 {
    let youngest = meta.mtime().max(meta.ctime());
    (now.0 / 1000).saturating_sub(u64::try_from(youngest).unwrap_or(0))
}

/// Bytes of blocks it holds.
pub(crate) fn allocated(meta: &Metadata) -> u64 {
    meta.blocks().saturating_mul(512)
}

fn xattrs(file: &File) -> io::Result<Vec<(String, Blob)>> {
    let mut names = vec![0_u8; MAX_XATTR];
    let length = match rustix::fs::flistxattr(file.as_fd(), names.as_mut_slice()) {
        Ok(length) => length,
        Err(rustix::io::Errno::NOTSUP) => 0,
        Err(errno) => return Err(errno.into()),
    };
    let mut all = Vec::new();
    for name in names.get(..length).unwrap_or_default().split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let mut value = vec![0_u8; MAX_XATTR];
        let length = rustix::fs::fgetxattr(file.as_fd(), std::ffi::OsStr::from_bytes(name), value.as_mut_slice())?;
        value.truncate(length);
        all.push((String::from_utf8_lossy(name).into_owned(), Blob(value)));
    }
    all.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(all)
}
