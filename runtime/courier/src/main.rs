//! `theriac-courier net` and its like: arguments, then the courier of that kind.

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use theriac_courier::acme::config::AcmeConfig;
use theriac_courier::config::CourierConfig;
use theriac_courier::databases::DatabasesConfig;
use theriac_courier::docker::config::DockerConfig;
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
    /// Certificates from an ACME authority.
    Acme(Arguments),
    /// Health checks over TCP and HTTP.
    Net(Arguments),
    /// Containers of the machine's engine, over its Unix socket.
    Docker(Arguments),
    /// Sessions and settings of database servers, over connections that are kept.
    Databases(Arguments),
}

#[derive(Debug, clap::Args)]
struct Arguments {
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    user: User,
}

fn main() -> anyhow::Result<()> {
    match Args::parse().kind {
        Kind::Acme(Arguments { place, user }) => {
            let layout = place.begin().context("asking to end with the parent")?;
            let path = layout.config.join("courier-acme.toml");
            let config = AcmeConfig::load(&path).with_context(|| format!("the configuration `{}`", path.display()))?;
            theriac_courier::acme::run(config, &layout, user.identity())?;
        }
        Kind::Net(Arguments { place, user }) => {
            let layout = place.begin().context("asking to end with the parent")?;
            let path = layout.config.join("courier-net.toml");
            let config = CourierConfig::load(&path).with_context(|| refused(&path))?;
            theriac_courier::run(config, &layout, user.identity())?;
        }
        Kind::Docker(Arguments { place, user }) => {
            let layout = place.begin().context("asking to end with the parent")?;
            let path = layout.config.join("courier-docker.toml");
            let config = DockerConfig::load(&path).with_context(|| refused(&path))?;
            theriac_courier::docker::run(&config, &layout, user.identity())?;
        }
        Kind::Databases(Arguments { place, user }) => {
            let layout = place.begin().context("asking to end with the parent")?;
            let path = layout.config.join("courier-databases.toml");
            let config = DatabasesConfig::load(&path).with_context(|| refused(&path))?;
            theriac_courier::databases::run(config, &layout, user.identity())?;
        }
    }
    Ok(())
}

fn refused(path: &std::path::Path) -> String {
    format!("the configuration `{}`", path.display())
}
