//! The reader against files made after the format's description, whole and broken. Files that the real journald wrote are read
//! in the systemd box of the end-to-end tests.

use std::os::unix::fs::PermissionsExt as _;

use proptest::prelude::*;

use super::payload::Coding;
use super::written::{MACHINE, Written, machine, put};
use super::*;

const FORMS: [(bool, bool); 4] = [(false, false), (false, true), (true, false), (true, true)];

fn nginx() -> UnitName {
    UnitName::parse("nginx.service").unwrap()
}

fn compact() -> Written {
    Written::new(true, true, Coding::Plain)
}

fn tail_of(files: &[(&str, &Written)], lines: usize) -> Tail {
    let files: Vec<(&str, &[u8])> = files.iter().map(|(name, file)| (*name, file.bytes())).collect();
    let root = machine(&files);
    JournalFiles::below(root.path()).tail(&nginx(), lines).unwrap()
}

fn lines_of(file: &Written) -> Vec<String> {
    let Tail { lines, gaps } = tail_of(&[("system.journal", file)], MAX_LINES);
    assert_eq!(gaps, 0);
    lines
}

#[test]
fn the_units_own_lines_and_systemds_about_it_are_found_in_every_form_of_the_format() {
    for (compact, keyed) in FORMS {
        let mut file = Written::new(compact, keyed, Coding::Plain);
        file.about(1, 1, "nginx.service", "Starting");
        file.line(2, "nginx.service", "bind() to 0.0.0.0:80 failed");
        file.line(3, "sshd.service", "not nginx");
        file.about(4, 1, "nginx.service", "Main process exited");
        assert_eq!(lines_of(&file), ["Starting", "bind() to 0.0.0.0:80 failed", "Main process exited"]);
    }
}

#[test]
fn a_unit_that_is_only_claimed_does_not_count_and_systemds_word_does() {
    let mut file = compact();
    file.about(1, 1, "nginx.service", "true");
    file.about(2, 4242, "nginx.service", "forged through UNIT=");
    file.entry(3, &[b"MESSAGE=forged through another field", b"X_SYSTEMD_UNIT=nginx.service", b"_PID=1"]);
    file.entry(4, &[b"MESSAGE=_SYSTEMD_UNIT=nginx.service", b"_SYSTEMD_UNIT=evil.service"]);
    file.line(5, "nginx.service.evil.service", "forged through a longer name");
    assert_eq!(lines_of(&file), ["true"]);
}

#[test]
fn the_newest_lines_are_taken_however_many_there_are_and_cheaply() {
    let mut file = compact();
    for number in 0..3_000 {
        file.line(number, "nginx.service", &format!("line {number}"));
        file.line(number, "other.service", "noise");
    }
    let root = machine(&[("system.journal", file.bytes())]);
    let tail = JournalFiles::below(root.path()).tail(&nginx(), 20).unwrap();
    let expected: Vec<String> = (2_980..3_000).map(|number| format!("line {number}")).collect();
    assert_eq!((tail.lines, tail.gaps), (expected, 0));
    let mut budget = Budget::of_one_look();
    let path = root.path().join(format!("var/log/journal/{MACHINE}/system.journal"));
    let opened = JournalFile::open(&path, &mut budget).unwrap();
    assert_eq!(opened.newest_of(&nginx(), 20, &mut budget).0.len(), 20);
    let (reads, bytes) = budget.spent();
    assert!(reads < 120 && bytes < 10_000, "{reads} reads of {bytes} bytes");
}

#[test]
fn a_flood_under_the_units_name_can_not_make_the_look_long() {
    let mut file = compact();
    file.about(0, 1, "nginx.service", "before the flood");
    for number in 1..5_000 {
        file.about(number, 4242, "nginx.service", "flood");
    }
    file.line(6_000, "nginx.service", "its own line");
    assert_eq!(lines_of(&file), ["its own line"]);
}

#[test]
fn files_are_read_as_one_log_and_an_entry_that_was_moved_is_one_line() {
    let (mut old, mut new, mut user) = (compact(), Written::new(false, true, Coding::Plain), compact());
    old.line(10, "nginx.service", "first");
    old.line(20, "nginx.service", "second");
    new.line(20, "nginx.service", "second");
    new.line(40, "nginx.service", "fourth");
    user.line(30, "nginx.service", "third");
    let files = [("system@1.journal", &old), ("system.journal", &new), ("user-1000.journal~", &user)];
    assert_eq!(tail_of(&files, 200).lines, ["first", "second", "third", "fourth"]);
    assert_eq!(tail_of(&files, 2).lines, ["third", "fourth"]);
}

#[test]
fn what_was_written_at_once_keeps_its_order_and_its_repetitions() {
    let mut file = compact();
    for message in ["zeta", "alpha", "alpha", "mid"] {
        file.line(7, "nginx.service", message);
    }
    assert_eq!(lines_of(&file), ["zeta", "alpha", "alpha", "mid"]);
}

#[test]
fn compressed_fields_are_read_and_a_message_longer_than_wanted_is_cut() {
    for coding in [Coding::Plain, Coding::Lz4, Coding::Zstd] {
        let mut file = Written::new(true, true, coding);
        let long = "0123456789".repeat(1_000);
        file.line(1, "nginx.service", &long);
        file.line(2, "nginx.service", &format!("{}\nlast", "x".repeat(100)));
        let lines = lines_of(&file);
        assert_eq!(lines.len(), 3, "{coding:?}");
        assert_eq!(lines[0], long[..MAX_LINE], "{coding:?}");
        assert_eq!((lines[1].len(), lines[2].as_str()), (100, "last"));
    }
}

#[test]
fn a_hostile_message_is_kept_as_data_and_bounded() {
    let mut file = compact();
    file.entry(1, &[b"_SYSTEMD_UNIT=nginx.service", b"MESSAGE=\x1b[2J\xff\0end"]);
    file.entry(2, &[b"_SYSTEMD_UNIT=nginx.service", b"PRIORITY=3"]);
    file.line(3, "nginx.service", &"\n".repeat(10_000));
    file.line(4, "nginx.service", "newest");
    let lines = lines_of(&file);
    assert_eq!((lines.len(), lines.last().map(String::as_str)), (MAX_LINES, Some("newest")));
    let mut file = compact();
    for number in 0..200 {
        file.line(number, "nginx.service", &format!("{number:04}{}", "x".repeat(4_000)));
    }
    let lines = lines_of(&file);
    assert!(lines.iter().map(String::len).sum::<usize>() <= MAX_TEXT && lines.len() == MAX_TEXT / MAX_LINE);
    assert!(lines.last().unwrap().starts_with("0199"));
}

#[test]
fn a_unit_that_wrote_nothing_has_an_empty_tail_and_no_journal_is_an_error() {
    let mut file = compact();
    file.line(1, "sshd.service", "x");
    assert_eq!(lines_of(&file), Vec::<String>::new());
    let error = JournalFiles::below(machine(&[]).path()).tail(&nginx(), 5).unwrap_err();
    assert!(matches!(error, TailError::NoFiles { .. }), "{error}");
    let error = JournalFiles::below(tempfile::tempdir().unwrap().path()).tail(&nginx(), 5).unwrap_err();
    assert!(matches!(error, TailError::MachineId { .. }), "{error}");
}

#[test]
fn only_this_machines_files_count_and_only_if_nobody_else_may_write_them() {
    let (mut ours, mut foreign) = (compact(), compact());
    ours.line(1, "nginx.service", "ours");
    foreign.line(2, "nginx.service", "foreign");
    let root = machine(&[("system.journal", ours.bytes()), ("notes.journal", foreign.bytes())]);
    put(root.path(), "var/log/journal/remote/remote-web.journal", foreign.bytes());
    put(root.path(), "var/log/journal/ffffffffffffffffffffffffffffffff/system.journal", foreign.bytes());
    put(root.path(), &format!("var/log/journal/{MACHINE}.web/system.journal"), ours.bytes());
    put(root.path(), &format!("run/log/journal/{MACHINE}/system.journal"), ours.bytes());
    let journal = JournalFiles::below(root.path());
    assert_eq!(journal.tail(&nginx(), 10).unwrap(), Tail { lines: vec!["ours".to_owned()], gaps: 0 });
    let path = put(root.path(), &format!("var/log/journal/{MACHINE}/system@2.journal"), foreign.bytes());
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o660)).unwrap();
    assert_eq!(journal.tail(&nginx(), 10).unwrap(), Tail { lines: vec!["ours".to_owned()], gaps: 1 });
    std::fs::remove_file(&path).unwrap();
    let elsewhere = put(root.path(), "elsewhere", foreign.bytes());
    std::os::unix::fs::symlink(elsewhere, &path).unwrap();
    assert_eq!(journal.tail(&nginx(), 10).unwrap(), Tail { lines: vec!["ours".to_owned()], gaps: 1 });
}

#[test]
fn a_file_of_a_later_format_is_refused_by_its_flags_and_named() {
    let mut file = compact();
    file.line(1, "nginx.service", "x");
    file.put(8, 1 << 38);
    let root = machine(&[("system.journal", file.bytes())]);
    let error = JournalFiles::below(root.path()).tail(&nginx(), 5).unwrap_err();
    assert!(matches!(error, TailError::Unreadable { source: FileError::Unknown { flags: 64 }, .. }), "{error:?}");
}

#[test]
fn chains_that_lead_back_end_and_what_is_whole_is_still_read() {
    let mut file = compact();
    for number in 0..50 {
        file.line(number, "nginx.service", &format!("line {number}"));
    }
    let unit = file.place_of("_SYSTEMD_UNIT=nginx.service");
    // The hash chain to itself: the field is found before that is noticed, another field is not.
    file.put(unit + 24, unit);
    let tail = tail_of(&[("system.journal", &file)], 10);
    assert_eq!(tail.lines.len(), 10);
    // The chain of arrays to the header: only the entry that lies in the object itself is left.
    file.put(unit + 48, 8);
    let tail = tail_of(&[("system.journal", &file)], 10);
    assert_eq!((tail.lines.as_slice(), tail.gaps > 0), (["line 0".to_owned()].as_slice(), true));
}

/// Lines of our unit, systemd's, forged ones, and compressed ones.
fn mixture(compact: bool, keyed: bool, coding: Coding) -> Written {
    let mut file = Written::new(compact, keyed, coding);
    for number in 0..12 {
        file.line(number * 10, "nginx.service", &format!("line {number}"));
        file.about(number * 10 + 1, 1, "nginx.service", "by systemd");
        file.about(number * 10 + 2, 99, "nginx.service", "forged");
        file.line(number * 10 + 3, "other.service", "foreign");
    }
    file.line(900, "nginx.service", &"long ".repeat(200));
    file
}

fn forms() -> impl Strategy<Value = Written> {
    (any::<bool>(), any::<bool>(), prop_oneof![Just(Coding::Plain), Just(Coding::Lz4), Just(Coding::Zstd)])
        .prop_map(|(compact, keyed, coding)| mixture(compact, keyed, coding))
}

/// However broken: an answer or an error, within the bounds, in time.
fn holds(bytes: &[u8]) -> Result<(), TestCaseError> {
    let root = machine(&[("system.journal", bytes)]);
    let began = std::time::Instant::now();
    if let Ok(tail) = JournalFiles::below(root.path()).tail(&nginx(), MAX_LINES) {
        prop_assert!(tail.lines.len() <= MAX_LINES && tail.lines.iter().map(String::len).sum::<usize>() <= MAX_TEXT);
    }
    prop_assert!(began.elapsed() < std::time::Duration::from_secs(5));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_file_cut_anywhere_gives_what_is_left_or_an_error(file in forms(), share in 0.0_f64..1.0) {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "a share of some thousand bytes")]
        let length = (file.bytes().len() as f64 * share) as usize;
        holds(&file.bytes()[..length])?;
    }

    #[test]
    fn flipped_bytes_never_panic_or_run_away(
        file in forms(),
        flips in proptest::collection::vec((any::<prop::sample::Index>(), 1_u8..), 1..24),
    ) {
        let mut bytes = file.bytes().to_vec();
        for (index, flip) in flips {
            let at = index.index(bytes.len());
            bytes[at] ^= flip;
        }
        holds(&bytes)?;
    }

    #[test]
    fn numbers_at_the_edge_never_panic_or_run_away(
        file in forms(),
        edges in proptest::collection::vec(
            (any::<prop::sample::Index>(), prop_oneof![Just(0_u64), Just(1), Just(u64::MAX), Just(u64::MAX - 7), Just(1 << 32), 0_u64..8_192]),
            1..12,
        ),
    ) {
        let mut bytes = file.bytes().to_vec();
        for (index, number) in edges {
            let at = index.index(bytes.len() / 8) * 8;
            bytes[at..at + 8].copy_from_slice(&number.to_le_bytes());
        }
        holds(&bytes)?;
    }
}

/// Each byte of the parts that steer the reader, one after the other.
#[test]
fn every_byte_of_the_header_and_of_the_units_object_may_be_anything() {
    let file = mixture(true, true, Coding::Zstd);
    let unit = usize::try_from(file.place_of("_SYSTEMD_UNIT=nginx.service")).unwrap();
    for at in (0..208).chain(unit..unit + 80) {
        for value in [0x00, 0x08, 0xff] {
            let mut bytes = file.bytes().to_vec();
            bytes[at] = value;
            holds(&bytes).unwrap();
        }
    }
}
