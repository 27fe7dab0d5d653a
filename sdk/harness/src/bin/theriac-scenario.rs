//! `theriac-scenario`: what needs a scenario's world, in a process of its own. It prints what came of it as JSON.

use std::io::Write as _;
use std::path::PathBuf;

use clap::{Parser, Subcommand};
use theriac_harness::{Lesson, Programs, learn, play, record};
use theriac_protocol::process::die_with_parent;

/// Does something in a scenario's world.
#[derive(Debug, Parser)]
#[command(name = "theriac-scenario", version)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Play it, and say what came of it.
    Play { remedy: PathBuf, scenario: PathBuf },
    /// Record the dry run.
    Record { remedy: PathBuf, scenario: PathBuf },
    /// Learn the smallest grants.
    Learn { component: PathBuf, manifest: PathBuf, scenario: PathBuf },
}

fn main() -> anyhow::Result<()> {
    let Arguments { task } = Arguments::parse();
    die_with_parent()?;
    let programs = Programs::beside_this_one()?;
    let answer = match task {
        Task::Play { remedy, scenario } => serde_json::to_vec(&play(&programs, &remedy, &scenario)),
        Task::Record { remedy, scenario } => serde_json::to_vec(&record(&programs, &remedy, &scenario)?),
        Task::Learn { component, manifest, scenario } => {
            let lesson = Lesson { component: &component, manifest: &manifest, scenario: &scenario };
            serde_json::to_vec(&learn(&programs, lesson)?)
        }
    };
    std::io::stdout().write_all(&answer?)?;
    Ok(())
}
