//! The journal: appending, replaying at a start, and verifying the ledger.

#![expect(clippy::unwrap_used, reason = "a bench that can't be set up has nothing to say")]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use theriac_authority::key::HostKey;
use theriac_benches::baseline;
use theriac_benches::place::Place;
use theriac_journal::journal::LedgerOptions;
use theriac_journal::ledger::{Signer, VerifierKey, audit};
use theriac_journal::{Durability, Journal, Options, Stamp};
use theriac_model::id::{KeyName, RunId};
use theriac_model::record::Record;
use theriac_model::time::{GuardTime, Timestamp};

/// Replayed and verified: a few hundred runs.
const RECORDS: u64 = 10_000;

/// The host's key, as the runner lends it to the journal.
struct Key(HostKey);

impl Signer for Key {
    fn name(&self) -> &KeyName {
        self.0.signer().public().name()
    }

    fn public_key(&self) -> [u8; 32] {
        *self.0.signer().public().point()
    }

    fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.signer().sign(message)
    }
}

fn key(place: &Place) -> Key {
    let name = KeyName::parse("bench/ledger").unwrap();
    Key(HostKey::open_or_create(&place.path().join("ledger.key"), &name).unwrap())
}

fn open(place: &Place) -> theriac_journal::Opened {
    let ledger = LedgerOptions::new(place.path().join("ledger"), "bench/ledger".to_owned(), Box::new(key(place)));
    Journal::open(&place.path().join("journal"), Options { ledger: Some(ledger), ..Options::default() }).unwrap()
}

fn record() -> Record {
    Record::RemedyLog {
        run: RunId::parse("r1-1").unwrap(),
        dry: false,
        text: "archived service.log.3 (12 MiB) to /srv/archive and removed it".to_owned(),
    }
}

const STAMP: Stamp = Stamp { at: Timestamp(1_800_000_000_000), guard: GuardTime(1), epoch: 1 };

fn append(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("journal append");
    baseline::add(&mut group);
    for place in Place::all().unwrap() {
        let mut journal = open(&place).journal;
        let durability = if place.syncs { Durability::Synced } else { Durability::Buffered };
        group.bench_function(place.name, |bench| {
            bench.iter(|| {
                journal.append(STAMP, record(), durability).unwrap();
                // As the runner's main thread does twice a second: it costs a look when there is nothing to do.
                journal.top_up().unwrap();
            });
        });
    }
    group.finish();
}

fn read(criterion: &mut Criterion) {
    let places = Place::all().unwrap();
    // Reading comes from the page cache wherever the files lie: one place will do.
    let place = places.first().unwrap();
    let mut journal = open(place).journal;
    for _ in 0..RECORDS {
        journal.append(STAMP, record(), Durability::Buffered).unwrap();
        journal.top_up().unwrap();
    }
    journal.seal().unwrap();
    drop(journal);
    let verifier = VerifierKey::of(&key(place)).unwrap();
    let (files, ledger) = (place.path().join("journal"), place.path().join("ledger"));

    let mut group = criterion.benchmark_group("journal read");
    group.sample_size(20).throughput(Throughput::Elements(RECORDS));
    group.bench_function("open and replay", |bench| {
        bench.iter(|| assert_eq!(open(place).entries.len() as u64, RECORDS));
    });
    group.bench_function("verify against the ledger", |bench| {
        bench.iter(|| {
            let report = audit::verify(&files, &ledger, &verifier, audit::Options::default());
            assert!(report.finding.is_none() && report.sealed == RECORDS, "{report:?}");
        });
    });
    group.finish();
}

criterion_group!(benches, append, read);
criterion_main!(benches);
