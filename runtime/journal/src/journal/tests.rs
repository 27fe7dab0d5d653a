use super::*;
use crate::fixture::{line, lines, open, stamp};
use crate::ledger::tree::{inclusion_proof, verify_inclusion};
use crate::segment::file_name;

#[test]
fn entries_read_back_with_their_stamps_after_a_restart() {
    let state = tempfile::tempdir().unwrap();
    let mut journal = open(state.path()).unwrap().journal;
    let written: Vec<Entry> = (0..25).map(|n| journal.append(stamp(n), line(n), Durability::Synced).unwrap()).collect();
    let head = journal.head();
    drop(journal);
    let Opened { journal, entries, tail } = open(state.path()).unwrap();
    assert_eq!((&entries, tail), (&written, Tail::Clean));
    assert_eq!(journal.head(), head);
    assert_eq!(journal.read(7, 3).unwrap(), written[7..10]);
    assert_eq!(entries.iter().map(|entry| entry.seq).collect::<Vec<_>>(), (0..25).collect::<Vec<_>>());
}

#[test]
fn a_second_opener_is_told_which_directory_is_taken() {
    let state = tempfile::tempdir().unwrap();
    let _first = Journal::open(&state.path().join("journal"), Options::default()).unwrap();
    let error = Journal::open(&state.path().join("journal"), Options::default()).unwrap_err();
    let OpenError::Journal(segment::OpenError::Directory(cause)) = &error else { panic!("{error:?}") };
    assert!(cause.to_string().starts_with("another process already works in the directory `"), "{cause}");
    assert!(error.hint().contains("--state"));
}

#[test]
fn a_cut_below_the_last_checkpoint_refuses_the_start_and_one_above_does_not() {
    let state = tempfile::tempdir().unwrap();
    lines(state.path(), 25);
    let cut_after = |keep: usize| {
        let last = std::fs::read_dir(state.path().join("journal")).unwrap();
        let mut files: Vec<_> =
            last.map(|entry| entry.unwrap().path()).filter(|path| !path.ends_with("lock")).collect();
        files.sort();
        let entries = open(state.path()).unwrap().entries;
        let (mut left, mut file) = (entries.len() - keep, files.len());
        while left > 0 {
            file -= 1;
            let mut bytes = std::fs::read(&files[file]).unwrap();
            let salt = bytes[24..40].try_into().unwrap();
            let mut starts = vec![64];
            while let Some(frame) = segment::frame::decode(&salt, &bytes[*starts.last().unwrap()..]) {
                starts.push(starts.last().unwrap() + frame.length());
            }
            starts.pop();
            while left > 0
                && let Some(start) = starts.pop()
            {
                bytes[start..].fill(0);
                left -= 1;
            }
            if starts.is_empty() {
                bytes.fill(0);
            }
            std::fs::write(&files[file], &bytes).unwrap();
        }
    };
    cut_after(21);
    assert_eq!(open(state.path()).unwrap().entries.len(), 21);
    cut_after(19);
    let error = open(state.path()).unwrap_err();
    assert_eq!(error.to_string(), "this host signed 20 records, and 19 are there");
}

#[test]
fn checkpoints_come_every_so_many_records_and_on_demand() {
    let state = tempfile::tempdir().unwrap();
    lines(state.path(), 25);
    let mut journal = open(state.path()).unwrap().journal;
    let sealed = journal.seal().unwrap().unwrap();
    assert_eq!(sealed.head(), crate::ledger::tree::TreeHead { size: 25, root: journal.head().root });
    assert_eq!(journal.seal().unwrap(), None, "nothing new to sign");
    assert!(journal.unsealed().is_none());
}

#[test]
fn an_entry_can_be_proved_to_be_in_the_ledger() {
    let state = tempfile::tempdir().unwrap();
    lines(state.path(), 13);
    let journal = open(state.path()).unwrap().journal;
    let (leaves, head) = (journal.leaves().unwrap(), journal.head());
    let entry = journal.read(5, 1).unwrap().remove(0);
    let leaf = leaf_hash(&serde_json::to_vec(&entry).unwrap());
    let proof = inclusion_proof(&leaves, 5).unwrap();
    assert!(verify_inclusion(leaf, 5, head.size, &proof, &head.root));
}

#[test]
fn an_entry_of_an_unknown_kind_refuses_the_start() {
    let state = tempfile::tempdir().unwrap();
    let path = state.path().join("journal");
    let mut log = crate::Log::<serde_json::Value>::open(&path, segment::Options::default()).unwrap().log;
    let entry = serde_json::json!({ "seq": 0, "at": 0, "guard": 0, "epoch": 0, "record": { "from-the-future": {} } });
    log.append(&entry, Durability::Synced).unwrap();
    drop(log);
    let error = Journal::open(&path, Options::default()).unwrap_err();
    let OpenError::Journal(segment::OpenError::Damaged(bad)) = error else { panic!("{error:?}") };
    assert!(bad.to_string().contains(&file_name(0)) && bad.to_string().contains("from-the-future"), "{bad}");
}
