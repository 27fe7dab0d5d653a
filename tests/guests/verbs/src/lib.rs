//! Uses the verbs that no shipped remedy uses, one per run, so that the runner can be killed in the middle of each of them.
#![no_std]

use core::net::{IpAddr, Ipv4Addr};

use theriac_sdk::firewall::{Network, Set};
use theriac_sdk::kernel::Knob;
use theriac_sdk::prelude::*;

theriac_sdk::remedy!(treat);

const NICE: i32 = 7;
/// Of `net.ipv4.tcp_fin_timeout`, which is 60 on every Linux.
const SECONDS: i64 = 31;
/// An address of nobody's (RFC 5737), longer than any test.
const ABUSER: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 9));
const KEPT_OUT: u32 = 3000;

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
        "set" => {
            Knob::open("fin")?.set(SECONDS)?;
            return Ok(Report::Treated(format!("set to {SECONDS}")));
        }
        "add" => {
            let set = Set::open("abusers")?;
            if !set.list()?.iter().any(|element| element.holds(ABUSER)) {
                set.add(Network::from(ABUSER), KEPT_OUT)?;
            }
            return Ok(Report::Treated(format!("{} is kept out", Network::from(ABUSER))));
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
