//! The FS cases of the threat catalogue, each with its positive twin.

use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use theriac_model::call::{Call, DirCall, EntryCall, Handle, Interface, Reply, UnitCall};
use theriac_model::denial::DenialCause;

use super::world::*;
use crate::capability::files::{Over, PlaceError, Root};

fn granted(place: &Place) -> Root {
    Root::open(&theriac_model::target::MountPath::parse(place.disk.path().join("logs").to_str().unwrap()).unwrap())
        .unwrap()
}

// FS02, FS05, FS09, FS10.
#[test]
fn links_devices_fifos_and_other_names_are_not_even_listed() {
    let place = place();
    let secret = place.disk.path().join("secret.log");
    std::fs::write(&secret, b"secret").unwrap();
    symlink(&secret, place.path("link.log")).unwrap();
    symlink(place.disk.path(), place.path("out")).unwrap();
    symlink("/proc/self/root", place.path("magic")).unwrap();
    symlink("loop.log", place.path("loop.log")).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, place.path("fifo.log"), rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    std::fs::create_dir(place.path("dir.log")).unwrap();
    place.write("other.txt", b"not granted");
    place.write("real.log", b"x");
    place.plan(|ask| assert_eq!(list(ask).iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["real.log"]));
}

// FS01, FS02, FS03, FS04, FS05.
#[test]
fn no_path_leads_out_of_a_root() {
    let place = place();
    place.write("in.log", b"x");
    let secret = place.disk.path().join("secret");
    std::fs::create_dir(&secret).unwrap();
    std::fs::write(secret.join("a.log"), b"secret").unwrap();
    symlink(&secret, place.path("esc")).unwrap();
    symlink("../logs/first", place.path("second")).unwrap();
    symlink(&secret, place.path("first")).unwrap();
    symlink("/proc/self/root", place.path("magic")).unwrap();
    symlink("/proc/self/fd/0", place.path("fd")).unwrap();
    for (name, to) in [("loop", "pool"), ("pool", "loop")] {
        symlink(to, place.path(name)).unwrap();
    }
    let root = granted(&place);
    assert!(root.find(Path::new("in.log")).is_ok());
    for path in [
        "../secret/a.log",
        "/etc/passwd",
        "esc/a.log",
        "esc/",
        "esc//",
        "esc/.",
        "esc/./a.log",
        "./../secret/a.log",
        "a/../../secret/a.log",
        "second/a.log",
        "second/",
        "loop",
        "loop/a.log",
        "magic/etc/passwd",
        "fd",
    ] {
        let path = Path::new(path);
        assert!(root.find(path).is_err(), "{path:?}");
        assert!(root.create(path, 0o600).is_err(), "{path:?}");
        assert!(root.subdir(path).is_err(), "{path:?}");
        for over in [Over::Nothing, Over::TheOld] {
            assert!(root.rename(path, &root, Path::new("taken.log"), over).is_err(), "from {path:?}");
        }
    }
    let inside = root.find(Path::new("in.log")).unwrap().identity();
    for path in ["../secret/a.log", "esc/a.log", "esc/./a.log", "esc/new", "second/a.log", "magic/tmp/x", "/tmp/x"] {
        let path = Path::new(path);
        for over in [Over::Nothing, Over::TheOld] {
            assert!(root.rename(Path::new("in.log"), &root, path, over).is_err(), "to {path:?}");
        }
        assert!(root.unlink(path, inside).is_err(), "{path:?}");
    }
    assert!(root.rename(Path::new("in.log"), &root, Path::new("on.log"), Over::Nothing).is_ok());
    assert!(matches!(root.find(Path::new("esc/a.log")), Err(PlaceError::Escapes)));
    assert_eq!(std::fs::read_dir(&secret).unwrap().count(), 1);
}

// FS06.
#[test]
fn a_file_with_another_name_elsewhere_is_neither_changed_nor_shown() {
    let place = place();
    let outside = place.disk.path().join("shadow");
    std::fs::write(&outside, b"secret").unwrap();
    std::fs::hard_link(&outside, place.path("a.log")).unwrap();
    place.plan(|ask| {
        let handle = entry(ask, "a.log");
        for verb in [EntryCall::Truncate, EntryCall::Remove, EntryCall::Archive, EntryCall::Tail { max: 10 }] {
            assert_eq!(denied(ask(on(handle, verb))).rule, "one-link");
        }
        std::fs::remove_file(&outside).unwrap();
        assert!(matches!(ask(on(handle, EntryCall::Tail { max: 10 })), Reply::Bytes(_)));
    });
}

// FS15, FS28.
#[test]
fn names_of_every_kind_are_shown_escaped_and_reached_by_handle() {
    let place = place_with_line("max_files = 8", "max_files = 16");
    let longest = format!("{}.log", "x".repeat(251));
    let names: [&[u8]; 10] = [
        b"-rf.log",
        b"--help.log",
        b"a\nb.log",
        b"\x1b[2J.log",
        b"\xff\xfe.log",
        b"* .log",
        "\u{202e}gol.log".as_bytes(),
        longest.as_bytes(),
        // Twins to a reader, and two files.
        "\u{e9}.log".as_bytes(),
        "e\u{301}.log".as_bytes(),
    ];
    for name in names {
        std::fs::write(place.path("").join(std::ffi::OsStr::from_bytes(name)), b"x").unwrap();
    }
    let end = place.both(|ask| {
        let found = list(ask);
        assert_eq!(found.len(), names.len());
        assert!(found.iter().all(|(name, _)| name.chars().all(|c| !c.is_control() && c != '\u{202e}')));
        for (name, handle) in found {
            assert!(matches!(ask(on(handle, EntryCall::Archive)), Reply::Count(_)), "{name}");
        }
    });
    assert_eq!((end.must_undo(), std::fs::read_dir(place.path("")).unwrap().count()), (false, 0));
    assert!(place.undo().iter().all(|outcome| !outcome.needs_person()));
    assert_eq!(std::fs::read_dir(place.path("")).unwrap().count(), names.len());
}

// FS07.
#[test]
fn a_directory_swapped_for_a_link_again_and_again_never_leads_outside() {
    let place = place();
    let outside = place.disk.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("a.log"), b"canary").unwrap();
    place.write("sub/a.log", b"inside");
    let root = granted(&place);
    let (sub, spare) = (place.path("sub"), place.path("spare"));
    symlink(&outside, &spare).unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let exchange = rustix::fs::RenameFlags::EXCHANGE;
                rustix::fs::renameat_with(rustix::fs::CWD, &sub, rustix::fs::CWD, &spare, exchange).unwrap();
            }
        });
        let mut inside = 0;
        for _ in 0..30_000 {
            if let Ok(found) = root.find(Path::new("sub/a.log")) {
                assert_eq!(found.meta.len(), 6);
                let mut content = String::new();
                std::io::Read::read_to_string(&mut found.read().unwrap(), &mut content).unwrap();
                assert_eq!(content, "inside");
                inside += 1;
            }
        }
        stop.store(true, Ordering::Relaxed);
        assert!(inside > 0, "the race was run");
    });
    assert_eq!(std::fs::read(outside.join("a.log")).unwrap(), b"canary");
}

// FS08.
#[test]
fn a_replaced_file_is_another_file() {
    let place = place();
    place.write("a.log", b"x");
    place.plan(|ask| {
        let handle = entry(ask, "a.log");
        place.write("b.log", b"y");
        std::fs::rename(place.path("b.log"), place.path("a.log")).unwrap();
        let denial = denied(ask(on(handle, EntryCall::Remove)));
        assert_eq!((denial.cause, denial.rule.as_str()), (DenialCause::StaleTarget, "identity"));
    });
}

// FS27.
#[test]
fn a_replaced_directory_is_refused_until_a_restart() {
    let place = place();
    place.plan(|ask| assert!(list(ask).is_empty()));
    let logs = place.disk.path().join("logs");
    std::fs::rename(&logs, place.disk.path().join("gone")).unwrap();
    std::fs::create_dir(&logs).unwrap();
    place.plan(|ask| {
        let denial = denied(ask(Call::Open { interface: Interface::Files, label: "logs".into() }));
        assert_eq!((denial.cause, denial.rule.as_str()), (DenialCause::StaleTarget, "root.identity"));
    });
}

// FS13, FS14.
#[test]
fn twenty_thousand_files_come_in_pages_and_a_deep_tree_ends() {
    let place = place();
    for n in 0..20_000 {
        std::fs::File::create(place.path(&format!("{n:05}.log"))).unwrap();
    }
    dig(&place.path(""), 5_000);
    place.plan(|ask| {
        let dir = open(ask, Interface::Files, "logs");
        let (mut cursor, mut seen) = (0, 0);
        loop {
            let Reply::Entries { entries, next } =
                ask(Call::Dir { handle: dir, verb: DirCall::List { filter: ALL, cursor } })
            else {
                panic!()
            };
            assert!(entries.len() < 64, "never more than handles");
            seen += entries.len();
            entries.iter().for_each(|entry| drop(ask(Call::Drop { handle: entry.handle })));
            match next {
                Some(next) if seen < 2000 => cursor = next,
                _ => break,
            }
        }
        assert!(seen >= 2000);
    });
    fill_in(&place.path(""));
}

/// Deeper than a path can say: each directory is made from within the one above it.
fn dig(top: &Path, levels: usize) {
    use rustix::fs::{CWD, Mode, OFlags, mkdirat, openat};
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut dir = openat(CWD, top, flags, Mode::empty()).unwrap();
    for _ in 0..levels {
        mkdirat(&dir, "d", Mode::RWXU).unwrap();
        dir = openat(&dir, "d", flags, Mode::empty()).unwrap();
    }
}

/// Takes it away level by level: what removes trees elsewhere holds a descriptor for each.
fn fill_in(top: &Path) {
    let (first, next) = (top.join("d"), top.join("next"));
    while first.exists() {
        let deeper = std::fs::rename(first.join("d"), &next).is_ok();
        std::fs::remove_dir(&first).unwrap();
        if deeper {
            std::fs::rename(&next, &first).unwrap();
        }
    }
}

// FS19.
#[test]
fn an_open_file_is_only_cut_and_only_when_every_writer_appends() {
    let place = place();
    for (appends, cut) in [(true, true), (false, false)] {
        let path = place.write("a.log", b"line\n");
        let mut child = writer(&path, appends);
        place.plan(|ask| {
            let handle = entry(ask, "a.log");
            assert_eq!(denied(ask(on(handle, EntryCall::Remove))).rule, "in_use");
            assert_eq!(matches!(ask(on(handle, EntryCall::Truncate)), Reply::Count(_)), cut);
        });
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

// FS19.
#[test]
fn a_deleted_file_that_is_still_open_is_found_and_cut_where_that_is_safe() {
    let place = place();
    let path = place.write("a.log", &[b'x'; 100_000]);
    let mut child = writer(&path, true);
    std::fs::remove_file(&path).unwrap();
    let end = place.both(|ask| {
        let dir = open(ask, Interface::Files, "logs");
        let Reply::Entries { entries, .. } = ask(Call::Dir { handle: dir, verb: DirCall::ListDeleted }) else {
            panic!()
        };
        assert_eq!(entries.len(), 1);
        let Reply::Stat(stat) = ask(on(entries[0].handle, EntryCall::Stat)) else { panic!() };
        assert!(stat.deleted && stat.open && stat.appended_only && stat.links == 0);
        assert_eq!(denied(ask(on(entries[0].handle, EntryCall::Archive))).rule, "deleted");
        assert!(matches!(ask(on(entries[0].handle, EntryCall::Truncate)), Reply::Count(90_000..)));
    });
    assert!(!end.must_undo(), "{end:?}");
    let link = std::fs::read_dir(format!("/proc/{}/fd", child.id())).unwrap().map(Result::unwrap).map(|fd| fd.path());
    let held = link.filter(|fd| std::fs::read_link(fd).unwrap().as_os_str().as_bytes().ends_with(b"a.log (deleted)"));
    assert_eq!(held.map(|fd| std::fs::metadata(fd).unwrap().len()).collect::<Vec<_>>(), [0]);
    child.kill().unwrap();
    child.wait().unwrap();
}

/// A process that holds the file open; it is ready when this returns.
fn writer(path: &Path, appends: bool) -> std::process::Child {
    let file = std::fs::File::options().write(true).append(appends).open(path).unwrap();
    std::process::Command::new("/bin/sleep").arg("60").stdout(file).spawn().unwrap()
}

// AB14, FS25, PR01.
#[test]
fn handles_that_were_not_given_out_or_are_of_another_kind_stand_for_nothing() {
    let place = place();
    place.write("a.log", b"x");
    place.plan(|ask| {
        for handle in [0, 1, 7, u32::MAX] {
            assert_eq!(denied(ask(on(Handle(handle), EntryCall::Remove))).rule, "handle");
        }
        let file = entry(ask, "a.log");
        assert_eq!(denied(ask(Call::Unit { handle: file, verb: UnitCall::Restart })).rule, "handle");
        ask(Call::Drop { handle: file });
        assert_eq!(denied(ask(on(file, EntryCall::Stat))).rule, "handle");
    });
}

#[test]
fn a_label_that_is_not_granted_is_not_granted_and_never_not_found() {
    let place = place();
    place.plan(|ask| {
        for label in ["other", "../logs", "", "LOGS", "/etc"] {
            let denial = denied(ask(Call::Open { interface: Interface::Files, label: label.into() }));
            assert_eq!(denial.cause, DenialCause::NotGranted, "{label:?}");
        }
    });
}

#[test]
fn an_archive_on_the_same_device_is_unavailable() {
    let mut place = place();
    place.write("a.log", b"x");
    let aside = theriac_model::target::MountPath::parse(place.disk.path().join("aside").to_str().unwrap()).unwrap();
    place.grants.files.values_mut().for_each(|dir| dir.archive_to = Some(aside.clone()));
    place.plan(|ask| {
        let handle = entry(ask, "a.log");
        assert_eq!(denied(ask(on(handle, EntryCall::Archive))).rule, "archive_to.device");
    });
}

#[test]
fn a_flood_of_denials_leaves_a_bounded_trail() {
    let place = place();
    place.plan(|ask| (0..500).for_each(|_| drop(ask(on(Handle(9), EntryCall::Remove)))));
    assert_eq!(place.entries().len(), 65, "64 one by one, and one that counts the rest");
    std::io::stdout().flush().unwrap();
}
