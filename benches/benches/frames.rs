//! What a host call costs between two processes: encoding and decoding, and a round trip over a socket pair.

#![expect(clippy::unwrap_used, reason = "a bench that can't be set up has nothing to say")]

use std::hint::black_box;
use std::os::unix::net::UnixStream;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use theriac_benches::baseline;
use theriac_model::call::{Call, EntryCall, Handle, Reply};
use theriac_model::units::Blob;
use theriac_protocol::frame::{self, Frame};
use theriac_protocol::worker::{FromWorker, ToWorker};

/// The largest read that a remedy can ask for at once.
const READ: usize = 64 << 10;

fn call() -> Frame<FromWorker> {
    let verb = EntryCall::Read { offset: 0, max: u32::try_from(READ).unwrap() };
    Frame { epoch: 7, id: 42, message: FromWorker::Host(Box::new(Call::Entry { handle: Handle(3), verb })) }
}

fn reply(bytes: usize) -> Frame<ToWorker> {
    // Not all zeros: base64 has no easy case, but an allocator's fresh page might be one.
    let content = (0..=250).cycle().take(bytes).collect();
    Frame { epoch: 7, id: 42, message: ToWorker::Reply(Box::new(Reply::Bytes(Blob(content)))) }
}

fn codec(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("frames");
    baseline::add(&mut group);
    let (call, small, large) = (call(), reply(16), reply(READ));
    let encoded = (frame::encode(&call).unwrap(), frame::encode(&large).unwrap());
    group.bench_function("encode a host call", |bench| bench.iter(|| frame::encode(black_box(&call)).unwrap()));
    group.bench_function("decode a host call", |bench| {
        bench.iter(|| frame::read::<FromWorker>(&mut black_box(encoded.0.as_slice())).unwrap());
    });
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    let worker = std::thread::spawn(move || serve(theirs));
    group.bench_function("round trip over a socket pair, small answer", |bench| {
        bench.iter(|| round_trip(&mut ours, &call, &small));
    });
    group.throughput(Throughput::Bytes(READ as u64));
    group.bench_function("encode a 64 KiB read", |bench| bench.iter(|| frame::encode(black_box(&large)).unwrap()));
    group.bench_function("decode a 64 KiB read", |bench| {
        bench.iter(|| frame::read::<ToWorker>(&mut black_box(encoded.1.as_slice())).unwrap());
    });
    group.bench_function("round trip over a socket pair, 64 KiB answer", |bench| {
        bench.iter(|| round_trip(&mut ours, &call, &large));
    });
    group.finish();
    drop(ours);
    worker.join().unwrap();
}

/// One host call, seen from the runner: the call is read, the answer is written. The other side sends the next call as soon as
/// it has the answer, so that a round trip is one of each.
fn round_trip(stream: &mut UnixStream, call: &Frame<FromWorker>, reply: &Frame<ToWorker>) {
    frame::write(stream, reply).unwrap();
    let asked: Frame<FromWorker> = frame::read(stream).unwrap();
    assert_eq!(asked.id, call.id);
}

fn serve(mut stream: UnixStream) {
    let call = call();
    while frame::read::<ToWorker>(&mut stream).is_ok() {
        frame::write(&mut stream, &call).unwrap();
    }
}

criterion_group!(benches, codec);
criterion_main!(benches);
