//! Effects: the typed changes of the world that go through the gate, how each is undone, and what came of it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::certificate::{CertificateEffect, CertificateUndo};
use crate::container::{ContainerEffect, ContainerId, ContainerRef, ContainerSelector, RunState};
use crate::database::{DatabaseEffect, DatabaseUndo, SessionState, SettingState};
use crate::firewall::{ElementState, FirewallEffect, Network, SetId};
use crate::http::{HttpEffect, HttpRequest};
use crate::id::{Digest, Label, UnitName};
use crate::kernel::{KnobEffect, KnobName};
use crate::program::{ProgramEffect, ProgramEnding, ProgramSpec};
use crate::release::{ReleaseEffect, ReleaseName, ReleasePlace};
use crate::target::MountPath;
use crate::unit::{KillWhom, ProcessId, Property, Signal};
use crate::units::Bytes;

/// One typed change, asked for by a remedy, performed by the runner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Effect {
    /// A change of one file.
    File { label: Label, file: FileId, verb: FileVerb },
    /// A change of one unit.
    Unit { label: Label, unit: UnitName, invocation: String, verb: UnitVerb },
    /// A change of every process of a group.
    Group { label: Label, group: GroupId, verb: GroupVerb },
    /// A signal to one process of a group.
    Process { label: Label, group: GroupId, process: ProcessId, signal: Signal },
    /// A renewal of one certificate.
    Certificate(CertificateEffect),
    /// A program that changes something.
    Program(ProgramEffect),
    /// A request that changes something.
    Http(HttpEffect),
    /// A change of one number of the kernel's.
    Knob(KnobEffect),
    /// A switch to another release.
    Release(ReleaseEffect),
    /// A change of one container.
    Container(ContainerEffect),
    /// An address in a set of the firewall.
    Firewall(FirewallEffect),
    /// A change of a database server.
    Database(DatabaseEffect),
}

/// One regular file: device and inode are the identity, the path is where it was found.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileId {
    /// `st_dev`.
    pub dev: u64,
    /// `st_ino`.
    pub ino: u64,
    /// The granted directory.
    pub dir: MountPath,
    /// The path below it, as bytes where it is not UTF-8 (escaped `\xNN`), so that equal ids are equal texts.
    pub path: String,
    /// Unlinked and held open: reached through a process' descriptor.
    pub deleted: bool,
}

/// What is done to a file. `bytes` is an upper bound: at most that much content is written or lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FileVerb {
    /// New content.
    Replace { content: Digest, bytes: u64 },
    /// Added content.
    Append { content: Digest, bytes: u64 },
    /// Cut to nothing.
    Truncate { bytes: u64 },
    /// Copied to the archive, then cut to nothing.
    CopyTruncate { bytes: u64 },
    /// Unlinked.
    Remove { bytes: u64 },
    /// Copied to the archive, then unlinked.
    Archive { bytes: u64 },
    /// Renamed into the set-aside directory.
    SetAside { bytes: u64 },
}

/// What is done to a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UnitVerb {
    /// Started.
    Start,
    /// Stopped.
    Stop,
    /// Restarted.
    Restart,
    /// Reloaded.
    Reload,
    /// Signalled.
    Kill { whom: KillWhom, signal: Signal },
    /// Failure state forgotten.
    ResetFailed,
    /// Run-time property set.
    SetProperty { property: Property },
}

/// The unit, cgroup or user whose processes form the group. Members are looked up when they are needed, never stored.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GroupId {
    /// The processes of a unit.
    Unit(UnitName),
    /// The processes below a cgroup, by its path as in /proc/PID/cgroup.
    Cgroup(String),
    /// The processes of a user.
    User(u32),
}

/// What is done to a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GroupVerb {
    /// Confined to that many of its CPUs.
    SetAffinity { cpus: u32 },
    /// Nice value raised.
    Renice { nice: i32 },
}

/// Whether an effect can be taken back.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UndoClass {
    /// Restored: content, mode, owner, xattrs, mtime, or the very value.
    Exact,
    /// A named inverse is run; traces stay (a restart ended the old process).
    Compensated { inverse: String },
    /// It stays done.
    Irreversible { reason: String },
}

impl UndoClass {
    /// The word used in plans and policies.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Compensated { .. } => "compensated",
            Self::Irreversible { .. } => "irreversible",
        }
    }
}

impl Effect {
    /// The verb in the manifest's word, such as `remove` or `set-property`.
    pub const fn verb(&self) -> &'static str {
        match self {
            Self::File { verb, .. } => match verb {
                FileVerb::Replace { .. } => "replace",
                FileVerb::Append { .. } => "append",
                FileVerb::Truncate { .. } => "truncate",
                FileVerb::CopyTruncate { .. } => "copy-truncate",
                FileVerb::Remove { .. } => "remove",
                FileVerb::Archive { .. } => "archive",
                FileVerb::SetAside { .. } => "set-aside",
            },
            Self::Unit { verb, .. } => match verb {
                UnitVerb::Start => "start",
                UnitVerb::Stop => "stop",
                UnitVerb::Restart => "restart",
                UnitVerb::Reload => "reload",
                UnitVerb::Kill { .. } => "kill",
                UnitVerb::ResetFailed => "reset-failed",
                UnitVerb::SetProperty { .. } => "set-property",
            },
            Self::Group { verb, .. } => match verb {
                GroupVerb::SetAffinity { .. } => "set-affinity",
                GroupVerb::Renice { .. } => "renice",
            },
            Self::Process { .. } => "signal",
            Self::Certificate(effect) => effect.verb(),
            Self::Program(effect) => effect.verb(),
            Self::Http(effect) => effect.verb(),
            Self::Knob(effect) => effect.verb(),
            Self::Release(effect) => effect.verb(),
            Self::Container(effect) => effect.verb(),
            Self::Firewall(effect) => effect.verb(),
            Self::Database(effect) => effect.verb(),
        }
    }

    /// The table of the manifest the verb is granted in.
    pub const fn interface(&self) -> &'static str {
        match self {
            Self::File { .. } => "files",
            Self::Unit { .. } => "units",
            Self::Group { .. } | Self::Process { .. } => "processes",
            Self::Certificate(_) => "certificates",
            Self::Program(_) => "programs",
            Self::Http(_) => "http",
            Self::Knob(_) => "kernel",
            Self::Release(_) => "releases",
            Self::Container(_) => "containers",
            Self::Firewall(_) => "firewall",
            Self::Database(_) => "databases",
        }
    }

    /// The label of the grant.
    pub const fn label(&self) -> &Label {
        match self {
            Self::File { label, .. }
            | Self::Unit { label, .. }
            | Self::Group { label, .. }
            | Self::Process { label, .. } => label,
            Self::Certificate(effect) => &effect.label,
            Self::Program(effect) => &effect.label,
            Self::Http(effect) => &effect.label,
            Self::Knob(effect) => &effect.label,
            Self::Release(effect) => &effect.label,
            Self::Container(effect) => &effect.label,
            Self::Firewall(effect) => &effect.label,
            Self::Database(effect) => &effect.label,
        }
    }

    /// Doing it twice does no more than doing it once. A restart, a kill and an append do.
    pub const fn is_idempotent(&self) -> bool {
        match self {
            Self::File { verb, .. } => !matches!(verb, FileVerb::Append { .. }),
            Self::Unit { verb, .. } => !matches!(verb, UnitVerb::Restart | UnitVerb::Kill { .. }),
            // The second one is refused: the address is there. A session is ended once: there is no second one of the same birth.
            Self::Group { .. } | Self::Knob(_) | Self::Firewall(_) | Self::Database(_) => true,
            // Each asks the authority for another certificate, and it counts them.
            Self::Certificate(_) => false,
            // Asked for twice, it goes back by two releases.
            Self::Process { .. } | Self::Release(_) => false,
            Self::Program(effect) => effect.idempotent,
            Self::Http(effect) => effect.method.is_idempotent(),
            Self::Container(effect) => effect.is_idempotent(),
        }
    }

    /// The same change of the same thing, and not larger than `planned`.
    pub fn is_within(&self, planned: &Self) -> bool {
        match (self, planned) {
            (Self::File { label: la, file: fa, verb: va }, Self::File { label: lb, file: fb, verb: vb }) => {
                la == lb && fa == fb && va.is_within(*vb)
            }
            (Self::Unit { .. }, Self::Unit { .. })
            | (Self::Group { .. }, Self::Group { .. })
            | (Self::Process { .. }, Self::Process { .. }) => self == planned,
            (Self::Certificate(now), Self::Certificate(planned)) => now.is_within(planned),
            (Self::Program(now), Self::Program(planned)) => now.is_within(planned),
            (Self::Http(now), Self::Http(planned)) => now.is_within(planned),
            (Self::Knob(now), Self::Knob(planned)) => now.is_within(planned),
            (Self::Release(now), Self::Release(planned)) => now.is_within(planned),
            (Self::Container(now), Self::Container(planned)) => now.is_within(planned),
            (Self::Firewall(now), Self::Firewall(planned)) => now.is_within(planned),
            (Self::Database(now), Self::Database(planned)) => now.is_within(planned),
            (
                Self::File { .. }
                | Self::Unit { .. }
                | Self::Group { .. }
                | Self::Process { .. }
                | Self::Certificate(_)
                | Self::Program(_)
                | Self::Http(_)
                | Self::Knob(_)
                | Self::Release(_)
                | Self::Container(_)
                | Self::Database(_)
                | Self::Firewall(_),
                _,
            ) => false,
        }
    }
}

impl FileVerb {
    fn is_within(self, planned: Self) -> bool {
        match (self, planned) {
            (Self::Replace { content: a, bytes: n }, Self::Replace { content: b, bytes: m })
            | (Self::Append { content: a, bytes: n }, Self::Append { content: b, bytes: m }) => a == b && n <= m,
            (Self::Truncate { bytes: n }, Self::Truncate { bytes: m })
            | (Self::CopyTruncate { bytes: n }, Self::CopyTruncate { bytes: m })
            | (Self::Remove { bytes: n }, Self::Remove { bytes: m })
            | (Self::Archive { bytes: n }, Self::Archive { bytes: m })
            | (Self::SetAside { bytes: n }, Self::SetAside { bytes: m }) => n <= m,
            (
                Self::Replace { .. }
                | Self::Append { .. }
                | Self::Truncate { .. }
                | Self::CopyTruncate { .. }
                | Self::Remove { .. }
                | Self::Archive { .. }
                | Self::SetAside { .. },
                _,
            ) => false,
        }
    }

    /// The upper bound.
    pub const fn bytes(self) -> u64 {
        match self {
            Self::Replace { bytes, .. }
            | Self::Append { bytes, .. }
            | Self::Truncate { bytes }
            | Self::CopyTruncate { bytes }
            | Self::Remove { bytes }
            | Self::Archive { bytes }
            | Self::SetAside { bytes } => bytes,
        }
    }
}

impl fmt::Display for GroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unit(unit) => write!(f, "the processes of {unit}"),
            Self::Cgroup(path) => write!(f, "the processes in cgroup {}", path.escape_debug()),
            Self::User(uid) => write!(f, "the processes of uid {uid}"),
        }
    }
}

impl fmt::Display for Effect {
    /// One line for people, in the words of the manifest.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { file, verb, .. } => {
                let at = if file.deleted { " (deleted, still open)" } else { "" };
                write!(f, "{} {}/{}{at}, at most {}", self.verb(), file.dir, file.path, Bytes(verb.bytes()))
            }
            Self::Unit { unit, verb, .. } => match verb {
                UnitVerb::Kill { whom: KillWhom::Main, signal } => {
                    write!(f, "kill -{} main of {unit}", signal.as_str())
                }
                UnitVerb::Kill { whom: KillWhom::All, signal } => write!(f, "kill -{} all of {unit}", signal.as_str()),
                UnitVerb::SetProperty { property } => write!(f, "set-property {unit} {property}"),
                UnitVerb::Start | UnitVerb::Stop | UnitVerb::Restart | UnitVerb::Reload | UnitVerb::ResetFailed => {
                    write!(f, "{} {unit}", self.verb())
                }
            },
            Self::Group { group, verb: GroupVerb::SetAffinity { cpus }, .. } => {
                write!(f, "confine {group} to {cpus} CPU")
            }
            Self::Group { group, verb: GroupVerb::Renice { nice }, .. } => write!(f, "renice {group} to {nice}"),
            Self::Process { group, process, signal, .. } => {
                write!(f, "signal {} to process {} of {group}", signal.as_str(), process.pid)
            }
            Self::Certificate(effect) => effect.fmt(f),
            Self::Program(effect) => effect.fmt(f),
            Self::Http(effect) => effect.fmt(f),
            Self::Knob(effect) => effect.fmt(f),
            Self::Release(effect) => effect.fmt(f),
            Self::Container(effect) => effect.fmt(f),
            Self::Firewall(effect) => effect.fmt(f),
            Self::Database(effect) => effect.fmt(f),
        }
    }
}

impl fmt::Display for Property {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name();
        match self {
            Self::CpuQuota(Some(permille)) => write!(f, "{name}={}.{}%", permille / 10, permille % 10),
            Self::CpuWeight(Some(weight)) => write!(f, "{name}={weight}"),
            Self::MemoryHigh(Some(bytes)) => write!(f, "{name}={}", Bytes(*bytes)),
            Self::TasksMax(Some(tasks)) => write!(f, "{name}={tasks}"),
            Self::CpuQuota(None) | Self::MemoryHigh(None) | Self::TasksMax(None) => write!(f, "{name}=infinity"),
            Self::CpuWeight(None) => write!(f, "{name}=default"),
        }
    }
}

/// Everything the runner needs to take one effect back; written with the intent, before the effect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Undo {
    /// Puts content and metadata of a file back, from the undo store.
    RestoreFile { file: FileId, before: FileState, preimage: Preimage },
    /// Puts a file back from its archive.
    RestoreArchived { file: FileId, before: FileState, archive: MountPath, content: Digest },
    /// Cuts a file back to its length before an append.
    CutBack { file: FileId, before: FileState },
    /// Renames a file back from where it was set aside.
    PutBack { file: FileId, aside: MountPath },
    /// Stops a unit that was started; only on verdict *worse*.
    StopUnit { unit: UnitName },
    /// Starts a unit that was running before.
    StartUnit { unit: UnitName },
    /// Sets a property back to the value read before.
    SetProperty { unit: UnitName, property: Property },
    /// Gives each thread its CPUs back (hex masks as in /proc/PID/status).
    SetAffinity { group: GroupId, masks: Vec<(ProcessId, String)> },
    /// Gives each process its nice value back; needs privilege where the value was raised.
    Renice { group: GroupId, values: Vec<(ProcessId, i32)> },
    /// Puts a certificate and its key back.
    RestoreCertificate(Box<CertificateUndo>),
    /// Runs the program that the grant names as the inverse.
    RunProgram { inverse: ProgramSpec },
    /// Sends the request that the grant names as the inverse.
    SendHttp { inverse: HttpRequest },
    /// Sets a number of the kernel's back to the value read before.
    SetKnob { knob: KnobName, value: i64 },
    /// Points the link at the release that was in use before, and restarts the service if it was started since: if it runs with
    /// another invocation than this one, it runs the other release.
    SwitchRelease { unit: UnitName, place: ReleasePlace, release: ReleaseName, invocation: String },
    /// Stops a container that was started; only on verdict *worse*.
    StopContainer { selector: ContainerSelector, id: ContainerId },
    /// Starts a container that was running before.
    StartContainer { selector: ContainerSelector, id: ContainerId },
    /// Takes the element out of the set again, if it is still there and still this one.
    RemoveElement { set: SetId, network: Network, element: ElementState },
    /// Puts a setting of a database back as it was.
    SetDatabase(DatabaseUndo),
    /// Nothing can be done, or nothing needs doing.
    Nothing { reason: String },
}

/// Where the bytes of a pre-image are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Preimage {
    /// In the record itself (small files).
    Inline(crate::units::Blob),
    /// In `undo/`, by the digest of the uncompressed content.
    Stored { content: Digest, bytes: u64 },
}

/// A file's state as far as an exact undo restores it, and as an undo compares it before it overwrites.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileState {
    /// Digest of the content, where it was read.
    pub content: Option<Digest>,
    /// Bytes.
    pub size: u64,
    /// `st_mode` with the type bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Modification time: seconds and nanoseconds.
    pub mtime: (i64, u32),
    /// Extended attributes, sorted by name.
    pub xattrs: Vec<(String, crate::units::Blob)>,
}

/// A state for display and for the undo's comparison.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Observed {
    /// A file is in this state.
    File(FileState),
    /// There is no such file at that path.
    NoFile,
    /// A unit is in this state.
    Unit { active: crate::unit::ActiveState, invocation: String, sub: String },
    /// A property has this value, as the kernel or the manager reads it back.
    Property(Property),
    /// CPUs allowed, per process.
    Affinity(Vec<(ProcessId, String)>),
    /// Nice values, per process.
    Nice(Vec<(ProcessId, i32)>),
    /// A process runs.
    Running(ProcessId),
    /// A process is gone.
    Gone(ProcessId),
    /// That certificate is in its file; `not_after` in seconds since 1970.
    Certificate { fingerprint: Digest, not_after: u64 },
    /// A program has not run yet, or ended so.
    Program(Option<ProgramEnding>),
    /// A request has not been sent yet, or was answered with that status.
    Http(Option<u16>),
    /// A number of the kernel's has that value.
    Knob(i64),
    /// That release is in use.
    Release(ReleaseName),
    /// That container is in that state.
    Container { container: ContainerRef, run: RunState, restarts: u32 },
    /// An element is in the set, or none is.
    Element(Option<ElementState>),
    /// A session of a database is in that state, or is gone.
    Session(Option<SessionState>),
    /// A setting of a database is in that state.
    Setting(SettingState),
}

impl fmt::Display for Observed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(file) => {
                write!(f, "{}, mode {:o}, owner {}:{}", Bytes(file.size), file.mode & 0o7777, file.uid, file.gid)
            }
            Self::NoFile => f.write_str("no file"),
            Self::Unit { active, sub, .. } => write!(f, "{active:?} ({})", sub.escape_debug()),
            Self::Property(property) => write!(f, "{property}"),
            Self::Affinity(masks) => {
                write!(f, "{} threads on CPUs {}", masks.len(), masks.first().map_or("-", |(_, mask)| mask))
            }
            Self::Nice(values) => {
                write!(f, "{} processes, nice {}", values.len(), values.first().map_or(0, |(_, nice)| *nice))
            }
            Self::Running(process) => write!(f, "process {} runs", process.pid),
            Self::Gone(process) => write!(f, "process {} is gone", process.pid),
            Self::Certificate { fingerprint, not_after } => {
                write!(f, "certificate {} until {}", fingerprint.short(), crate::certificate::date(*not_after))
            }
            Self::Program(None) => f.write_str("not run"),
            Self::Program(Some(ending)) => ending.fmt(f),
            Self::Http(None) => f.write_str("not sent"),
            Self::Http(Some(status)) => write!(f, "answered with {status}"),
            Self::Knob(value) => write!(f, "{value}"),
            Self::Release(release) => write!(f, "release {release}"),
            Self::Container { run, restarts: 0, .. } => f.write_str(run.as_str()),
            Self::Container { run, restarts, .. } => {
                write!(f, "{}, started again {restarts} times by the engine", run.as_str())
            }
            Self::Element(None) => f.write_str("not in the set"),
            Self::Element(Some(element)) => {
                write!(f, "in the set, put there for {}", crate::time::Span::from_millis(element.timeout_ms))
            }
            Self::Session(None) => f.write_str("the session is gone"),
            Self::Session(Some(state)) => write!(f, "the session is {state}"),
            Self::Setting(setting) => setting.fmt(f),
        }
    }
}

/// What came of an effect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Done; the world as read back afterwards.
    Applied { after: Observed, bytes: u64 },
    /// Nothing changed; the reason is typed.
    Denied(crate::denial::Denial),
    /// It was tried and failed half-way or without telling: it *may have happened*.
    Ambiguous { reason: String },
}

/// What came of taking one effect back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UndoOutcome {
    /// The state before is back.
    Restored,
    /// Nothing had to be done (the effect had not happened, or its inverse is only for verdict *worse*).
    NotNeeded { reason: String },
    /// Somebody else changed it since: left alone, the pre-image kept, a person is needed.
    ChangedSince { found: String },
    /// It can't be taken back.
    Impossible { reason: String },
    /// It was tried and failed: a person is needed.
    Failed { reason: String },
}

impl UndoOutcome {
    /// A person has to look at it.
    pub const fn needs_person(&self) -> bool {
        match self {
            Self::Restored | Self::NotNeeded { .. } => false,
            Self::ChangedSince { .. } | Self::Impossible { .. } | Self::Failed { .. } => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remove(ino: u64, bytes: u64) -> Effect {
        let file =
            FileId { dev: 1, ino, dir: MountPath::parse("/var/log").unwrap(), path: "a.gz".into(), deleted: false };
        Effect::File { label: Label::parse("logs").unwrap(), file, verb: FileVerb::Remove { bytes } }
    }

    #[test]
    fn an_effect_is_within_an_equal_or_larger_one_of_the_same_file() {
        assert!(remove(7, 10).is_within(&remove(7, 10)));
        assert!(remove(7, 9).is_within(&remove(7, 10)));
        assert!(!remove(7, 11).is_within(&remove(7, 10)));
        assert!(!remove(8, 10).is_within(&remove(7, 10)));
    }

    #[test]
    fn another_verb_on_the_same_file_is_not_within() {
        let Effect::File { label, file, .. } = remove(7, 10) else { unreachable!() };
        let truncate = Effect::File { label, file, verb: FileVerb::Truncate { bytes: 10 } };
        assert!(!truncate.is_within(&remove(7, 10)));
    }
}
