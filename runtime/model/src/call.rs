//! Host calls: what a worker asks of the runner on behalf of a remedy, and what it is told.
//!
//! The WIT bindings in the worker turn each import into one [`Call`]; the runner answers with one [`Reply`]. Enforcement
//! sits on the runner's side of these types, so a worker that was taken over gains nothing by speaking them itself.

use serde::{Deserialize, Serialize};

use crate::certificate::{CertificateCall, CertificateInfo};
use crate::container::{ContainerCall, ContainerInfo};
use crate::database::{DatabaseCall, DatabaseUsage, SettingInfo};
use crate::denial::Denial;
use crate::fault::Severity;
use crate::firewall::{ElementInfo, FirewallCall};
use crate::http::{HttpAnswer, HttpCall};
use crate::kernel::{KnobCall, KnobInfo};
use crate::program::{ProgramCall, ProgramOutput};
use crate::release::{ReleaseCall, ReleaseInfo};
use crate::remedy::ParamValue;
use crate::unit::{ActiveState, KillWhom, Property, Signal};
use crate::units::{Blob, Permille};

/// A number that stands for something the host bound. Only handles the runner gave out in this run are valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Handle(pub u32);

/// The interfaces that have an `open(label)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Interface {
    /// `files`: a directory.
    Files,
    /// `units`: a unit.
    Units,
    /// `processes`: a group of processes.
    Processes,
    /// `observe`: a series.
    Series,
    /// `observe`: a probe.
    Probes,
    /// `certificates`: a certificate.
    Certificates,
    /// `programs`: a program.
    Programs,
    /// `http`: an endpoint.
    Http,
    /// `kernel`: a knob.
    Kernel,
    /// `releases`: the releases of a service.
    Releases,
    /// `containers`: a container.
    Containers,
    /// `firewall`: a set of addresses.
    Firewall,
    /// `databases`: a database server.
    Databases,
}

impl Interface {
    /// The table of the manifest that grants it: `files` as in `[grants.files.logs]`.
    pub const fn grant_table(self) -> &'static str {
        match self {
            Self::Files => "files",
            Self::Units => "units",
            Self::Processes => "processes",
            Self::Series => "series",
            Self::Probes => "probes",
            Self::Certificates => "certificates",
            Self::Programs => "programs",
            Self::Http => "http",
            Self::Kernel => "kernel",
            Self::Releases => "releases",
            Self::Containers => "containers",
            Self::Firewall => "firewall",
            Self::Databases => "databases",
        }
    }

    /// The interface of the contract that opens it, as in `wit/`.
    pub const fn of_contract(self) -> &'static str {
        match self {
            Self::Series | Self::Probes => "observe",
            Self::Files
            | Self::Units
            | Self::Processes
            | Self::Certificates
            | Self::Programs
            | Self::Http
            | Self::Kernel
            | Self::Releases
            | Self::Containers
            | Self::Firewall
            | Self::Databases => self.grant_table(),
        }
    }

    /// Every interface.
    pub const ALL: [Self; 13] = [
        Self::Files,
        Self::Units,
        Self::Processes,
        Self::Series,
        Self::Probes,
        Self::Certificates,
        Self::Programs,
        Self::Http,
        Self::Kernel,
        Self::Releases,
        Self::Containers,
        Self::Firewall,
        Self::Databases,
    ];
}

/// One host call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Call {
    /// `log.info` and `log.warn`.
    Log { severity: Severity, text: String },
    /// `log.panicked`: the SDK's panic handler, just before the trap.
    Panicked { message: String, file: String, line: u32 },
    /// `open(label)` of the interface.
    Open { interface: Interface, label: String },
    /// The guest dropped the handle.
    Drop { handle: Handle },
    /// A verb of `files.dir`.
    Dir { handle: Handle, verb: DirCall },
    /// A verb of `files.entry`.
    Entry { handle: Handle, verb: EntryCall },
    /// A verb of `units.unit`.
    Unit { handle: Handle, verb: UnitCall },
    /// A verb of `processes.group`.
    Group { handle: Handle, verb: GroupCall },
    /// A verb of `processes.process`.
    Process { handle: Handle, verb: ProcessCall },
    /// A verb of `observe.series`.
    Series { handle: Handle, verb: SeriesCall },
    /// A verb of `observe.probe`.
    Probe { handle: Handle, verb: ProbeCall },
    /// A verb of `certificates.certificate`.
    Certificate { handle: Handle, verb: CertificateCall },
    /// A verb of `programs.program`.
    Program { handle: Handle, verb: ProgramCall },
    /// A verb of `http.endpoint`.
    Http { handle: Handle, verb: HttpCall },
    /// A verb of `kernel.knob`.
    Knob { handle: Handle, verb: KnobCall },
    /// A verb of `releases.release`.
    Release { handle: Handle, verb: ReleaseCall },
    /// A verb of `containers.container`.
    Container { handle: Handle, verb: ContainerCall },
    /// A verb of `firewall.set`.
    Firewall { handle: Handle, verb: FirewallCall },
    /// A verb of `databases.server`.
    Database { handle: Handle, verb: DatabaseCall },
}

/// Order of a directory listing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// Oldest first, by the younger of mtime and ctime.
    OldestFirst,
    /// Largest first, by allocated blocks.
    LargestFirst,
    /// By path, byte order.
    Name,
}

/// What a listing leaves out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Filter {
    /// Only entries at least that many seconds old.
    pub min_age_s: u64,
    /// Only entries with at least that many bytes allocated.
    pub min_bytes: u64,
    /// The order.
    pub order: Order,
}

/// Verbs of a granted directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DirCall {
    /// One page of the entries that the grant's globs let through, from the cursor (0 at first).
    List { filter: Filter, cursor: u64 },
    /// Files that were unlinked from this directory and are still open, so that their blocks are not free.
    ListDeleted,
    /// The filesystem's space.
    Space,
}

/// Verbs of one file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EntryCall {
    /// Size, age, links, whether it is open.
    Stat,
    /// Up to `max` bytes from `offset`.
    Read { offset: u64, max: u32 },
    /// The last `max` bytes.
    Tail { max: u32 },
    /// New content in place of the old, atomically.
    Replace { content: Blob },
    /// Content added at the end.
    Append { content: Blob },
    /// Content cut to nothing; the last MiB is kept as evidence.
    Truncate,
    /// A compressed copy to the archive, then cut to nothing (lines written in between are lost).
    CopyTruncate,
    /// Unlinked.
    Remove,
    /// Compressed to the grant's archive on another device, synced, then unlinked.
    Archive,
    /// Renamed into the grant's set-aside directory on the same filesystem (frees nothing).
    SetAside,
}

/// Verbs of one unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UnitCall {
    /// The unit's name, for log lines.
    Name,
    /// Its state.
    Status,
    /// Start; waits for the job.
    Start,
    /// Stop; waits for the job.
    Stop,
    /// Restart; waits for the job.
    Restart,
    /// Reload; waits for the job.
    Reload,
    /// A signal to its processes.
    Kill { whom: KillWhom, signal: Signal },
    /// Forgets failures and the start counter.
    ResetFailed,
    /// Sets a run-time property.
    SetProperty { property: Property },
    /// The last lines of its log, at most 200.
    LogTail { lines: u32 },
}

/// Verbs of a group of processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GroupCall {
    /// Its processes, at most 256.
    List,
    /// What the group uses together.
    Usage,
    /// Confines every thread of the group to that many of the CPUs it may use now.
    SetAffinity { cpus: u32 },
    /// Raises the nice value of every thread to at least this (1 to 19).
    Renice { nice: i32 },
}

/// Verbs of one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProcessCall {
    /// What it is and uses.
    Info,
    /// A signal to it.
    Signal { signal: Signal },
}

/// Verbs of a series.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SeriesCall {
    /// The newest reading.
    Now,
    /// The readings of the last seconds, at most 600, oldest first.
    Range { seconds: u32 },
}

/// Verbs of a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProbeCall {
    /// Runs the check once.
    Check,
}

/// What the runner answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Reply {
    /// Done, nothing to tell.
    Done,
    /// No.
    Denied(Denial),
    /// A handle (of `open`).
    Opened(Handle),
    /// A page of entries; `next` continues it.
    Entries { entries: Vec<EntryRef>, next: Option<u64> },
    /// A filesystem's space.
    Space(SpaceInfo),
    /// A file.
    Stat(FileInfo),
    /// Content.
    Bytes(Blob),
    /// How many bytes a changing verb freed or wrote.
    Count(u64),
    /// A name.
    Text(String),
    /// Log lines.
    Lines(Vec<String>),
    /// A unit.
    Status(UnitInfo),
    /// Processes.
    Processes(Vec<ProcessRef>),
    /// One process.
    Process(ProcessInfo),
    /// What a group uses.
    Usage(GroupUsage),
    /// Readings, oldest first.
    Readings(Vec<Reading>),
    /// What a probe said.
    Probe(ProbeInfo),
    /// A certificate.
    Certificate(CertificateInfo),
    /// What came of a program.
    Program(ProgramOutput),
    /// What an endpoint answered.
    Http(HttpAnswer),
    /// A number of the kernel's.
    Knob(KnobInfo),
    /// A release.
    Release(ReleaseInfo),
    /// A container.
    Container(ContainerInfo),
    /// Elements of a firewall's set.
    Elements(Vec<ElementInfo>),
    /// Who is connected to a database.
    Database(DatabaseUsage),
    /// Settings of a database.
    Settings(Vec<SettingInfo>),
}

/// An entry handle with its name, which is for people only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EntryRef {
    /// The handle.
    pub handle: Handle,
    /// Path below the granted directory, escaped where it is not printable UTF-8.
    pub name: String,
}

/// A file as a remedy sees it.
#[expect(clippy::struct_excessive_bools, reason = "four facts that do not exclude each other")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileInfo {
    /// Bytes of content.
    pub size: u64,
    /// Bytes of blocks it holds.
    pub allocated: u64,
    /// Seconds since the younger of mtime and ctime: an mtime set to 1970 makes no file old.
    pub age_s: u64,
    /// Hard links; 0 for a deleted file.
    pub links: u32,
    /// A process has it open.
    pub open: bool,
    /// Unlinked and still open.
    pub deleted: bool,
    /// Every writer that has it open appends (`O_APPEND`), so truncating it is safe.
    pub appended_only: bool,
    /// The value includes effects that the dry run only recorded.
    pub assumed: bool,
}

/// A filesystem's space.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpaceInfo {
    /// Bytes in all.
    pub total: u64,
    /// Bytes an ordinary user can still write.
    pub available: u64,
    /// Inodes in all (0 where the filesystem has no such limit).
    pub inodes: u64,
    /// Inodes free for an ordinary user.
    pub inodes_available: u64,
    /// Includes recorded effects.
    pub assumed: bool,
}

/// A unit as a remedy sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnitInfo {
    /// Up or down.
    pub active: ActiveState,
    /// SubState.
    pub sub: String,
    /// Result of the last run.
    pub result: String,
    /// Automatic restarts.
    pub restarts: u32,
    /// Seconds in the present state.
    pub since_s: u64,
    /// The manager is about to restart it by itself.
    pub will_restart: bool,
    /// Ended without a failure.
    pub stopped_on_purpose: bool,
    /// What its health check says; `None` where it has none.
    pub healthy: Option<bool>,
    /// Includes recorded effects.
    pub assumed: bool,
}

/// A process handle with its name, which is for people only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProcessRef {
    /// The handle.
    pub handle: Handle,
    /// The kernel's `comm`, escaped.
    pub name: String,
}

/// One process as a remedy sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProcessInfo {
    /// The kernel's `comm`, escaped.
    pub name: String,
    /// CPU time over wall time since its start, in thousandths of one core.
    pub cpu: u32,
    /// Resident anonymous memory in bytes.
    pub memory: u64,
    /// Threads.
    pub threads: u32,
    /// Seconds since its start.
    pub age_s: u64,
}

/// What a group of processes uses together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupUsage {
    /// CPU over the last sampling interval, in thousandths of one core.
    pub cpu: u32,
    /// Share of the machine's CPU over the same interval.
    pub cpu_share: Permille,
    /// Anonymous memory in bytes.
    pub memory: u64,
    /// Processes.
    pub processes: u32,
    /// CPUs its threads may use now.
    pub cpus_allowed: u32,
    /// Includes recorded effects.
    pub assumed: bool,
}

/// One reading of a series.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reading {
    /// Seconds before now.
    pub age_s: u32,
    /// The value, in the series' unit.
    pub value: f64,
}

/// What a probe said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProbeInfo {
    /// It passed.
    pub ok: bool,
    /// How long it took.
    pub latency_ms: u32,
    /// What came back, in a few words.
    pub detail: String,
}

/// The fault as it is handed to the remedy: input only.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaultInput {
    /// A fault kind.
    pub kind: crate::fault::FaultKind,
    /// How bad.
    pub severity: Severity,
    /// The target, for log lines.
    pub target: String,
    /// One sentence.
    pub summary: String,
    /// What the runner measured itself.
    pub numbers: Vec<Number>,
    /// Summaries of the evidence, by id.
    pub evidence: Vec<(crate::id::EvidenceId, String)>,
    /// Every parameter of the manifest with its value for this run.
    pub params: Vec<(crate::id::Label, ParamValue)>,
}

/// A named, finite number with its unit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Number {
    /// Such as `available`.
    pub name: String,
    /// Finite.
    pub value: f64,
    /// Such as `bytes`, `permille`, `seconds`.
    pub unit: String,
}

/// What `remediate` answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Report {
    /// It did something that should help.
    Treated(String),
    /// Nothing needs doing.
    NothingToDo(String),
    /// It can't help.
    GaveUp(String),
    /// A host call's denial ended it.
    Denied(Denial),
}

/// What `check` answered: it may lower a verdict, never raise it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Opinion {
    /// Looks well.
    Satisfied,
    /// Can't tell.
    Unsure(String),
    /// Did not help.
    NotImproved(String),
}

/// Which export a worker calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Export {
    /// `remediate`.
    Remediate,
    /// `check`: every changing verb is denied there.
    Check,
}
