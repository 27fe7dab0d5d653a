//! The two errands whose whole run is measured next to what scripts pay for the same: ten files removed, one unit restarted.
#![no_std]

use theriac_sdk::prelude::*;

theriac_sdk::remedy!(treat);

fn treat(input: &Input) -> Result<Report, Denial> {
    if input.param_choice("errand") == "restart" {
        Unit::open("target")?.restart()?;
        return Ok(Report::Treated("restarted".to_string()));
    }
    let mut removed = 0;
    for entry in Dir::open("logs")?.entries(Filter::by_name()) {
        entry?.remove()?;
        removed += 1;
    }
    Ok(Report::Treated(format!("removed {removed} files")))
}
