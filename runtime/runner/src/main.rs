//! `theriac-runner`: parses its arguments and runs the daemon.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Parser;
use theriac_protocol::layout::Layout;
use theriac_runner::daemon::{self, Settings};

/// The privileged part of Theriac: authorises, performs, verifies, undoes, remembers.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Configuration directory.
    #[arg(long, default_value = "/etc/theriac")]
    config: PathBuf,
    /// State directory.
    #[arg(long, default_value = "/var/lib/theriac")]
    state: PathBuf,
    /// The worker binary; beside this one unless given.
    #[arg(long)]
    worker: Option<PathBuf>,
    /// Where runner.toml has no [uids], take the built-in users instead of sharing root's.
    #[arg(long)]
    distinct_users: bool,
    /// End with the process that started this one.
    #[arg(long)]
    die_with_parent: bool,
    /// For crash tests: kill this process at the named point, or at its n-th passing (`NAME@N`).
    #[cfg(feature = "crash-points")]
    #[arg(long)]
    crash_at: Option<String>,
    /// For crash tests: append the name of each point that is passed to this file.
    #[cfg(feature = "crash-points")]
    #[arg(long)]
    crash_trace: Option<PathBuf>,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    if arguments.die_with_parent {
        theriac_protocol::process::die_with_parent().context("asking to end with the parent")?;
    }
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .with_target(false)
        .init();
    #[cfg(feature = "crash-points")]
    theriac_runner::crash::Script::read(arguments.crash_at.as_deref(), arguments.crash_trace.as_deref())?.arm()?;
    let worker = match arguments.worker {
        Some(worker) => worker,
        None => {
            std::env::current_exe().context("finding the worker beside the runner")?.with_file_name("theriac-worker")
        }
    };
    let layout = Layout { config: arguments.config, state: arguments.state };
    daemon::run(&Settings { layout, worker, distinct_users: arguments.distinct_users })?;
    Ok(())
}
