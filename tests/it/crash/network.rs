//! Runs that change what each network namespace has for itself: a number of the kernel's, a set of its firewall. Each is played
//! in a namespace of its own, so that nothing of the machine that runs the tests is touched.

use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};

use theriac_model::effect::UndoOutcome;
use theriac_model::record::Record;
use theriac_model::run::{RunEvent, RunState};

use super::drive::comes_back_late;
use super::own::{self, sick};
use super::stage::{Case, Need, Stage};
use crate::host::{Host, Setup};

const KNOB: &str = "/proc/sys/net/ipv4/tcp_fin_timeout";
/// Of that number on every Linux, and what the remedy makes it.
const BEFORE: i64 = 60;
const SET: i64 = 31;
const KNOB_RULES: &str = "\n[[knob]]\nname = \"net.ipv4.tcp_fin_timeout\"\nrange = { min = 10, max = 120 }\n";
const FIREWALL_RULES: &str =
    "\n[[firewall]]\nlabel = \"abusers\"\nfamily = \"inet\"\ntable = \"heal\"\nset = \"block4\"\nverbs = [\"add\"]\n";
const TABLE: &str = "table inet heal {
    set block4 { type ipv4_addr; flags timeout,interval; }
    chain input { type filter hook input priority 0; ip saddr @block4 drop; }
}";

pub(super) const SETS_A_NUMBER: Case = Case { needs: Need::Network, ..own::case(own::verb!("set"), sets_a_number) };

/// What sets a namespace up and looks at it.
pub(super) fn missing() -> Option<&'static str> {
    let there = |tool| Command::new(tool).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    (!there("ip") || !there("nft")).then_some("`ip` or `nft` is not installed")
}

/// This thread, and whatever it starts from now on, is in a namespace with nothing but a loopback.
fn apart() {
    #[expect(unsafe_code, reason = "the call is unsafe for processes that share descriptors; this shares none")]
    // SAFETY: only this thread's network namespace changes.
    unsafe {
        rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNET).unwrap();
    }
    assert!(Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap().success());
}

fn sets_a_number() -> Stage {
    apart();
    sick(Host::scratch(), KNOB_RULES.to_owned(), |_| {
        let before = fs::read_to_string(KNOB).unwrap();
        Box::new(move |_, state| assert_eq!(fs::read_to_string(KNOB).unwrap(), before, "{state}"))
    })
}

pub(super) fn keeps_an_address_out() -> Stage {
    apart();
    let mut nft = Command::new("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    nft.stdin.take().unwrap().write_all(TABLE.as_bytes()).unwrap();
    assert!(nft.wait().unwrap().success());
    sick(Host::scratch(), FIREWALL_RULES.to_owned(), |_| {
        Box::new(move |_, state| {
            let set = Command::new("nft").args(["list", "set", "inet", "heal", "block4"]).output().unwrap();
            let set = String::from_utf8(set.stdout).unwrap();
            assert!(set.contains("set block4") && !set.contains("elements"), "{state}: {set}");
        })
    })
}

fn number() -> i64 {
    fs::read_to_string(KNOB).unwrap().trim().parse().unwrap()
}

fn put_back_of(records: &[Record]) -> Vec<&UndoOutcome> {
    let mut outcomes = Vec::new();
    for record in records {
        if let Record::UndoDone { outcome, .. } = record {
            outcomes.push(outcome);
        }
    }
    outcomes
}

/// In the middle of the run, where nobody wrote what came of it, and after it.
#[test]
fn a_runner_that_does_not_come_back_has_its_number_put_back_and_the_run_is_undone_once() {
    if let Some(why) = SETS_A_NUMBER.impossible() {
        return println!("not possible here: {why}");
    }
    for moment in ["gate.after-intent", "gate.after-apply", "run.verifying"] {
        let (state, records) = comes_back_late(&SETS_A_NUMBER, moment, |host| {
            let set = if moment == "gate.after-intent" { BEFORE } else { SET };
            assert_eq!(number(), set, "killed at {moment}");
            assert!(host.put_back().success(), "{}", host.log("theriac-runner"));
            assert_eq!(number(), BEFORE, "killed at {moment}");
            assert!(host.put_back().success(), "twice is harmless: {}", host.log("theriac-runner"));
            assert_eq!(number(), BEFORE, "killed at {moment}");
        });
        assert_eq!((state, number()), (RunState::Undone, BEFORE), "killed at {moment}: {records:#?}");
        let failed = records.iter().filter(|one| matches!(one, Record::Moved { event: RunEvent::Failed, .. }));
        assert_eq!(failed.count(), 1, "killed at {moment}: {records:#?}");
        match put_back_of(&records)[..] {
            [UndoOutcome::NotNeeded { .. }] => assert_eq!(moment, "gate.after-intent"),
            [UndoOutcome::Restored] => assert_ne!(moment, "gate.after-intent"),
            ref other => panic!("killed at {moment}: {other:?}"),
        }
    }
}

#[test]
fn a_number_that_somebody_has_set_since_is_left_alone_and_a_person_is_asked() {
    if let Some(why) = SETS_A_NUMBER.impossible() {
        return println!("not possible here: {why}");
    }
    let (state, records) = comes_back_late(&SETS_A_NUMBER, "gate.after-done", |host| {
        fs::write(KNOB, "45").unwrap();
        assert!(host.put_back().success(), "{}", host.log("theriac-runner"));
        assert_eq!(number(), 45);
    });
    assert_eq!((state, number()), (RunState::FailedNeedsPerson, 45), "{records:#?}");
    assert!(matches!(put_back_of(&records)[..], [UndoOutcome::ChangedSince { .. }]), "{records:#?}");
}

#[test]
fn beside_a_runner_that_lives_nothing_is_put_back() {
    let host = Host::start(&Setup::default());
    let before = host.records().len();
    assert!(!host.put_back().success());
    assert_eq!(host.records().len(), before);
    let log = host.log("theriac-runner");
    assert!(log.contains("journal"), "{log}");
}
