//! The few disk operations that segments need, and the real directory behind them.
//!
//! The trait exists so that tests can tear writes, drop what was not synced and fail the nth operation. It knows names
//! inside one directory, never paths.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FallocateFlags, Mode, OFlags};
use rustix::io::Errno;

/// One directory and the files in it.
pub trait Disk: fmt::Debug {
    /// An open file.
    type File: DiskFile;

    /// The names in it, in no order.
    fn list(&self) -> io::Result<Vec<String>>;
    /// Makes a new file of that many zero bytes that are really allocated, and syncs it. The name is durable only after
    /// [`Disk::sync_directory`].
    fn create(&self, name: &str, bytes: u64) -> io::Result<Self::File>;
    /// Opens a file that is there.
    fn open(&self, name: &str) -> io::Result<Self::File>;
    /// Removes a file.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Makes creations and removals durable.
    fn sync_directory(&self) -> io::Result<()>;
    /// 16 bytes nobody can guess.
    fn salt(&self) -> io::Result<[u8; 16]>;
    /// The name as people find it, for messages.
    fn locate(&self, name: &str) -> PathBuf;
}

/// A file of a [`Disk`]; every access names its offset.
pub trait DiskFile: fmt::Debug {
    /// Its length.
    fn length(&self) -> io::Result<u64>;
    /// Fills the buffer, or fails with [`io::ErrorKind::UnexpectedEof`].
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;
    /// Writes all the bytes.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Makes what was written durable.
    fn sync(&self) -> io::Result<()>;
}

/// A real directory, held open; at most one process at a time can hold it for writing.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    handle: File,
    /// Held for its lock, which the kernel drops when the process ends, however it ends.
    _lock: Option<File>,
}

/// Why a directory can't be used.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// It can't be made or opened.
    #[error("can't {action} the directory `{}`", path.display())]
    Open {
        /// `create`, `open` or `lock`.
        action: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A second daemon was started on the same state.
    #[error("another process already works in the directory `{}`", path.display())]
    InUse {
        /// Which.
        path: PathBuf,
    },
}

const LOCK: &str = "lock";
const OWNER_ONLY: Mode = Mode::from_raw_mode(0o600);

impl Directory {
    /// Opens the directory for writing, makes it (0700) where it is missing, and takes its lock.
    ///
    /// The lock is one of an open file description (`flock`): it goes with this value and not, as a POSIX record lock
    /// would, with the first close of any descriptor of the same file somewhere in the process.
    pub fn open(path: &Path) -> Result<Self, DirectoryError> {
        let failed = |action| move |source| DirectoryError::Open { action, path: path.to_owned(), source };
        make_private(path).map_err(failed("create"))?;
        let handle = open_directory(path).map_err(failed("open"))?;
        let flags = OFlags::CREATE | OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let lock = rustix::fs::openat(&handle, LOCK, flags, OWNER_ONLY).map_err(io::Error::from);
        let lock = File::from(lock.map_err(failed("lock"))?);
        match lock.try_lock() {
            Ok(()) => Ok(Self { path: path.to_owned(), handle, _lock: Some(lock) }),
            Err(std::fs::TryLockError::WouldBlock) => Err(DirectoryError::InUse { path: path.to_owned() }),
            Err(std::fs::TryLockError::Error(source)) => Err(failed("lock")(source)),
        }
    }

    /// Opens the directory for reading only: nothing is made and no lock is taken, so a daemon may be writing meanwhile.
    pub fn open_to_read(path: &Path) -> Result<Self, DirectoryError> {
        let handle = open_directory(path).map_err(|source| DirectoryError::Open {
            action: "open",
            path: path.to_owned(),
            source,
        })?;
        Ok(Self { path: path.to_owned(), handle, _lock: None })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes an empty file that nobody else can read; fails where the name is taken.
    pub(crate) fn create_empty(&self, name: &str) -> io::Result<File> {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(File::from(rustix::fs::openat(&self.handle, name, flags, OWNER_ONLY)?))
    }

    /// Gives a file another name, replacing what has it.
    pub(crate) fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        Ok(rustix::fs::renameat(&self.handle, from, &self.handle, to)?)
    }

    /// Opens for reading only, and only a regular file: a FIFO in its place would block for ever.
    pub(crate) fn open_readable(&self, name: &str) -> io::Result<File> {
        self.open_regular(name, OFlags::RDONLY)
    }

    fn open_regular(&self, name: &str, access: OFlags) -> io::Result<File> {
        let flags = access | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = File::from(rustix::fs::openat(&self.handle, name, flags, Mode::empty())?);
        if file.metadata()?.is_file() {
            Ok(file)
        } else {
            Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"))
        }
    }
}

/// Makes the directory 0700, and its name durable in the parent.
fn make_private(path: &Path) -> io::Result<()> {
    match rustix::fs::mkdir(path, Mode::from_raw_mode(0o700)) {
        Ok(()) => match path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            Some(parent) => open_directory(parent)?.sync_all(),
            None => Ok(()),
        },
        Err(Errno::EXIST) => Ok(()),
        Err(Errno::NOENT) => {
            let parent = path.parent().ok_or(Errno::NOENT)?;
            make_private(parent)?;
            make_private(path)
        }
        Err(errno) => Err(errno.into()),
    }
}

fn open_directory(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(File::from(rustix::fs::open(path, flags, Mode::empty())?))
}

/// True when the file system has no block, inode or quota left, as opposed to being broken.
pub(crate) fn is_full(error: &io::Error) -> bool {
    let full = [Errno::NOSPC, Errno::DQUOT].map(|errno| Some(errno.raw_os_error()));
    full.contains(&error.raw_os_error())
}

impl Disk for Directory {
    type File = File;

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(&self.handle)? {
            // A name that is not UTF-8 can't be one of ours.
            if let Ok(name) = entry?.file_name().to_str() {
                names.push(name.to_owned());
            }
        }
        Ok(names)
    }

    fn create(&self, name: &str, bytes: u64) -> io::Result<File> {
        let file = self.create_empty(name)?;
        match allocate(&file, bytes) {
            Ok(()) => Ok(file),
            Err(error) => {
                // The half-made file must not keep the last blocks of a full disk. Should this fail too, the next open
                // removes it.
                rustix::fs::unlinkat(&self.handle, name, AtFlags::empty()).ok();
                Err(error)
            }
        }
    }

    fn open(&self, name: &str) -> io::Result<File> {
        // A reader without write permission (the auditor) gets as far as reading.
        let access = if self._lock.is_some() { OFlags::RDWR } else { OFlags::RDONLY };
        self.open_regular(name, access)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(&self.handle, name, AtFlags::empty())?)
    }

    fn sync_directory(&self) -> io::Result<()> {
        self.handle.sync_all()
    }

    fn salt(&self) -> io::Result<[u8; 16]> {
        let mut salt = [0; 16];
        getrandom::fill(&mut salt).map_err(io::Error::from)?;
        Ok(salt)
    }

    fn locate(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

/// Allocates by `fallocate` and then writes the zeros too: an extent that was only allocated is converted at its first
/// write, which can need a metadata block (none is left on a full disk) and costs a journal commit in every later sync.
fn allocate(file: &File, bytes: u64) -> io::Result<()> {
    match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, bytes) {
        Ok(()) | Err(Errno::OPNOTSUPP) => {}
        Err(errno) => return Err(errno.into()),
    }
    let zeros = vec![0; 64 * 1024];
    let mut offset = 0;
    while offset < bytes {
        let chunk = usize::try_from(bytes - offset).unwrap_or(usize::MAX).min(zeros.len());
        file.write_all_at(zeros.get(..chunk).unwrap_or(&zeros), offset)?;
        offset += chunk as u64;
    }
    // The umask may only take rights away; this makes the mode what the promise says whatever it was.
    file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
    file.sync_all()
}

impl DiskFile for File {
    fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.read_exact_at(buffer, offset)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}

#[cfg(test)]
pub(crate) mod simulated;

#[cfg(test)]
mod tests {
    use super::*;

    /// A program that another test of this process is just starting holds every lock of ours until it runs.
    fn let_go(what: &str, is: impl Fn() -> bool) {
        let until = std::time::Instant::now() + std::time::Duration::from_secs(60);
        while !is() {
            assert!(std::time::Instant::now() < until, "{what} is still held");
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_second_opener_is_told_which_directory_is_taken() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("runner/journal");
        let first = Directory::open(&path).unwrap();
        let error = Directory::open(&path).unwrap_err();
        assert_eq!(error.to_string(), format!("another process already works in the directory `{}`", path.display()));
        drop(first);
        let_go("the lock of a closed directory", || Directory::open(&path).is_ok());
    }

    #[test]
    fn the_lock_holds_against_another_process() {
        let scratch = tempfile::tempdir().unwrap();
        let held = Directory::open(scratch.path()).unwrap();
        let taken = || {
            let lock = scratch.path().join(LOCK);
            !std::process::Command::new("flock").arg("-n").arg(lock).arg("true").status().unwrap().success()
        };
        assert!(taken());
        drop(held);
        let_go("the lock of a closed directory", || !taken());
    }

    #[test]
    fn what_it_makes_is_for_the_owner_only() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("state");
        let directory = Directory::open(&path).unwrap();
        directory.create("one", 4096).unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        assert_eq!((mode(&path), mode(&path.join("one")), mode(&path.join(LOCK))), (0o700, 0o600, 0o600));
    }

    #[test]
    fn a_fifo_in_the_place_of_a_file_is_refused_at_once() {
        let scratch = tempfile::tempdir().unwrap();
        let directory = Directory::open(scratch.path()).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, scratch.path().join("pipe"), rustix::fs::FileType::Fifo, OWNER_ONLY, 0)
            .unwrap();
        assert_eq!(directory.open("pipe").unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}
