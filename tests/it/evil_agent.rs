//! An agent that was taken over, spoken by hand against the real runner: garbage, floods, replays, forged ids, messages that do not
//! exist. Only typed refusals come of it, no effect without a fault that is really there, and the runner goes on serving.

use std::io::{IoSlice, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::net::UnixStream;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use rustix::process::Signal;
use serde_json::{Value, json};
use theriac_model::effect::Outcome;
use theriac_model::record::{Proposal, Record};
use theriac_model::remedy::ParamValue;
use theriac_model::run::RunState;
use theriac_protocol::frame::{self, Frame};
use theriac_protocol::layout::Socket;
use theriac_protocol::runner::{RunnerAnswer, RunnerRequest};

use crate::host::{Host, PATIENCE, Service, Setup, playbook, proposal};

/// A service that is up, and a rung that would start it had it crashed. The rung leaves the remedy's parameter to the agent.
fn served() -> (Host, Service) {
    let web = Service::new("web");
    let rung = "  - remedy: service-recover\n    level: 1\n    healed_within: 10s\n    stable_for: 300ms\n";
    let host = Host::start(&Setup {
        services: vec![web.clone()],
        remedies: vec!["service-recover"],
        playbooks: vec![("test.yaml", playbook("test", "service-crash", "unit:web", rung))],
        ..Setup::default()
    });
    Host::wait_for_status(&web, "200");
    (host, web)
}

fn good(incident: &str) -> Proposal {
    with_step(incident, "start")
}

fn with_step(incident: &str, step: &str) -> Proposal {
    let mut proposal = proposal(incident, "service-crash", "unit:web", "test", "service-recover");
    proposal.params.insert("step".parse().unwrap(), ParamValue::Choice(step.to_owned()));
    proposal
}

fn connect(host: &Host) -> UnixStream {
    let stream = UnixStream::connect(host.layout.socket(Socket::Runner)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Sends a value that the types of the protocol would not let through; the answer, or nothing when the runner hung up.
fn raw(host: &Host, value: &Value) -> Option<RunnerAnswer> {
    let mut stream = connect(host);
    frame::write(&mut stream, &Frame { epoch: 0, id: 1, message: value }).ok()?;
    frame::read::<RunnerAnswer>(&mut stream).ok().map(|frame| frame.message)
}

fn serves(host: &Host) {
    assert!(matches!(host.ask(&RunnerRequest::Catalog), RunnerAnswer::Catalog(_)));
}

fn effects(host: &Host) -> usize {
    host.records().iter().filter(|record| matches!(record, Record::Intent { .. })).count()
}

/// Breaks the service, and has it healed: with the good proposal one effect, and no other has ever been done.
fn heals_and_nothing_else_was_done(mut host: Host, web: &Service) {
    // Nothing is open that could see the fault which comes now.
    host.wait_until_idle();
    assert_eq!(effects(&host), 0);
    // Another runner, whose rates nobody has used up: what the first took in must be something that it can begin with.
    host.kill_runner();
    host.start_runner(&[]);
    host.signal("web", Signal::KILL);
    let healed = host.heal(&good("i-the-good-one"));
    assert_eq!(healed.state, RunState::Committed, "{healed:?}\n{}", host.log("theriac-runner"));
    Host::wait_for_status(web, "200");
    let applied =
        host.records().iter().filter(|r| matches!(r, Record::Done { outcome: Outcome::Applied { .. }, .. })).count();
    assert_eq!((effects(&host), applied), (1, 1));
    host.verify_ledger();
}

// RN01.
#[test]
fn garbage_cut_frames_and_false_lengths_end_their_connection_and_nothing_else() {
    let (host, web) = served();
    let whole = frame::encode(&Frame { epoch: 0, id: 1, message: RunnerRequest::Catalog }).unwrap();
    let mut four_gigabytes = whole.clone();
    four_gigabytes[24..28].copy_from_slice(&u32::MAX.to_be_bytes());
    let mut other_version = whole.clone();
    other_version[5] = 9;
    let hostile: Vec<Vec<u8>> = vec![
        vec![0xff; 1 << 16],
        vec![0; 1 << 16],
        b"GET /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n".to_vec(),
        four_gigabytes,
        other_version,
        frame::encode(&Frame { epoch: 0, id: 1, message: "[".repeat(100_000) }).unwrap(),
        [&whole[..24], &100_000_u32.to_be_bytes(), "[".repeat(100_000).as_bytes()].concat(),
    ];
    for bytes in &hostile {
        let mut stream = connect(&host);
        // The runner may hang up before it has taken everything.
        stream.write_all(bytes).ok();
        assert!(frame::read::<RunnerAnswer>(&mut stream).is_err());
        serves(&host);
    }
    for cut in [1, 5, 27, 28, whole.len() - 1] {
        let mut stream = connect(&host);
        stream.write_all(&whole[..cut]).unwrap();
        drop(stream);
        serves(&host);
    }
    heals_and_nothing_else_was_done(host, &web);
}

// RN01.
#[test]
fn connections_that_say_nothing_and_one_that_never_reads_leave_room_for_others() {
    let (host, web) = served();
    {
        let _silent: Vec<UnixStream> = (0..12).map(|_| connect(&host)).collect();
        let mut deaf = connect(&host);
        deaf.set_write_timeout(Some(std::time::Duration::from_millis(500))).unwrap();
        let ask = frame::encode(&Frame { epoch: 0, id: 1, message: RunnerRequest::Catalog }).unwrap();
        while deaf.write_all(&ask).is_ok() {}
        serves(&host);
    }
    heals_and_nothing_else_was_done(host, &web);
}

// RN07, RN11.
#[test]
fn there_is_no_message_for_a_path_a_program_a_policy_or_a_mode() {
    let (host, web) = served();
    let propose = serde_json::to_value(RunnerRequest::Propose(Box::new(good("i-1")))).unwrap();
    let with = |pointer: &str, value: Value| {
        let mut changed = propose.clone();
        *changed.pointer_mut(pointer).unwrap_or_else(|| panic!("{pointer} in {propose}")) = value;
        changed
    };
    let mut extra = propose.clone();
    extra["propose"]["component"] = json!("AGFzbQ0AAQA=");
    for message in [
        json!({ "set-policy": { "text": "permit (principal, action, resource);" } }),
        json!({ "mode": "disabled" }),
        json!({ "stop-audit": null }),
        json!({ "run": { "argv": ["/bin/sh", "-c", "id"] } }),
        json!({ "consent": { "incident": "i-1", "plan": "sha256:00", "note": null } }),
        json!({ "hold": { "target": null, "span": null } }),
        json!({ "resume": { "target": null } }),
        json!({ "reload": null }),
        json!("reload"),
        json!(null),
        json!([]),
        json!({}),
        json!({ "catalog": null, "units": null }),
        extra,
        with("/propose/incident", json!("../../etc/passwd")),
        with("/propose/incident", json!("x".repeat(1 << 16))),
        with("/propose/remedy", json!("/tmp/evil.wasm")),
        with("/propose/remedy", json!("service-recover\0")),
        with("/propose/remedy", json!("s\u{435}rvice-recover")),
        with("/propose/playbook", json!("https://evil.example/p.yaml")),
        with("/propose/target", json!("unit:web ssh.service")),
        with("/propose/target", json!("mount:../../etc")),
        with("/propose/kind", json!("everything")),
        with("/propose/rung", json!(-1)),
        with("/propose/rung", json!(u64::MAX)),
        with("/propose/params", json!({ "../step": { "choice": "start" } })),
        with("/propose/params", json!({ "step": { "argv": ["rm", "-rf", "/"] } })),
    ] {
        match raw(&host, &message) {
            None => {}
            Some(answer) => panic!("{message} was answered with {answer:?}"),
        }
        serves(&host);
    }
    // As it was made it is a message, and is answered.
    assert!(matches!(raw(&host, &propose), Some(RunnerAnswer::Accepted { .. })));
    host.wait_for(&good("i-1"), RunState::is_terminal);
    heals_and_nothing_else_was_done(host, &web);
}

// RN05.
#[test]
fn a_parameter_outside_its_choices_runs_nothing() {
    let (host, web) = served();
    host.signal("web", Signal::KILL);
    host.wait_for_unit("web", |unit| !unit.is_up());
    for (at, step) in
        ["", "reboot", "start; reboot", "START", "--force", "st\u{430}rt", "../start"].into_iter().enumerate()
    {
        let run = host.heal(&with_step(&format!("i-{at}"), step));
        assert_eq!(run.state, RunState::Refused, "{step:?}: {run:?}");
    }
    let mut number = good("i-number");
    number.params.insert("step".parse().unwrap(), ParamValue::Integer(1));
    assert_eq!(host.heal(&number).state, RunState::Refused);
    let mut more = good("i-more");
    more.params.insert("argv".parse().unwrap(), ParamValue::Choice("rm".to_owned()));
    assert_eq!(host.heal(&more).state, RunState::Refused);
    assert_eq!(effects(&host), 0);
    assert_eq!(host.heal(&good("i-good")).state, RunState::Committed);
    Host::wait_for_status(&web, "200");
}

// RN08.
#[test]
fn descriptors_that_are_sent_along_are_not_taken() {
    let (host, web) = served();
    let path = host.path().join("sent");
    let file = std::fs::File::create(&path).unwrap();
    let held = || {
        let links = std::fs::read_dir(format!("/proc/{}/fd", host.runner_pid())).unwrap().flatten();
        links.filter(|fd| std::fs::read_link(fd.path()).is_ok_and(|link| link == path)).count()
    };
    let mut stream = connect(&host);
    let ask = frame::encode(&Frame { epoch: 0, id: 1, message: RunnerRequest::Catalog }).unwrap();
    // As many as the kernel lets one message carry.
    let descriptors: Vec<BorrowedFd<'_>> = (0..253).map(|_| file.as_fd()).collect();
    for _ in 0..20 {
        let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(253))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(control.push(SendAncillaryMessage::ScmRights(&descriptors)));
        let sent = sendmsg(&stream, &[IoSlice::new(&ask)], &mut control, SendFlags::empty()).unwrap();
        assert_eq!(sent, ask.len());
        assert!(matches!(frame::read::<RunnerAnswer>(&mut stream).unwrap().message, RunnerAnswer::Catalog(_)));
        assert_eq!(held(), 0);
    }
    drop(stream);
    heals_and_nothing_else_was_done(host, &web);
}

// RN02, RN06.
#[test]
fn epochs_and_ids_of_frames_give_no_right() {
    let (host, web) = served();
    let say = |stream: &mut UnixStream, epoch, id, message: &RunnerRequest| {
        frame::write(stream, &Frame { epoch, id, message }).unwrap();
        let answer = frame::read::<RunnerAnswer>(stream).unwrap();
        assert_eq!((answer.id, answer.epoch > 0), (id, true), "the runner's own epoch, whatever was sent");
        answer.message
    };
    let mut stream = connect(&host);
    let proposal = RunnerRequest::Propose(Box::new(good("i-1")));
    let first = say(&mut stream, 0, 7, &proposal);
    assert!(matches!(first, RunnerAnswer::Accepted { .. }));
    // The same frame, an older one, one of a runner that is not yet: one run.
    for (epoch, id) in [(0, 7), (1, 7), (u64::MAX, 0), (0, u64::MAX)] {
        assert_eq!(say(&mut stream, epoch, id, &proposal), first);
    }
    let reserved = host.records().iter().filter(|record| matches!(record, Record::Reserved { .. })).count();
    assert_eq!(reserved, 1);
    // The fault is not there, so that this was all.
    assert_eq!(host.wait_for(&good("i-1"), RunState::is_terminal).state, RunState::Superseded);
    heals_and_nothing_else_was_done(host, &web);
}

/// One frame at random: a request with ids at random, or bytes that are none.
fn said() -> impl Strategy<Value = Vec<u8>> {
    let word = |words: &'static [&'static str]| prop::sample::select(words);
    let proposal = (
        word(&["i-1", "i-2", "i-3"]),
        word(&["service-crash", "service-unhealthy", "disk-full", "memory-leak"]),
        word(&["unit:web", "unit:db", "mount:/", "host"]),
        word(&["test", "service-crash", "disk-full"]),
        word(&["service-recover", "disk-reclaim"]),
        0_u32..3,
        word(&["start", "restart", "reboot"]),
    );
    let proposal = proposal.prop_map(|(incident, kind, target, playbook, remedy, rung, step)| {
        let mut made = crate::host::proposal(incident, kind, target, playbook, remedy);
        made.rung = rung;
        made.params.insert("step".parse().unwrap(), ParamValue::Choice(step.to_owned()));
        RunnerRequest::Propose(Box::new(made))
    });
    let request = prop_oneof![
        6 => proposal,
        1 => Just(RunnerRequest::Catalog),
        1 => Just(RunnerRequest::Numbers),
        1 => Just(RunnerRequest::Hello { version: "x".repeat(10_000) }),
        1 => word(&["web", "db", "theriac-runner.service"]).prop_map(|unit| RunnerRequest::LogTail {
            unit: unit.parse().unwrap(),
            lines: u32::MAX,
        }),
        1 => word(&["i-1", "i-9"]).prop_map(|incident| RunnerRequest::Runs { incident: incident.parse().unwrap() }),
        1 => ".{0,80}".prop_map(|text| RunnerRequest::NotActing {
            incident: "i-1".parse().unwrap(),
            kind: "service-crash".parse().unwrap(),
            target: "unit:web".parse().unwrap(),
            reason: text.clone(),
            summary: text.repeat(100),
        }),
    ];
    let frame = (request, any::<u64>(), any::<u64>())
        .prop_map(|(message, epoch, id)| frame::encode(&Frame { epoch, id, message }).unwrap());
    let frame = frame.boxed();
    let damaged = (frame.clone(), any::<prop::sample::Index>(), any::<u8>()).prop_map(|(mut bytes, at, byte)| {
        let at = at.index(bytes.len());
        if let Some(there) = bytes.get_mut(at) {
            *there = byte;
        }
        bytes
    });
    prop_oneof![6 => frame, 2 => damaged, 1 => proptest::collection::vec(any::<u8>(), 0..200)]
}

// RN01, RN03, RN04.
#[test]
fn no_sequence_of_frames_changes_anything_while_there_is_no_fault() {
    let (host, web) = served();
    let mut runner = TestRunner::new(Config { cases: 48, failure_persistence: None, ..Config::default() });
    let outcome = runner.run(&proptest::collection::vec(said(), 0..12), |sequence| {
        let mut stream = connect(&host);
        for bytes in sequence {
            // The runner hangs up on the first that is no frame.
            if stream.write_all(&bytes).is_err() {
                break;
            }
        }
        stream.shutdown(std::net::Shutdown::Write).ok();
        while frame::read::<RunnerAnswer>(&mut stream).is_ok() {}
        serves(&host);
        Ok(())
    });
    outcome.unwrap();
    heals_and_nothing_else_was_done(host, &web);
}
