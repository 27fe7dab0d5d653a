//! Files: what is recorded, what is done, and that it is put back exactly.

use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use theriac_model::call::{Call, DirCall, EntryCall, Interface, Reply};
use theriac_model::denial::DenialCause;
use theriac_model::effect::{UndoClass, UndoOutcome};
use theriac_model::record::Record;
use theriac_model::units::Blob;

use super::world::*;

fn verbs() -> Vec<(&'static str, EntryCall)> {
    vec![
        ("replace", EntryCall::Replace { content: Blob(b"new".to_vec()) }),
        ("append", EntryCall::Append { content: Blob(b"more".to_vec()) }),
        ("truncate", EntryCall::Truncate),
        ("copy-truncate", EntryCall::CopyTruncate),
        ("archive", EntryCall::Archive),
        ("set-aside", EntryCall::SetAside),
    ]
}

fn old(path: &std::path::Path) {
    let times = std::fs::FileTimes::new().set_modified(std::time::UNIX_EPOCH + std::time::Duration::new(1_000_000, 7));
    std::fs::File::options().write(true).open(path).unwrap().set_times(times).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o640)).unwrap();
}

#[test]
fn every_reversible_verb_is_undone_to_the_last_bit_and_twice_is_harmless() {
    for (name, verb) in verbs() {
        for size in [10, 100_000] {
            let place = place();
            old(&place.write("a.log", &vec![b'x'; size]));
            old(&place.write("sub/b.gz", b"other"));
            let before = snapshot(place.disk.path().join("logs").as_path());
            let end = place.both(|ask| {
                let handle = entry(ask, "a.log");
                assert!(matches!(ask(on(handle, verb.clone())), Reply::Count(_)), "{name}");
            });
            assert!(!end.must_undo() && end.intents == 1, "{name}: {end:?}");
            assert_ne!(snapshot(place.path("").as_path()), before, "{name} did something");
            let entries = place.entries();
            assert_eq!(
                place.undo_with(&entries, theriac_model::verdict::Verdict::Unknown),
                [UndoOutcome::Restored],
                "{name}"
            );
            assert_eq!(snapshot(place.path("").as_path()), before, "{name}");
            let again = place.undo_with(&entries, theriac_model::verdict::Verdict::Unknown);
            assert!(matches!(again.as_slice(), [UndoOutcome::NotNeeded { .. }]), "{name}: {again:?}");
            assert_eq!(snapshot(place.path("").as_path()), before, "{name} twice");
            assert_eq!(std::fs::read_dir(place.memory.path()).unwrap().count(), 0, "{name} leaves no archive");
        }
    }
}

#[test]
fn after_a_crash_without_an_outcome_the_undo_finds_out_what_happened() {
    for (name, verb) in verbs() {
        let place = place();
        old(&place.write("a.log", &[b'x'; 9000]));
        let before = snapshot(&place.path(""));
        place.both(|ask| {
            let handle = entry(ask, "a.log");
            ask(on(handle, verb.clone()));
        });
        let cut = place.without_outcomes();
        assert_eq!(place.undo_with(&cut, theriac_model::verdict::Verdict::Unknown), [UndoOutcome::Restored], "{name}");
        assert_eq!(snapshot(&place.path("")), before, "{name}");
    }
}

#[test]
fn an_intent_before_which_the_runner_died_leaves_everything_as_it_is() {
    for (name, verb) in verbs() {
        let place = place();
        old(&place.write("a.log", &[b'x'; 9000]));
        let before = snapshot(&place.path(""));
        place.both(|ask| {
            let handle = entry(ask, "a.log");
            ask(on(handle, verb.clone()));
        });
        let cut = place.without_outcomes();
        place.undo_with(&cut, theriac_model::verdict::Verdict::Unknown);
        // The world is as before the effect now, and the journal still says no more than the intent.
        let settled = crate::recover::settle(&place.world, &run(), &cut).unwrap();
        let denied = matches!(settled.as_slice(), [(0, theriac_model::effect::Outcome::Denied(_))]);
        assert!(denied, "{name}: {settled:?}");
        let undone = place.undo_with(&cut, theriac_model::verdict::Verdict::Unknown);
        assert!(matches!(undone.as_slice(), [UndoOutcome::NotNeeded { .. }]), "{name}: {undone:?}");
        assert_eq!(snapshot(&place.path("")), before, "{name}");
    }
}

#[test]
fn an_interrupted_restore_of_a_cut_file_is_continued() {
    let place = place();
    let path = place.write("a.log", &(0..90_000_u32).flat_map(u32::to_le_bytes).collect::<Vec<u8>>());
    old(&path);
    let (before, whole) = (snapshot(&place.path("")), std::fs::read(&path).unwrap());
    place.both(|ask| {
        let handle = entry(ask, "a.log");
        ask(on(handle, EntryCall::Truncate));
    });
    std::fs::write(&path, &whole[..70_000]).unwrap();
    assert_eq!(place.undo(), [UndoOutcome::Restored]);
    assert_eq!(snapshot(&place.path("")), before);
}

#[test]
fn a_foreign_change_is_never_overwritten_and_its_pre_image_stays() {
    for (name, verb) in verbs() {
        let place = place();
        place.write("a.log", &[b'x'; 9000]);
        place.both(|ask| {
            let handle = entry(ask, "a.log");
            ask(on(handle, verb.clone()));
        });
        place.write("a.log", b"somebody else's");
        let undone = place.undo();
        assert!(matches!(undone.as_slice(), [UndoOutcome::ChangedSince { .. }]), "{name}: {undone:?}");
        assert_eq!(std::fs::read(place.path("a.log")).unwrap(), b"somebody else's", "{name}");
    }
}

#[test]
fn a_remove_is_irreversible_and_says_so() {
    let place = place();
    place.write("a.gz", b"content");
    let plan = place.plan(|ask| {
        let handle = entry(ask, "a.gz");
        ask(on(handle, EntryCall::Remove));
    });
    assert!(matches!(plan.effects[0].undo, UndoClass::Irreversible { .. }) && plan.effects[0].reproducible);
    let mut live = place.live(&plan);
    let mut ask = |call| crate::session::Host::answer(&mut live, call);
    let handle = entry(&mut ask, "a.gz");
    assert!(matches!(ask(on(handle, EntryCall::Remove)), Reply::Count(_)));
    assert!(!place.path("a.gz").exists());
    assert!(matches!(place.undo().as_slice(), [UndoOutcome::Impossible { .. }]));
}

#[test]
fn a_dry_run_leaves_no_trace_and_its_reads_show_the_recorded_effects() {
    let place = place();
    let path = place.write("a.log", &[b'x'; 50_000]);
    let trace = |path: &std::path::Path| {
        let meta = std::fs::metadata(path).unwrap();
        (meta.atime_nsec(), meta.mtime_nsec(), meta.ctime_nsec(), meta.size())
    };
    let (file, dir) = (trace(&path), trace(&place.path("")));
    place.plan(|ask| {
        let dir = open(ask, Interface::Files, "logs");
        let space = |ask: Ask<'_>| match ask(Call::Dir { handle: dir, verb: DirCall::Space }) {
            Reply::Space(space) => space,
            other => panic!("{other:?}"),
        };
        let before = space(ask);
        let handle = entry(ask, "a.log");
        assert!(matches!(ask(on(handle, EntryCall::Archive)), Reply::Count(50_000..)));
        let after = space(ask);
        assert!(!before.assumed && after.assumed);
        assert!(list(ask).is_empty(), "an archived file is not listed any more");
        assert_eq!(denied(ask(on(handle, EntryCall::Stat))).rule, "assumed.gone");
    });
    assert_eq!((trace(&path), trace(&place.path(""))), (file, dir));
    assert!(place.entries().iter().all(|entry| !matches!(entry.record, Record::Intent { .. })));
    assert_eq!(std::fs::read_dir(place.memory.path()).unwrap().count(), 0);
}

// AB12, AB13.
#[test]
fn the_first_effect_off_plan_is_denied_and_nothing_is_done_after_it() {
    let place = place();
    place.write("a.log", b"a");
    place.write("b.log", b"b");
    let plan = place.plan(|ask| {
        let handle = entry(ask, "a.log");
        ask(on(handle, EntryCall::Archive));
    });
    let mut live = place.live(&plan);
    let mut ask = |call| crate::session::Host::answer(&mut live, call);
    let (a, b) = (entry(&mut ask, "a.log"), entry(&mut ask, "b.log"));
    let off = denied(ask(on(b, EntryCall::Archive)));
    assert_eq!((off.cause, off.rule.as_str()), (DenialCause::OffPlan, "plan.effects"));
    assert_eq!(
        denied(ask(on(a, EntryCall::Archive))).rule,
        "run.ended",
        "what was planned is not done any more either"
    );
    let end = live.finish();
    assert!(end.must_undo() && end.intents == 0);
    assert!(place.path("a.log").exists() && place.path("b.log").exists());
    assert!(place.entries().iter().any(|entry| matches!(&entry.record, Record::Denied { dry: false, .. })));
}

// AB12, AB13.
#[test]
fn planned_effects_are_done_in_their_order_and_may_be_left_out() {
    let place = place();
    place.write("a.log", b"a");
    place.write("b.log", b"b");
    let plan = place.plan(|ask| {
        for name in ["a.log", "b.log"] {
            let handle = entry(ask, name);
            ask(on(handle, EntryCall::Archive));
        }
    });
    let mut live = place.live(&plan);
    let mut ask = |call| crate::session::Host::answer(&mut live, call);
    let (a, b) = (entry(&mut ask, "a.log"), entry(&mut ask, "b.log"));
    assert!(matches!(ask(on(b, EntryCall::Archive)), Reply::Count(_)));
    assert_eq!(denied(ask(on(a, EntryCall::Archive))).rule, "plan.order");
}

// FS12.
#[test]
fn a_file_that_grew_since_the_plan_is_off_plan_unless_it_is_a_log_that_is_cut() {
    let place = place();
    let path = place.write("a.log", b"0123456789");
    let grow = || std::fs::File::options().append(true).open(&path).unwrap().write_all(b"more").unwrap();
    for (verb, allowed) in [(EntryCall::Truncate, true), (EntryCall::Remove, false)] {
        let plan = place.plan(|ask| {
            let handle = entry(ask, "a.log");
            ask(on(handle, verb.clone()));
        });
        grow();
        let mut live = place.live(&plan);
        let mut ask = |call| crate::session::Host::answer(&mut live, call);
        let handle = entry(&mut ask, "a.log");
        assert_eq!(matches!(ask(on(handle, verb)), Reply::Count(_)), allowed);
    }
}

#[test]
fn nothing_is_changed_when_the_intent_cant_be_written() {
    let place = place();
    place.write("a.log", b"content");
    let before = snapshot(&place.path(""));
    let plan = place.plan(|ask| {
        let handle = entry(ask, "a.log");
        ask(on(handle, EntryCall::Archive));
    });
    *place.notes.left.lock().unwrap() = Some(0);
    let mut live = place.live(&plan);
    let mut ask = |call| crate::session::Host::answer(&mut live, call);
    let handle = entry(&mut ask, "a.log");
    assert_eq!(denied(ask(on(handle, EntryCall::Archive))).rule, "journal");
    assert_eq!(denied(ask(on(handle, EntryCall::Archive))).rule, "journal", "and nothing after it");
    assert!(live.finish().journal.is_some());
    assert_eq!(snapshot(&place.path("")), before);
}

// FS20, FS24.
#[test]
fn the_budget_of_files_ends_where_the_grant_says() {
    let place = place();
    for n in 0..10 {
        place.write(&format!("{n}.log"), b"x");
    }
    place.plan(|ask| {
        let replies: Vec<Reply> = list(ask).into_iter().map(|(_, handle)| ask(on(handle, EntryCall::Remove))).collect();
        assert_eq!(replies.iter().filter(|reply| matches!(reply, Reply::Count(_))).count(), 8);
        let last = denied(replies.last().unwrap().clone());
        assert_eq!((last.cause, last.rule.as_str()), (DenialCause::OverBudget, "max_files"));
        assert!(last.suggestion.is_some_and(|line| line.contains("max_files")));
    });
}

// FS20.
#[test]
fn the_newest_files_stay() {
    let place = place_with_line("max_files = 8", "max_files = 8\nkeep_newest = 1");
    old(&place.write("old.log", b"x"));
    let changed = |name| place.path(name).metadata().map(|meta| (meta.ctime(), meta.ctime_nsec())).unwrap();
    // The kernel's clock for files moves in steps of some milliseconds.
    let mut later = (0..1_000_000).map(|_| place.write("new.log", b"x"));
    assert!(later.any(|_| changed("new.log") > changed("old.log")));
    place.plan(|ask| {
        let (new, old) = (entry(ask, "new.log"), entry(ask, "old.log"));
        assert_eq!(denied(ask(on(new, EntryCall::Remove))).rule, "keep_newest");
        assert!(matches!(ask(on(old, EntryCall::Remove)), Reply::Count(_)));
    });
}
