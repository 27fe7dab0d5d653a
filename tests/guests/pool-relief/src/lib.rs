//! What a remedy for databases looks like: it looks who is connected, ends what one application has forgotten, and sees to it that
//! transactions are forgotten less long. It tries what it was not granted too, and goes on after each denial.
#![no_std]

use theriac_sdk::databases::{Server, State, Usage};
use theriac_sdk::prelude::*;

theriac_sdk::remedy!(treat, check);

const SETTING: &str = "idle_in_transaction_session_timeout";

fn treat(_: &Input) -> Result<Report, Denial> {
    let pool = Server::open("pool")?;
    let before = pool.sessions()?;
    let denied = [
        pool.terminate_idle(1, "mail", 1).err(),
        pool.terminate_idle(0, "shop", 1).err(),
        pool.terminate_idle(1, "shop", 3).err(),
        pool.set(SETTING, 60_001).err(),
        pool.set("max_connections", 100).err(),
        pool.set("lock_timeout; DROP TABLE orders", 1).err(),
    ];
    if denied.iter().any(Option::is_none) {
        return Ok(Report::GaveUp("something came through that was not granted".to_string()));
    }
    if free(&before) > 1 {
        return Ok(Report::NothingToDo("there is room".to_string()));
    }
    let ended = pool.terminate_idle(1, "shop", 2)?;
    pool.set(SETTING, 30_000)?;
    let after = pool.sessions()?;
    Ok(Report::Treated(format!("{ended} ended, {} of {} used", after.used, after.max)))
}

fn check(_: &Input) -> Result<Opinion, Denial> {
    let usage = Server::open("pool")?.sessions()?;
    let forgotten = usage.by_state.iter().filter(|count| count.state == State::IdleInTransaction).count();
    info!("{} used, {forgotten} in forgotten transactions", usage.used);
    Ok(if free(&usage) > 0 { Opinion::Satisfied } else { Opinion::NotImproved("nobody gets in".to_string()) })
}

/// Slots for those who are no administrators.
const fn free(usage: &Usage) -> u32 {
    usage.max.saturating_sub(usage.reserved).saturating_sub(usage.used)
}
