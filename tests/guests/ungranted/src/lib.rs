//! Calls an interface that its manifest does not grant at all. The import alone must refuse it at load.
#![no_std]

use theriac_sdk::prelude::*;

theriac_sdk::remedy!(treat);

fn treat(_: &Input) -> Result<Report, Denial> {
    Dir::open("logs")?.space()?; // granted
    Unit::open("target")?.restart()?; // not linked
    Ok(Report::Treated("leak: a unit was restarted without a grant".to_string()))
}
