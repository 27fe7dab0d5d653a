//! `theriac remedy bench`: what a remedy costs.

use std::path::PathBuf;

use clap::Args;
use theriac_harness::{Figures, Programs, Recording};

use super::read;
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::{Failure, OrFail as _};

/// What to measure.
#[derive(Debug, Args)]
pub struct Bench {
    /// The built remedy
    #[arg(value_name = "FILE")]
    remedy: PathBuf,
    /// Answer its host calls out of this recording; without it, each is denied
    #[arg(long, value_name = "RECORDING")]
    recording: Option<PathBuf>,
    /// How many runs
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    runs: u32,
}

impl Bench {
    pub(super) fn run(self, context: &Context) -> Result<Exit, Failure> {
        let package = read::package(&self.remedy)?;
        let recording = self.recording.as_deref().map(Recording::read).transpose().or_fail()?;
        let programs = Programs::beside_this_one().or_fail()?;
        let figures = theriac_harness::bench(&programs, &package, recording.as_ref(), self.runs).or_fail()?;
        context.show(&figures, Figures::to_string)
    }
}
