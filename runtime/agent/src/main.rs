//! `theriac-agent`: arguments, what needs the rights it was started with, then [`theriac_agent::run`].

use anyhow::Context as _;
use clap::Parser;
use theriac_agent::Settings;
use theriac_protocol::process::drop_privileges;
use theriac_start::{Place, User};

/// Detects faults, finds their cause, proposes remedies to the runner, takes alerts in and tells people.
#[derive(Debug, Parser)]
#[command(name = "theriac-agent", version)]
struct Args {
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    user: User,
}

fn main() -> anyhow::Result<()> {
    let Args { place, user } = Args::parse();
    let layout = place.begin().context("asking to end with the parent")?;
    let identity = user.identity();
    let prepared = theriac_agent::prepare(&Settings { layout, identity })?;
    drop_privileges(identity).context("dropping privileges")?;
    theriac_agent::run(prepared)?;
    Ok(())
}
