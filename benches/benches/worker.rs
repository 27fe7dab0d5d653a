//! What the process walls cost: a real worker from its start to the first host call that was answered, next to the same remedy in this
//! process, and next to what a shell script would have started.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a bench that can't be set up has nothing to say")]

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use theriac_benches::guest::{LIMITS, answer, fault, packed};
use theriac_benches::{baseline, place};
use theriac_model::call::{Call, Export};
use theriac_protocol::frame::{self, Frame};
use theriac_protocol::process::Identity;
use theriac_protocol::worker::{FromWorker, ToWorker};
use theriac_runner::worker::{Artefact, Compiled, Ending, Worker, WorkerConfig};
use theriac_sandbox::clock::Clock;
use theriac_sandbox::guest::Guest;
use theriac_sandbox::port::Port;

/// The smallest that ships.
const REMEDY: &str = "service-recover";
/// Of no account, and used by nobody: a worker refuses to be root.
const WORKER_USER: Identity = Identity { uid: 64_099, gid: 64_099 };

fn worker(criterion: &mut Criterion) {
    let component = match packed(REMEDY) {
        Ok(component) => component,
        Err(error) => return eprintln!("not measured: {error:#}"),
    };
    let mut group = criterion.benchmark_group("worker");
    baseline::add(&mut group);
    in_process(&mut group, &component);
    match place::program("theriac-worker") {
        Ok(program) => {
            let identities = if rustix::process::geteuid().is_root() { vec![WORKER_USER] } else { Vec::new() };
            in_worker(&mut group, &WorkerConfig { program, identities }, &component);
        }
        Err(sentence) => eprintln!("{sentence}"),
    }
    group.finish();
}

type Group<'a> = criterion::BenchmarkGroup<'a, criterion::measurement::WallTime>;

fn in_worker(group: &mut Group<'_>, config: &WorkerConfig, component: &[u8]) {
    let artefact = match Worker::start(config, 0).unwrap().compile(component).unwrap() {
        Compiled::Artefact(artefact) => artefact,
        Compiled::Refused { sentence, .. } => panic!("{sentence}"),
    };
    group.bench_function("worker: start and raise the walls", |bench| {
        bench.iter(|| Worker::start(config, 0).unwrap());
    });
    group.bench_function("worker: start, load from the cache, first host call answered", |bench| {
        bench.iter_custom(|rounds| (0..rounds).map(|_| first_call(config, &artefact)).sum());
    });
    group.bench_function("worker: start to its end, two host calls", |bench| {
        bench.iter(|| whole(config, &artefact, |_| {}));
    });
    group.sample_size(20);
    group.bench_function("worker: compile (once per remedy and version)", |bench| {
        bench.iter(|| Worker::start(config, 0).unwrap().compile(component).unwrap());
    });
    group.sample_size(100);
}

/// Until the remedy asks for the second time: by then it has the answer to the first.
fn first_call(config: &WorkerConfig, artefact: &Artefact) -> Duration {
    let (began, mut asked, mut took) = (Instant::now(), 0, None);
    whole(config, artefact, |_| {
        asked += 1;
        if asked == 2 {
            took = Some(began.elapsed());
        }
    });
    took.unwrap_or_else(|| panic!("the remedy asked {asked} times"))
}

fn whole(config: &WorkerConfig, artefact: &Artefact, mut heard: impl FnMut(&Call)) {
    let mut worker = Worker::start(config, 0).unwrap();
    assert_eq!(worker.load(artefact, LIMITS, artefact.imports.clone()).unwrap(), None);
    let ending = worker.call(Export::Remediate, fault().unwrap(), Duration::from_secs(10), |call| {
        heard(&call);
        answer(&call)
    });
    assert!(matches!(ending, Ending::Remediated(_)), "{ending:?}");
}

/// The same remedy with no walls: what wasm itself costs.
fn in_process(group: &mut Group<'_>, component: &[u8]) {
    let engine = theriac_sandbox::engine::engine().unwrap();
    let compiled = theriac_sandbox::compile::compile(&engine, component).unwrap();
    let (ours, theirs) = UnixStream::pair().unwrap();
    let runner = std::thread::spawn(move || serve(ours));
    let port = Port::new(OwnedFd::from(theirs));
    let clock = Clock::start(engine.clone(), port.clone()).unwrap();
    let load = || Guest::load(&engine, &compiled.artefact, &compiled.imports, LIMITS).unwrap();
    group.bench_function("in process: load from the cache", |bench| bench.iter(load));
    let guest = load();
    group.bench_function("in process: instantiate, run, two host calls", |bench| {
        bench.iter(|| guest.call(&port, &clock, Export::Remediate, fault().unwrap()).unwrap());
    });
    // The clock keeps its port until the process ends, and the answering thread with it.
    drop(runner);
}

fn serve(mut stream: UnixStream) {
    while let Ok(Frame { epoch, id, message }) = frame::read::<FromWorker>(&mut stream) {
        let FromWorker::Host(call) = message else { continue };
        let message = ToWorker::Reply(Box::new(answer(&call)));
        if frame::write(&mut stream, &Frame { epoch, id, message }).is_err() {
            return;
        }
    }
}

criterion_group!(benches, worker);
criterion_main!(benches);
