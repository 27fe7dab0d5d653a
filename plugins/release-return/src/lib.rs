//! Puts a service back on the release it had before.
//!
//! The fault has to have come with the release: one that was in use for longer than `within_hours` is not what changed. Which
//! release was before is what the runner saw on this machine, not what a name suggests; a service that it has seen with one
//! release only is left alone.
#![no_std]

use theriac_sdk::prelude::*;
use theriac_sdk::releases::{Release, Version};

theriac_sdk::remedy!(treat, check);

const HOUR: u64 = 3600;
/// How many log lines of the faulty release are kept.
const LOG_LINES: u32 = 20;

fn treat(input: &Input) -> Result<Report, Denial> {
    let (unit, release) = (Unit::open("target")?, Release::open("target")?);
    let now = release.current()?;
    let before = match release.previous() {
        Ok(before) => before,
        Err(denial) if denial.is_unavailable() => {
            return Ok(Report::GaveUp(format!("no release before {} was seen in use", now.name)));
        }
        Err(denial) => return Err(denial),
    };
    if !is_new(&now, input.param_integer("within_hours")) {
        return Ok(Report::GaveUp(format!("{} has been in use for too long to be the cause", now.name)));
    }
    match unit.log_tail(LOG_LINES) {
        Ok(lines) => lines.iter().for_each(|line| info!("log: {line:.200}")),
        Err(denial) => info!("its log could not be read (rule {})", denial.refusal().rule),
    }
    release.switch_back()?;
    unit.restart()?;
    Ok(Report::Treated(format!("{} is back from {} on {}", unit.name(), now.name, before.name)))
}

/// Seen coming into use, and not long ago.
fn is_new(release: &Version, hours: i64) -> bool {
    let most = u64::try_from(hours).unwrap_or(0).saturating_mul(HOUR);
    release.since.is_some_and(|age| age <= most)
}

/// The older release may not even start: its data may have been migrated since.
fn check(_: &Input) -> Result<Opinion, Denial> {
    let status = Unit::open("target")?.status()?;
    Ok(match (status.is_up(), status.healthy) {
        (true, Some(true) | None) => Opinion::Satisfied,
        (true, Some(false)) => {
            Opinion::NotImproved("it does not answer its health check on that release either".to_string())
        }
        (false, _) => Opinion::NotImproved(format!("on that release it is {}", status.active.as_str())),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn since(since: Option<u64>) -> Version {
        Version { name: "v2".to_string(), since, assumed: false }
    }

    #[test]
    fn only_a_release_that_was_seen_coming_and_is_young_can_be_the_cause() {
        assert!(is_new(&since(Some(2 * HOUR)), 2));
        assert!(!is_new(&since(Some(2 * HOUR + 1)), 2));
        assert!(!is_new(&since(None), 720));
        assert!(!is_new(&since(Some(1)), -1));
    }
}
