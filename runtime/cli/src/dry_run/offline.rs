//! A dry run in this process: the runner's own session in recording mode, a real worker, and no journal but memory.
//!
//! Nothing here has more rights than the caller. There is no warrant and no way to one: an unsigned permit can only record.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use theriac_authority::authorise::DryRunPermit;
use theriac_authority::effective;
use theriac_authority::host::HostConfig;
use theriac_authority::package::{self, MAX_PACKAGE, Package};
use theriac_authority::policy::{Facts, Setting};
use theriac_harness::{Ended, Exchange, Recording};
use theriac_journal::Durability;
use theriac_journal::undo::UndoStore;
use theriac_model::call::{Export, FaultInput, Report};
use theriac_model::fault::{FaultKind, Severity};
use theriac_model::health::{HealthAnswer, HealthCheck};
use theriac_model::id::{IncidentId, RunId};
use theriac_model::observation::SeriesId;
use theriac_model::plan::Plan;
use theriac_model::playbook::Level;
use theriac_model::record::{Decision, Entry, Record};
use theriac_model::remedy::{Params, resolve_params};
use theriac_model::target::Target;
use theriac_model::time::{GuardTime, Timestamp};
use theriac_model::unit::Backend;
use theriac_model::verdict::Measurement;
use theriac_protocol::layout::Layout;
use theriac_protocol::worker::WorkerLimits;
use theriac_runner::backend::Managers;
use theriac_runner::backend::systemd::Systemd;
use theriac_runner::clock;
use theriac_runner::observer::{Observer, Prober, Watched};
use theriac_runner::remedies::linkable;
use theriac_runner::rules::Rules;
use theriac_runner::session::{Host as _, Session};
use theriac_runner::worker::{Artefact, Compiled, Worker, WorkerConfig};
use theriac_runner::world::{CheckError, Roots, Senses, World};
use theriac_runner::writer::{WriteError, Writer};

use super::seen::Seen;
use crate::failure::{Failure, OrFail as _};
use crate::record::sentence;
use crate::text::outside;

/// Rates need two samples.
const SAMPLES: Duration = Duration::from_millis(250);
/// How long the fault is waited for; without it the remedy is asked all the same.
const MEASURE: Duration = Duration::from_secs(1);

/// What is to be planned.
pub(crate) struct Question {
    pub(crate) kind: FaultKind,
    pub(crate) target: Target,
    pub(crate) params: Params,
}

/// One dry run, whatever came of it.
pub(crate) struct Rehearsal {
    /// Everything that was said.
    pub(crate) recording: Recording,
    /// What the remedy tried and may not, and what it logged, in sentences.
    pub(crate) notes: Vec<String>,
    package: Package,
    params: Params,
}

/// Plans with the component in the file, whether anybody has signed it or not.
pub(super) fn dry_run(
    layout: &Layout,
    file: &Path,
    question: Question,
) -> Result<(Plan, Decision, Vec<String>), Failure> {
    let rules = Rules::read(layout).or_fail()?;
    plan(layout, &rules, file, question)
}

/// The same by rules that are given.
pub(crate) fn plan(
    layout: &Layout,
    rules: &Rules,
    file: &Path,
    question: Question,
) -> Result<(Plan, Decision, Vec<String>), Failure> {
    let Question { kind, ref target, .. } = question;
    let target = target.clone();
    let Rehearsal { recording, notes, package, params } = rehearse(layout, rules, file, question)?;
    let effects = recording.effects.clone();
    let report = said(recording).map_err(|failure| with_notes(failure, &notes))?;
    let incident = IncidentId::parse("dry-run").or_fail()?;
    let plan = Plan { incident, kind, target, remedy: package.reference(), params, rung: None, effects, report };
    let wasi = package.manifest.wasi;
    let setting = Setting { mode: rules.host.mode, rung: Level::ONE, in_window: false, wasi, host: &rules.host };
    let decision = rules.policies.decide(&Facts::of(&plan, &setting));
    Ok((plan, decision, notes))
}

/// Runs the component in the file against a recorder.
pub(crate) fn rehearse(layout: &Layout, rules: &Rules, file: &Path, question: Question) -> Result<Rehearsal, Failure> {
    let package = read(file)?;
    let manifest = &package.manifest;
    if !manifest.handles.contains(&question.kind) {
        return Err(Failure::refused(format!("`{}` does not treat `{}`", manifest.name, question.kind)));
    }
    let params = resolve_params(&manifest.params, &question.params).or_usage()?;
    let permit = DryRunPermit::unsigned(effective::bind(manifest, &rules.host, &question.target));
    let memory = Arc::new(Memory::default());
    let scratch = tempfile::tempdir().or_fail_at("making a scratch directory")?;
    let (world, observer) = world(layout, &rules.host, &memory, scratch.path())?;
    observer.start(SAMPLES).or_fail_at("starting to measure")?;
    let measured = observer.measure_until_present(question.kind, &question.target, MEASURE);
    let input = input(&question, &params, measured.as_ref());
    let recorded = record(&package, &world, &permit, input);
    observer.stop();
    let recording = recorded.map_err(|failure| with_notes(failure, &memory.sentences()))?;
    Ok(Rehearsal { recording, notes: memory.sentences(), package, params })
}

fn read(file: &Path) -> Result<Package, Failure> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    let opened = std::fs::File::open(file).or_fail_at(format!("opening `{}`", file.display()))?;
    let most = MAX_PACKAGE as u64 + 1;
    opened.take(most).read_to_end(&mut bytes).or_fail_at(format!("reading `{}`", file.display()))?;
    package::open(bytes).or_fail_at(format!("`{}`", file.display()))
}

/// What the remedy tried in vain is the reason a person looks for.
fn with_notes(failure: Failure, notes: &[String]) -> Failure {
    if notes.is_empty() { failure } else { failure.hint(notes.join("\n      ")) }
}

fn world(
    layout: &Layout,
    host: &HostConfig,
    memory: &Arc<Memory>,
    scratch: &Path,
) -> Result<(World, Arc<Observer>), Failure> {
    let backends: BTreeMap<_, _> = host.units.iter().map(|(name, unit)| (name.clone(), unit.backend)).collect();
    let mut managers = Managers { backends: backends.clone(), ..Managers::default() };
    if backends.values().any(|backend| *backend == Backend::Systemd) {
        let systemd = Systemd::at(host.systemd_address.as_deref(), Path::new("/sys/fs/cgroup"));
        managers.systemd = Some(Arc::new(systemd.or_fail_at("connecting to systemd")?));
    }
    if backends.values().any(|backend| *backend == Backend::Supervised) {
        managers.supervised = Some(Arc::new(Seen(layout.clone())));
    }
    let observer =
        Observer::new(host.catalog_targets(), managers.clone(), Watched::default(), Arc::new(NoProber), |_event| {});
    let undo = UndoStore::open(&scratch.join("undo"), theriac_journal::undo::Options::default()).or_fail()?;
    let roots = Roots::default();
    roots.pin(host.directories.iter().map(|directory| &directory.path));
    let world = World {
        systemd: managers.systemd,
        supervised: managers.supervised,
        backends,
        senses: Arc::new(Eyes(Arc::clone(&observer))),
        undo: Mutex::new(undo),
        writer: Arc::clone(memory) as _,
        roots,
        releases: theriac_runner::releases::Releases::default(),
        additions: theriac_runner::additions::Additions::default(),
        renewals: theriac_runner::renewals::Renewals::default(),
        hands: theriac_runner::hands::Hands::default(),
    };
    Ok((world, observer))
}

fn input(question: &Question, params: &Params, measured: Option<&Measurement>) -> FaultInput {
    FaultInput {
        kind: question.kind,
        severity: Severity::Critical,
        target: question.target.to_string(),
        summary: measured.map_or_else(String::new, |measured| measured.summary.clone()),
        numbers: measured.map_or_else(Vec::new, |measured| measured.numbers.clone()),
        evidence: Vec::new(),
        params: params.clone().into_iter().collect(),
    }
}

fn record(package: &Package, world: &World, permit: &DryRunPermit, input: FaultInput) -> Result<Recording, Failure> {
    let program = std::env::current_exe().or_fail_at("finding this program")?.with_file_name("theriac-worker");
    let workers = theriac_harness::workers(program);
    let artefact = compile(&workers, package)?;
    let limits = &package.manifest.limits;
    let time = limits.time.duration();
    let worker_limits = WorkerLimits {
        memory: limits.memory.0,
        time_ms: theriac_model::time::millis(time),
        host_calls: limits.host_calls,
        handles: limits.handles,
        log_bytes: u32::try_from(limits.log_bytes.0).unwrap_or(u32::MAX),
    };
    let run = RunId::parse("dry-run").or_fail()?;
    let mut session = Session::record(world, permit, run, package.manifest.name.clone());
    let mut worker = Worker::start(&workers, 0).or_fail()?;
    let loaded = worker.load(&artefact, worker_limits, artefact.imports.clone()).or_fail()?;
    let mut exchanges = Vec::new();
    let ending = match loaded {
        Some(ending) => ending,
        None => worker.call(Export::Remediate, input.clone(), time, |call| {
            let reply = session.answer(call.clone());
            exchanges.push(Exchange { call, reply: reply.clone() });
            reply
        }),
    };
    Ok(Recording::new(package.reference(), input, exchanges, session.finish().effects, ending))
}

/// What the remedy said, where there is a plan.
fn said(recording: Recording) -> Result<String, Failure> {
    match recording.ending {
        Ended::Remediated(Report::Treated(_)) if recording.effects.is_empty() => {
            Err(Failure::refused("the remedy would change nothing"))
        }
        Ended::Remediated(Report::Treated(said)) => Ok(said),
        Ended::Remediated(Report::NothingToDo(said)) => {
            Err(Failure::refused(format!("the remedy finds nothing to do: {}", outside(&said))))
        }
        Ended::Remediated(Report::GaveUp(said)) => {
            Err(Failure::refused(format!("the remedy gave up: {}", outside(&said))))
        }
        Ended::Remediated(Report::Denied(denial)) => Err(Failure::refused(format!("the remedy was denied: {denial}"))),
        Ended::Checked(_) => Err(Failure::failed("the worker answered another question")),
        Ended::Ended(sentence) => Err(Failure::refused(format!("the remedy was ended: {}", outside(&sentence)))),
    }
}

fn compile(workers: &WorkerConfig, package: &Package) -> Result<Artefact, Failure> {
    match Worker::start(workers, 0).and_then(|worker| worker.compile(&package.bytes)).or_fail()? {
        Compiled::Refused { sentence, .. } => Err(Failure::refused(outside(&sentence))),
        Compiled::Artefact(mut artefact) => {
            artefact.imports = linkable(&package.manifest, &artefact.imports).or_refuse()?;
            Ok(artefact)
        }
    }
}

/// The records of this dry run, for the person who asked.
#[derive(Debug, Default)]
struct Memory {
    records: Mutex<Vec<Record>>,
}

impl Memory {
    fn sentences(&self) -> Vec<String> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner).iter().map(sentence).collect()
    }
}

impl Writer for Memory {
    fn write(&self, record: Record, _: Durability) -> Result<Entry, WriteError> {
        let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        records.push(record.clone());
        Ok(Entry { seq: records.len() as u64 - 1, at: clock::wall(), guard: GuardTime(0), epoch: 0, record })
    }

    fn guard_now(&self) -> GuardTime {
        GuardTime(0)
    }
}

/// This process has no courier: a health check is not asked, which is not the same as failed.
struct NoProber;

impl Prober for NoProber {
    fn check(&self, _: &HealthCheck) -> Option<HealthAnswer> {
        None
    }
}

/// What is measured here, as the remedy may read it.
struct Eyes(Arc<Observer>);

impl Senses for Eyes {
    fn now(&self) -> Timestamp {
        clock::wall()
    }

    fn readings(&self, series: &SeriesId, seconds: u32) -> Vec<(Timestamp, f64)> {
        self.0.range(series, seconds)
    }

    fn check(&self, _: &HealthCheck) -> Result<HealthAnswer, CheckError> {
        Err(CheckError {
            reason: "a dry run of a file asks no health checks; approve it and dry-run it by name".into(),
        })
    }
}
