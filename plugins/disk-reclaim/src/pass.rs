//! One pass over the granted directory: which files are spared, and when it ends.

use core::fmt;

use theriac_sdk::files::Stat;
use theriac_sdk::prelude::*;

use crate::goal::Goal;

/// Files that are left alone are named in the run's record up to this many; the report counts them all.
const NAMED: u64 = 20;

/// What has been done so far.
pub(crate) struct Pass<'a> {
    dir: &'a Dir,
    goal: Goal,
    pub(crate) files: u64,
    freed: u64,
    spared: u64,
}

impl<'a> Pass<'a> {
    pub(crate) const fn new(dir: &'a Dir, goal: Goal) -> Self {
        Self { dir, goal, files: 0, freed: 0, spared: 0 }
    }

    /// Takes away old files, the oldest first. One file is held back all along, so that the newest is never reached.
    pub(crate) fn take_old(
        &mut self,
        keep_seconds: u64,
        take: fn(&Entry) -> Result<u64, Denial>,
    ) -> Result<(), Denial> {
        let mut newest: Option<Entry> = None;
        for entry in self.dir.entries(Filter::oldest_first()) {
            let Some(entry) = newest.replace(entry?) else { continue };
            if self.is_done()? {
                return Ok(());
            }
            let stat = match entry.stat() {
                Ok(stat) => stat,
                Err(denial) => {
                    self.pass_over(&entry, denial)?;
                    continue;
                }
            };
            if stat.age < keep_seconds {
                return Ok(());
            }
            // A second name may be somebody's only copy, and the blocks would stay; an open file is still being written, and
            // one without a suffix of rotation may be any moment.
            if stat.open || stat.links != 1 || entry.name().ends_with(".log") {
                self.spared += 1;
                continue;
            }
            self.apply(&entry, &stat, take)?;
        }
        Ok(())
    }

    /// The operator may allow removing rotated logs and not cutting open ones, or the other way round.
    pub(crate) fn cut_deleted_where_allowed(&mut self) -> Result<(), Denial> {
        match self.cut_deleted() {
            Err(denial @ (Denial::NotGranted(_) | Denial::Unavailable(_))) => {
                info!("deleted logs stay as they are (rule {})", denial.refusal().rule);
                Ok(())
            }
            other => other,
        }
    }

    /// Cuts files that were unlinked and are still open: nobody can read them by name any more, and their blocks are not
    /// free. Only where every writer appends: any other would go on at its old offset and leave a hole.
    fn cut_deleted(&mut self) -> Result<(), Denial> {
        if matches!(self.goal.resource, crate::Resource::Inodes) {
            return Ok(()); // A cut gives back blocks; the inode goes when the writer closes it.
        }
        for entry in self.dir.list_deleted()? {
            if self.is_done()? {
                return Ok(());
            }
            let stat = match entry.stat() {
                Ok(stat) => stat,
                Err(denial) => {
                    self.pass_over(&entry, denial)?;
                    continue;
                }
            };
            if !stat.appended_only || stat.allocated == 0 {
                self.spared += 1;
                continue;
            }
            self.apply(&entry, &stat, Entry::truncate)?;
        }
        Ok(())
    }

    fn is_done(&self) -> Result<bool, Denial> {
        Ok(self.goal.is_spent(self.freed) || self.goal.is_met(&self.dir.space()?))
    }

    fn apply(&mut self, entry: &Entry, stat: &Stat, change: fn(&Entry) -> Result<u64, Denial>) -> Result<(), Denial> {
        match change(entry) {
            Ok(_) => {
                self.files += 1;
                self.freed = self.freed.saturating_add(self.goal.resource.held_by(stat));
                Ok(())
            }
            Err(denial) => self.pass_over(entry, denial),
        }
    }

    /// Goes on when only this one file is the trouble.
    fn pass_over(&mut self, entry: &Entry, denial: Denial) -> Result<(), Denial> {
        if !denial.is_about_this_one() {
            return Err(denial);
        }
        self.spared += 1;
        if self.spared <= NAMED {
            info!("{} left alone (rule {})", entry.name(), denial.refusal().rule);
        }
        Ok(())
    }
}

impl fmt::Display for Pass<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {} freed in {} files, {} left alone",
            self.freed,
            self.goal.resource.unit(),
            self.files,
            self.spared
        )
    }
}
