//! `theriac remedy test`: builds a remedy and runs its scenarios.

use std::path::PathBuf;

use clap::Args;
use theriac_harness::{Programs, Summary};

use super::build;
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::{Failure, OrFail as _};

/// What to test.
#[derive(Debug, Args)]
pub struct Test {
    /// The remedy's directory
    #[arg(value_name = "DIR", default_value = ".")]
    dir: PathBuf,
    /// Only scenarios whose file name holds this
    #[arg(long, value_name = "TEXT", default_value = "")]
    only: String,
}

impl Test {
    pub(super) fn run(self, context: &Context) -> Result<Exit, Failure> {
        let built = build::build(&self.dir, None, None, true)?;
        let programs = Programs::beside_this_one().or_fail()?;
        let summary =
            theriac_harness::test(&programs, &built.file, &self.dir.join("scenarios"), &self.only).or_fail()?;
        context.show(&summary, Summary::to_string)?;
        Ok(if summary.passed() { Exit::Ok } else { Exit::NotVerified })
    }
}
