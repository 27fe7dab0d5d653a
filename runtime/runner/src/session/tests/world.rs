//! The fixture.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tempfile::TempDir;
use theriac_authority::effective::{self, Effective};
use theriac_authority::host::HostConfig;
use theriac_authority::manifest::Manifest;
use theriac_journal::Durability;
use theriac_journal::undo::{Options, UndoStore};
use theriac_model::call::{Call, DirCall, EntryCall, Filter, Handle, Interface, Order, Reply, UnitCall};
use theriac_model::denial::Denial;
use theriac_model::effect::UndoOutcome;
use theriac_model::fault::FaultKind;
use theriac_model::health::{HealthAnswer, HealthCheck};
use theriac_model::id::{Digest, IncidentId, RemedyName, RunId, UnitName};
use theriac_model::observation::SeriesId;
use theriac_model::plan::{Plan, PlannedEffect};
use theriac_model::record::{Entry, Record};
use theriac_model::remedy::{Params, RemedyRef};
use theriac_model::target::MountPath;
use theriac_model::time::{GuardTime, Timestamp};
use theriac_model::unit::{ActiveState, Backend, KillWhom, Property, Signal, UnitState};
use theriac_model::verdict::Verdict;

use crate::backend::{ServiceManager, UnitError};
use crate::session::{Clock, Host as _, Live, Recording, Scene, Session};
use crate::world::{CheckError, Roots, Senses, World};
use crate::writer::{WriteError, Writer};

/// A journal in memory, which can be told to fail.
#[derive(Debug, Default)]
pub(super) struct Notes {
    pub(super) entries: Mutex<Vec<Entry>>,
    /// Writes that still succeed; `None` is all of them.
    pub(super) left: Mutex<Option<u32>>,
}

impl Writer for Notes {
    fn write(&self, record: Record, _durability: Durability) -> Result<Entry, WriteError> {
        let mut left = self.left.lock().unwrap();
        if let Some(left) = left.as_mut() {
            *left = left.checked_sub(1).ok_or_else(|| WriteError { source: std::io::ErrorKind::StorageFull.into() })?;
        }
        let mut entries = self.entries.lock().unwrap();
        let seq = entries.len() as u64;
        let entry = Entry { seq, at: Timestamp(0), guard: GuardTime(0), epoch: 1, record };
        entries.push(entry.clone());
        Ok(entry)
    }

    fn guard_now(&self) -> GuardTime {
        GuardTime(0)
    }
}

/// A service manager that is a table.
#[derive(Debug)]
pub(super) struct Units {
    pub(super) state: Mutex<UnitState>,
    pub(super) quota: Mutex<Property>,
    pub(super) job_fails: Mutex<bool>,
    /// How long each job might have taken.
    pub(super) waits: Mutex<Vec<Duration>>,
}

impl Units {
    fn new() -> Self {
        let state = UnitState {
            active: ActiveState::Failed,
            sub: "failed".into(),
            result: "exit-code".into(),
            invocation: "i1".into(),
            ..UnitState::running(UnitName::parse("web").unwrap())
        };
        Self {
            state: Mutex::new(state),
            quota: Mutex::new(Property::CpuQuota(None)),
            job_fails: Mutex::new(false),
            waits: Mutex::default(),
        }
    }

    /// A start by anybody: a new invocation.
    pub(super) fn up(&self) -> UnitState {
        let mut state = self.state.lock().unwrap();
        let next = state.invocation.trim_start_matches('i').parse::<u32>().unwrap() + 1;
        state.invocation = format!("i{next}");
        state.active = ActiveState::Active;
        state.sub = "running".into();
        state.stopped_on_purpose = false;
        state.clone()
    }

    pub(super) fn down(&self) -> UnitState {
        let mut state = self.state.lock().unwrap();
        state.active = ActiveState::Inactive;
        state.sub = "dead".into();
        state.stopped_on_purpose = true;
        state.clone()
    }

    pub(super) fn is_up(&self) -> bool {
        self.state.lock().unwrap().is_up()
    }
}

impl ServiceManager for Units {
    fn state(&self, _unit: &UnitName) -> Result<UnitState, UnitError> {
        Ok(self.state.lock().unwrap().clone())
    }
    fn start(&self, unit: &UnitName, timeout: Duration) -> Result<UnitState, UnitError> {
        self.waits.lock().unwrap().push(timeout);
        if *self.job_fails.lock().unwrap() {
            return Err(UnitError::Job { verb: "start", unit: unit.clone(), result: "failed".into() });
        }
        Ok(if self.is_up() { self.state.lock().unwrap().clone() } else { self.up() })
    }
    fn stop(&self, _unit: &UnitName, timeout: Duration) -> Result<UnitState, UnitError> {
        self.waits.lock().unwrap().push(timeout);
        Ok(self.down())
    }
    fn restart(&self, unit: &UnitName, timeout: Duration) -> Result<UnitState, UnitError> {
        self.waits.lock().unwrap().push(timeout);
        if *self.job_fails.lock().unwrap() {
            self.state.lock().unwrap().active = ActiveState::Failed;
            return Err(UnitError::Job { verb: "restart", unit: unit.clone(), result: "failed".into() });
        }
        Ok(self.up())
    }
    fn reload(&self, _unit: &UnitName, _timeout: Duration) -> Result<UnitState, UnitError> {
        Ok(self.state.lock().unwrap().clone())
    }
    fn kill(&self, _unit: &UnitName, _whom: KillWhom, _signal: Signal) -> Result<UnitState, UnitError> {
        Ok(self.down())
    }
    fn reset_failed(&self, _unit: &UnitName) -> Result<UnitState, UnitError> {
        self.state.lock().unwrap().active = ActiveState::Inactive;
        Ok(self.state.lock().unwrap().clone())
    }
    fn property(&self, _unit: &UnitName, _like: Property) -> Result<Property, UnitError> {
        Ok(*self.quota.lock().unwrap())
    }
    fn set_property(&self, _unit: &UnitName, property: Property) -> Result<Property, UnitError> {
        *self.quota.lock().unwrap() = property;
        Ok(property)
    }
    fn log_tail(&self, _unit: &UnitName, lines: u32) -> Result<Vec<String>, UnitError> {
        Ok((0..lines).map(|line| format!("line {line}")).collect())
    }
}

struct Blind;

impl Senses for Blind {
    fn now(&self) -> Timestamp {
        Timestamp(0)
    }
    fn readings(&self, _series: &SeriesId, _seconds: u32) -> Vec<(Timestamp, f64)> {
        Vec::new()
    }
    fn check(&self, _check: &HealthCheck) -> Result<HealthAnswer, CheckError> {
        Err(CheckError { reason: "no courier".into() })
    }
}

/// The remedy's manifest; `min_age` is what tests can't wait for.
const MANIFEST: &str = r#"
[remedy]
name = "test-remedy"
version = "1.0.0"
serial = 1
summary = "Tests the gate"
handles = ["disk-full", "service-crash"]

[grants.files.logs]
dir = { from = "operator" }
match = ["**/*.log", "**/*.gz"]
verbs = ["list", "list-deleted", "space", "stat", "read", "tail", "replace", "append", "truncate", "copy-truncate", "remove", "archive", "set-aside"]
archive_to = { from = "operator" }
set_aside = { from = "operator" }
in_use = "truncate"
min_age = "0s"
max_bytes = "64MiB"
max_files = 8
why = "tests"

[grants.units.target]
unit = { from = "incident" }
verbs = ["status", "start", "stop", "restart", "reset-failed", "set-property"]
cpu_quota = { min = "10%", max = "100%" }
why = "tests"

[grants.processes.group]
of = { from = "incident" }
verbs = ["list", "info", "usage", "signal", "set-affinity"]
signals = ["TERM", "KILL"]
why = "tests"
"#;

/// A directory on one device, an archive on another, and everything the gate needs.
pub(super) struct Place {
    pub(super) disk: TempDir,
    pub(super) memory: TempDir,
    pub(super) notes: Arc<Notes>,
    pub(super) units: Arc<Units>,
    pub(super) world: World,
    pub(super) grants: Effective,
}

pub(super) fn place() -> Place {
    place_with(MANIFEST)
}

pub(super) fn place_with_line(from: &str, to: &str) -> Place {
    assert!(MANIFEST.contains(from));
    place_with(&MANIFEST.replace(from, to))
}

/// The same with more grants, and what the operator lists for them.
pub(super) fn place_granting(grants: &str, host: &str) -> Place {
    place_of(&format!("{MANIFEST}{grants}"), host)
}

pub(super) fn place_with(manifest: &str) -> Place {
    place_of(manifest, "")
}

fn place_of(manifest: &str, more: &str) -> Place {
    use std::os::unix::fs::MetadataExt as _;
    let disk = tempfile::tempdir().unwrap();
    let memory = tempfile::tempdir_in("/dev/shm").unwrap();
    let dev = |dir: &TempDir| dir.path().metadata().unwrap().dev();
    assert_ne!(dev(&disk), dev(&memory), "the archive must be on another device");
    for dir in ["logs", "aside", "undo"] {
        std::fs::create_dir(disk.path().join(dir)).unwrap();
    }
    let host = format!(
        r#"
mode = "relaxed"
[[service]]
name = "web"
verbs = ["start", "stop", "restart", "reset-failed", "set-property"]
processes = ["signal", "set-affinity"]
[[directory]]
path = "{disk}/logs"
label = "logs"
verbs = ["replace", "append", "truncate", "copy-truncate", "remove", "archive", "set-aside"]
archive_to = "/srv/archive"
set_aside = "{disk}/aside"
reproducible = ["**/*.gz"]
{more}
"#,
        disk = disk.path().display(),
    );
    let host = HostConfig::parse(&host).unwrap_or_else(|error| panic!("{error}"));
    let manifest = Manifest::parse(manifest).unwrap_or_else(|error| panic!("{error}"));
    let mut grants = effective::bind(&manifest, &host, &"unit:web".parse().unwrap());
    // The configuration refuses everything below /dev, and so the second device is put in behind its back.
    let archive = MountPath::parse(memory.path().to_str().unwrap()).unwrap();
    grants.files.values_mut().for_each(|dir| dir.archive_to = Some(archive.clone()));
    assert!(grants.unbound.is_empty(), "{:?}", grants.unbound);
    let (notes, units) = (Arc::new(Notes::default()), Arc::new(Units::new()));
    let world = World {
        systemd: None,
        supervised: Some(Arc::clone(&units) as Arc<dyn ServiceManager>),
        backends: BTreeMap::from([(UnitName::parse("web").unwrap(), Backend::Supervised)]),
        senses: Arc::new(Blind),
        undo: Mutex::new(
            UndoStore::open(&disk.path().join("undo"), Options { quota: 1 << 26, arena: 1 << 16 }).unwrap(),
        ),
        writer: Arc::clone(&notes) as Arc<dyn Writer>,
        roots: Roots::default(),
        releases: crate::releases::Releases::default(),
        additions: crate::additions::Additions::default(),
        renewals: crate::renewals::Renewals::default(),
        hands: crate::hands::Hands::default(),
    };
    Place { disk, memory, notes, units, world, grants }
}

pub(super) fn run() -> RunId {
    RunId::parse("r-1").unwrap()
}

fn remedy() -> RemedyName {
    RemedyName::parse("test-remedy").unwrap()
}

impl Place {
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.disk.path().join("logs").join(name)
    }

    pub(super) fn write(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        path
    }

    pub(super) fn recorder(&self) -> Session<'_, Recording> {
        Session { scene: Scene::new(&self.world, &self.grants, run(), remedy()), mode: Recording::default() }
    }

    pub(super) fn live<'a>(&'a self, plan: &'a Plan) -> Session<'a, Live<'a>> {
        self.live_until(plan, GuardTime(u64::MAX), &|| GuardTime(0))
    }

    pub(super) fn live_until<'a>(
        &'a self,
        plan: &'a Plan,
        deadline: GuardTime,
        clock: Clock<'a>,
    ) -> Session<'a, Live<'a>> {
        let scene = Scene::new(&self.world, &self.grants, run(), remedy());
        Session { scene, mode: Live::of(plan, deadline, clock) }
    }

    /// A dry run of the calls, made into a plan.
    pub(super) fn plan(&self, calls: impl FnOnce(&mut dyn FnMut(Call) -> Reply)) -> Plan {
        let mut session = self.recorder();
        calls(&mut |call| session.answer(call));
        plan_of(session.finish().effects)
    }

    /// The dry run and then the live run of the same calls.
    pub(super) fn both(&self, calls: impl Fn(&mut dyn FnMut(Call) -> Reply)) -> crate::session::LiveEnd {
        let plan = self.plan(&calls);
        let mut session = self.live(&plan);
        calls(&mut |call| session.answer(call));
        session.finish()
    }

    pub(super) fn entries(&self) -> Vec<Entry> {
        self.notes.entries.lock().unwrap().clone()
    }

    pub(super) fn undo(&self) -> Vec<UndoOutcome> {
        self.undo_with(&self.entries(), Verdict::NotImproved)
    }

    pub(super) fn undo_with(&self, entries: &[Entry], verdict: Verdict) -> Vec<UndoOutcome> {
        let done = crate::undo::take_back(&self.world, &run(), entries, verdict).unwrap();
        done.into_iter().map(|(_, outcome)| outcome).collect()
    }

    /// The journal as it would be had the runner died before the last outcome was written.
    pub(super) fn without_outcomes(&self) -> Vec<Entry> {
        let kept = |entry: &Entry| !matches!(entry.record, Record::Done { .. });
        self.entries().into_iter().filter(kept).collect()
    }
}

pub(super) fn plan_of(effects: Vec<PlannedEffect>) -> Plan {
    Plan {
        incident: IncidentId::parse("i-1").unwrap(),
        kind: FaultKind::DiskFull,
        target: "unit:web".parse().unwrap(),
        remedy: RemedyRef { name: remedy(), version: "1.0.0".into(), serial: 1, component: Digest::of(b"x") },
        params: Params::new(),
        rung: None,
        effects,
        report: String::new(),
    }
}

pub(super) type Ask<'s> = &'s mut dyn FnMut(Call) -> Reply;

pub(super) fn open(ask: Ask<'_>, interface: Interface, label: &str) -> Handle {
    match ask(Call::Open { interface, label: label.into() }) {
        Reply::Opened(handle) => handle,
        other => panic!("{other:?}"),
    }
}

pub(super) const ALL: Filter = Filter { min_age_s: 0, min_bytes: 0, order: Order::Name };

/// Every entry of the directory, with its shown name.
pub(super) fn list(ask: Ask<'_>) -> Vec<(String, Handle)> {
    let dir = open(ask, Interface::Files, "logs");
    match ask(Call::Dir { handle: dir, verb: DirCall::List { filter: ALL, cursor: 0 } }) {
        Reply::Entries { entries, .. } => entries.into_iter().map(|entry| (entry.name, entry.handle)).collect(),
        other => panic!("{other:?}"),
    }
}

pub(super) fn entry(ask: Ask<'_>, name: &str) -> Handle {
    let found = list(ask);
    found.iter().find(|(known, _)| known == name).unwrap_or_else(|| panic!("{name} in {found:?}")).1
}

pub(super) fn on(handle: Handle, verb: EntryCall) -> Call {
    Call::Entry { handle, verb }
}

pub(super) fn on_unit(ask: Ask<'_>, verb: UnitCall) -> Reply {
    let handle = open(ask, Interface::Units, "target");
    ask(Call::Unit { handle, verb })
}

pub(super) fn denied(reply: Reply) -> Denial {
    match reply {
        Reply::Denied(denial) => denial,
        other => panic!("not denied: {other:?}"),
    }
}

/// Content, mode, mtime and attributes of every file below, and every name.
pub(super) fn snapshot(dir: &Path) -> Vec<String> {
    use std::os::unix::fs::MetadataExt as _;
    let mut all = Vec::new();
    let mut pending = vec![dir.to_owned()];
    while let Some(next) = pending.pop() {
        for found in std::fs::read_dir(next).unwrap().map(Result::unwrap) {
            let (path, meta) = (found.path(), found.metadata().unwrap());
            if meta.is_dir() {
                pending.push(path);
                continue;
            }
            let content = std::fs::read(&path).map(|bytes| Digest::of(&bytes).short()).unwrap_or_default();
            let times = (meta.mtime(), meta.mtime_nsec());
            all.push(format!("{} {content} {:o} {}:{} {times:?}", path.display(), meta.mode(), meta.uid(), meta.gid()));
        }
    }
    all.sort();
    all
}
