//! A whole run next to the same done by scripts: worker ready → remediate → done, for two errands: ten files are removed, one
//! unit is restarted. With the journal's fsync, without it, and in memory, so that what the fsync costs can be read off; and once more
//! with the dry run and the authorisation before it.
//!
//! The unit is a table and the scripts' restart is `true`: what a restart takes is the service's affair, and the same for all.

#![expect(clippy::unwrap_used, reason = "a bench that can't be set up has nothing to say")]

mod alternatives;

use std::path::Path;
use std::sync::Arc;

use criterion::measurement::WallTime;
use criterion::{BatchSize, BenchmarkGroup, Criterion, criterion_group, criterion_main};
use theriac_authority::authorise::Warrant;
use theriac_authority::manifest::Manifest;
use theriac_authority::package;
use theriac_benches::office::Office;
use theriac_benches::place::{self, Place};
use theriac_benches::world::Book;
use theriac_benches::{guest, world};
use theriac_model::call::{Export, FaultInput, Report};
use theriac_model::id::Label;
use theriac_model::remedy::ParamValue;
use theriac_model::time::GuardTime;
use theriac_protocol::process::Identity;
use theriac_protocol::worker::WorkerLimits;
use theriac_runner::session::{Host, Session};
use theriac_runner::worker::{Artefact, Compiled, Ending, Worker, WorkerConfig};
use theriac_runner::world::World;

/// Nobody else's.
const WORKER_USER: Identity = Identity { uid: 65_431, gid: 65_431 };
/// As many as the errand's grant lets it remove.
pub(crate) const FILES: usize = 10;

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Errand {
    /// Ten files are removed.
    Remove,
    /// One unit is restarted.
    Restart,
}

impl Errand {
    const ALL: [Self; 2] = [Self::Remove, Self::Restart];

    pub(crate) const fn title(self) -> &'static str {
        match self {
            Self::Remove => "remove ten files",
            Self::Restart => "restart one service",
        }
    }

    const fn word(self) -> &'static str {
        match self {
            Self::Remove => "remove",
            Self::Restart => "restart",
        }
    }

    const fn effects(self) -> usize {
        match self {
            Self::Remove => FILES,
            Self::Restart => 1,
        }
    }

    /// What the errand is done to, made anew.
    pub(crate) fn prepare(self, logs: &Path) {
        if self == Self::Remove {
            for number in 0..FILES {
                std::fs::write(logs.join(format!("{number}.log")), b"a line that nobody needs any more\n").unwrap();
            }
        }
    }
}

fn whole(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("whole");
    group.sample_size(20);
    for errand in Errand::ALL {
        alternatives::add(&mut group, errand);
    }
    match (guest::packed_in("tests/guests", "errand"), place::program("theriac-worker")) {
        (Ok(component), Ok(program)) => {
            let identities = if rustix::process::geteuid().is_root() { vec![WORKER_USER] } else { Vec::new() };
            theriac(&mut group, WorkerConfig { program, identities }, &component);
        }
        (Err(error), _) => eprintln!("not measured: {error:#}"),
        (_, Err(sentence)) => eprintln!("{sentence}"),
    }
    group.finish();
}

fn theriac(group: &mut BenchmarkGroup<'_, WallTime>, workers: WorkerConfig, component: &[u8]) {
    let Compiled::Artefact(artefact) = Worker::start(&workers, 0).unwrap().compile(component).unwrap() else {
        return eprintln!("not measured: the errand does not compile");
    };
    let manifest = package::open(component.to_vec()).unwrap().manifest_text;
    for place in Place::all().unwrap() {
        let bench = Bench::open(&place, &manifest, workers.clone(), artefact.clone());
        for errand in Errand::ALL {
            group.bench_function(format!("{}: Theriac, live run ({})", errand.title(), place.name), |bencher| {
                bencher.iter_batched(
                    || bench.plan(errand),
                    |warrant| bench.live(errand, &warrant),
                    BatchSize::PerIteration,
                );
            });
            group.bench_function(
                format!("{}: Theriac, dry run, authorisation, live run ({})", errand.title(), place.name),
                |bencher| {
                    bencher.iter_batched(
                        || errand.prepare(bench.logs.path()),
                        |()| bench.live(errand, &bench.authorised(errand)),
                        BatchSize::PerIteration,
                    );
                },
            );
        }
    }
}

/// A remedy that two people approved, a world with a journal at that place, and the worker's program.
struct Bench {
    logs: tempfile::TempDir,
    office: Office,
    world: World,
    journal: Arc<Book>,
    workers: WorkerConfig,
    artefact: Artefact,
    limits: WorkerLimits,
}

impl Bench {
    fn open(place: &Place, manifest: &str, workers: WorkerConfig, artefact: Artefact) -> Self {
        let logs = tempfile::tempdir().unwrap();
        let office = Office::of(manifest, logs.path(), "remove").unwrap();
        let journal = Arc::new(Book::open(place).unwrap());
        let world = world::of(place, Arc::clone(&journal)).unwrap();
        let limits = limits(&office.manifest);
        Self { logs, office, world, journal, workers, artefact, limits }
    }

    /// A warrant for the files as they are now.
    fn plan(&self, errand: Errand) -> Warrant {
        errand.prepare(self.logs.path());
        self.authorised(errand)
    }

    fn authorised(&self, errand: Errand) -> Warrant {
        let permit = self.office.permit().unwrap();
        let mut session = Session::record(&self.world, &permit, self.office.run().clone(), self.office.remedy());
        self.run(errand, &mut session);
        let mut plan = self.office.plan(session.finish().effects).unwrap();
        plan.params = [param(errand)].into();
        assert_eq!(plan.effects.len(), errand.effects());
        let decided = self.office.authorise(&plan, &self.office.standing(&plan).unwrap());
        let summary = decided.decision.summary;
        decided.warrant.unwrap_or_else(|| unreachable!("{summary}"))
    }

    fn live(&self, errand: Errand, warrant: &Warrant) {
        self.journal.top_up().unwrap();
        let clock = || GuardTime(0);
        let mut session = Session::live(&self.world, warrant, &clock, self.office.remedy());
        self.run(errand, &mut session);
        let end = session.finish();
        assert!(!end.must_undo() && end.intents as usize == errand.effects(), "{end:?}");
    }

    /// A fresh worker, its walls, the cached component, the remedy, the end.
    fn run(&self, errand: Errand, session: &mut impl Host) {
        let mut worker = Worker::start(&self.workers, 0).unwrap();
        assert!(worker.load(&self.artefact, self.limits, self.artefact.imports.clone()).unwrap().is_none());
        let time = self.office.manifest.limits.time.duration();
        let ending = worker.call(Export::Remediate, fault(errand), time, |call| session.answer(call));
        assert!(matches!(ending, Ending::Remediated(Report::Treated(_))), "{ending:?}");
    }
}

fn limits(manifest: &Manifest) -> WorkerLimits {
    let limits = manifest.limits;
    WorkerLimits {
        memory: limits.memory.0,
        time_ms: theriac_model::time::millis(limits.time.duration()),
        host_calls: limits.host_calls,
        handles: limits.handles,
        log_bytes: u32::try_from(limits.log_bytes.0).unwrap_or(u32::MAX),
    }
}

fn param(errand: Errand) -> (Label, ParamValue) {
    (Label::parse("errand").unwrap(), ParamValue::Choice(errand.word().to_owned()))
}

fn fault(errand: Errand) -> FaultInput {
    FaultInput { params: vec![param(errand)], ..guest::fault().unwrap() }
}

criterion_group!(benches, whole);
criterion_main!(benches);
