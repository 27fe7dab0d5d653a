//! What every host call of one run works with, whether it is recorded or done.

use std::collections::BTreeMap;
use std::rc::Rc;

use theriac_authority::effective::Effective;
use theriac_journal::Durability;
use theriac_model::container::ContainerSelector;
use theriac_model::id::{Label, RemedyName, RunId, UnitName};
use theriac_model::record::Record;
use theriac_probe::group::Groups;

use super::budget::Budget;
use super::overlay::Overlay;
use super::table::Table;
use crate::capability::containers::Acquaintance;
use crate::capability::files::{Candidate, Identity, OpenFiles, Root};
use crate::capability::units::Invocation;
use crate::world::World;
use crate::writer::WriteError;

/// One run's view of the world.
pub(crate) struct Scene<'a> {
    pub(crate) world: &'a World,
    pub(crate) grants: &'a Effective,
    pub(crate) run: RunId,
    pub(crate) remedy: RemedyName,
    pub(crate) table: Table,
    pub(crate) budget: Budget,
    pub(crate) overlay: Overlay,
    /// Granted directories that were opened.
    pub(crate) roots: BTreeMap<Label, Rc<Root>>,
    /// The last listing of each, which its cursors go through.
    pub(crate) listings: BTreeMap<Label, Rc<Vec<Candidate>>>,
    /// Files that a grant never lets be taken away, because they are the newest.
    pub(crate) newest: BTreeMap<Label, Vec<Identity>>,
    /// The last look at who has files open, one device at a time.
    pub(crate) open_files: Option<OpenFiles>,
    pub(crate) groups: Groups,
    /// Units this run has looked at with a change in mind.
    pub(crate) invocations: BTreeMap<UnitName, Invocation>,
    /// Containers this run has looked at with a change in mind.
    pub(crate) containers: BTreeMap<ContainerSelector, Acquaintance>,
    broken: Option<WriteError>,
}

impl<'a> Scene<'a> {
    pub(crate) fn new(world: &'a World, grants: &'a Effective, run: RunId, remedy: RemedyName) -> Self {
        Self {
            world,
            grants,
            run,
            remedy,
            table: Table::new(grants.limits.handles),
            budget: Budget::new(grants.limits.host_calls, grants.limits.log_bytes),
            overlay: Overlay::default(),
            roots: BTreeMap::new(),
            listings: BTreeMap::new(),
            newest: BTreeMap::new(),
            open_files: None,
            groups: Groups::live(),
            invocations: BTreeMap::new(),
            containers: BTreeMap::new(),
            broken: None,
        }
    }

    /// Writes a record that an effect rests on; `false` when it is not on disk. The error is kept for the run loop, and after it
    /// nothing is changed any more.
    pub(crate) fn write_synced(&mut self, record: Record) -> bool {
        self.write(record, Durability::Synced)
    }

    /// Writes a record that nothing rests on.
    pub(crate) fn note(&mut self, record: Record) {
        self.write(record, Durability::Buffered);
    }

    fn write(&mut self, record: Record, durability: Durability) -> bool {
        let written = self.world.writer.write(record, durability);
        if let Err(error) = written {
            self.broken.get_or_insert(error);
            return false;
        }
        true
    }

    pub(crate) const fn journal_is_broken(&self) -> bool {
        self.broken.is_some()
    }

    pub(crate) fn into_broken(self) -> Option<WriteError> {
        self.broken
    }

    /// Who has files of that device open; at most half a second old.
    pub(crate) fn open_files(&mut self, dev: u64) -> &OpenFiles {
        if self.open_files.as_ref().is_none_or(|open| !open.is_fresh(dev)) {
            self.open_files = None;
        }
        self.open_files.get_or_insert_with(|| OpenFiles::scan(dev))
    }

    /// The same, looked at anew.
    pub(crate) fn open_files_now(&mut self, dev: u64) -> &OpenFiles {
        self.open_files = None;
        self.open_files(dev)
    }
}
