//! Real processes: the group of a supervised unit.

use std::process::{Child, Command};

use theriac_model::call::{Call, GroupCall, Interface, ProcessCall, Reply};
use theriac_model::effect::UndoOutcome;
use theriac_model::unit::Signal;

use super::world::*;
use crate::capability::processes::{mask_of, start_of};

fn sleeper(place: &Place) -> Child {
    let child = Command::new("/bin/sleep").arg("60").spawn().unwrap();
    let mut state = place.units.state.lock().unwrap();
    state.pids = vec![child.id()];
    state.active = theriac_model::unit::ActiveState::Active;
    child
}

fn mask(child: &Child) -> String {
    let id = theriac_model::unit::ProcessId { pid: child.id(), start: start_of(child.id()).unwrap() };
    mask_of(id).unwrap().text()
}

fn end(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_group_is_confined_and_gets_its_cpus_back() {
    let place = place();
    let child = sleeper(&place);
    let before = mask(&child);
    if before.len() == 1 && before.parse::<u32>().is_ok_and(|mask| mask.count_ones() < 2) {
        return end(child);
    }
    let done = place.both(|ask| {
        let group = open(ask, Interface::Processes, "group");
        assert_eq!(ask(Call::Group { handle: group, verb: GroupCall::SetAffinity { cpus: 1 } }), Reply::Done);
    });
    assert!(!done.must_undo(), "{done:?}");
    assert_ne!(mask(&child), before);
    assert_eq!(place.undo(), [UndoOutcome::Restored]);
    assert_eq!(mask(&child), before);
    end(child);
}

// PR04.
#[test]
fn a_signal_reaches_exactly_the_listed_process_and_no_other_signal_is_sent() {
    let place = place();
    let mut child = sleeper(&place);
    let signal = |ask: Ask<'_>, signal| {
        let group = open(ask, Interface::Processes, "group");
        let Reply::Processes(all) = ask(Call::Group { handle: group, verb: GroupCall::List }) else { panic!() };
        assert_eq!(all.len(), 1);
        ask(Call::Process { handle: all[0].handle, verb: ProcessCall::Signal { signal } })
    };
    place.plan(|ask| assert_eq!(denied(signal(ask, Signal::Hup)).rule, "signals"));
    assert!(child.try_wait().unwrap().is_none());
    let done = place.both(|ask| assert_eq!(signal(ask, Signal::Kill), Reply::Done));
    assert!(!done.must_undo(), "{done:?}");
    assert!(!child.wait().unwrap().success());
}

/// A process under exactly that number, where the kernel lets root choose the next one.
fn with_pid(pid: u32) -> Option<Child> {
    for _ in 0..200 {
        std::fs::write("/proc/sys/kernel/ns_last_pid", (pid - 1).to_string()).ok()?;
        let child = Command::new("/bin/sleep").arg("60").spawn().unwrap();
        if child.id() == pid {
            return Some(child);
        }
        end(child);
    }
    None
}

/// Until whatever starts has another start time than this one: the kernel counts them in hundredths of a second, and a number comes
/// round again after many thousands of processes.
fn wait_out_the_tick(child: &Child) {
    loop {
        let later = Command::new("/bin/sleep").arg("60").spawn().unwrap();
        let differs = start_of(later.id()) != start_of(child.id());
        end(later);
        if differs {
            return;
        }
    }
}

// PR02.
#[test]
fn who_took_over_the_number_of_a_listed_process_gets_no_signal() {
    let place = place();
    let child = sleeper(&place);
    let pid = child.id();
    let listed = |ask: Ask<'_>| {
        let group = open(ask, Interface::Processes, "group");
        let Reply::Processes(all) = ask(Call::Group { handle: group, verb: GroupCall::List }) else { panic!() };
        all[0].handle
    };
    let kill = |handle| Call::Process { handle, verb: ProcessCall::Signal { signal: Signal::Kill } };
    let plan = place.plan(|ask| {
        let handle = listed(ask);
        assert_eq!(ask(kill(handle)), Reply::Done);
    });
    let mut live = place.live(&plan);
    let mut ask = |call| crate::session::Host::answer(&mut live, call);
    let handle = listed(&mut ask);
    wait_out_the_tick(&child);
    end(child);
    let Some(mut other) = with_pid(pid) else {
        return println!("not possible here: a process can't be given a number");
    };
    assert_eq!(denied(ask(kill(handle))).cause, theriac_model::denial::DenialCause::StaleTarget);
    assert!(other.try_wait().unwrap().is_none(), "it still runs");
    end(other);
}

// PR01, SV08.
#[test]
fn the_runner_itself_is_a_member_of_nothing() {
    let place = place();
    place.units.state.lock().unwrap().pids = vec![std::process::id(), 1, 2];
    place.units.state.lock().unwrap().active = theriac_model::unit::ActiveState::Active;
    place.plan(|ask| {
        let group = open(ask, Interface::Processes, "group");
        assert_eq!(ask(Call::Group { handle: group, verb: GroupCall::List }), Reply::Processes(Vec::new()));
        let confine = Call::Group { handle: group, verb: GroupCall::SetAffinity { cpus: 1 } };
        assert_eq!(denied(ask(confine)).rule, "empty");
    });
}
