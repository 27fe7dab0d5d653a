//! What the tests of this crate share: entries, and journals with a ledger in a scratch directory.

use std::path::Path;

use theriac_model::fault::FaultKind;
use theriac_model::id::{IncidentId, PlaybookName, RemedyName, RunId};
use theriac_model::record::{Proposal, Record};
use theriac_model::target::Target;
use theriac_model::time::{GuardTime, Timestamp};

use crate::journal::{Journal, LedgerOptions, OpenError, Opened, Options, Stamp};
use crate::ledger::checkpoint::tests::TestKey;
use crate::segment;

pub(crate) fn stamp(n: u64) -> Stamp {
    Stamp { at: Timestamp(1_000 + n), guard: GuardTime(n), epoch: 1 }
}

pub(crate) fn line(n: u64) -> Record {
    Record::RemedyLog {
        run: RunId::parse("run-1").unwrap(),
        dry: false,
        text: format!("line {n:06}\n\u{1b}[31m{{\"seq\":0}}"),
    }
}

pub(crate) fn reserved(run: &str, incident: &str) -> Record {
    let proposal = Proposal {
        incident: IncidentId::parse(incident).unwrap(),
        kind: FaultKind::DiskFull,
        target: Target::Host,
        playbook: PlaybookName::parse("disk-full").unwrap(),
        rung: 0,
        remedy: RemedyName::parse("disk-reclaim").unwrap(),
        params: Default::default(),
        onset: Timestamp(0),
        detected: Timestamp(0),
        evidence: Vec::new(),
    };
    Record::Reserved { run: RunId::parse(run).unwrap(), proposal }
}

/// A checkpoint after each ten records, in segments of 4 KiB.
pub(crate) fn options(state: &Path) -> Options {
    let mut ledger = LedgerOptions::new(state.join("ledger"), "host.example".into(), Box::new(TestKey::new(1)));
    ledger.every = 10;
    ledger.segments = segment::Options { segment_bytes: 4096, spares: 2 };
    Options { segments: segment::Options { segment_bytes: 4096, spares: 2 }, ledger: Some(ledger) }
}

pub(crate) fn open(state: &Path) -> Result<Opened, OpenError> {
    Journal::open(&state.join("journal"), options(state))
}

/// A closed journal of that many lines; the records after the last full ten are not sealed.
pub(crate) fn lines(state: &Path, count: u64) {
    let mut journal = open(state).unwrap().journal;
    for n in 0..count {
        journal.append(stamp(n), line(n), segment::Durability::Buffered).unwrap();
    }
    journal.sync().unwrap();
}
