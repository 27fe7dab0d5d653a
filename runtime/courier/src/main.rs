//! `theriac-courier net`: arguments, then [`theriac_courier::run`].

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use theriac_courier::config::CourierConfig;
use theriac_start::{Place, User};

/// Speaks foreign protocols for the runner.
#[derive(Debug, Parser)]
#[command(name = "theriac-courier", version)]
struct Args {
    #[command(subcommand)]
    kind: Kind,
}

#[derive(Debug, Subcommand)]
enum Kind {
    /// Health checks over TCP and HTTP.
    Net(NetArgs),
}

#[derive(Debug, clap::Args)]
struct NetArgs {
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    user: User,
}

fn main() -> anyhow::Result<()> {
    let Args { kind: Kind::Net(NetArgs { place, user }) } = Args::parse();
    let layout = place.begin().context("asking to end with the parent")?;
    let path = layout.config.join("courier-net.toml");
    let config = CourierConfig::load(&path).with_context(|| format!("the configuration `{}`", path.display()))?;
    theriac_courier::run(config, &layout, user.identity())?;
    Ok(())
}
