//! What one dry run called, by grant.

use std::collections::{BTreeMap, BTreeSet};

use theriac_authority::grant::{FilesVerb, ProcessesVerb, UnitsVerb};
use theriac_model::call::{Call, DirCall, EntryCall, GroupCall, Handle, Interface, ProcessCall, Reply, UnitCall};
use theriac_model::effect::{Effect, FileVerb};
use theriac_model::unit::{Property, Signal};

use crate::perform::Rehearsal;
use crate::recording::Exchange;

/// Everything that was called.
#[derive(Debug, Default)]
pub(super) struct Observed {
    pub(super) files: BTreeMap<String, Files>,
    pub(super) units: BTreeMap<String, Units>,
    pub(super) processes: BTreeMap<String, Processes>,
    /// Labels of the other interfaces that were opened.
    pub(super) others: BTreeSet<(&'static str, String)>,
}

#[derive(Debug, Default)]
pub(super) struct Files {
    pub(super) verbs: BTreeSet<FilesVerb>,
    /// Entries that a verb was called on.
    pub(super) touched: BTreeSet<String>,
    /// The same of deleted files.
    pub(super) deleted: BTreeSet<String>,
    /// Entries that were listed.
    pub(super) listed: BTreeSet<String>,
    pub(super) changes: u32,
    pub(super) bytes: u64,
}

#[derive(Debug, Default)]
pub(super) struct Units {
    pub(super) verbs: BTreeSet<UnitsVerb>,
    pub(super) signals: BTreeSet<Signal>,
    pub(super) properties: Vec<Property>,
}

#[derive(Debug, Default)]
pub(super) struct Processes {
    pub(super) verbs: BTreeSet<ProcessesVerb>,
    pub(super) signals: BTreeSet<Signal>,
}

/// What a handle stands for.
#[derive(Debug, Clone)]
enum Held {
    Granted(String),
    Entry { label: String, name: String, deleted: bool },
    Process { label: String },
}

impl Observed {
    pub(super) fn of(run: &Rehearsal) -> Self {
        let mut observed = Self::default();
        let mut held: BTreeMap<Handle, Held> = BTreeMap::new();
        for Exchange { call, reply } in &run.exchanges {
            observed.call(call, &mut held);
            observed.reply(call, reply, &mut held);
        }
        for planned in &run.effects {
            observed.effect(&planned.effect);
        }
        observed
    }

    fn call(&mut self, call: &Call, held: &mut BTreeMap<Handle, Held>) {
        match call {
            Call::Drop { handle } => drop(held.remove(handle)),
            Call::Dir { handle, verb } => {
                if let Some(Held::Granted(label)) = held.get(handle) {
                    self.files.entry(label.clone()).or_default().verbs.insert(dir_verb(*verb));
                }
            }
            Call::Entry { handle, verb } => {
                if let Some(Held::Entry { label, name, deleted }) = held.get(handle) {
                    let files = self.files.entry(label.clone()).or_default();
                    files.verbs.insert(entry_verb(verb));
                    if *deleted { &mut files.deleted } else { &mut files.touched }.insert(name.clone());
                }
            }
            Call::Unit { handle, verb } => {
                if let Some(Held::Granted(label)) = held.get(handle) {
                    self.units.entry(label.clone()).or_default().note(*verb);
                }
            }
            Call::Group { handle, verb } => {
                if let Some(Held::Granted(label)) = held.get(handle) {
                    let verb = match verb {
                        GroupCall::List => ProcessesVerb::List,
                        GroupCall::Usage => ProcessesVerb::Usage,
                        GroupCall::SetAffinity { .. } => ProcessesVerb::SetAffinity,
                        GroupCall::Renice { .. } => ProcessesVerb::Renice,
                    };
                    self.processes.entry(label.clone()).or_default().verbs.insert(verb);
                }
            }
            Call::Process { handle, verb } => {
                if let Some(Held::Process { label }) = held.get(handle) {
                    let processes = self.processes.entry(label.clone()).or_default();
                    match verb {
                        ProcessCall::Info => drop(processes.verbs.insert(ProcessesVerb::Info)),
                        ProcessCall::Signal { signal } => {
                            processes.verbs.insert(ProcessesVerb::Signal);
                            processes.signals.insert(*signal);
                        }
                    }
                }
            }
            // Whole grants, taken over as they are when they are opened.
            Call::Series { .. }
            | Call::Probe { .. }
            | Call::Program { .. }
            | Call::Http { .. }
            | Call::Knob { .. }
            | Call::Release { .. }
            | Call::Container { .. }
            | Call::Firewall { .. }
            | Call::Certificate { .. }
            | Call::Database { .. }
            | Call::Open { .. }
            | Call::Log { .. }
            | Call::Panicked { .. } => {}
        }
    }

    /// Only the replies that bring handles matter.
    fn reply(&mut self, call: &Call, reply: &Reply, held: &mut BTreeMap<Handle, Held>) {
        match (call, reply) {
            (Call::Open { interface, label }, Reply::Opened(handle)) => {
                self.opened(*interface, label);
                held.insert(*handle, Held::Granted(label.clone()));
            }
            (Call::Dir { handle, verb }, Reply::Entries { entries, .. }) => {
                let Some(Held::Granted(label)) = held.get(handle).cloned() else { return };
                let deleted = matches!(verb, DirCall::ListDeleted);
                for entry in entries {
                    let name = entry.name.clone();
                    if !deleted {
                        self.files.entry(label.clone()).or_default().listed.insert(name.clone());
                    }
                    held.insert(entry.handle, Held::Entry { label: label.clone(), name, deleted });
                }
            }
            (Call::Group { handle, .. }, Reply::Processes(all)) => {
                let Some(Held::Granted(label)) = held.get(handle).cloned() else { return };
                held.extend(all.iter().map(|process| (process.handle, Held::Process { label: label.clone() })));
            }
            _ => {}
        }
    }

    fn opened(&mut self, interface: Interface, label: &str) {
        let label = label.to_owned();
        match interface {
            Interface::Files => drop(self.files.entry(label).or_default()),
            Interface::Units => drop(self.units.entry(label).or_default()),
            Interface::Processes => drop(self.processes.entry(label).or_default()),
            Interface::Series
            | Interface::Probes
            | Interface::Programs
            | Interface::Http
            | Interface::Kernel
            | Interface::Releases
            | Interface::Containers
            | Interface::Certificates
            | Interface::Databases
            | Interface::Firewall => drop(self.others.insert((interface.grant_table(), label))),
        }
    }

    fn effect(&mut self, effect: &Effect) {
        let Effect::File { label, verb, .. } = effect else { return };
        let files = self.files.entry(label.to_string()).or_default();
        files.changes = files.changes.saturating_add(1);
        files.bytes = files.bytes.saturating_add(match *verb {
            FileVerb::Replace { bytes, .. }
            | FileVerb::Append { bytes, .. }
            | FileVerb::Truncate { bytes }
            | FileVerb::CopyTruncate { bytes }
            | FileVerb::Remove { bytes }
            | FileVerb::Archive { bytes }
            | FileVerb::SetAside { bytes } => bytes,
        });
    }
}

impl Units {
    fn note(&mut self, call: UnitCall) {
        let verb = match call {
            UnitCall::Name => return,
            UnitCall::Status => UnitsVerb::Status,
            UnitCall::Start => UnitsVerb::Start,
            UnitCall::Stop => UnitsVerb::Stop,
            UnitCall::Restart => UnitsVerb::Restart,
            UnitCall::Reload => UnitsVerb::Reload,
            UnitCall::ResetFailed => UnitsVerb::ResetFailed,
            UnitCall::LogTail { .. } => UnitsVerb::LogTail,
            UnitCall::Kill { signal, .. } => {
                self.signals.insert(signal);
                UnitsVerb::Kill
            }
            UnitCall::SetProperty { property } => {
                self.properties.push(property);
                UnitsVerb::SetProperty
            }
        };
        self.verbs.insert(verb);
    }
}

const fn dir_verb(call: DirCall) -> FilesVerb {
    match call {
        DirCall::List { .. } => FilesVerb::List,
        DirCall::ListDeleted => FilesVerb::ListDeleted,
        DirCall::Space => FilesVerb::Space,
    }
}

const fn entry_verb(call: &EntryCall) -> FilesVerb {
    match call {
        EntryCall::Stat => FilesVerb::Stat,
        EntryCall::Read { .. } => FilesVerb::Read,
        EntryCall::Tail { .. } => FilesVerb::Tail,
        EntryCall::Replace { .. } => FilesVerb::Replace,
        EntryCall::Append { .. } => FilesVerb::Append,
        EntryCall::Truncate => FilesVerb::Truncate,
        EntryCall::CopyTruncate => FilesVerb::CopyTruncate,
        EntryCall::Remove => FilesVerb::Remove,
        EntryCall::Archive => FilesVerb::Archive,
        EntryCall::SetAside => FilesVerb::SetAside,
    }
}

/// The most handles that were open at once.
#[expect(clippy::wildcard_enum_match_arm, reason = "only the replies that bring handles matter")]
pub(super) fn most_handles(exchanges: &[Exchange]) -> usize {
    let mut open: BTreeSet<Handle> = BTreeSet::new();
    let mut most = 0;
    for Exchange { call, reply } in exchanges {
        if let Call::Drop { handle } = call {
            open.remove(handle);
        }
        match reply {
            Reply::Opened(handle) => drop(open.insert(*handle)),
            Reply::Entries { entries, .. } => open.extend(entries.iter().map(|entry| entry.handle)),
            Reply::Processes(all) => open.extend(all.iter().map(|process| process.handle)),
            _ => {}
        }
        most = most.max(open.len());
    }
    most
}
