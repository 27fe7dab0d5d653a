//! Finding files below a pinned directory without being led out of it.
//!
//! Every lookup is one `openat2` that the kernel holds beneath the directory: no symlink, no magic link, no other device.
//! What comes back is an `O_PATH` descriptor, so that a FIFO does not block and a device is not opened; only a regular file
//! is ever opened further, through the descriptor and never again by name.

use std::fs::{File, Metadata};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, RenameFlags, ResolveFlags};
use rustix::io::Errno;
use theriac_model::target::MountPath;

use super::path;

/// Held on every lookup below a root.
const BENEATH: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS)
    .union(ResolveFlags::NO_XDEV);

/// Device and inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Identity {
    pub(crate) dev: u64,
    pub(crate) ino: u64,
}

impl Identity {
    pub(crate) fn of(meta: &Metadata) -> Self {
        Self { dev: meta.dev(), ino: meta.ino() }
    }
}

/// A directory that is held open: whatever is renamed over its path, lookups stay below the one that was opened.
#[derive(Debug)]
pub(crate) struct Root {
    pub(crate) path: MountPath,
    pub(crate) identity: Identity,
    dir: File,
}

/// A regular file, held by an `O_PATH` descriptor.
#[derive(Debug)]
pub(crate) struct Found {
    held: File,
    pub(crate) meta: Metadata,
}

/// Why a path did not lead to a regular file of the directory.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PlaceError {
    /// Nothing has that name.
    #[error("it is not there")]
    Gone,
    /// A symlink, a mount point, or a way out.
    #[error("the path leads over a symlink or out of the directory")]
    Escapes,
    /// Something else has that name.
    #[error("something else is there")]
    Taken,
    /// A directory, device, FIFO or socket.
    #[error("it is no regular file")]
    NotRegular,
    /// The kernel said something else.
    #[error("it can't be opened")]
    Io(#[source] io::Error),
}

impl From<Errno> for PlaceError {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::NOENT | Errno::NOTDIR => Self::Gone,
            Errno::LOOP | Errno::XDEV => Self::Escapes,
            Errno::EXIST => Self::Taken,
            other => Self::Io(other.into()),
        }
    }
}

impl From<io::Error> for PlaceError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl Root {
    /// Opens the directory; no component of its path may be a symlink.
    pub(crate) fn open(path: &MountPath) -> Result<Self, PlaceError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let open = |flags| rustix::fs::openat2(CWD, path.as_path(), flags, Mode::empty(), resolve);
        // O_NOATIME belongs to owner and root; without it the directory is still opened.
        let dir = open(flags | OFlags::NOATIME).or_else(|_| open(flags))?;
        let dir = File::from(dir);
        let identity = Identity::of(&dir.metadata()?);
        Ok(Self { path: path.clone(), identity, dir })
    }

    /// The regular file at the path below.
    pub(crate) fn find(&self, below: &Path) -> Result<Found, PlaceError> {
        let held = File::from(self.lookup(below, OFlags::PATH)?);
        let meta = held.metadata()?;
        if meta.is_file() { Ok(Found { held, meta }) } else { Err(PlaceError::NotRegular) }
    }

    /// The same, looked at twice. A racer may give a file from elsewhere a second name here and take that name away again between
    /// the lookup and the count of its names, so that it looks like a file with a single name. He would have to do so
    /// twice in a row to the microsecond, and then again for each of the looks that a change takes. (A kernel with
    /// `fs.protected_hardlinks`, as distributions set it, lets nobody link what he could not write anyway.)
    pub(crate) fn find_settled(&self, below: &Path) -> Result<Found, PlaceError> {
        let (first, second) = (self.find(below)?, self.find(below)?);
        let settled = first.identity() == second.identity() && first.meta.nlink() == second.meta.nlink();
        if settled { Ok(second) } else { Err(PlaceError::Gone) }
    }

    /// Anything at the path below, without opening it; `None` when nothing is there.
    pub(crate) fn peek(&self, below: &Path) -> Result<Option<Metadata>, PlaceError> {
        match self.lookup(below, OFlags::PATH | OFlags::NOFOLLOW) {
            Ok(held) => Ok(Some(File::from(held).metadata()?)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    /// A directory below, for reading its names.
    pub(crate) fn subdir(&self, below: &Path) -> Result<File, PlaceError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let dir = self.lookup(below, flags | OFlags::NOATIME).or_else(|_| self.lookup(below, flags))?;
        Ok(File::from(dir))
    }

    /// Makes a new file below, and never opens one that is there.
    pub(crate) fn create(&self, below: &Path, mode: u32) -> Result<File, PlaceError> {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(rustix::fs::openat2(&self.dir, below, flags, Mode::from_raw_mode(mode), BENEATH)?.into())
    }

    /// Removes the name, if it still is that file. (Between the look and the unlink a racer who can write in the directory may
    /// swap the name; what is lost then is the name that was granted, never a file elsewhere.)
    pub(crate) fn unlink(&self, below: &Path, identity: Identity) -> Result<(), PlaceError> {
        let (parent, name) = split(below)?;
        let dir = self.subdir(&parent)?;
        // In this very directory, which may by now have another path than the one that it was found by.
        let there = rustix::fs::statat(&dir, &name, AtFlags::SYMLINK_NOFOLLOW)?;
        if (there.st_dev, there.st_ino) != (identity.dev, identity.ino) {
            return Err(PlaceError::Gone);
        }
        Ok(rustix::fs::unlinkat(&dir, &name, AtFlags::empty())?)
    }

    /// Renames a regular file to a path below another root (or this one) of the same filesystem.
    pub(crate) fn rename(&self, from: &Path, root: &Self, to: &Path, over: Over) -> Result<(), PlaceError> {
        let ((from_parent, from_name), (to_parent, to_name)) = (split(from)?, split(to)?);
        let (from_dir, to_dir) = (self.subdir(&from_parent)?, root.subdir(&to_parent)?);
        // The rename itself would take a link as well, and one with a slash behind it.
        self.find(from)?;
        let flags = match over {
            Over::Nothing => RenameFlags::NOREPLACE,
            Over::TheOld => RenameFlags::empty(),
        };
        Ok(rustix::fs::renameat_with(&from_dir, &from_name, &to_dir, &to_name, flags)?)
    }

    /// Makes the names in the directory of that path durable.
    pub(crate) fn sync_names(&self, below: &Path) -> Result<(), PlaceError> {
        let (parent, _) = split(below)?;
        Ok(self.subdir(&parent)?.sync_all()?)
    }

    /// The space of its filesystem.
    pub(crate) fn space(&self) -> io::Result<rustix::fs::StatVfs> {
        Ok(rustix::fs::fstatvfs(&self.dir)?)
    }

    fn lookup(&self, below: &Path, flags: OFlags) -> rustix::io::Result<rustix::fd::OwnedFd> {
        rustix::fs::openat2(&self.dir, below, flags | OFlags::CLOEXEC, Mode::empty(), BENEATH)
    }
}

/// What a rename may go over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Over {
    Nothing,
    TheOld,
}

fn split(below: &Path) -> Result<(PathBuf, std::ffi::OsString), PlaceError> {
    let (parent, name) = path::split(below).ok_or(PlaceError::Escapes)?;
    Ok((parent.to_owned(), name.to_owned()))
}

impl Found {
    /// Takes any descriptor that turned out to be a regular file.
    pub(crate) fn from_held(held: File) -> Result<Self, PlaceError> {
        let meta = held.metadata()?;
        if meta.is_file() { Ok(Self { held, meta }) } else { Err(PlaceError::NotRegular) }
    }

    pub(crate) fn identity(&self) -> Identity {
        Identity::of(&self.meta)
    }

    /// Opens this very inode for reading, without leaving an access time where that is permitted.
    pub(crate) fn read(&self) -> io::Result<File> {
        self.reopen(OFlags::RDONLY | OFlags::NOATIME).or_else(|_| self.reopen(OFlags::RDONLY))
    }

    /// Opens this very inode for reading and writing.
    pub(crate) fn write(&self) -> io::Result<File> {
        self.reopen(OFlags::RDWR)
    }

    /// Opens this very inode for appending.
    pub(crate) fn append(&self) -> io::Result<File> {
        self.reopen(OFlags::WRONLY | OFlags::APPEND)
    }

    /// Through the descriptor, not the name: a rename in between changes nothing.
    fn reopen(&self, flags: OFlags) -> io::Result<File> {
        let path = format!("/proc/self/fd/{}", self.held.as_raw_fd());
        Ok(rustix::fs::open(path, flags | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY, Mode::empty())?.into())
    }
}
