//! What a remedy for containers looks like: it looks, keeps the last lines, and starts or restarts. A container that its engine
//! restarts by itself, and one that somebody stopped, it leaves alone; and where it does not, the runner does.
#![no_std]

use theriac_sdk::containers::{Container, State};
use theriac_sdk::prelude::*;

theriac_sdk::remedy!(treat, check);

fn treat(_: &Input) -> Result<Report, Denial> {
    let container = Container::open("target")?;
    let before = container.inspect()?;
    for line in container.log_tail(5)? {
        info!("log: {line:.200}");
    }
    // What it has no grant for is a denial, and the grant that it has goes on.
    if let Err(denial) = container.stop() {
        info!("stop denied (rule {})", denial.refusal().rule);
    }
    if before.will_restart {
        return Ok(Report::GaveUp("its engine restarts it by itself".to_string()));
    }
    match before.state {
        State::Running | State::Paused => container.restart()?,
        State::Created | State::Restarting | State::Exited | State::Dead | State::Other => container.start()?,
    }
    let after = container.inspect()?;
    Ok(Report::Treated(format!(
        "{} was {:?} with exit code {:?}, is {:?}",
        container.name(),
        before.state,
        before.exit_code,
        after.state
    )))
}

fn check(_: &Input) -> Result<Opinion, Denial> {
    let info = Container::open("target")?.inspect()?;
    Ok(match info.state {
        State::Running => Opinion::Satisfied,
        other => Opinion::NotImproved(format!("it is {other:?}")),
    })
}
