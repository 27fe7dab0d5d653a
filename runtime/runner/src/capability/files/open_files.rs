//! Which files of one device are open, by whom, and whether every writer appends: read from /proc/PID/fd and fdinfo.
//!
//! Only a snapshot: a process may open a file right after it. What rests on it alone is that no *known* user is disturbed;
//! identity never does.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatxFlags};
use theriac_model::unit::ProcessId;

use super::place::{Found, Identity, PlaceError};

/// Descriptors looked at in one scan. A machine with more has other troubles; what is beyond counts as *open* by nobody, and
/// the scan says that it is incomplete, which refuses.
const MAX_DESCRIPTORS: usize = 400_000;
/// How old a snapshot may be when a change rests on it. Two thousand removals must not scan /proc two thousand times.
const FRESH: Duration = Duration::from_millis(500);

/// The open files of one device.
#[derive(Debug)]
pub(crate) struct OpenFiles {
    dev: u64,
    taken: Instant,
    complete: bool,
    files: HashMap<u64, OpenFile>,
}

/// One file that is open somewhere.
#[derive(Debug, Clone)]
pub(crate) struct OpenFile {
    /// Every descriptor that can write has `O_APPEND`.
    pub(crate) appended_only: bool,
    /// The path the kernel shows, without ` (deleted)`.
    path: PathBuf,
    /// It has no name any more.
    pub(crate) deleted: bool,
    /// One way to it.
    pub(crate) via: Via,
}

/// A descriptor of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Via {
    pub(crate) process: ProcessId,
    pub(crate) fd: u32,
}

impl OpenFiles {
    /// Looks at every descriptor of every process it may look at.
    pub(crate) fn scan(dev: u64) -> Self {
        let mut open = Self { dev, taken: Instant::now(), complete: true, files: HashMap::new() };
        let mut seen = 0;
        let myself = std::process::id();
        for pid in numbers(Path::new("/proc")).filter(|pid| *pid != myself) {
            let Some(start) = crate::capability::processes::start_of(pid) else { continue };
            let process = ProcessId { pid, start };
            for fd in numbers(Path::new(&format!("/proc/{pid}/fd"))) {
                seen += 1;
                if seen > MAX_DESCRIPTORS {
                    open.complete = false;
                    return open;
                }
                open.look(Via { process, fd });
            }
        }
        open
    }

    /// Whether it may still be relied on.
    pub(crate) fn is_fresh(&self, dev: u64) -> bool {
        self.dev == dev && self.taken.elapsed() < FRESH
    }

    /// Not every descriptor could be counted.
    pub(crate) const fn is_complete(&self) -> bool {
        self.complete
    }

    pub(crate) fn get(&self, identity: Identity) -> Option<&OpenFile> {
        if identity.dev == self.dev { self.files.get(&identity.ino) } else { None }
    }

    /// Deleted files whose last name was below the directory, with that path below it, by inode.
    pub(crate) fn deleted_below(&self, dir: &Path) -> Vec<(Identity, PathBuf, OpenFile)> {
        let below = |(ino, file): (&u64, &OpenFile)| {
            let path = file.deleted.then(|| file.path.strip_prefix(dir).ok())??;
            Some((Identity { dev: self.dev, ino: *ino }, path.to_owned(), file.clone()))
        };
        let mut found: Vec<_> = self.files.iter().filter_map(below).collect();
        found.sort_by_key(|(identity, ..)| *identity);
        found
    }

    fn look(&mut self, via: Via) {
        let link = format!("/proc/{}/fd/{}", via.process.pid, via.fd);
        // DONT_SYNC: a dead network filesystem must not hang the runner.
        let Ok(stat) = rustix::fs::statx(CWD, &link, AtFlags::STATX_DONT_SYNC, StatxFlags::BASIC_STATS) else { return };
        let dev = rustix::fs::makedev(stat.stx_dev_major, stat.stx_dev_minor);
        if dev != self.dev || u32::from(stat.stx_mode) & libc::S_IFMT != libc::S_IFREG {
            return;
        }
        let Ok(path) = std::fs::read_link(&link) else { return };
        let appends = appends_or_reads(via).unwrap_or(false);
        let deleted = stat.stx_nlink == 0;
        let file = self.files.entry(stat.stx_ino).or_insert_with(|| OpenFile {
            appended_only: true,
            path: without_mark(path, deleted),
            deleted,
            via,
        });
        file.appended_only &= appends;
    }
}

impl Via {
    /// Opens the file behind the descriptor, if the process still is that process and the descriptor that file.
    pub(crate) fn find(self, identity: Identity) -> Result<Found, PlaceError> {
        let link = format!("/proc/{}/fd/{}", self.process.pid, self.fd);
        let held = File::from(rustix::fs::open(link, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?);
        let found = Found::from_held(held)?;
        let same_process = crate::capability::processes::start_of(self.process.pid) == Some(self.process.start);
        if same_process && found.identity() == identity { Ok(found) } else { Err(PlaceError::Gone) }
    }
}

fn without_mark(path: PathBuf, deleted: bool) -> PathBuf {
    let bytes = path.as_os_str().as_bytes();
    match bytes.strip_suffix(b" (deleted)").filter(|_| deleted) {
        Some(bare) => PathBuf::from(std::ffi::OsString::from_vec(bare.to_vec())),
        None => path,
    }
}

/// The descriptor can't write, or only at the end.
fn appends_or_reads(via: Via) -> Option<bool> {
    let mut text = String::new();
    let path = format!("/proc/{}/fdinfo/{}", via.process.pid, via.fd);
    File::open(path).ok()?.take(4096).read_to_string(&mut text).ok()?;
    let flags = text.lines().find_map(|line| line.strip_prefix("flags:"))?;
    let flags = i32::from_str_radix(flags.trim(), 8).ok()?;
    Some(flags & libc::O_ACCMODE == libc::O_RDONLY || flags & libc::O_APPEND != 0)
}

/// The entries of a directory of /proc that are numbers.
pub(crate) fn numbers(dir: &Path) -> impl Iterator<Item = u32> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}
