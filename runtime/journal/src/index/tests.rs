use super::*;
use crate::fixture::{line, open, reserved, stamp};
use crate::segment::Durability;

const RESERVE: u32 = 256 << 10;

fn filled(state: &Path) -> Journal {
    let mut journal = open(state).unwrap().journal;
    let mut n = 0;
    let mut append = |record| {
        journal.append(stamp(n), record, Durability::Buffered).unwrap();
        n += 1;
    };
    append(reserved("run-1", "inc-1"));
    append(line(1));
    append(reserved("run-2", "inc-2"));
    append(line(3));
    append(reserved("run-3", "inc-1"));
    append(Record::Stopped);
    journal
}

fn check(index: &Index) {
    let (run, incident) = (RunId::parse("run-1").unwrap(), IncidentId::parse("inc-1").unwrap());
    assert_eq!(index.run(&run).unwrap(), [0, 1, 3]);
    assert_eq!(index.incident(&incident).unwrap(), [0, 1, 3, 4]);
    assert_eq!(index.runs_of(&incident).unwrap(), [run, RunId::parse("run-3").unwrap()]);
}

#[test]
fn it_answers_by_run_and_incident_and_goes_on_after_a_good_stop() {
    let state = tempfile::tempdir().unwrap();
    let (journal, path) = (filled(state.path()), state.path().join("index.db"));
    let index = Index::open(&path, &journal, RESERVE).unwrap();
    check(&index);
    index.close(&journal).unwrap();
    assert!(Index::reopen(&path, &journal).unwrap().is_some());
    check(&Index::open(&path, &journal, RESERVE).unwrap());
}

#[test]
fn lost_damaged_foreign_or_unclosed_it_is_made_anew() {
    let state = tempfile::tempdir().unwrap();
    let (journal, path) = (filled(state.path()), state.path().join("index.db"));
    drop(Index::open(&path, &journal, RESERVE).unwrap());
    assert!(Index::reopen(&path, &journal).unwrap().is_none(), "it was not closed");
    for damage in [&b"not a database"[..], b"", b"SQLite format 3\0 and then nothing"] {
        std::fs::write(&path, damage).unwrap();
        check(&Index::open(&path, &journal, RESERVE).unwrap());
    }
    std::fs::remove_file(&path).unwrap();
    let index = Index::open(&path, &journal, RESERVE).unwrap();
    index.close(&journal).unwrap();
    let other = tempfile::tempdir().unwrap();
    let foreign = open(other.path()).unwrap().journal;
    assert_eq!(Index::open(&path, &foreign, RESERVE).unwrap().next(), 0);
}

#[test]
fn it_is_allocated_ahead_and_for_the_owner_only() {
    use std::os::unix::fs::MetadataExt as _;
    let state = tempfile::tempdir().unwrap();
    let (journal, path) = (filled(state.path()), state.path().join("index.db"));
    let _index = Index::open(&path, &journal, RESERVE).unwrap();
    let metadata = std::fs::metadata(&path).unwrap();
    assert!(metadata.blocks() * 512 >= u64::from(RESERVE), "{} blocks", metadata.blocks());
    assert_eq!(metadata.mode() & 0o777, 0o600);
}
