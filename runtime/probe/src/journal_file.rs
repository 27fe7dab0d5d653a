//! The last lines of one unit from journald's files: a small reader of their format, for exactly this question.
//!
//! Only what journald itself vouches for decides which entries count: `_SYSTEMD_UNIT=`, which a client can't set, and
//! `UNIT=` where `_PID=1` stands beside it, which is systemd's own word about the unit. What the entries then say is somebody
//! else's text; it is cut here and escaped where it is shown.
//!
//! The files are read with plain bounded reads, never mapped: a mapping of a file that shrinks is a crash. Each look has a
//! budget of time, reads and bytes, and whatever does not fit together is left out and counted. Not read: journals of other
//! machines (their trusted fields are not this journald's), user managers' units, and compressed messages beyond 256 KiB.
//!
//! The format is <https://systemd.io/JOURNAL_FILE_FORMAT/>.

mod budget;
mod bytes;
mod entries;
mod file;
mod hash;
mod payload;
mod place;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod written;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use theriac_model::id::UnitName;

use budget::Budget;
use entries::Found;
use file::JournalFile;

/// Lines of one answer, as the launcher gives of its services.
pub const MAX_LINES: usize = 200;
/// Characters of one line.
const MAX_LINE: usize = 2048;
/// Bytes of all lines of one answer.
const MAX_TEXT: usize = 128 << 10;

/// The journal of one machine.
#[derive(Debug, Clone)]
pub struct JournalFiles {
    root: PathBuf,
}

/// The last lines of a unit.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tail {
    /// Oldest first. Text from outside.
    pub lines: Vec<String>,
    /// Files and entries that could not be read, or that there was no time for.
    pub gaps: u32,
}

/// Why there is no tail.
#[derive(Debug, thiserror::Error)]
pub enum TailError {
    /// The journal of a machine lies in a directory of the machine's name.
    #[error("this machine's id can't be read from `{}`", path.display())]
    MachineId {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// journald does not run, or keeps nothing.
    #[error("journald has no files below `{}`", root.display())]
    NoFiles { root: PathBuf },
    /// Not one of them could be read.
    #[error("none of journald's files could be read, as `{}`", path.display())]
    Unreadable {
        path: PathBuf,
        #[source]
        source: FileError,
    },
}

/// Why a file, or a part of it, is left out.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The kernel said no.
    #[error("it can't be read")]
    Io(#[from] io::Error),
    /// Somebody besides journald could have written it.
    #[error("it belongs to uid {owner} with mode {mode:o}, so others than journald may have written it")]
    Writable { owner: u32, mode: u32 },
    /// Another sort of file.
    #[error("it is no journal file")]
    NotJournal,
    /// Written by a later version.
    #[error("it uses features that are not known here (flags {flags:#x})")]
    Unknown { flags: u32 },
    /// What it says does not fit together: damaged, or being written at this moment.
    #[error("{what} at byte {at} does not fit the rest of the file")]
    Damaged { what: &'static str, at: u64 },
    /// The budget of this look.
    #[error("reading it took too long")]
    Spent,
}

impl JournalFiles {
    /// Of the machine this runs on.
    pub fn of_this_machine() -> Self {
        Self::below(Path::new("/"))
    }

    /// Of a machine whose root directory is this.
    pub fn below(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// The last lines that the unit wrote, or that systemd wrote about it.
    pub fn tail(&self, unit: &UnitName, lines: usize) -> Result<Tail, TailError> {
        let most = lines.min(MAX_LINES);
        let mut budget = Budget::of_one_look();
        let (files, mut gaps) = self.open(&mut budget)?;
        let mut found: Vec<(usize, Found)> = Vec::new();
        let mut owners = BTreeMap::new();
        for (index, file) in files.iter().enumerate() {
            if found.len() >= most && found.get(most.saturating_sub(1)).is_some_and(|(_, last)| file.ends_before(last))
            {
                break;
            }
            let (newest, unread) = file.newest_of(unit, most, &mut budget);
            gaps = gaps.saturating_add(unread);
            // journald copies entries when it moves them from /run to /var. Within one file, equal lines are what they seem.
            found.extend(newest.into_iter().map(|entry| (index, entry)));
            found.retain(|(file, entry)| owners.entry(entry.twins()).or_insert(*file) == file);
            found.sort_by(|(_, a), (_, b)| b.cmp(a));
            found.dedup();
        }
        let mut tail = Tail { lines: Vec::new(), gaps };
        let mut room = MAX_TEXT;
        for (index, entry) in found.iter().take(most) {
            let Some(file) = files.get(*index) else { continue };
            match file.message(entry, &mut budget) {
                Ok(Some(message)) => tail.take(&message, most, &mut room),
                Ok(None) => {}
                Err(_) => tail.gaps = tail.gaps.saturating_add(1),
            }
        }
        tail.lines.reverse();
        Ok(tail)
    }

    /// What can be opened, that with the newest entry first; and how many could not.
    fn open(&self, budget: &mut Budget) -> Result<(Vec<JournalFile>, u32), TailError> {
        let mut files = Vec::new();
        let mut gaps = 0_u32;
        let mut failed = None;
        for path in place::files(&self.root)? {
            match JournalFile::open(&path, budget) {
                Ok(file) => files.push(file),
                Err(source) => {
                    gaps = gaps.saturating_add(1);
                    failed.get_or_insert((path, source));
                }
            }
        }
        match failed {
            Some((path, source)) if files.is_empty() => Err(TailError::Unreadable { path, source }),
            None if files.is_empty() => Err(TailError::NoFiles { root: self.root.clone() }),
            Some(_) | None => {
                files.sort_by_key(|file| std::cmp::Reverse(file.newest()));
                Ok((files, gaps))
            }
        }
    }
}

impl Tail {
    /// Adds a message before what is there already; its last line comes first, because the newest are collected first.
    fn take(&mut self, message: &[u8], most: usize, room: &mut usize) {
        for line in String::from_utf8_lossy(message).lines().rev() {
            let line: String = line.chars().take(MAX_LINE).collect();
            match room.checked_sub(line.len()) {
                Some(left) if self.lines.len() < most => {
                    *room = left;
                    self.lines.push(line);
                }
                Some(_) | None => return,
            }
        }
    }
}
