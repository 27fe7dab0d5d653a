//! `theriac remedy learn`: the smallest grants that allow what a remedy calls in a scenario's world.

use std::path::PathBuf;

use clap::Args;
use theriac_harness::{Learned, Lesson, Programs};

use super::build;
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::{Failure, OrFail as _};

/// What to learn from.
#[derive(Debug, Args)]
pub struct Learn {
    /// The remedy's directory
    #[arg(value_name = "DIR", default_value = ".")]
    dir: PathBuf,
    /// The scenario whose world it runs in, with everything granted that can be granted there
    #[arg(long, value_name = "FILE")]
    scenario: PathBuf,
    /// The component, where another language's tools made it; without it, cargo builds the directory
    #[arg(long, value_name = "FILE")]
    component: Option<PathBuf>,
}

impl Learn {
    pub(super) fn run(self, context: &Context) -> Result<Exit, Failure> {
        let component = build::component(&self.dir, self.component, true)?;
        let manifest = self.dir.join("remedy.toml");
        let lesson = Lesson { component: &component, manifest: &manifest, scenario: &self.scenario };
        let programs = Programs::beside_this_one().or_fail()?;
        let learned = theriac_harness::learn_in_scenario(&programs, lesson).or_fail()?;
        context.show(&learned, Learned::to_string)
    }
}
