//! Brings one unit back: one that crashed, one that runs and does not answer, one that the service manager gave up.
//!
//! One run is one rung, and the parameter `step` says which. A unit that a person stopped, or that the service manager is
//! about to restart by itself, is left alone: doing nothing is then the repair.
#![no_std]

use theriac_sdk::prelude::*;
use theriac_sdk::units::Status;

theriac_sdk::remedy!(treat, check);

/// How many log lines are kept as evidence before the unit's state is lost.
const LOG_LINES: u32 = 20;

fn treat(input: &Input) -> Result<Report, Denial> {
    let unit = Unit::open("target")?;
    let before = unit.status()?;
    if let Some(reason) = leave_alone(&before) {
        return Ok(Report::NothingToDo(reason.to_string()));
    }
    keep_evidence(&unit);
    let step = input.param_choice("step");
    match step {
        "start" if before.hit_start_limit() => {
            return Ok(Report::GaveUp("the service manager gave it up, and this rung may not reset that".to_string()));
        }
        "start" if before.is_up() => {
            return Ok(Report::GaveUp("it runs and does not answer: a start changes nothing".to_string()));
        }
        "start" => unit.start()?,
        "reset-and-start" => {
            unit.reset_failed()?;
            unit.start()?;
        }
        "restart" => unit.restart()?,
        "kill-and-start" => {
            unit.kill(Whom::All, Signal::Kill)?;
            unit.start()?;
        }
        other => return Ok(Report::GaveUp(format!("there is no step `{other}`"))),
    }
    report(&unit, step)
}

/// Why nothing may, or need, be done.
fn leave_alone(status: &Status) -> Option<&'static str> {
    if status.stopped_on_purpose {
        return Some("somebody stopped it on purpose");
    }
    if status.will_restart {
        return Some("the service manager is about to restart it by itself");
    }
    match status.active {
        Active::Activating => Some("it is starting"),
        Active::Deactivating => Some("it is stopping"),
        // Without a health check, running is all that can be known.
        Active::Active | Active::Reloading if status.healthy != Some(false) => Some("it runs and answers"),
        Active::Active | Active::Reloading | Active::Inactive | Active::Failed | Active::Other => None,
    }
}

/// The last lines of its log are the best hint at the cause. That they can't be read must not stop the repair.
fn keep_evidence(unit: &Unit) {
    match unit.log_tail(LOG_LINES) {
        Ok(lines) => lines.iter().for_each(|line| info!("log: {line:.200}")),
        Err(denial) => info!("its log could not be read (rule {})", denial.refusal().rule),
    }
}

/// Looks once more: what a dry run only assumes proves nothing, and is not held against it.
fn report(unit: &Unit, step: &str) -> Result<Report, Denial> {
    let after = unit.status()?;
    if !after.assumed && after.active == Active::Failed {
        return Ok(Report::GaveUp(format!("{} after {step}: {} again ({})", unit.name(), after.sub, after.result)));
    }
    Ok(Report::Treated(format!("{step} of {}: {}", unit.name(), after.active.as_str())))
}

fn check(_: &Input) -> Result<Opinion, Denial> {
    let status = Unit::open("target")?.status()?;
    Ok(match (status.active, status.healthy) {
        (Active::Active | Active::Reloading, Some(true) | None) => Opinion::Satisfied,
        (Active::Active | Active::Reloading, Some(false)) => {
            Opinion::NotImproved("it runs and does not answer".to_string())
        }
        (Active::Activating, _) => Opinion::Unsure("it is still starting".to_string()),
        (Active::Deactivating | Active::Inactive | Active::Failed | Active::Other, _) => {
            Opinion::NotImproved(format!("it is {} ({})", status.active.as_str(), status.result))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(active: Active) -> Status {
        Status {
            active,
            sub: String::new(),
            result: "exit-code".to_string(),
            restarts: 0,
            since: 3,
            will_restart: false,
            stopped_on_purpose: false,
            healthy: None,
            assumed: false,
        }
    }

    #[test]
    fn a_failed_unit_and_one_that_does_not_answer_are_treated() {
        assert_eq!(leave_alone(&status(Active::Failed)), None);
        assert_eq!(leave_alone(&Status { healthy: Some(false), ..status(Active::Active) }), None);
    }

    #[test]
    fn what_a_person_stopped_stays_stopped() {
        let stopped = Status { stopped_on_purpose: true, ..status(Active::Inactive) };
        assert_eq!(leave_alone(&stopped), Some("somebody stopped it on purpose"));
    }

    #[test]
    fn the_service_manager_s_own_restart_is_waited_for() {
        let due = Status { will_restart: true, ..status(Active::Activating) };
        assert_eq!(leave_alone(&due), Some("the service manager is about to restart it by itself"));
    }

    #[test]
    fn a_unit_that_runs_and_answers_needs_nothing() {
        for healthy in [Some(true), None] {
            let up = Status { healthy, ..status(Active::Active) };
            assert_eq!(leave_alone(&up), Some("it runs and answers"));
        }
    }
}
