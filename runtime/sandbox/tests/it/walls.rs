//! The walls, tried from behind: real processes, the real kernel. Each refusal has a twin without walls that succeeds.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, ExitStatus, Stdio};

use theriac_model::call::{Export, Reply};
use theriac_protocol::worker::{EndReason, FromWorker};
use theriac_sandbox::trial::Attempt;
use theriac_sandbox::walls::seccomp::{ALLOWED, Deed};

use crate::guest;
use crate::runner::{End, LIMITS, Runner, command};

fn try_it(arguments: &[&str]) -> ExitStatus {
    let (_ours, theirs) = UnixStream::pair().unwrap();
    command(arguments).stdin(Stdio::from(OwnedFd::from(theirs))).spawn().unwrap().wait().unwrap()
}

#[test]
fn a_forbidden_system_call_kills_and_the_same_call_without_walls_works() {
    for (name, attempt) in Attempt::ALL {
        let (behind, bare) = (try_it(&["--try", name]), try_it(&["--try", name, "--bare"]));
        match attempt {
            Attempt::Nothing => assert_eq!((behind.code(), bare.code()), (Some(0), Some(0)), "{name}"),
            Attempt::Abort => {
                assert_eq!((behind.signal(), bare.signal()), (Some(libc::SIGABRT), Some(libc::SIGABRT)), "{name}");
            }
            Attempt::Crash => {
                assert_eq!((behind.signal(), bare.signal()), (Some(libc::SIGSEGV), Some(libc::SIGSEGV)), "{name}");
            }
            Attempt::Open
            | Attempt::Socket
            | Attempt::Exec
            | Attempt::Fork
            | Attempt::Ptrace
            | Attempt::Kill
            | Attempt::Memfd
            | Attempt::Executable => {
                assert_eq!((behind.signal(), bare.code()), (Some(libc::SIGSYS), Some(0)), "{name}");
            }
        }
    }
}

#[test]
fn what_stands_is_reported() {
    let runner = Runner::start(&[]).unwrap();
    let walls = runner.walls.join("\n");
    for wall in ["descriptors: one socket", "oom: ", "rlimits: ", "user: ", "no-new-privs", "landlock: ", "seccomp: "] {
        assert!(walls.contains(wall), "{wall} in {walls}");
    }
}

// RS18.
#[test]
fn the_kernel_agrees_with_the_report() {
    let runner = Runner::start(&[]).unwrap();
    let status = std::fs::read_to_string(format!("/proc/{}/status", runner.child.id())).unwrap();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
        line.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(field("NoNewPrivs:"), ["1"]);
    assert_eq!(field("Seccomp:"), ["2"]);
    assert_eq!(field("Threads:"), ["2"]);
    assert_eq!(field("CapEff:"), ["0000000000000000"]);
    assert_eq!(field("CapPrm:"), ["0000000000000000"]);
    if rustix::process::geteuid().is_root() {
        assert_eq!(field("Uid:"), ["64099"; 4]);
        assert_eq!(field("Gid:"), ["64099"; 4]);
        assert!(field("Groups:").is_empty());
        let descriptors = std::fs::read_dir(format!("/proc/{}/fd", runner.child.id())).unwrap().count();
        assert_eq!(descriptors, 1);
    }
    let victim = std::fs::read_to_string(format!("/proc/{}/oom_score_adj", runner.child.id())).unwrap();
    assert_eq!(victim.trim(), "1000");
}

#[test]
fn a_worker_that_would_stay_root_says_so_and_ends() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_theriac-worker"))
        .args(["--fd", "0"])
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .spawn()
        .unwrap();
    let said = theriac_protocol::frame::read::<FromWorker>(&mut ours).unwrap().message;
    assert!(
        matches!(&said, FromWorker::Ended { reason: EndReason::Worker, sentence }
            if sentence == "the worker is root and was given no user to become: pass `--uid` and `--gid`"),
        "{said:?}"
    );
    assert_eq!(child.wait().unwrap().code(), Some(74));
}

#[test]
fn arguments_that_make_no_sense_are_an_exit_code() {
    for arguments in [&["--fd", "x"][..], &["--uid", "5"], &["--nonsense"], &["--try", "nonsense"], &["--fd"]] {
        let status = Command::new(env!("CARGO_BIN_EXE_theriac-worker")).args(arguments).status().unwrap();
        assert_eq!(status.code(), Some(64), "{arguments:?}");
    }
}

/// Everything a worker ordinarily does: a small compilation and a larger one; a run with host calls and growing memory.
fn work(arguments: &[&str]) -> Result<(), End> {
    let component = guest::logging(
        "(drop (memory.grow (i32.const 100))) (call $info (i32.const 2048) (i32.const 4)) (i32.const 1024)",
    );
    let more = "(func (param i32) (result i32) local.get 0 i32.const 1 i32.add)".repeat(2_000);
    let larger = guest::text(&guest::Parts::default()).replacen(
        "(core instance $store",
        &format!("(core module {more}) (core instance $store"),
        1,
    );
    Runner::start(arguments)?.compile(&wat::parse_str(larger).unwrap())?;
    let (artefact, imports) = Runner::start(arguments)?.compile(&component)?;
    let mut runner = Runner::start(arguments)?;
    runner.load(&artefact, LIMITS, &imports)?;
    match runner.call(Export::Remediate, |_| Reply::Done) {
        End::Said(FromWorker::Remediated(_)) => {}
        other => return Err(other),
    }
    runner.hang_up();
    let status = runner.child.wait().unwrap();
    if status.success() { Ok(()) } else { Err(End::Died(status)) }
}

/// A guest that traps, and the sentence about it.
fn trap(arguments: &[&str]) -> Result<(), End> {
    let (artefact, imports) = Runner::start(arguments)?.compile(&guest::running("unreachable"))?;
    let mut runner = Runner::start(arguments)?;
    runner.load(&artefact, LIMITS, &imports)?;
    match runner.call(Export::Remediate, |_| Reply::Done) {
        End::Said(FromWorker::Ended { reason: EndReason::Trap, .. }) => Ok(()),
        other => Err(other),
    }
}

/// Stopped and sent on a few times: the clock's tick is what it is nearly always stopped in.
fn stopped(arguments: &[&str]) -> Result<(), End> {
    let runner = Runner::start(arguments)?;
    let pid = rustix::process::Pid::from_child(&runner.child);
    let state = || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", runner.child.id())).unwrap_or_default();
        stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next())
    };
    for _ in 0..20 {
        rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
        while matches!(state(), Some('R' | 'S' | 'D')) {
            std::thread::yield_now();
        }
        rustix::process::kill_process(pid, rustix::process::Signal::CONT).unwrap();
        while state() == Some('T') {
            std::thread::yield_now();
        }
    }
    runner.compile(&guest::running(guest::RETURN_ZEROS)).map(drop)
}

/// Whether a worker gets through the moment at which it needs the line.
fn gets_through(deed: Deed, without: &[&str]) -> bool {
    let dies_of = |attempt, signal| try_it(&[&["--try", attempt], without].concat()).signal() == Some(signal);
    match deed {
        Deed::Work => work(without).is_ok(),
        Deed::Trap => trap(without).is_ok(),
        Deed::Stopped => stopped(without).is_ok(),
        Deed::Abort => dies_of("abort", libc::SIGABRT),
        Deed::Crash => dies_of("crash", libc::SIGSEGV),
        Deed::Rare => true,
    }
}

#[test]
fn a_line_of_the_table_that_is_no_longer_needed_makes_this_fail() {
    for deed in [Deed::Work, Deed::Trap, Deed::Abort, Deed::Crash, Deed::Stopped] {
        assert!(gets_through(deed, &[]), "{deed:?} with the whole table");
    }
    for line in ALLOWED.iter().filter(|line| line.deed != Deed::Rare) {
        let without = gets_through(line.deed, &["--without", line.name]);
        assert!(!without, "`{}` is allowed for: {}; and nothing needs it", line.name, line.why);
    }
}

/// Six: what only a machine without a vDSO, a contended lock or an allocator's mood brings about.
#[test]
fn few_lines_are_there_on_trust() {
    let rare: Vec<&str> = ALLOWED.iter().filter(|line| line.deed == Deed::Rare).map(|line| line.name).collect();
    assert_eq!(rare, ["mremap", "madvise", "futex", "clock_gettime", "getrandom", "sched_yield"]);
}
