use proptest::prelude::*;

use super::*;
use crate::fixture::{lines, open};
use crate::ledger::checkpoint::tests::TestKey;
use crate::segment::frame::{self, Salt};
use crate::segment::header::HEADER;

type Change = fn(&mut Vec<Vec<u8>>);

fn audit(state: &Path) -> Report {
    verify(&state.join("journal"), &state.join("ledger"), &TestKey::new(1).verifier(), Options::default())
}

fn found(state: &Path) -> String {
    let finding = audit(state).finding.unwrap().to_string();
    finding.replace(&*state.to_string_lossy(), "")
}

fn segment(state: &Path, number: u32) -> PathBuf {
    state.join("journal").join(file_name(number))
}

/// Rewrites the journal's first segments as root could: every checksum and chain is right afterwards.
fn rewrite(state: &Path, change: impl FnOnce(&mut Vec<Vec<u8>>)) {
    let mut payloads = Vec::new();
    let mut counts = Vec::new();
    let (mut number, mut salts) = (0, Vec::<Salt>::new());
    while let Ok(bytes) = std::fs::read(segment(state, number)) {
        let (salt, mut at, before) = (bytes[24..40].try_into().unwrap(), HEADER, payloads.len());
        while let Some(frame) = frame::decode(&salt, &bytes[at..]) {
            payloads.push(frame.payload.to_vec());
            at += frame.length();
        }
        counts.push(payloads.len() - before);
        salts.push(salt);
        number += 1;
    }
    change(&mut payloads);
    let (mut prev, mut seq) = (0, 0);
    let mut rest = payloads.into_iter();
    for (number, (count, salt)) in counts.into_iter().zip(salts).enumerate().filter(|(_, (count, _))| *count > 0) {
        let path = segment(state, u32::try_from(number).unwrap());
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[HEADER..].fill(0);
        let mut at = HEADER;
        for payload in rest.by_ref().take(count) {
            let (frame, crc) = frame::encode(&salt, seq, seq, prev, &payload).unwrap();
            bytes[at..at + frame.len()].copy_from_slice(&frame);
            (prev, seq, at) = (crc, seq + 1, at + frame.len());
        }
        std::fs::write(path, bytes).unwrap();
    }
}

/// The same payload with its `seq` changed, as a careful forger would.
fn renumbered(payload: &[u8], seq: usize) -> Vec<u8> {
    let mut entry: serde_json::Value = serde_json::from_slice(payload).unwrap();
    entry["seq"] = seq.into();
    serde_json::to_vec(&entry).unwrap()
}

fn renumber(all: &mut [Vec<u8>]) {
    for (n, payload) in all.iter_mut().enumerate().skip(13) {
        *payload = renumbered(payload, n);
    }
}

#[test]
fn an_untouched_journal_is_whole_and_says_how_much_is_sealed() {
    let state = tempfile::tempdir().unwrap();
    lines(state.path(), 25);
    let report = audit(state.path());
    assert!(report.finding.is_none(), "{:?}", report.finding);
    assert_eq!((report.records, report.sealed, report.checkpoints), (25, 20, 2));
    assert_eq!(report.root, Digest::from_bytes(open(state.path()).unwrap().journal.head().root));
}

#[test]
fn it_runs_beside_a_daemon_that_holds_the_lock() {
    let state = tempfile::tempdir().unwrap();
    lines(state.path(), 15);
    let _daemon = open(state.path()).unwrap();
    assert!(audit(state.path()).finding.is_none());
}

#[test]
fn entries_are_read_without_the_daemon_and_beside_it_up_to_the_first_bad_one() {
    let state = tempfile::tempdir().unwrap();
    lines(state.path(), 25);
    let read = |from, limit| {
        let (entries, finding) = entries(&state.path().join("journal"), from, limit);
        (entries.iter().map(|entry| entry.seq).collect::<Vec<_>>(), finding)
    };
    assert!(matches!(read(23, 10), (seqs, None) if seqs == [23, 24]));
    let daemon = open(state.path()).unwrap();
    assert!(matches!(read(3, 2), (seqs, None) if seqs == [3, 4]));
    drop(daemon);
    rewrite(state.path(), |all| all[20] = b"{}".to_vec());
    let (seqs, finding) = read(18, 100);
    assert_eq!(seqs, [18, 19]);
    assert!(finding.unwrap().to_string().contains("record 20"));
    assert!(matches!(read(18, 2), (seqs, None) if seqs == [18, 19]), "what was asked for lies before it");
}

#[test]
fn one_edited_byte_is_named_with_file_offset_and_record() {
    let state = tempfile::tempdir().unwrap();
    lines(state.path(), 25);
    let path = segment(state.path(), 0);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[HEADER + 32 + 30] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let first = found(state.path());
    assert!(first.starts_with("`/journal/segment-00000000` at byte 64, record 0: "), "{first}");
    assert!(first.ends_with("altered or erased after it was written"), "{first}");
}

#[test]
fn records_exchanged_with_all_checksums_mended_are_found_between_two_checkpoints() {
    let changes: [(&str, Change); 4] = [
        ("edited", |all| {
            let text = String::from_utf8(all[13].clone()).unwrap().replace("line 000013", "line 000099");
            all[13] = text.into_bytes();
        }),
        ("swapped", |all| {
            let (a, b) = (renumbered(&all[14], 13), renumbered(&all[13], 14));
            (all[13], all[14]) = (a, b);
        }),
        ("removed", |all| {
            all.remove(13);
            renumber(all);
        }),
        ("inserted", |all| {
            all.insert(13, all[12].clone());
            all.pop();
            renumber(all);
        }),
    ];
    for (what, change) in changes {
        let state = tempfile::tempdir().unwrap();
        lines(state.path(), 35);
        rewrite(state.path(), change);
        let finding = audit(state.path()).finding.unwrap();
        let Finding::Exchanged { from, to, .. } = &finding else { panic!("{what}: {finding:?}") };
        assert_eq!((*from, *to), (10, 20), "{what}");
        assert!(open(state.path()).is_err(), "{what}: the runner starts on it");
    }
}

#[test]
fn a_record_that_lies_about_its_number_is_named() {
    let state = tempfile::tempdir().unwrap();
    lines(state.path(), 25);
    rewrite(state.path(), |all| all.swap(3, 4));
    assert!(found(state.path()).ends_with("record 3: record 4 is in its place"), "{}", found(state.path()));
}

#[test]
fn a_cut_tail_is_found_through_the_checkpoint() {
    let state = tempfile::tempdir().unwrap();
    lines(state.path(), 22);
    rewrite(state.path(), |all| all.truncate(16));
    assert_eq!(
        found(state.path()),
        "records 16 to 19 are missing: a checkpoint was signed over 20 records, and 16 are there"
    );
}

#[test]
fn only_a_remembered_checkpoint_shows_that_the_whole_host_was_set_back() {
    let (state, old) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    lines(state.path(), 25);
    lines(old.path(), 15);
    let kept = open(state.path()).unwrap().journal.seal().unwrap().unwrap();
    assert!(audit(old.path()).finding.is_none(), "by itself an old copy is whole");
    let options = Options { remembered: vec![kept] };
    let key = TestKey::new(1).verifier();
    let report = verify(&old.path().join("journal"), &old.path().join("ledger"), &key, options);
    assert!(matches!(report.finding, Some(Finding::Cut { have: 15, signed: 25 })), "{:?}", report.finding);
}

#[test]
fn checkpoints_of_another_key_are_not_believed() {
    let state = tempfile::tempdir().unwrap();
    lines(state.path(), 25);
    let key = TestKey::new(2).verifier();
    let report = verify(&state.path().join("journal"), &state.path().join("ledger"), &key, Options::default());
    assert!(matches!(report.finding, Some(Finding::Ledger(_))));
}

#[test]
fn a_missing_ledger_is_a_finding_and_not_an_empty_one() {
    let state = tempfile::tempdir().unwrap();
    lines(state.path(), 25);
    std::fs::remove_dir_all(state.path().join("ledger")).unwrap();
    assert!(matches!(audit(state.path()).finding, Some(Finding::Ledger(_))));
}

#[test]
fn an_entry_with_control_characters_is_one_record_still() {
    let state = tempfile::tempdir().unwrap();
    lines(state.path(), 3);
    assert_eq!(audit(state.path()).records, 3);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn no_damage_makes_it_panic_or_lets_a_sealed_record_go(
        hits in prop::collection::vec((0_u32..3, 0_usize..4096, any::<u8>()), 1..12)
    ) {
        let state = tempfile::tempdir().unwrap();
        lines(state.path(), 30);
        let mut changed = false;
        for (number, at, byte) in hits {
            let path = segment(state.path(), number);
            let mut bytes = std::fs::read(&path).unwrap();
            changed |= bytes[at] != byte && number == 0;
            bytes[at] = byte;
            std::fs::write(path, bytes).unwrap();
        }
        let report = audit(state.path());
        // The first segment is full of records, except for the last bytes that no record fits in.
        prop_assert!(report.finding.is_some() || !changed || report.sealed == 30);
    }
}
