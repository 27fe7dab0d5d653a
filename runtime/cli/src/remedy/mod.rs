//! `theriac remedy`: writing, building, testing, reading and approving remedies.

use clap::Subcommand;

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;

/// What can be done with remedies.
#[derive(Debug, Subcommand)]
pub enum Command {}

impl Command {
    /// Runs it.
    pub fn run(self, _: &Context) -> Result<Exit, Failure> {
        match self {}
    }
}
