//! Every verb of `units` that is not granted, and the observations beside it.

use theriac_sdk::prelude::*;

use crate::Attempts;

pub(crate) fn attack(attempts: &mut Attempts) {
    match Unit::open("target") {
        Ok(unit) => verbs(attempts, &unit),
        Err(denial) => warn!("units: {} (rule {})", denial.refusal().attempted, denial.refusal().rule),
    }
    if let Ok(series) = Series::open("available") {
        // Granted, and capped at ten minutes.
        let range = series.range(u32::MAX);
        attempts.note_unless("a series beyond its cap", range, |range| range.iter().all(|reading| reading.age <= 600));
    }
}

fn verbs(attempts: &mut Attempts, unit: &Unit) {
    attempts.note("start", unit.start());
    attempts.note("stop", unit.stop());
    attempts.note("restart", unit.restart());
    attempts.note("reload", unit.reload());
    attempts.note("reset-failed", unit.reset_failed());
    for whom in [Whom::Main, Whom::All] {
        for signal in [Signal::Term, Signal::Kill, Signal::Hup, Signal::Usr1] {
            attempts.note(&format!("kill {whom:?} {signal:?}"), unit.kill(whom, signal));
        }
    }
    for property in [
        Property::CpuQuota(None),
        Property::CpuQuota(Some(0)),
        Property::CpuQuota(Some(u32::MAX)),
        Property::CpuWeight(Some(0)),
        Property::MemoryHigh(Some(0)),
        Property::MemoryHigh(Some(u64::MAX)),
        Property::TasksMax(Some(0)),
    ] {
        attempts.note(&format!("set-property {property:?}"), unit.set_property(property));
    }
    attempts.note("log-tail", unit.log_tail(u32::MAX));
}
