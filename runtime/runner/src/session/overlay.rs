//! What a dry run assumes: the effects it recorded, laid over what it reads afterwards.

use std::collections::{BTreeMap, BTreeSet};

use theriac_model::container::{ContainerSelector, RunState};
use theriac_model::database::{SessionId, Setting};
use theriac_model::effect::GroupId;
use theriac_model::firewall::{Network, SetId};
use theriac_model::id::{Label, UnitName};
use theriac_model::kernel::KnobName;
use theriac_model::release::{ReleaseName, ReleasePlace};
use theriac_model::unit::{ActiveState, ProcessId};

use crate::capability::files::Identity;

/// What one recorded effect would have changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Assumption {
    /// The file has no name any more; so much became free.
    FileGone { file: Identity, freed: u64 },
    /// The file is empty; so much became free.
    FileCut { file: Identity, freed: u64 },
    /// The file has that size; so much more (or less) is taken.
    FileWritten { file: Identity, size: u64, grown: i64 },
    /// Bytes were written on a device: an archive.
    Archived { file: Identity, freed: u64, gone: bool, onto: u64, taken: u64 },
    /// The unit is in that state.
    Unit { unit: UnitName, active: ActiveState, sub: &'static str },
    /// The unit's state is as before, as far as anybody can tell.
    UnitAsBefore { unit: UnitName },
    /// The group has that many CPUs.
    Confined { group: GroupId, cpus: u32 },
    /// The process is gone.
    ProcessGone { process: ProcessId },
    /// The certificate is a new one.
    Renewed { certificate: Label },
    /// A number of the kernel's has that value.
    Knob { knob: KnobName, value: i64 },
    /// That release is in use.
    Release { place: ReleasePlace, release: ReleaseName },
    /// The container is in that state.
    Container { selector: ContainerSelector, run: RunState },
    /// The network is in the set for that long.
    Element { set: SetId, network: Network, seconds: u32 },
    /// The session of a database is gone.
    SessionGone { database: Label, session: SessionId },
    /// A setting of a database has that value.
    Setting { database: Label, setting: Setting, value: i64 },
    /// Nothing that a read would show.
    Nothing,
}

/// Everything recorded so far.
#[derive(Debug, Default)]
pub(crate) struct Overlay {
    gone: BTreeSet<Identity>,
    sizes: BTreeMap<Identity, u64>,
    space: BTreeMap<u64, (i64, i64)>,
    units: BTreeMap<UnitName, Option<(ActiveState, &'static str)>>,
    confined: BTreeMap<GroupId, u32>,
    processes: BTreeSet<ProcessId>,
    renewed: BTreeSet<Label>,
    knobs: BTreeMap<KnobName, i64>,
    releases: BTreeMap<ReleasePlace, ReleaseName>,
    containers: BTreeMap<ContainerSelector, RunState>,
    elements: BTreeMap<SetId, Vec<(Network, u32)>>,
    sessions: BTreeSet<(Label, SessionId)>,
    settings: BTreeMap<(Label, Setting), i64>,
}

impl Overlay {
    pub(crate) fn assume(&mut self, assumption: Assumption) {
        match assumption {
            Assumption::FileGone { file, freed } => self.file_gone(file, freed),
            Assumption::FileCut { file, freed } => {
                self.sizes.insert(file, 0);
                self.shift(file.dev, signed(freed), 0);
            }
            Assumption::FileWritten { file, size, grown } => {
                self.sizes.insert(file, size);
                self.shift(file.dev, grown.saturating_neg(), 0);
            }
            Assumption::Archived { file, freed, gone, onto, taken } => {
                if gone {
                    self.file_gone(file, freed);
                } else {
                    self.sizes.insert(file, 0);
                    self.shift(file.dev, signed(freed), 0);
                }
                self.shift(onto, signed(taken).saturating_neg(), -1);
            }
            Assumption::Unit { unit, active, sub } => {
                self.units.insert(unit, Some((active, sub)));
            }
            Assumption::UnitAsBefore { unit } => {
                self.units.entry(unit).or_insert(None);
            }
            Assumption::Confined { group, cpus } => {
                self.confined.insert(group, cpus);
            }
            Assumption::ProcessGone { process } => {
                self.processes.insert(process);
            }
            Assumption::Renewed { certificate } => {
                self.renewed.insert(certificate);
            }
            Assumption::Knob { knob, value } => {
                self.knobs.insert(knob, value);
            }
            Assumption::Release { place, release } => {
                self.releases.insert(place, release);
            }
            Assumption::Container { selector, run } => {
                self.containers.insert(selector, run);
            }
            Assumption::Element { set, network, seconds } => {
                self.elements.entry(set).or_default().push((network, seconds));
            }
            Assumption::SessionGone { database, session } => {
                self.sessions.insert((database, session));
            }
            Assumption::Setting { database, setting, value } => {
                self.settings.insert((database, setting), value);
            }
            Assumption::Nothing => {}
        }
    }

    fn file_gone(&mut self, file: Identity, freed: u64) {
        self.gone.insert(file);
        self.shift(file.dev, signed(freed), 1);
    }

    fn shift(&mut self, dev: u64, bytes: i64, inodes: i64) {
        let space = self.space.entry(dev).or_default();
        *space = (space.0.saturating_add(bytes), space.1.saturating_add(inodes));
    }

    pub(crate) fn is_gone(&self, file: Identity) -> bool {
        self.gone.contains(&file)
    }

    /// The assumed size, when it differs from what is there.
    pub(crate) fn size(&self, file: Identity) -> Option<u64> {
        self.sizes.get(&file).copied()
    }

    /// Bytes and inodes that would be free in addition (or, negative, would be taken).
    pub(crate) fn space(&self, dev: u64) -> Option<(i64, i64)> {
        self.space.get(&dev).copied()
    }

    /// `Some` when an effect on the unit was recorded; the inner one is its state where that follows.
    pub(crate) fn unit(&self, unit: &UnitName) -> Option<Option<(ActiveState, &'static str)>> {
        self.units.get(unit).copied()
    }

    pub(crate) fn confined(&self, group: &GroupId) -> Option<u32> {
        self.confined.get(group).copied()
    }

    pub(crate) fn process_gone(&self, process: ProcessId) -> bool {
        self.processes.contains(&process)
    }
}

/// What the dry run assumes of things that have one value each.
impl Overlay {
    pub(crate) fn is_renewed(&self, certificate: &Label) -> bool {
        self.renewed.contains(certificate)
    }

    pub(crate) fn session_gone(&self, database: &Label, session: SessionId) -> bool {
        self.sessions.contains(&(database.clone(), session))
    }

    pub(crate) fn setting(&self, database: &Label, setting: Setting) -> Option<i64> {
        self.settings.get(&(database.clone(), setting)).copied()
    }

    pub(crate) fn knob(&self, knob: &KnobName) -> Option<i64> {
        self.knobs.get(knob).copied()
    }

    pub(crate) fn release(&self, place: &ReleasePlace) -> Option<&ReleaseName> {
        self.releases.get(place)
    }

    pub(crate) fn container(&self, selector: &ContainerSelector) -> Option<RunState> {
        self.containers.get(selector).copied()
    }
    /// What would be in the set in addition, and for how many seconds.
    pub(crate) fn elements(&self, set: &SetId) -> impl Iterator<Item = (Network, u32)> {
        self.elements.get(set).into_iter().flatten().copied()
    }
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}
