//! Relieves a machine of a unit whose memory grows without bound.
//!
//! One run is one rung, and the parameter `step` says which: `throttle` makes the kernel reclaim from the unit down to
//! just below its limit (MemoryHigh, cgroup v2 only; taken back exactly), `restart` keeps evidence and restarts it. Dropping the
//! page cache is no step: it gives back no anonymous memory, which is what leaks.
#![no_std]

use theriac_sdk::prelude::*;

theriac_sdk::remedy!(treat, check);

const MIB: u64 = 1 << 20;
/// How many log lines are kept as evidence before the unit's state is lost.
const LOG_LINES: u32 = 20;

fn treat(input: &Input) -> Result<Report, Denial> {
    let unit = Unit::open("target")?;
    if !unit.status()?.is_up() {
        return Ok(Report::NothingToDo(format!("{} does not run", unit.name())));
    }
    keep_evidence(&unit)?;
    match input.param_choice("step") {
        "throttle" => throttle(&unit, input),
        "restart" => {
            unit.restart()?;
            Ok(Report::Treated(format!("{} restarted", unit.name())))
        }
        step => Ok(Report::GaveUp(format!("there is no step `{step}`"))),
    }
}

fn throttle(unit: &Unit, input: &Input) -> Result<Report, Denial> {
    let Some(high) = input.number("memory_limit").and_then(|most| limit(most, input.param_integer("below"))) else {
        return Ok(Report::GaveUp("the operator set no memory limit for it".to_string()));
    };
    match unit.set_property(Property::MemoryHigh(Some(high))) {
        Ok(()) => Ok(Report::Treated(format!("{} is throttled above {} MiB", unit.name(), high / MIB))),
        Err(denial) if denial.is_unavailable() => {
            Ok(Report::GaveUp(format!("this machine has no MemoryHigh: {}", denial.refusal().rule)))
        }
        Err(denial) => Err(denial),
    }
}

/// `below` thousandths under the limit that the operator set for the unit, in whole MiB: once the kernel has reclaimed that
/// far, the fault is gone. Not a share of the memory of this moment: it grows, and the live run has to ask for exactly what
/// the plan has.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "`as` saturates, and negatives are gone")]
fn limit(most: f64, below: i64) -> Option<u64> {
    if !most.is_finite() || most < 1.0 {
        return None;
    }
    let share = 1000_u64.saturating_sub(u64::try_from(below).unwrap_or(0));
    let bytes = u64::try_from(u128::from(most as u64) * u128::from(share) / 1000).unwrap_or(u64::MAX);
    Some((bytes / MIB).max(1) * MIB)
}

/// Which process holds the memory, and what the unit said last. A log that can't be read must not stop the repair.
fn keep_evidence(unit: &Unit) -> Result<(), Denial> {
    let group = Group::open("target")?;
    let usage = group.usage()?;
    info!("{} processes hold {} MiB of anonymous memory", usage.processes, usage.memory / MIB);
    if let Some((name, memory)) = group.largest(|process| process.memory)? {
        info!("the largest is {name} with {} MiB", memory / MIB);
    }
    match unit.log_tail(LOG_LINES) {
        Ok(lines) => lines.iter().for_each(|line| info!("log: {line:.200}")),
        Err(denial) => info!("its log could not be read (rule {})", denial.refusal().rule),
    }
    Ok(())
}

/// A throttled unit may stall, and a restarted one may not come back.
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
    fn the_throttle_lies_below_the_operators_limit_in_whole_mebibytes() {
        assert_eq!(limit(100.0 * 1_048_576.0, 100), Some(90 * MIB));
        assert_eq!(limit(100.5 * 1_048_576.0, 0), Some(100 * MIB));
        assert_eq!(limit(5.0, 0), Some(MIB));
        assert_eq!(limit(1e9, 2000), Some(MIB), "never nothing at all");
    }

    #[test]
    fn without_a_limit_there_is_no_throttle() {
        for wrong in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert_eq!(limit(wrong, 100), None);
        }
    }
}
