//! `theriac-runner`: parses its arguments and runs the daemon.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Parser;
use theriac_runner::daemon::{self, Settings};
use theriac_runner::put_back;
use theriac_start::Place;

/// The privileged part of Theriac: authorises, performs, verifies, undoes, remembers.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(flatten)]
    place: Place,
    /// The worker binary; beside this one unless given.
    #[arg(long)]
    worker: Option<PathBuf>,
    /// Where runner.toml has no [uids], take the built-in users instead of sharing root's.
    #[arg(long)]
    distinct_users: bool,
    /// Only put back the numbers of the kernel's that runs which are not over have set: for a runner that does not come back.
    #[arg(long)]
    put_back: bool,
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
    let layout = arguments.place.begin().context("asking to end with the parent")?;
    #[cfg(feature = "crash-points")]
    theriac_runner::crash::Script::read(arguments.crash_at.as_deref(), arguments.crash_trace.as_deref())?.arm()?;
    if arguments.put_back {
        return Ok(put_back::run(&layout)?);
    }
    let worker = match arguments.worker {
        Some(worker) => worker,
        None => {
            std::env::current_exe().context("finding the worker beside the runner")?.with_file_name("theriac-worker")
        }
    };
    daemon::run(&Settings { layout, worker, distinct_users: arguments.distinct_users })?;
    Ok(())
}
