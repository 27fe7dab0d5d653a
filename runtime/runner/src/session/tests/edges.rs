//! Grants of files at their edges: verbs that are not in them, files without an end, other directories and devices, and what
//! time and amounts come to.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use theriac_model::call::{Call, DirCall, EntryCall, Handle, Interface, Reply};
use theriac_model::denial::Denial;
use theriac_model::health::{HealthAnswer, HealthCheck};
use theriac_model::id::Label;
use theriac_model::observation::SeriesId;
use theriac_model::target::MountPath;
use theriac_model::time::Timestamp;
use theriac_model::units::{Blob, Bytes};

use super::world::*;
use crate::capability::files::{PlaceError, Root};
use crate::world::{CheckError, Senses};

/// Most bytes of one read, whatever is asked for.
const ONE_READ: u64 = 64 << 10;

/// A manifest of one grant of files.
fn granting(verbs: &str, more: &str, limits: &str) -> String {
    format!(
        r#"
[remedy]
name = "test-remedy"
version = "1.0.0"
serial = 1
summary = "Tests one grant"
handles = ["disk-full"]

[grants.files.logs]
dir = {{ from = "operator" }}
match = ["**/*.log"]
verbs = [{verbs}]
{more}
why = "tests"

[limits]
{limits}
"#
    )
}

fn changes() -> [EntryCall; 7] {
    let content = || Blob(b"two\n".to_vec());
    [
        EntryCall::Truncate,
        EntryCall::CopyTruncate,
        EntryCall::Replace { content: content() },
        EntryCall::Append { content: content() },
        EntryCall::Remove,
        EntryCall::Archive,
        EntryCall::SetAside,
    ]
}

// FS17.
#[test]
fn a_grant_to_append_appends_and_does_nothing_else() {
    let more = "min_age = \"0s\"\nmax_bytes = \"1MiB\"\nmax_files = 8";
    let place = place_with(&granting(r#""list", "append""#, more, ""));
    place.write("a.log", b"one\n");
    let end = place.both(|ask| {
        let handle = entry(ask, "a.log");
        for verb in changes() {
            if matches!(verb, EntryCall::Append { .. }) {
                assert_eq!(ask(on(handle, verb)), Reply::Count(4));
            } else {
                assert_eq!(denied(ask(on(handle, verb))).rule, "verbs");
            }
        }
    });
    assert!(!end.must_undo() && end.intents == 1, "{end:?}");
    assert_eq!(std::fs::read(place.path("a.log")).unwrap(), b"one\ntwo\n");
}

// FS18.
#[test]
fn a_grant_to_read_reads_and_changes_nothing() {
    let place = place_with(&granting(r#""list", "stat", "read", "tail""#, "", ""));
    place.write("a.log", b"one\n");
    let before = snapshot(&place.path(""));
    let end = place.both(|ask| {
        let handle = entry(ask, "a.log");
        for verb in changes() {
            assert_eq!(denied(ask(on(handle, verb))).rule, "verbs");
        }
        assert_eq!(ask(on(handle, EntryCall::Read { offset: 0, max: 100 })), Reply::Bytes(Blob(b"one\n".to_vec())));
    });
    assert!(!end.must_undo() && end.intents == 0, "{end:?}");
    assert_eq!(snapshot(&place.path("")), before);
}

// FS16.
#[test]
fn a_right_on_one_directory_is_none_on_another() {
    let mut place = place();
    let other = place.disk.path().join("other");
    std::fs::create_dir(&other).unwrap();
    std::fs::write(other.join("b.log"), b"theirs").unwrap();
    place.write("a.log", b"ours");
    let mut reads = place.grants.files.values().next().unwrap().clone();
    reads.label = Label::parse("reads").unwrap();
    reads.dir = MountPath::parse(other.to_str().unwrap()).unwrap();
    reads.verbs.retain(|verb| !verb.changes());
    place.grants.files.insert(reads.label.clone(), reads);
    let end = place.both(|ask| {
        let theirs = open(ask, Interface::Files, "reads");
        let Reply::Entries { entries, .. } =
            ask(Call::Dir { handle: theirs, verb: DirCall::List { filter: ALL, cursor: 0 } })
        else {
            panic!()
        };
        let [b] = entries.as_slice() else { panic!("{entries:?}") };
        for verb in changes() {
            let rule = denied(ask(on(b.handle, verb))).rule;
            assert!(rule.ends_with("verbs"), "{rule}");
        }
        assert!(matches!(ask(on(b.handle, EntryCall::Tail { max: 10 })), Reply::Bytes(_)));
        let a = entry(ask, "a.log");
        // Where a file is put aside is the grant's, and no call names it.
        assert!(matches!(ask(on(a, EntryCall::SetAside)), Reply::Count(_)));
    });
    assert!(!end.must_undo() && end.intents == 1, "{end:?}");
    assert_eq!(std::fs::read(other.join("b.log")).unwrap(), b"theirs");
    assert_eq!(std::fs::read_dir(&other).unwrap().count(), 1);
}

// FS09, FS10.
#[test]
fn what_is_no_regular_file_is_found_out_without_opening_it() {
    let place = place();
    place.write("real.log", b"x");
    std::fs::create_dir(place.path("dir.log")).unwrap();
    let _listens = UnixListener::bind(place.path("socket.log")).unwrap();
    // To open it for reading would wait for a writer.
    rustix::fs::mknodat(rustix::fs::CWD, place.path("fifo.log"), rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    let root = |path: &str| Root::open(&MountPath::parse(path).unwrap()).unwrap();
    let logs = root(place.disk.path().join("logs").to_str().unwrap());
    for name in ["dir.log", "socket.log", "fifo.log"] {
        assert!(matches!(logs.find(Path::new(name)), Err(PlaceError::NotRegular)), "{name}");
    }
    assert!(logs.find(Path::new("real.log")).is_ok());
    let devices = root("/dev");
    for name in ["null", "zero", "full", "random"] {
        assert!(matches!(devices.find(Path::new(name)), Err(PlaceError::NotRegular)), "{name}");
    }
}

// FS21.
#[test]
fn another_filesystem_below_a_directory_is_not_entered() {
    let root = |path: &str| Root::open(&MountPath::parse(path).unwrap()).unwrap();
    let own = tempfile::NamedTempFile::new_in("/dev/shm").unwrap();
    let name = Path::new(own.path().file_name().unwrap());
    assert!(root("/dev/shm").find(name).is_ok());
    let across = Path::new("shm").join(name);
    assert!(matches!(root("/dev").find(&across), Err(PlaceError::Escapes)));
    assert!(matches!(root("/dev").subdir(Path::new("shm")), Err(PlaceError::Escapes)));
}

/// Reads on until it is denied; how much it got, and why it ended.
fn read_on(ask: Ask<'_>, handle: Handle) -> (u64, Denial) {
    let mut got = 0;
    loop {
        match ask(on(handle, EntryCall::Read { offset: got, max: u32::MAX })) {
            Reply::Bytes(bytes) => {
                let length = bytes.0.len() as u64;
                assert!(length <= ONE_READ, "{length}");
                got += length;
            }
            Reply::Denied(denial) => return (got, denial),
            other => panic!("{other:?}"),
        }
    }
}

// FS11, FS24.
#[test]
fn a_sparse_file_of_a_tebibyte_is_read_in_small_pieces_and_fills_no_archive() {
    let mut place = place_with(&granting(
        r#""list", "read", "archive""#,
        "archive_to = { from = \"operator\" }\nmin_age = \"0s\"\nmax_bytes = \"64MiB\"\nmax_files = 8",
        "host_calls = 40",
    ));
    File::create(place.path("a.log")).unwrap().set_len(1 << 40).unwrap();
    place.plan(|ask| {
        let handle = entry(ask, "a.log");
        assert_eq!(denied(ask(on(handle, EntryCall::Archive))).rule, "max_bytes");
        let (got, denial) = read_on(ask, handle);
        assert_eq!(denial.rule, "host_calls");
        assert!(got > 0 && got <= 40 * ONE_READ, "{got}");
    });
    // However much a grant allows: what the archive's device has no room for is not begun.
    place.grants.files.values_mut().for_each(|dir| dir.max_bytes = Bytes(1 << 50));
    place.plan(|ask| {
        let handle = entry(ask, "a.log");
        assert_eq!(denied(ask(on(handle, EntryCall::Archive))).rule, "archive_to.room");
    });
    place.write("a.log", b"small");
    place.plan(|ask| {
        let handle = entry(ask, "a.log");
        assert!(matches!(ask(on(handle, EntryCall::Archive)), Reply::Count(_)));
    });
}

// FS12.
#[test]
fn a_file_that_grows_while_it_is_read_ends_with_the_budget() {
    let place = place_with(&granting(r#""list", "read", "tail""#, "", "host_calls = 200"));
    let path = place.write("a.log", b"one\n");
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut grows = File::options().append(true).open(&path).unwrap();
            while !stop.load(Ordering::Relaxed) && grows.metadata().unwrap().len() < 256 << 20 {
                grows.write_all(&[b'x'; 100_000]).unwrap();
            }
        });
        place.plan(|ask| {
            let handle = entry(ask, "a.log");
            let (got, denial) = read_on(ask, handle);
            stop.store(true, Ordering::Relaxed);
            assert_eq!(denial.rule, "host_calls");
            assert!(got > 0 && got <= 200 * ONE_READ, "{got}");
        });
    });
}

// FS24.
#[test]
fn what_a_run_may_write_ends_where_the_grant_says() {
    let more = "min_age = \"0s\"\nmax_bytes = \"1MiB\"\nmax_files = 8";
    let place = place_with(&granting(r#""list", "append""#, more, ""));
    place.write("a.log", b"one\n");
    place.plan(|ask| {
        let handle = entry(ask, "a.log");
        let append = |length: usize| on(handle, EntryCall::Append { content: Blob(vec![b'x'; length]) });
        assert_eq!(denied(ask(append((256 << 10) + 1))).rule, "content");
        for _ in 0..4 {
            assert!(matches!(ask(append(256 << 10)), Reply::Count(_)));
        }
        assert_eq!(denied(ask(append(1))).rule, "max_bytes");
    });
}

/// A runner whose clock is ahead of the files.
struct Later {
    seconds: u64,
}

impl Senses for Later {
    fn now(&self) -> Timestamp {
        Timestamp(crate::clock::wall().0 + self.seconds * 1000)
    }
    fn readings(&self, _: &SeriesId, _: u32) -> Vec<(Timestamp, f64)> {
        Vec::new()
    }
    fn check(&self, _: &HealthCheck) -> Result<HealthAnswer, CheckError> {
        Err(CheckError { reason: "no courier".into() })
    }
}

// FS20.
#[test]
fn a_modification_time_of_1970_makes_no_file_old() {
    let mut place = place_with_line("min_age = \"0s\"", "min_age = \"1h\"");
    let path = place.write("a.log", b"x");
    let long_ago = std::fs::FileTimes::new().set_modified(std::time::UNIX_EPOCH);
    File::options().write(true).open(&path).unwrap().set_times(long_ago).unwrap();
    place.world.senses = Arc::new(Later { seconds: 0 });
    place.plan(|ask| {
        let handle = entry(ask, "a.log");
        assert_eq!(denied(ask(on(handle, EntryCall::Remove))).rule, "min_age");
    });
    place.world.senses = Arc::new(Later { seconds: 2 * 3600 });
    place.plan(|ask| {
        let handle = entry(ask, "a.log");
        assert!(matches!(ask(on(handle, EntryCall::Remove)), Reply::Count(_)));
    });
}
