//! Makes room on a database server that has no connections left.
//!
//! The application with most sessions is looked at first, then the next. Of one that the operator lists, those sessions are ended
//! that have waited for their client for long, idle or with a transaction forgotten, and only so many that the others stay. One
//! that works, replicates, backs up or belongs to an administrator is never ended: the host sees to that.
#![no_std]

use theriac_sdk::databases::{Server, Usage};
use theriac_sdk::prelude::*;

theriac_sdk::remedy!(treat, check);

/// Applications that are tried: behind these nobody has enough sessions to matter.
const TRIED: usize = 8;
/// As many as the grant allows.
const MOST: u32 = 100;

fn treat(input: &Input) -> Result<Report, Denial> {
    let server = Server::open("target")?;
    let usage = server.sessions()?;
    let idle = u64::try_from(input.param_integer("idle_s")).unwrap_or(u64::MAX);
    let most = most(slots(&usage), input.param_integer("share"));
    for crowd in usage.by_application.iter().take(TRIED) {
        match server.terminate_idle(idle, &crowd.application, most) {
            Ok(0) => info!("{} has forgotten none of its {} sessions", crowd.application, crowd.sessions),
            Ok(ended) => {
                return Ok(Report::Treated(format!(
                    "{ended} of {} sessions of {} ended",
                    crowd.sessions, crowd.application
                )));
            }
            // The operator does not list it, or the plan has another one in mind.
            Err(Denial::NotGranted(refusal) | Denial::OffPlan(refusal)) => {
                info!("{} is left alone (rule {})", crowd.application, refusal.rule);
            }
            Err(denial) => return Err(denial),
        }
    }
    Ok(Report::GaveUp("no application whose sessions may be ended has forgotten any".to_string()))
}

/// Connections that ordinary clients can get.
const fn slots(usage: &Usage) -> u32 {
    usage.max.saturating_sub(usage.reserved)
}

/// That share of the slots, at least one. Of the slots and not of the sessions: their number differs from one moment to the next,
/// and the live run has to ask for what the plan has.
fn most(slots: u32, share: i64) -> u32 {
    let share = u64::try_from(share).unwrap_or(0);
    u32::try_from(u64::from(slots) * share / 1000).unwrap_or(MOST).clamp(1, MOST)
}

/// An application that connects again at once has made no room.
fn check(_: &Input) -> Result<Opinion, Denial> {
    let usage = Server::open("target")?.sessions()?;
    Ok(if usage.used < slots(&usage) {
        Opinion::Satisfied
    } else {
        Opinion::NotImproved("what was ended was taken again: nobody gets in".to_string())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fifth_of_the_connections_is_a_fifth_of_them() {
        assert_eq!(most(100, 200), 20);
        assert_eq!(most(7, 200), 1);
    }

    #[test]
    fn at_least_one_and_never_more_than_is_granted() {
        assert_eq!(most(3, 10), 1);
        assert_eq!(most(0, -5), 1);
        assert_eq!(most(u32::MAX, 500), MOST);
    }
}
