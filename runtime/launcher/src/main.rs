//! `theriac-launcher`: arguments, then [`theriac_launcher::run`].

use anyhow::Context as _;
use clap::Parser;
use theriac_launcher::config::LauncherConfig;
use theriac_protocol::process::drop_privileges;
use theriac_start::Place;

/// Runs the services of launcher.toml where there is no systemd. It stays the user it was started as, which has to be the
/// runner's; a service has a user of its own in launcher.toml.
#[derive(Debug, Parser)]
#[command(name = "theriac-launcher", version)]
struct Args {
    #[command(flatten)]
    place: Place,
}

fn main() -> anyhow::Result<()> {
    let layout = Args::parse().place.begin().context("asking to end with the parent")?;
    drop_privileges(None).context("giving up what no service may gain")?;
    let path = layout.config.join("launcher.toml");
    let config = LauncherConfig::load(&path).with_context(|| format!("the configuration `{}`", path.display()))?;
    theriac_launcher::run(config, &layout)?;
    Ok(())
}
