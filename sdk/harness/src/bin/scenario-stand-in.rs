//! `scenario-stand-in`: the service of a scenario, or a process that has a file open.
//!
//! Its name does not begin with `theriac`: the gate lets no remedy touch a process of Theriac's own.

use clap::{Parser, Subcommand};
use theriac_harness::stand_in;
use theriac_protocol::process::die_with_parent;

/// Stands in for a process of the world outside.
#[derive(Debug, Parser)]
#[command(name = "scenario-stand-in", version)]
struct Arguments {
    #[command(subcommand)]
    role: Role,
}

#[derive(Debug, Subcommand)]
enum Role {
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
        Role::Serve { port, load } => stand_in::serve(port, &load)?,
        Role::Hold => {
            die_with_parent()?;
            stand_in::hold();
        }
    }
    Ok(())
}
