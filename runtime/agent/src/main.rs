//! `theriac-agent`: arguments, what needs the rights it was started with, then [`theriac_agent::run`].

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Parser;
use theriac_agent::Settings;
use theriac_protocol::layout::Layout;
use theriac_protocol::process::{Identity, die_with_parent, drop_privileges};

/// Detects faults, finds their cause, proposes remedies to the runner, takes alerts in and tells people.
#[derive(Debug, Parser)]
#[command(name = "theriac-agent", version)]
struct Args {
    /// Directory that may hold agent.toml.
    #[arg(long, default_value = "/etc/theriac")]
    config: PathBuf,
    /// Directory for the inbox and the sockets.
    #[arg(long, default_value = "/var/lib/theriac")]
    state: PathBuf,
    /// Become this user once configuration and sockets are open.
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
    let layout = Layout { config: args.config, state: args.state };
    let prepared = theriac_agent::prepare(&Settings { layout, identity })?;
    drop_privileges(identity).context("dropping privileges")?;
    theriac_agent::run(prepared)?;
    Ok(())
}
