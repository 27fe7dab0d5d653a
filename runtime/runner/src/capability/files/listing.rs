//! Listing a granted directory: an iterative walk with caps on depth, entries and memory; symlinks, other devices and
//! everything that is no regular file are passed by.

use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Dir, FileType};
use theriac_model::call::Filter;
use theriac_model::time::Timestamp;

use super::place::{Identity, PlaceError, Root};
use super::state;

/// Levels below the granted directory; deeper ones are passed by. Log trees have two or three.
pub(crate) const MAX_DEPTH: usize = 48;
/// Names looked at in one walk.
const MAX_NAMES: usize = 500_000;
/// Entries that one listing keeps; of more matches the best in the wanted order stay.
pub(crate) const MAX_KEPT: usize = 20_000;
/// Names that belong to us (half-written replacements, the set-aside directory of the tests): never listed, never granted.
pub(crate) const OURS: &[u8] = b".theriac-";

/// The order of a walk's result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    OldestFirst,
    NewestFirst,
    LargestFirst,
    Name,
}

impl From<theriac_model::call::Order> for Order {
    fn from(order: theriac_model::call::Order) -> Self {
        match order {
            theriac_model::call::Order::OldestFirst => Self::OldestFirst,
            theriac_model::call::Order::LargestFirst => Self::LargestFirst,
            theriac_model::call::Order::Name => Self::Name,
        }
    }
}

/// What a walk leaves out, and how it orders what it keeps.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted {
    /// What ages are counted from.
    pub(crate) now: Timestamp,
    pub(crate) min_age_s: u64,
    pub(crate) min_bytes: u64,
    pub(crate) order: Order,
}

impl Wanted {
    pub(crate) fn of(filter: Filter, now: Timestamp) -> Self {
        Self { now, min_age_s: filter.min_age_s, min_bytes: filter.min_bytes, order: filter.order.into() }
    }
}

/// One file of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) below: PathBuf,
    pub(crate) identity: Identity,
    pub(crate) allocated: u64,
    /// The younger of mtime and ctime, in seconds and nanoseconds since 1970.
    pub(crate) touched: (i64, i64),
    age: u64,
}

/// Every file below the root that `lets_through` accepts by its path and the filter by its age and size, in order.
pub(crate) fn walk(
    root: &Root,
    wanted: Wanted,
    lets_through: &dyn Fn(&Path) -> bool,
    skip: &dyn Fn(Identity) -> bool,
) -> Result<Vec<Candidate>, PlaceError> {
    let mut kept = Vec::new();
    let mut seen = 0;
    let mut pending = vec![(PathBuf::from("."), 0_usize)];
    while let Some((dir, depth)) = pending.pop() {
        let opened = match root.subdir(&dir) {
            Ok(opened) => opened,
            // The granted directory itself must be readable; one below may vanish, be a mount point or be closed to us.
            Err(error) if depth == 0 => return Err(error),
            Err(_) => continue,
        };
        let Ok(names) = Dir::new(opened) else { continue };
        for entry in names.flatten() {
            seen += 1;
            if seen > MAX_NAMES {
                return Ok(best(kept, wanted.order));
            }
            let name = entry.file_name().to_bytes();
            if matches!(name, b"." | b"..") || name.starts_with(OURS) {
                continue;
            }
            let below = join(&dir, name);
            match kind(root, entry.file_type(), &below) {
                Kind::Directory if depth < MAX_DEPTH => pending.push((below, depth + 1)),
                Kind::Regular if lets_through(&below) => {
                    kept.extend(
                        candidate(root, below, wanted.now)
                            .filter(|found| passes(found, wanted) && !skip(found.identity)),
                    );
                }
                Kind::Directory | Kind::Regular | Kind::Other => {}
            }
        }
        if kept.len() > 2 * MAX_KEPT {
            kept = best(kept, wanted.order);
        }
    }
    Ok(best(kept, wanted.order))
}

enum Kind {
    Directory,
    Regular,
    Other,
}

/// What the directory says, or the file itself where the filesystem does not put types into directories.
fn kind(root: &Root, named: FileType, below: &Path) -> Kind {
    match named {
        FileType::Directory => Kind::Directory,
        FileType::RegularFile => Kind::Regular,
        FileType::Unknown => match root.peek(below) {
            Ok(Some(meta)) if meta.is_dir() => Kind::Directory,
            Ok(Some(meta)) if meta.is_file() => Kind::Regular,
            Ok(_) | Err(_) => Kind::Other,
        },
        FileType::Symlink | FileType::Fifo | FileType::Socket | FileType::CharacterDevice | FileType::BlockDevice => {
            Kind::Other
        }
    }
}

fn join(dir: &Path, name: &[u8]) -> PathBuf {
    let name = std::ffi::OsStr::from_bytes(name);
    if dir == Path::new(".") { PathBuf::from(name) } else { dir.join(name) }
}

fn candidate(root: &Root, below: PathBuf, now: Timestamp) -> Option<Candidate> {
    let meta = root.find(&below).ok()?.meta;
    let touched = (meta.mtime(), meta.mtime_nsec()).max((meta.ctime(), meta.ctime_nsec()));
    Some(Candidate {
        below,
        identity: Identity::of(&meta),
        allocated: state::allocated(&meta),
        touched,
        age: state::age(&meta, now),
    })
}

const fn passes(found: &Candidate, wanted: Wanted) -> bool {
    found.age >= wanted.min_age_s && found.allocated >= wanted.min_bytes
}

fn best(mut kept: Vec<Candidate>, order: Order) -> Vec<Candidate> {
    let name = |a: &Candidate, b: &Candidate| a.below.as_os_str().as_bytes().cmp(b.below.as_os_str().as_bytes());
    match order {
        Order::OldestFirst => kept.sort_by(|a, b| a.touched.cmp(&b.touched).then_with(|| name(a, b))),
        // The exact reverse of oldest first: of files that were written in one tick of the kernel's clock, the one that a remedy
        // reaches last is the one that a grant keeps as the newest.
        Order::NewestFirst => kept.sort_by(|a, b| b.touched.cmp(&a.touched).then_with(|| name(b, a))),
        Order::LargestFirst => kept.sort_by(|a, b| b.allocated.cmp(&a.allocated).then_with(|| name(a, b))),
        Order::Name => kept.sort_by(name),
    }
    kept.truncate(MAX_KEPT);
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(name: &str, second: i64) -> Candidate {
        let identity = Identity { dev: 1, ino: name.len() as u64 };
        Candidate { below: name.into(), identity, allocated: 0, touched: (second, 0), age: 0 }
    }

    /// A remedy that goes through the oldest first and holds back the last would otherwise meet the grant's newest as its first.
    #[test]
    fn newest_first_is_oldest_first_read_backwards_even_for_files_of_one_tick() {
        let all = || vec![found("b", 7), found("c", 7), found("a", 7), found("d", 3)];
        let names = |order| best(all(), order).into_iter().map(|found| found.below).collect::<Vec<_>>();
        let oldest = names(Order::OldestFirst);
        assert_eq!(oldest, ["d", "a", "b", "c"].map(PathBuf::from));
        assert_eq!(names(Order::NewestFirst), oldest.into_iter().rev().collect::<Vec<_>>());
    }
}
