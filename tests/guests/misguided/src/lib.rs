//! Means well and does not help: it replaces the service's configuration with a wrong one and restarts it. Everything it does
//! is granted and planned, so it runs; the runner measures no improvement and puts every byte back.
#![no_std]

use theriac_sdk::prelude::*;

theriac_sdk::remedy!(treat);

/// What the author believed to be the cure. No service reads it.
const WRONG: &[u8] = b"# tuned by misguided\nworkers = 0\nanswer = 503\n";

fn treat(_: &Input) -> Result<Report, Denial> {
    let dir = Dir::open("config")?;
    let mut replaced = 0;
    for entry in dir.entries(Filter::by_name()) {
        entry?.replace(WRONG)?;
        replaced += 1;
    }
    let unit = Unit::open("target")?;
    unit.restart()?;
    Ok(Report::Treated(format!("{replaced} files replaced, {} restarted", unit.name())))
}
