//! Real numbers of the kernel's, in a network namespace of the test's own: what is set there is set nowhere else.

use theriac_model::call::{Call, Interface, Reply};
use theriac_model::effect::{Observed, UndoOutcome};
use theriac_model::kernel::{KnobCall, KnobInfo};
use theriac_model::record::Record;

use super::world::*;
use crate::recover::{Happened, observe};
use crate::undo::Intent;

const KNOB: &str = "/proc/sys/net/ipv4/tcp_fin_timeout";
const GRANTS: &str = r#"
[grants.kernel.fin]
knob = "net.ipv4.tcp_fin_timeout"
verbs = ["get", "set"]
range = { min = 10, max = 120 }
why = "tests"

[grants.kernel.ports]
knob = "net.ipv4.ip_local_port_range"
verbs = ["get"]
why = "tests"

[grants.kernel.gone]
knob = "net.ipv4.no_such_number"
verbs = ["get"]
why = "tests"
"#;
const HOST: &str = r#"
[[knob]]
name = "net.ipv4.tcp_fin_timeout"
range = { min = 10, max = 120 }
[[knob]]
name = "net.ipv4.ip_local_port_range"
[[knob]]
name = "net.ipv4.no_such_number"
"#;

/// Numbers below `net.` are those of the caller's namespace.
fn in_a_namespace(test: impl FnOnce(&Place) + Send + 'static) {
    let thread = std::thread::spawn(move || {
        #[expect(unsafe_code, reason = "the call is unsafe for processes that share descriptors; this shares none")]
        // SAFETY: only this thread's network namespace changes, and the thread ends with the test.
        let apart = unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNET) };
        match apart {
            Ok(()) => test(&place_granting(GRANTS, HOST)),
            Err(errno) => println!("not possible here: a network namespace needs root ({errno})"),
        }
    });
    thread.join().unwrap();
}

fn now() -> i64 {
    std::fs::read_to_string(KNOB).unwrap().trim().parse().unwrap()
}

fn ask_for(ask: Ask<'_>, label: &str, verb: KnobCall) -> Reply {
    let handle = open(ask, Interface::Kernel, label);
    ask(Call::Knob { handle, verb })
}

#[test]
fn a_number_is_set_within_its_range_and_put_back() {
    in_a_namespace(|place| {
        let before = now();
        let done = place.both(|ask| {
            assert_eq!(ask_for(ask, "fin", KnobCall::Set { value: 30 }), Reply::Done);
            let Reply::Knob(info) = ask_for(ask, "fin", KnobCall::Get) else { panic!() };
            assert_eq!(info.value, 30);
        });
        assert!(!done.must_undo(), "{done:?}");
        assert_eq!(now(), 30);
        assert_eq!(place.undo(), [UndoOutcome::Restored]);
        assert_eq!((now(), place.undo()), (before, vec![UndoOutcome::Restored]), "twice is harmless");
    });
}

#[test]
fn a_dry_run_sets_nothing_and_reads_what_it_assumes() {
    in_a_namespace(|place| {
        let before = now();
        let plan = place.plan(|ask| {
            assert_eq!(ask_for(ask, "fin", KnobCall::Get), Reply::Knob(KnobInfo { value: before, assumed: false }));
            assert_eq!(ask_for(ask, "fin", KnobCall::Set { value: 30 }), Reply::Done);
            assert_eq!(ask_for(ask, "fin", KnobCall::Get), Reply::Knob(KnobInfo { value: 30, assumed: true }));
        });
        assert_eq!(now(), before);
        assert_eq!(plan.effects[0].before, Observed::Knob(before));
    });
}

#[test]
fn what_lies_outside_the_range_or_is_no_number_is_denied() {
    in_a_namespace(|place| {
        let before = now();
        place.both(|ask| {
            assert_eq!(denied(ask_for(ask, "fin", KnobCall::Set { value: 9 })).rule, "range");
            assert_eq!(denied(ask_for(ask, "ports", KnobCall::Get)).rule, "number");
            assert_eq!(denied(ask_for(ask, "ports", KnobCall::Set { value: 1 })).rule, "verbs");
            assert_eq!(denied(ask_for(ask, "gone", KnobCall::Get)).rule, "kernel");
        });
        assert_eq!(now(), before);
    });
}

#[test]
fn what_somebody_else_has_set_since_is_left_alone() {
    in_a_namespace(|place| {
        place.both(|ask| assert_eq!(ask_for(ask, "fin", KnobCall::Set { value: 30 }), Reply::Done));
        std::fs::write(KNOB, "45\n").unwrap();
        assert!(matches!(place.undo()[..], [UndoOutcome::ChangedSince { .. }]));
        assert_eq!(now(), 45);
    });
}

#[test]
fn after_a_crash_the_number_itself_says_whether_it_was_set() {
    in_a_namespace(|place| {
        let before = now();
        place.both(|ask| assert_eq!(ask_for(ask, "fin", KnobCall::Set { value: 30 }), Reply::Done));
        let entries = place.without_outcomes();
        let happened = || {
            let intent = entries.iter().find(|entry| matches!(entry.record, Record::Intent { .. })).unwrap();
            observe(&place.world, &Intent::of(&intent.record).unwrap())
        };
        assert_eq!(happened(), Happened::Yes(Observed::Knob(30)));
        std::fs::write(KNOB, "45\n").unwrap();
        assert!(matches!(happened(), Happened::Unknown { .. }));
        std::fs::write(KNOB, format!("{before}\n")).unwrap();
        assert_eq!(happened(), Happened::No);
        std::fs::write(KNOB, "30\n").unwrap();
        assert_eq!(place.undo_with(&entries, theriac_model::verdict::Verdict::Unknown), [UndoOutcome::Restored]);
        assert_eq!(now(), before, "the runner comes back and puts it back");
    });
}
