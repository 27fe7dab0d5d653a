//! `theriac-scenario`: plays one scenario of a remedy in a process of its own, and prints what came of it as JSON.

use std::io::Write as _;
use std::path::PathBuf;

use clap::Parser;
use theriac_harness::{Programs, play};
use theriac_protocol::process::die_with_parent;

/// Plays one scenario of a remedy.
#[derive(Debug, Parser)]
#[command(name = "theriac-scenario", version)]
struct Arguments {
    /// The built remedy
    #[arg(long)]
    remedy: PathBuf,
    /// The scenario
    scenario: PathBuf,
}

fn main() -> anyhow::Result<()> {
    let Arguments { remedy, scenario } = Arguments::parse();
    die_with_parent()?;
    let outcome = play(&Programs::beside_this_one()?, &remedy, &scenario);
    std::io::stdout().write_all(&serde_json::to_vec(&outcome)?)?;
    Ok(())
}
