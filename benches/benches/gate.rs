//! What one effect costs on its way through the gate: drafted, held against the plan, made undoable, journalled, done, journalled.
//! With fsync (as it always is), and without, which is what the promise "intents before effects" costs.

#![expect(clippy::unwrap_used, reason = "a bench that can't be set up has nothing to say")]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use theriac_authority::authorise::Warrant;
use theriac_benches::baseline;
use theriac_benches::office::Office;
use theriac_benches::place::Place;
use theriac_journal::undo::UndoStore;
use theriac_journal::{Durability, Journal, Options, Stamp};
use theriac_model::call::{Call, DirCall, EntryCall, Filter, Interface, Order, Reply, UnitCall};
use theriac_model::health::{HealthAnswer, HealthCheck};
use theriac_model::id::UnitName;
use theriac_model::observation::SeriesId;
use theriac_model::record::{Entry, Record};
use theriac_model::time::{GuardTime, Timestamp};
use theriac_model::unit::{ActiveState, Backend, KillWhom, Property, Signal, UnitState};
use theriac_runner::backend::{ServiceManager, UnitError};
use theriac_runner::session::{Host, Live, Session};
use theriac_runner::world::{CheckError, Roots, Senses, World};
use theriac_runner::writer::{WriteError, Writer};

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
        let journal = Arc::new(Book::open(place));
        let world = World {
            systemd: None,
            supervised: Some(Arc::new(Table)),
            backends: BTreeMap::from([(UnitName::parse("web").unwrap(), Backend::Supervised)]),
            senses: Arc::new(Blind),
            undo: Mutex::new(
                UndoStore::open(&place.path().join("undo"), theriac_journal::undo::Options::default()).unwrap(),
            ),
            writer: Arc::clone(&journal) as _,
            roots: Roots::default(),
            releases: theriac_runner::releases::Releases::default(),
            hands: theriac_runner::hands::Hands::default(),
        };
        let round = AtomicU64::new(0);
        write_log(&log, &round);
        let warrant = warrant(&office, &world);
        Self { _logs: logs, log, office, world, journal, warrant, round }
    }

    fn live(&self) -> Session<'_, Live<'_>> {
        self.journal.top_up();
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

/// The journal behind a lock, as in the runner.
struct Book {
    journal: Mutex<Journal>,
    syncs: bool,
}

impl Book {
    fn open(place: &Place) -> Self {
        let opened = Journal::open(&place.path().join("journal"), Options::default()).unwrap();
        Self { journal: Mutex::new(opened.journal), syncs: place.syncs }
    }

    fn top_up(&self) {
        self.journal.lock().unwrap().top_up().unwrap();
    }
}

impl Writer for Book {
    fn write(&self, record: Record, durability: Durability) -> Result<Entry, WriteError> {
        let stamp = Stamp { at: Timestamp(0), guard: GuardTime(0), epoch: 1 };
        let durability = if self.syncs { durability } else { Durability::Buffered };
        let mut journal = self.journal.lock().unwrap();
        journal.append(stamp, record, durability).map_err(|error| WriteError { source: std::io::Error::other(error) })
    }
}

/// A unit that is always found failed and whose restart always works at once.
struct Table;

fn unit(active: ActiveState, invocation: &str) -> UnitState {
    UnitState {
        active,
        sub: "failed".to_owned(),
        result: "exit-code".to_owned(),
        invocation: invocation.to_owned(),
        ..UnitState::running(UnitName::parse("web").unwrap())
    }
}

impl ServiceManager for Table {
    fn state(&self, _: &UnitName) -> Result<UnitState, UnitError> {
        Ok(unit(ActiveState::Failed, "i1"))
    }
    fn start(&self, _: &UnitName, _: Duration) -> Result<UnitState, UnitError> {
        Ok(unit(ActiveState::Active, "i2"))
    }
    fn stop(&self, _: &UnitName, _: Duration) -> Result<UnitState, UnitError> {
        Ok(unit(ActiveState::Inactive, "i1"))
    }
    fn restart(&self, _: &UnitName, _: Duration) -> Result<UnitState, UnitError> {
        Ok(unit(ActiveState::Active, "i2"))
    }
    fn reload(&self, _: &UnitName, _: Duration) -> Result<UnitState, UnitError> {
        Ok(unit(ActiveState::Active, "i1"))
    }
    fn kill(&self, _: &UnitName, _: KillWhom, _: Signal) -> Result<UnitState, UnitError> {
        Ok(unit(ActiveState::Failed, "i1"))
    }
    fn reset_failed(&self, _: &UnitName) -> Result<UnitState, UnitError> {
        Ok(unit(ActiveState::Inactive, "i1"))
    }
    fn property(&self, _: &UnitName, like: Property) -> Result<Property, UnitError> {
        Ok(like)
    }
    fn set_property(&self, _: &UnitName, property: Property) -> Result<Property, UnitError> {
        Ok(property)
    }
    fn log_tail(&self, _: &UnitName, _: u32) -> Result<Vec<String>, UnitError> {
        Ok(Vec::new())
    }
}

struct Blind;

impl Senses for Blind {
    fn now(&self) -> Timestamp {
        Timestamp(0)
    }
    fn readings(&self, _: &SeriesId, _: u32) -> Vec<(Timestamp, f64)> {
        Vec::new()
    }
    fn check(&self, _: &HealthCheck) -> Result<HealthAnswer, CheckError> {
        Err(CheckError { reason: "no courier".to_owned() })
    }
}

criterion_group!(benches, gate);
criterion_main!(benches);
