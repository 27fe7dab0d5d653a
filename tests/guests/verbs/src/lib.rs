//! Uses the verbs that no shipped remedy uses, one per run, so that the runner can be killed in the middle of each of them.
#![no_std]

use theriac_sdk::prelude::*;

theriac_sdk::remedy!(treat);

const NICE: i32 = 7;

fn treat(input: &Input) -> Result<Report, Denial> {
    let verb = input.param_choice("verb");
    let change = match verb {
        "truncate" => Entry::truncate,
        "copy-truncate" => Entry::copy_truncate,
        "set-aside" => Entry::set_aside,
        "renice" => {
            Group::open("target")?.renice(NICE)?;
            return Ok(Report::Treated(format!("reniced to {NICE}")));
        }
        other => return Ok(Report::GaveUp(format!("there is no verb `{other}`"))),
    };
    let mut changed = 0;
    for entry in Dir::open("logs")?.entries(Filter::by_name()) {
        change(&entry?)?;
        changed += 1;
    }
    Ok(Report::Treated(format!("{verb} of {changed} files")))
}
