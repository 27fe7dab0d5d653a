//! `theriac-scenario`: one scenario in a process of its own, and the processes that it is about.

use std::io::Write as _;
use std::path::PathBuf;

use clap::{Parser, Subcommand};
use theriac_harness::{Programs, play, stand_in};
use theriac_protocol::process::die_with_parent;

/// Plays one scenario of a remedy.
#[derive(Debug, Parser)]
#[command(name = "theriac-scenario", version)]
struct Arguments {
    #[command(subcommand)]
    role: Role,
}

#[derive(Debug, Subcommand)]
enum Role {
    /// Play a scenario and print what came of it as JSON
    Play {
        /// The built remedy
        #[arg(long)]
        remedy: PathBuf,
        /// The scenario
        scenario: PathBuf,
    },
    /// Be the service of a scenario
    Serve {
        /// Where to listen
        #[arg(long)]
        port: u16,
        /// idle, spin or memory
        #[arg(long)]
        load: String,
    },
    /// Have standard input open
    Hold,
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().role {
        Role::Play { remedy, scenario } => {
            die_with_parent()?;
            let outcome = play(&Programs::beside_this_one()?, &remedy, &scenario);
            std::io::stdout().write_all(&serde_json::to_vec(&outcome)?)?;
        }
        Role::Serve { port, load } => stand_in::serve(port, &load)?,
        Role::Hold => {
            die_with_parent()?;
            stand_in::hold();
        }
    }
    Ok(())
}
