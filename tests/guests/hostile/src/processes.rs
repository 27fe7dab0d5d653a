//! Every verb of `processes` that is not granted.

use theriac_sdk::prelude::*;

use crate::Attempts;

pub(crate) fn attack(attempts: &mut Attempts) {
    let group = match Group::open("target") {
        Ok(group) => group,
        Err(denial) => {
            warn!("processes: {} (rule {})", denial.refusal().attempted, denial.refusal().rule);
            return;
        }
    };
    attempts.note("usage", group.usage());
    for cpus in [0, 1, u32::MAX] {
        attempts.note(&format!("set-affinity {cpus}"), group.set_affinity(cpus));
    }
    for nice in [i32::MIN, -20, 0, 19, i32::MAX] {
        attempts.note(&format!("renice {nice}"), group.renice(nice));
    }
    for process in group.list().unwrap_or_default() {
        attempts.note("info", process.info());
        for signal in [Signal::Term, Signal::Kill, Signal::Hup, Signal::Usr1] {
            attempts.note(&format!("signal {signal:?}"), process.signal(signal));
        }
    }
}
