#![no_std]
use theriac_sdk::prelude::*;

fn treat(_: &Input) -> Result<Report, Denial> {
    let unit = Unit::open("target")?;
    unit.restart()?;
    Ok(Report::Treated(format!("{} restarted", unit.name())))
}
theriac_sdk::remedy!(treat);
