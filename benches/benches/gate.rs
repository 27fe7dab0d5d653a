//! What one effect costs on its way through the gate: drafted, held against the plan, made undoable, journalled, done, journalled.
//! With fsync (as it always is), and without, which is what the promise "intents before effects" costs.

#![expect(clippy::unwrap_used, reason = "a bench that can't be set up has nothing to say")]

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use theriac_authority::authorise::Warrant;
use theriac_benches::office::Office;
use theriac_benches::place::Place;
use theriac_benches::world::Book;
use theriac_benches::{baseline, world};
use theriac_model::call::{Call, DirCall, EntryCall, Filter, Interface, Order, Reply, UnitCall};
use theriac_model::time::GuardTime;
use theriac_runner::session::{Host, Live, Session};
use theriac_runner::world::World;

/// Of the log that is truncated; its pre-image is kept each time.
const LOG: usize = 4 << 10;

fn gate(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("gate");
    baseline::add(&mut group);
    for place in Place::all().unwrap() {
        let bench = Bench::open(&place);
        group.bench_function(format!("restart a unit ({})", place.name), |bencher| {
            bencher.iter_batched(|| bench.restart(), perform, BatchSize::PerIteration);
        });
        group.bench_function(format!("truncate a 4 KiB log, pre-image kept ({})", place.name), |bencher| {
            bencher.iter_batched(|| bench.truncate(), perform, BatchSize::PerIteration);
        });
    }
    group.finish();
}

/// One call of a live session that goes through the gate.
struct Ready<'a> {
    session: Session<'a, Live<'a>>,
    call: Call,
}

/// Comes back with the session, so that dropping it is not measured.
fn perform<'a>(mut ready: Ready<'a>) -> Session<'a, Live<'a>> {
    let reply = ready.session.answer(ready.call);
    assert!(matches!(reply, Reply::Done | Reply::Count(_)), "{reply:?}");
    ready.session
}

/// A world with a real journal, a real undo store and a real file. The unit alone is a table: what a restart takes is the
/// service's affair.
struct Bench {
    _logs: tempfile::TempDir,
    log: PathBuf,
    office: Office,
    world: World,
    journal: Arc<Book>,
    warrant: Warrant,
    round: AtomicU64,
}

impl Bench {
    fn open(place: &Place) -> Self {
        let logs = tempfile::tempdir().unwrap();
        let log = logs.path().join("app.log");
        let office = Office::open(logs.path()).unwrap();
        let journal = Arc::new(Book::open(place).unwrap());
        let world = world::of(place, Arc::clone(&journal)).unwrap();
        let round = AtomicU64::new(0);
        write_log(&log, &round);
        let warrant = warrant(&office, &world);
        Self { _logs: logs, log, office, world, journal, warrant, round }
    }

    fn live(&self) -> Session<'_, Live<'_>> {
        self.journal.top_up().unwrap();
        Session::live(&self.world, &self.warrant, &|| GuardTime(0), self.office.remedy())
    }

    fn restart(&self) -> Ready<'_> {
        let mut session = self.live();
        let call = restart(&mut session);
        Ready { session, call }
    }

    fn truncate(&self) -> Ready<'_> {
        write_log(&self.log, &self.round);
        let mut session = self.live();
        let call = truncate(&mut session);
        Ready { session, call }
    }
}

/// Other content each time: the undo store keeps the same content once.
fn write_log(log: &PathBuf, round: &AtomicU64) {
    let line = format!("round {}\n", round.fetch_add(1, Ordering::Relaxed));
    let content: Vec<u8> = line.bytes().cycle().take(LOG).collect();
    std::fs::write(log, content).unwrap();
}

fn warrant(office: &Office, world: &World) -> Warrant {
    let permit = office.permit().unwrap();
    let mut session = Session::record(world, &permit, office.run().clone(), office.remedy());
    for call in [truncate(&mut session), restart(&mut session)] {
        let reply = session.answer(call);
        assert!(matches!(reply, Reply::Done | Reply::Count(_)), "{reply:?}");
    }
    let plan = office.plan(session.finish().effects).unwrap();
    let decided = office.authorise(&plan, &office.standing(&plan).unwrap());
    let summary = decided.decision.summary;
    decided.warrant.unwrap_or_else(|| unreachable!("{summary}"))
}

fn open(session: &mut impl Host, interface: Interface, label: &str) -> theriac_model::call::Handle {
    let reply = session.answer(Call::Open { interface, label: label.to_owned() });
    let Reply::Opened(handle) = reply else { unreachable!("{reply:?}") };
    handle
}

fn restart(session: &mut impl Host) -> Call {
    Call::Unit { handle: open(session, Interface::Units, "target"), verb: UnitCall::Restart }
}

fn truncate(session: &mut impl Host) -> Call {
    let filter = Filter { min_age_s: 0, min_bytes: 0, order: Order::Name };
    let handle = open(session, Interface::Files, "logs");
    let reply = session.answer(Call::Dir { handle, verb: DirCall::List { filter, cursor: 0 } });
    let Reply::Entries { entries, .. } = reply else { unreachable!("{reply:?}") };
    Call::Entry { handle: entries.first().unwrap().handle, verb: EntryCall::Truncate }
}

criterion_group!(benches, gate);
criterion_main!(benches);
