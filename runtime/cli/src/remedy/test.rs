//! `theriac remedy test`: builds a remedy, runs its scenarios, and replays its recordings.

use std::path::PathBuf;

use clap::Args;
use theriac_harness::{Programs, Summary};

use super::{build, read};
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::{Failure, OrFail as _};

/// What to test.
#[derive(Debug, Args)]
pub struct Test {
    /// The remedy's directory
    #[arg(value_name = "DIR", default_value = ".")]
    dir: PathBuf,
    /// The component, where another language's tools made it; without it, cargo builds the directory
    #[arg(long, value_name = "FILE")]
    component: Option<PathBuf>,
    /// Only scenarios and recordings whose file name holds this
    #[arg(long, value_name = "TEXT", default_value = "")]
    only: String,
}

impl Test {
    pub(super) fn run(self, context: &Context) -> Result<Exit, Failure> {
        // Cargo has a place for what it made; what comes from elsewhere is only tried.
        let scratch = tempfile::tempdir().or_fail_at("making a scratch directory")?;
        let out = self.component.is_some().then(|| scratch.path().join("remedy.wasm"));
        let built = build::build(&self.dir, self.component, out, true)?;
        let programs = Programs::beside_this_one().or_fail()?;
        let mut summary =
            theriac_harness::test(&programs, &built.file, &self.dir.join("scenarios"), &self.only).or_fail()?;
        let package = read::package(&built.file)?;
        let recordings = self.dir.join("recordings");
        summary.outcomes.extend(theriac_harness::replays(&programs, &package, &recordings, &self.only).or_fail()?);
        context.show(&summary, Summary::to_string)?;
        Ok(if summary.passed() { Exit::Ok } else { Exit::NotVerified })
    }
}
