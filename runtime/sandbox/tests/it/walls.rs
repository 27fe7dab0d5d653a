//! The walls, tried from behind: real processes, the real kernel. Each refusal has a twin without walls that succeeds.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, ExitStatus, Stdio};

use theriac_model::call::{Export, Reply};
use theriac_protocol::worker::{EndReason, FromWorker};
use theriac_sandbox::trial::Attempt;
use theriac_sandbox::walls::seccomp::ALLOWED;

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

/// Everything a worker ordinarily does: a compilation; a run with host calls and growing memory; a refused component.
fn ordinary_work(arguments: &[&str]) -> Result<(), End> {
    let component = guest::logging(
        "(drop (memory.grow (i32.const 100))) (call $info (i32.const 2048) (i32.const 4)) (i32.const 1024)",
    );
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

#[test]
fn a_line_of_the_table_that_is_no_longer_needed_makes_this_fail() {
    ordinary_work(&[]).unwrap();
    for line in ALLOWED.iter().filter(|line| line.exercised) {
        let outcome = ordinary_work(&["--without", line.name]);
        assert!(outcome.is_err(), "`{}` is allowed for: {}; and nothing needs it", line.name, line.why);
    }
}
