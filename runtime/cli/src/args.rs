//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use theriac_protocol::layout::Layout;

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::{key, remedy};

/// Theriac heals faults on Linux servers while nobody watches.
#[derive(Debug, Parser)]
#[command(name = "theriac", version, after_help = "Exit codes: `theriac explain exit-codes`.")]
pub struct Arguments {
    /// Configuration directory.
    #[arg(long, global = true, value_name = "DIR", default_value = "/etc/theriac")]
    config: PathBuf,
    /// State directory.
    #[arg(long, global = true, value_name = "DIR", default_value = "/var/lib/theriac")]
    state: PathBuf,
    /// Print JSON.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

/// What can be done.
#[derive(Debug, Subcommand)]
enum Command {
    /// Keys of signers and operators.
    #[command(subcommand)]
    Key(key::Command),
    /// Write, build, test, read and approve remedies.
    #[command(subcommand)]
    Remedy(remedy::Command),
}

impl Arguments {
    /// Runs the command.
    pub fn run(self) -> Result<Exit, Failure> {
        let context = Context { layout: Layout { config: self.config, state: self.state }, json: self.json };
        match self.command {
            Command::Key(command) => command.run(&context),
            Command::Remedy(command) => command.run(&context),
        }
    }
}
