//! `theriac remedy`: writing, building, testing, reading and approving remedies.
//!
//! Each verb has a file of its own. What a remedy may do is said by `authority`, and whether one is trusted is judged there:
//! the words here are the runner's words.

mod approve;
mod bench;
mod build;
mod dry;
mod learn;
mod new;
mod read;
mod record;
mod test;
mod verify;

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;

pub(crate) use read::package;

/// What can be done with remedies.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Write a new remedy that builds and passes its own scenario
    New(new::New),
    /// Build a remedy and put its manifest in
    Build(build::Build),
    /// Build a remedy and run its scenarios with the real worker and the real gate
    Test(test::Test),
    /// Plan a remedy's run in directories of your own; nothing is changed, and nobody has to have signed it
    Run(dry::Run),
    /// Print the smallest grants that allow what a remedy calls in a scenario
    Learn(learn::Learn),
    /// Record a dry run: what the remedy was told, what it asked, what it was answered
    Record(record::Record),
    /// Run a remedy against a recording and compare
    Replay(record::ReplayRecording),
    /// Measure what a remedy costs
    Bench(bench::Bench),
    /// Say in plain words what a remedy may do, here and anywhere, and who approved it
    Inspect(File),
    /// Say what another version of a remedy asks for; exits with 3 where its rights grew
    Diff(Diff),
    /// Read what a remedy may do, and sign that
    Approve(approve::Approve),
    /// Say in one sentence whether a remedy would be loaded here
    Verify(File),
}

/// One built remedy.
#[derive(Debug, Args)]
pub struct File {
    /// The remedy, as `theriac remedy build` made it
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// Two built remedies.
#[derive(Debug, Args)]
pub struct Diff {
    /// The one that is known
    #[arg(value_name = "OLD")]
    from: PathBuf,
    /// The one that is new
    #[arg(value_name = "NEW")]
    to: PathBuf,
}

impl Command {
    /// Runs it.
    pub fn run(self, context: &Context) -> Result<Exit, Failure> {
        match self {
            Self::New(new) => new.run(context),
            Self::Build(build) => build.run(context),
            Self::Test(test) => test.run(context),
            Self::Run(run) => run.run(context),
            Self::Learn(learn) => learn.run(context),
            Self::Record(record) => record.run(context),
            Self::Replay(replay) => replay.run(context),
            Self::Bench(bench) => bench.run(context),
            Self::Inspect(File { file }) => read::inspect(context, &file),
            Self::Diff(Diff { from, to }) => read::diff(context, &from, &to),
            Self::Approve(approve) => approve.run(context),
            Self::Verify(File { file }) => verify::run(context, &file),
        }
    }
}
