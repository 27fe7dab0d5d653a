//! Grants: what a manifest asks for, as types, and as the lines that a signer reads.
//!
//! The verbs are closed lists, one per interface of the contract. What a grant comes to on one host and for one incident is
//! worked out in [`crate::effective`].

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};
use theriac_model::call::Interface;
use theriac_model::id::{Label, UnitName};
use theriac_model::observation::Metric;
use theriac_model::target::MountPath;
use theriac_model::time::Span;
use theriac_model::unit::Signal;
use theriac_model::units::Bytes;

mod lines;
pub(crate) mod never;
pub use lines::lines;
pub(crate) use lines::{called, sentence, wasi};

/// Why this unit can't be granted by anybody; `None` when it can.
pub fn never_unit(name: &UnitName) -> Option<&'static str> {
    never::unit(name)
}

/// A word that is not in its closed list.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is not {what}; valid: {valid}", word.escape_debug())]
pub struct WordError {
    what: &'static str,
    word: String,
    valid: String,
}

impl WordError {
    pub(crate) fn new<'a>(what: &'static str, word: &str, valid: impl Iterator<Item = &'a str>) -> Self {
        let valid = valid.collect::<Vec<_>>().join(", ");
        Self { what, word: word.chars().take(40).collect(), valid }
    }
}

macro_rules! verbs {
    ($(#[$doc:meta])* $type:ident, $what:literal, $($(#[$each:meta])* $variant:ident = $word:literal $changes:ident,)*) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum $type { $($(#[$each])* #[serde(rename = $word)] $variant,)* }

        impl $type {
            /// Every verb, in the order of the contract.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The word used in manifests, plans and denials.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }

            /// It changes the world: it goes through the gate as an effect, and needs the operator's leave.
            pub const fn changes(self) -> bool {
                match self { $(Self::$variant => verbs!(@ $changes),)* }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl std::str::FromStr for $type {
            type Err = WordError;
            fn from_str(word: &str) -> Result<Self, WordError> {
                Self::ALL.iter().copied().find(|verb| verb.as_str() == word)
                    .ok_or_else(|| WordError::new($what, word, Self::ALL.iter().map(|verb| verb.as_str())))
            }
        }
    };
    (@ reads) => { false };
    (@ changes) => { true };
}

// After the macro, which they use.
mod certificate;
mod container;
mod database;
mod firewall;
mod http;
mod kernel;
mod program;
mod release;

pub use certificate::{CertificateSource, CertificatesGrant, CertificatesVerb};
pub use container::{ContainerSource, ContainersGrant, ContainersVerb};
pub use database::{Applications, DatabasesGrant, DatabasesVerb, EndingBounds, ServerSource};
pub use firewall::{AddBounds, FirewallGrant, FirewallVerb};
pub use http::{HttpGrant, InverseRequest};
pub use kernel::{KernelGrant, KernelVerb};
pub use program::{ProgramsGrant, SlotSpec};
pub use release::{ReleasesGrant, ReleasesVerb};

verbs! {
    /// What can be done in a granted directory.
    FilesVerb, "a verb of `files`",
    /// Names of the files that the globs let through.
    List = "list" reads,
    /// Files that were unlinked here and are still open.
    ListDeleted = "list-deleted" reads,
    /// Space of the filesystem.
    Space = "space" reads,
    /// Size, age, links, whether it is open.
    Stat = "stat" reads,
    /// Content from an offset.
    Read = "read" reads,
    /// The last bytes.
    Tail = "tail" reads,
    /// New content in place of the old.
    Replace = "replace" changes,
    /// Content at the end.
    Append = "append" changes,
    /// Cut to nothing.
    Truncate = "truncate" changes,
    /// Copied to the archive, then cut to nothing.
    CopyTruncate = "copy-truncate" changes,
    /// Unlinked for good.
    Remove = "remove" changes,
    /// Copied to the archive, then unlinked.
    Archive = "archive" changes,
    /// Renamed into the set-aside directory.
    SetAside = "set-aside" changes,
}

impl FilesVerb {
    /// It needs the archive directory.
    pub const fn needs_archive(self) -> bool {
        matches!(self, Self::Archive | Self::CopyTruncate)
    }

    /// The file is gone from its place afterwards.
    pub const fn takes_away(self) -> bool {
        matches!(self, Self::Remove | Self::Archive | Self::SetAside)
    }

    /// It cuts a file to nothing in place.
    pub const fn cuts(self) -> bool {
        matches!(self, Self::Truncate | Self::CopyTruncate)
    }
}

verbs! {
    /// What can be done to a granted unit.
    UnitsVerb, "a verb of `units`",
    /// Its state.
    Status = "status" reads,
    /// Started.
    Start = "start" changes,
    /// Stopped.
    Stop = "stop" changes,
    /// Restarted.
    Restart = "restart" changes,
    /// Reloaded.
    Reload = "reload" changes,
    /// Signalled.
    Kill = "kill" changes,
    /// Failures forgotten.
    ResetFailed = "reset-failed" changes,
    /// Run-time property set.
    SetProperty = "set-property" changes,
    /// The last lines of its log.
    LogTail = "log-tail" reads,
}

impl UnitsVerb {
    /// It waits for a job of the service manager.
    pub const fn waits_for_job(self) -> bool {
        matches!(self, Self::Start | Self::Stop | Self::Restart | Self::Reload)
    }
}

verbs! {
    /// What can be done to a granted group of processes.
    ProcessesVerb, "a verb of `processes`",
    /// Its processes.
    List = "list" reads,
    /// What they use together.
    Usage = "usage" reads,
    /// One process.
    Info = "info" reads,
    /// A signal to one process.
    Signal = "signal" changes,
    /// Confined to fewer CPUs.
    SetAffinity = "set-affinity" changes,
    /// Nice value raised.
    Renice = "renice" changes,
}

/// Everything a manifest asks for.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Grants {
    /// `[grants.files.L]`.
    pub files: BTreeMap<Label, FilesGrant>,
    /// `[grants.units.L]`.
    pub units: BTreeMap<Label, UnitsGrant>,
    /// `[grants.processes.L]`.
    pub processes: BTreeMap<Label, ProcessesGrant>,
    /// `[grants.series.L]`.
    pub series: BTreeMap<Label, SeriesGrant>,
    /// `[grants.probes.L]`.
    pub probes: BTreeMap<Label, ProbesGrant>,
    /// `[grants.certificates.L]`.
    pub certificates: BTreeMap<Label, CertificatesGrant>,
    /// `[grants.programs.L]`.
    pub programs: BTreeMap<Label, ProgramsGrant>,
    /// `[grants.http.L]`.
    pub http: BTreeMap<Label, HttpGrant>,
    /// `[grants.kernel.L]`.
    pub kernel: BTreeMap<Label, KernelGrant>,
    /// `[grants.releases.L]`.
    pub releases: BTreeMap<Label, ReleasesGrant>,
    /// `[grants.containers.L]`.
    pub containers: BTreeMap<Label, ContainersGrant>,
    /// `[grants.firewall.L]`.
    pub firewall: BTreeMap<Label, FirewallGrant>,
    /// `[grants.databases.L]`.
    pub databases: BTreeMap<Label, DatabasesGrant>,
}

/// One grant with its place, for filters such as signers' scopes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GrantRef<'a> {
    /// The label.
    pub label: &'a Label,
    /// The grant.
    pub grant: GrantKind<'a>,
}

/// A grant of one interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GrantKind<'a> {
    /// Of `files`.
    Files(&'a FilesGrant),
    /// Of `units`.
    Units(&'a UnitsGrant),
    /// Of `processes`.
    Processes(&'a ProcessesGrant),
    /// Of `observe.series`.
    Series(&'a SeriesGrant),
    /// Of `observe.probe`.
    Probes(&'a ProbesGrant),
    /// Of `certificates`.
    Certificates(&'a CertificatesGrant),
    /// Of `programs`.
    Programs(&'a ProgramsGrant),
    /// Of `http`.
    Http(&'a HttpGrant),
    /// Of `kernel`.
    Kernel(&'a KernelGrant),
    /// Of `releases`.
    Releases(&'a ReleasesGrant),
    /// Of `containers`.
    Containers(&'a ContainersGrant),
    /// Of `firewall`.
    Firewall(&'a FirewallGrant),
    /// Of `databases`.
    Databases(&'a DatabasesGrant),
}

impl GrantKind<'_> {
    /// The interface.
    pub const fn interface(&self) -> Interface {
        match self {
            Self::Files(_) => Interface::Files,
            Self::Units(_) => Interface::Units,
            Self::Processes(_) => Interface::Processes,
            Self::Series(_) => Interface::Series,
            Self::Probes(_) => Interface::Probes,
            Self::Certificates(_) => Interface::Certificates,
            Self::Programs(_) => Interface::Programs,
            Self::Http(_) => Interface::Http,
            Self::Kernel(_) => Interface::Kernel,
            Self::Releases(_) => Interface::Releases,
            Self::Containers(_) => Interface::Containers,
            Self::Firewall(_) => Interface::Firewall,
            Self::Databases(_) => Interface::Databases,
        }
    }

    /// The words of its verbs; empty for series and probes, which have none to choose from.
    pub fn verbs(&self) -> Vec<&'static str> {
        match self {
            Self::Files(grant) => grant.verbs.iter().map(|verb| verb.as_str()).collect(),
            Self::Units(grant) => grant.verbs.iter().map(|verb| verb.as_str()).collect(),
            Self::Processes(grant) => grant.verbs.iter().map(|verb| verb.as_str()).collect(),
            Self::Certificates(grant) => grant.verbs.iter().map(|verb| verb.as_str()).collect(),
            Self::Kernel(grant) => grant.verbs.iter().map(|verb| verb.as_str()).collect(),
            Self::Releases(grant) => grant.verbs.iter().map(|verb| verb.as_str()).collect(),
            Self::Containers(grant) => grant.verbs.iter().map(|verb| verb.as_str()).collect(),
            Self::Firewall(grant) => grant.verbs.iter().map(|verb| verb.as_str()).collect(),
            Self::Databases(grant) => grant.verbs.iter().map(|verb| verb.as_str()).collect(),
            Self::Http(grant) => grant.methods.iter().map(|method| method.as_str()).collect(),
            Self::Programs(_) => vec!["run"],
            Self::Series(_) | Self::Probes(_) => Vec::new(),
        }
    }

    /// One of its verbs changes the world.
    pub fn changes(&self) -> bool {
        match self {
            Self::Files(grant) => grant.verbs.iter().any(|verb| verb.changes()),
            Self::Units(grant) => grant.verbs.iter().any(|verb| verb.changes()),
            Self::Processes(grant) => grant.verbs.iter().any(|verb| verb.changes()),
            Self::Certificates(grant) => grant.verbs.iter().any(|verb| verb.changes()),
            Self::Kernel(grant) => grant.verbs.iter().any(|verb| verb.changes()),
            Self::Releases(grant) => grant.verbs.iter().any(|verb| verb.changes()),
            Self::Containers(grant) => grant.verbs.iter().any(|verb| verb.changes()),
            Self::Firewall(grant) => grant.verbs.iter().any(|verb| verb.changes()),
            Self::Databases(grant) => grant.verbs.iter().any(|verb| verb.changes()),
            Self::Http(grant) => grant.methods.iter().any(|method| method.changes()),
            Self::Programs(grant) => grant.changes,
            Self::Series(_) | Self::Probes(_) => false,
        }
    }

    /// Why the remedy needs it.
    pub fn why(&self) -> &str {
        match self {
            Self::Files(grant) => &grant.why,
            Self::Units(grant) => &grant.why,
            Self::Processes(grant) => &grant.why,
            Self::Series(grant) => &grant.why,
            Self::Probes(grant) => &grant.why,
            Self::Certificates(grant) => &grant.why,
            Self::Programs(grant) => &grant.why,
            Self::Http(grant) => &grant.why,
            Self::Kernel(grant) => &grant.why,
            Self::Releases(grant) => &grant.why,
            Self::Containers(grant) => &grant.why,
            Self::Firewall(grant) => &grant.why,
            Self::Databases(grant) => &grant.why,
        }
    }
}

impl Grants {
    /// Every grant, by interface and label.
    pub fn iter(&self) -> impl Iterator<Item = GrantRef<'_>> {
        fn each<'a, T>(
            grants: &'a BTreeMap<Label, T>,
            kind: fn(&'a T) -> GrantKind<'a>,
        ) -> impl Iterator<Item = GrantRef<'a>> {
            grants.iter().map(move |(label, grant)| GrantRef { label, grant: kind(grant) })
        }
        each(&self.files, GrantKind::Files)
            .chain(each(&self.units, GrantKind::Units))
            .chain(each(&self.processes, GrantKind::Processes))
            .chain(each(&self.series, GrantKind::Series))
            .chain(each(&self.probes, GrantKind::Probes))
            .chain(each(&self.certificates, GrantKind::Certificates))
            .chain(each(&self.programs, GrantKind::Programs))
            .chain(each(&self.http, GrantKind::Http))
            .chain(each(&self.kernel, GrantKind::Kernel))
            .chain(each(&self.releases, GrantKind::Releases))
            .chain(each(&self.containers, GrantKind::Containers))
            .chain(each(&self.firewall, GrantKind::Firewall))
            .chain(each(&self.databases, GrantKind::Databases))
    }
}

/// A directory with what may be done to the files below it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FilesGrant {
    /// Which directory.
    pub dir: DirSource,
    /// Globs over the path below the directory; a file must match one.
    pub matching: Vec<String>,
    /// The same for files that were deleted and are held open: a live log may be cut once it is nobody's any more, and not
    /// be taken away before. Where the manifest does not say, those of [`Self::matching`].
    pub match_deleted: Vec<String>,
    /// And none of these.
    pub except: Vec<String>,
    /// The verbs.
    pub verbs: BTreeSet<FilesVerb>,
    /// The operator's archive directory is needed.
    pub archive_to: Option<FromOperator>,
    /// The operator's set-aside directory is needed.
    pub set_aside: Option<FromOperator>,
    /// Changing verbs leave younger files alone.
    pub min_age: Span,
    /// Most bytes that one run may write or lose; 0 where no verb changes anything.
    pub max_bytes: Bytes,
    /// Most files that one run may change; 0 where no verb changes anything.
    pub max_files: u32,
    /// That many of the newest matching files are never taken away.
    pub keep_newest: u32,
    /// What holds for files that a process has open.
    pub in_use: InUse,
    /// Why.
    pub why: String,
}

/// Where a directory comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum DirSource {
    /// Named in the manifest.
    Path(MountPath),
    /// The operator's `[[directory]]` with the grant's label.
    Operator,
}

/// A directory that only the operator's configuration can name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct FromOperator;

/// What holds for files that a process has open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum InUse {
    /// No changing verb touches them.
    Refuse,
    /// They may be cut to nothing where every writer appends; nothing else.
    Truncate,
}

/// A unit with what may be done to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UnitsGrant {
    /// Which unit.
    pub unit: UnitSource,
    /// The verbs.
    pub verbs: BTreeSet<UnitsVerb>,
    /// How long a job is waited for.
    pub job_timeout: Span,
    /// What `set-property` may set.
    pub bounds: PropertyBounds,
    /// What `kill` may send.
    pub signals: BTreeSet<Signal>,
    /// Why.
    pub why: String,
}

/// Where a unit comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum UnitSource {
    /// Named in the manifest.
    Name(UnitName),
    /// The incident's target.
    Incident,
}

/// Bounds of the run-time properties, both ends allowed; `None`: the property can't be set. Lifting a limit is never
/// within bounds: the runner puts the old value back by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct PropertyBounds {
    /// In thousandths of one core.
    pub cpu_quota: Option<(u32, u32)>,
    /// 1 to 10000.
    pub cpu_weight: Option<(u32, u32)>,
    /// In bytes.
    pub memory_high: Option<(u64, u64)>,
    /// Tasks.
    pub tasks_max: Option<(u64, u64)>,
}

impl PropertyBounds {
    /// No property can be set.
    pub const fn is_empty(&self) -> bool {
        self.cpu_quota.is_none() && self.cpu_weight.is_none() && self.memory_high.is_none() && self.tasks_max.is_none()
    }
}

/// A group of processes with what may be done to them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ProcessesGrant {
    /// Whose processes.
    pub of: GroupSource,
    /// The verbs.
    pub verbs: BTreeSet<ProcessesVerb>,
    /// What `signal` may send.
    pub signals: BTreeSet<Signal>,
    /// Why.
    pub why: String,
}

/// Whose processes form a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum GroupSource {
    /// The incident's unit.
    Incident,
    /// A unit named in the manifest.
    Unit(UnitName),
    /// A user, by uid.
    User(u32),
    /// A cgroup, by its path as in /proc/PID/cgroup.
    Cgroup(MountPath),
}

/// A series of the incident's target, or of the machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SeriesGrant {
    /// Which metric.
    pub metric: Metric,
    /// Why.
    pub why: String,
}

/// The health checks of the incident's target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ProbesGrant {
    /// Why.
    pub why: String,
}
