//! Frees a filesystem whose blocks or inodes have run out, from rotated logs.
//!
//! One run is one rung, and the parameter `mode` says which: `archive` moves the oldest logs to another device (taken back
//! exactly); `reclaim` cuts deleted logs that a writer still holds open, then removes old ones (not taken back). Either
//! stops as soon as enough is free, never takes the newest file, and leaves alone what is open, linked twice or young.
#![no_std]

mod goal;
mod pass;

use theriac_sdk::prelude::*;

use goal::{Goal, Resource};
use pass::Pass;

theriac_sdk::remedy!(treat, check);

fn treat(input: &Input) -> Result<Report, Denial> {
    let dir = Dir::open("logs")?;
    let space = dir.space()?;
    let goal = Goal::new(Resource::of(&input.kind), wanted_permille(input), input, &space);
    if goal.is_met(&space) {
        return Ok(Report::NothingToDo(format!("{} is free again", percent(wanted_permille(input)))));
    }
    let keep = u64::try_from(input.param_integer("keep_days")).unwrap_or(u64::MAX).saturating_mul(86_400);
    let mut pass = Pass::new(&dir, goal);
    let stopped = match input.param_choice("mode") {
        "archive" => pass.take_old(keep, Entry::archive),
        "reclaim" => pass.cut_deleted_where_allowed().and_then(|()| pass.take_old(keep, Entry::remove)),
        mode => return Ok(Report::GaveUp(format!("there is no mode `{mode}`"))),
    };
    match stopped {
        // What was freed so far stands; the runner measures whether it was enough.
        Err(denial) if pass.files > 0 && !matches!(denial, Denial::OffPlan(_)) => {
            warn!("stopped early: {} (rule {})", denial.refusal().attempted, denial.refusal().rule);
        }
        Err(denial) if denial.is_unavailable() => {
            return Ok(Report::GaveUp(format!("not possible here: {}", denial.refusal().rule)));
        }
        Err(denial) => return Err(denial),
        Ok(()) => {}
    }
    if pass.files == 0 {
        return Ok(Report::GaveUp(format!("no rotated log is old enough, unused and not the newest ({pass})")));
    }
    Ok(Report::Treated(format!("{pass}")))
}

/// Less room than before the run means that something fills the filesystem faster than logs can be spared.
fn check(input: &Input) -> Result<Opinion, Denial> {
    let space = Dir::open("logs")?.space()?;
    let goal = Goal::new(Resource::of(&input.kind), wanted_permille(input), input, &space);
    if goal.is_met(&space) {
        return Ok(Opinion::Satisfied);
    }
    if goal.has_shrunk(&space) {
        return Ok(Opinion::NotImproved("less is available than before: something still fills it".to_string()));
    }
    Ok(Opinion::Satisfied)
}

fn wanted_permille(input: &Input) -> u64 {
    u64::try_from(input.param_integer("target_available")).unwrap_or(0)
}

fn percent(permille: u64) -> String {
    format!("{}.{} %", permille / 10, permille % 10)
}
