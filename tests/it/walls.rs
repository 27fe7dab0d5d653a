//! The walls as they stand while everything runs: what the kernel says of the running runner, and what becomes of a real worker that
//! the kernel has stopped.

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use theriac_authority::package;
use theriac_model::call::{Call, Export, FaultInput, Handle, Reply};
use theriac_model::denial::{Denial, DenialCause};
use theriac_model::fault::{FaultKind, Severity};
use theriac_model::remedy::ParamValue;
use theriac_protocol::process::Identity;
use theriac_protocol::worker::{EndReason, WorkerLimits};
use theriac_runner::worker::{Artefact, Compiled, Ending, Worker, WorkerConfig, WorkerError};

use crate::host::{Host, Service, Setup, binary, guest, is_root};

const LIMITS: WorkerLimits =
    WorkerLimits { memory: 16 << 20, time_ms: 1_000, host_calls: 100_000, handles: 64, log_bytes: 4_096 };

/// The numbers of a process' sockets.
fn sockets(pid: u32) -> BTreeSet<u64> {
    let inode = |link: &Path| link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok();
    let links =
        fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten().filter_map(|fd| fs::read_link(fd.path()).ok());
    links.filter_map(|link| inode(&link)).collect()
}

/// Those of its network namespace that are no Unix sockets.
fn inet_sockets(pid: u32) -> BTreeSet<u64> {
    let families = ["tcp", "tcp6", "udp", "udp6", "udplite", "raw", "raw6", "icmp", "packet", "netlink"];
    let tables = families.into_iter().filter_map(|name| fs::read_to_string(format!("/proc/{pid}/net/{name}")).ok());
    // The number of the inode is the tenth column of most tables, and the last of the others.
    let inode = |line: &str| {
        let columns: Vec<&str> = line.split_ascii_whitespace().collect();
        [columns.get(9), columns.last()]
            .into_iter()
            .flatten()
            .filter_map(|word| word.parse().ok())
            .collect::<Vec<u64>>()
    };
    tables
        .flat_map(|table| table.lines().skip(1).flat_map(inode).collect::<Vec<u64>>())
        .filter(|inode| *inode > 0)
        .collect()
}

#[test]
fn the_running_runner_holds_no_socket_but_unix_ones_and_can_make_no_other() {
    let host = Host::start(&Setup { services: vec![Service::new("web")], ..Setup::default() });
    host.main_pid("web");
    let runner = host.runner_pid();
    let held = sockets(runner);
    assert!(held.len() >= 2, "its own two listen: {held:?}");
    assert!(held.is_disjoint(&inet_sockets(runner)));
    // The twin: this very process, looked at in the same way.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let own = std::process::id();
    assert!(!sockets(own).is_disjoint(&inet_sockets(own)), "{listener:?}");
    for thread in fs::read_dir(format!("/proc/{runner}/task")).unwrap().flatten() {
        // A thread that ended since has no status any more.
        let Ok(status) = fs::read_to_string(thread.path().join("status")) else { continue };
        assert!(status.contains("Seccomp:\t2"), "{status}");
    }
}

fn workers() -> WorkerConfig {
    let identities = if is_root() { vec![Identity { uid: 64_099, gid: 64_099 }] } else { Vec::new() };
    WorkerConfig { program: binary("theriac-worker"), identities }
}

/// The only worker that this process has started itself.
fn worker_pid() -> Pid {
    let of_ours = |pid: &i32| {
        let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
        let Some((head, tail)) = stat.rsplit_once(") ") else { return false };
        let parent = tail.split(' ').nth(1).and_then(|number| number.parse::<u32>().ok());
        head.ends_with("(theriac-worker") && parent == Some(std::process::id())
    };
    let numbers = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let mut found = numbers.filter(of_ours);
    let pid = found.next().expect("a worker");
    assert_eq!(found.next(), None, "one at a time");
    Pid::from_raw(pid).unwrap()
}

fn is_gone(pid: Pid) -> bool {
    !Path::new(&format!("/proc/{}", pid.as_raw_nonzero())).exists()
}

/// A remedy that asks for the state of its unit for as long as it gets an answer.
fn asks_for_ever() -> Artefact {
    let package = package::open(guest("bombs")).unwrap();
    match Worker::start(&workers(), 0).unwrap().compile(&package.bytes).unwrap() {
        Compiled::Artefact(artefact) => artefact,
        Compiled::Refused { sentence, .. } => panic!("{sentence}"),
    }
}

fn fault() -> FaultInput {
    FaultInput {
        kind: FaultKind::ServiceCrash,
        severity: Severity::Critical,
        target: "unit:web".into(),
        summary: "it is down".into(),
        numbers: Vec::new(),
        evidence: Vec::new(),
        params: vec![("bomb".parse().unwrap(), ParamValue::Choice("calls".into()))],
    }
}

fn answer(call: &Call) -> Reply {
    match call {
        Call::Open { .. } => Reply::Opened(Handle(1)),
        _ => Reply::Denied(Denial::new(DenialCause::Unavailable, "target", "test", "status")),
    }
}

// RS19, RN14.
#[test]
fn a_worker_that_the_kernel_has_stopped_is_killed_at_the_deadline() {
    let artefact = asks_for_ever();
    let load = || {
        let mut worker = Worker::start(&workers(), 0).unwrap();
        assert_eq!(worker.load(&artefact, LIMITS, artefact.imports.clone()).unwrap(), None);
        worker
    };
    let time = Duration::from_millis(LIMITS.time_ms);
    // The twin: a denial of its first question is an answer, and it returns.
    let twin = load().call(Export::Remediate, fault(), time, |call| answer(&call));
    assert!(matches!(twin, Ending::Remediated(_)), "{twin:?}");

    // Neither its epochs nor its clock can tick: a stopped process has no thread that runs.
    let worker = load();
    let (pid, begun) = (worker_pid(), Instant::now());
    let ending = worker.call(Export::Remediate, fault(), time, |call| {
        kill_process(pid, Signal::STOP).unwrap();
        answer(&call)
    });
    let took = begun.elapsed();
    assert_eq!(
        ending,
        Ending::Ended { reason: EndReason::Time, sentence: "killed at the time limit of 1000 ms".to_owned() }
    );
    assert!(took >= time && took < time * 10, "{took:?}");
    assert!(is_gone(pid));

    // One that stops before it has taken its remedy in can't hold the runner by not reading.
    let mut worker = Worker::start(&workers(), 0).unwrap();
    let pid = worker_pid();
    kill_process(pid, Signal::STOP).unwrap();
    let large = Artefact { bytes: vec![0; 8 << 20], ..artefact.clone() };
    let begun = Instant::now();
    assert!(matches!(worker.load(&large, LIMITS, Vec::new()), Err(WorkerError::Gone { .. })));
    assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
    drop(worker);
    assert!(is_gone(pid));
}
