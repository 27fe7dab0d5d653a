//! Calms a unit that takes the machine's CPU.
//!
//! One run is one rung, and the parameter `step` says which: `throttle` leaves the unit running with less (a CPU quota; where
//! the kernel or the backend has none, fewer CPUs; where there is only one, a higher nice value), `restart` restarts it
//! once. A throttle is taken back exactly, so it comes first.
#![no_std]

use theriac_sdk::prelude::*;
use theriac_sdk::processes::Usage;

theriac_sdk::remedy!(treat, check);

/// Behind everything that is not throttled, and ahead of idle work.
const NICE: i32 = 10;

fn treat(input: &Input) -> Result<Report, Denial> {
    let unit = Unit::open("target")?;
    if !unit.status()?.is_up() {
        return Ok(Report::NothingToDo(format!("{} does not run", unit.name())));
    }
    let group = Group::open("target")?;
    let usage = group.usage()?;
    if let Some((name, cpu)) = group.largest(|process| process.cpu.into())? {
        info!("{} processes take {} thousandths of a core; the busiest is {name} ({cpu})", usage.processes, usage.cpu);
    }
    match input.param_choice("step") {
        "throttle" => throttle(&unit, &group, &usage, input.param_integer("share")),
        "restart" => {
            unit.restart()?;
            Ok(Report::Treated(format!("{} restarted", unit.name())))
        }
        step => Ok(Report::GaveUp(format!("there is no step `{step}`"))),
    }
}

/// The mildest way that this machine has.
fn throttle(unit: &Unit, group: &Group, usage: &Usage, share: i64) -> Result<Report, Denial> {
    let quota = quota(usage.cpus_allowed, share);
    match unit.set_property(Property::CpuQuota(Some(quota))) {
        Ok(()) => return Ok(Report::Treated(format!("{} may take {quota} thousandths of a core", unit.name()))),
        Err(denial) if denial.is_unavailable() => info!("no CPU quota here: {}", denial.refusal().attempted),
        Err(denial) => return Err(denial),
    }
    if let Some(cpus) = fewer(usage.cpus_allowed, share) {
        match group.set_affinity(cpus) {
            Ok(()) => return Ok(Report::Treated(format!("{} confined to {cpus} CPUs", unit.name()))),
            Err(denial) if denial.is_unavailable() => info!("no CPU affinity here: {}", denial.refusal().attempted),
            Err(denial) => return Err(denial),
        }
    }
    match group.renice(NICE) {
        Ok(()) => Ok(Report::Treated(format!("{} reniced to {NICE}", unit.name()))),
        Err(denial) if denial.is_unavailable() => Ok(Report::GaveUp("this machine can't throttle it".to_string())),
        Err(denial) => Err(denial),
    }
}

/// The share of the CPUs it may use, in thousandths of one core. Not of what it takes now: that differs from one second to
/// the next, and the live run has to ask for exactly what the plan has.
fn quota(cpus: u32, share: i64) -> u32 {
    let share = u64::try_from(share).unwrap_or(0);
    u32::try_from(u64::from(cpus.max(1)) * share).unwrap_or(u32::MAX).max(1)
}

/// That share in whole CPUs, at least one; `None` where that is no fewer than now.
fn fewer(cpus: u32, share: i64) -> Option<u32> {
    let fewer = (quota(cpus, share) / 1000).max(1);
    (fewer < cpus).then_some(fewer)
}

/// A throttled unit that stopped running was not calmed but broken.
fn check(_: &Input) -> Result<Opinion, Denial> {
    let status = Unit::open("target")?.status()?;
    Ok(match (status.is_up(), status.healthy) {
        (true, Some(true) | None) => Opinion::Satisfied,
        (true, Some(false)) => Opinion::NotImproved("it no longer answers its health check".to_string()),
        (false, _) => Opinion::NotImproved(format!("it is {}", status.active.as_str())),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_cpus_is_half_of_the_cpus() {
        assert_eq!(quota(8, 500), 4000);
        assert_eq!(fewer(8, 500), Some(4));
        assert_eq!(fewer(2, 500), Some(1));
        assert_eq!(fewer(3, 500), Some(1));
    }

    #[test]
    fn one_cpu_can_not_be_halved_but_its_time_can() {
        assert_eq!(fewer(1, 500), None);
        assert_eq!(quota(1, 500), 500);
    }

    #[test]
    fn a_share_that_is_no_share_leaves_the_unit_some_time() {
        assert_eq!(quota(0, -5), 1);
        assert_eq!(fewer(4, 1000), None);
    }
}
