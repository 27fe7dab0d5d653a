//! `theriac-launcher`: arguments, then [`theriac_launcher::run`].

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Parser;
use theriac_launcher::config::LauncherConfig;
use theriac_protocol::layout::Layout;
use theriac_protocol::process::{Identity, die_with_parent, drop_privileges};

/// Runs the services of launcher.toml where there is no systemd.
#[derive(Debug, Parser)]
#[command(name = "theriac-launcher", version)]
struct Args {
    /// Directory that holds launcher.toml.
    #[arg(long, default_value = "/etc/theriac")]
    config: PathBuf,
    /// Directory for sockets and service output.
    #[arg(long, default_value = "/var/lib/theriac")]
    state: PathBuf,
    /// Run as this user from the start on; services then run as it, too.
    #[arg(long, requires = "gid")]
    uid: Option<u32>,
    /// See --uid.
    #[arg(long, requires = "uid")]
    gid: Option<u32>,
    /// End with the process that started this one.
    #[arg(long)]
    die_with_parent: bool,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    if args.die_with_parent {
        die_with_parent().context("asking to end with the parent")?;
    }
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .with_target(false)
        .init();
    let identity = args.uid.zip(args.gid).map(|(uid, gid)| Identity { uid, gid });
    drop_privileges(identity).context("dropping privileges")?;
    let layout = Layout { config: args.config, state: args.state };
    let path = layout.config.join("launcher.toml");
    let config = LauncherConfig::load(&path).with_context(|| format!("the configuration `{}`", path.display()))?;
    theriac_launcher::run(config, &layout)?;
    Ok(())
}
