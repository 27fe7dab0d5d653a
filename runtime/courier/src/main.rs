//! `theriac-courier net`: arguments, then [`theriac_courier::run`].

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use theriac_courier::config::CourierConfig;
use theriac_protocol::layout::Layout;
use theriac_protocol::process::{Identity, die_with_parent};

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
    /// Directory that may hold courier-net.toml.
    #[arg(long, default_value = "/etc/theriac")]
    config: PathBuf,
    /// Directory for the socket.
    #[arg(long, default_value = "/var/lib/theriac")]
    state: PathBuf,
    /// Become this user once the socket is open.
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
    let Args { kind: Kind::Net(args) } = Args::parse();
    if args.die_with_parent {
        die_with_parent().context("asking to end with the parent")?;
    }
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .with_target(false)
        .init();
    let identity = args.uid.zip(args.gid).map(|(uid, gid)| Identity { uid, gid });
    let layout = Layout { config: args.config, state: args.state };
    let path = layout.config.join("courier-net.toml");
    let config = CourierConfig::load(&path).with_context(|| format!("the configuration `{}`", path.display()))?;
    theriac_courier::run(config, &layout, identity)?;
    Ok(())
}
