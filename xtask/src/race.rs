//! `cargo xtask race`: the rename racer of `runtime/runner/src/session/tests/race.rs`, for longer than an ordinary test runs it.

use clap::Args;

use crate::run::{cargo, run};

/// How long to race.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Changes that the session tries while the directory is swapped under it.
    #[arg(long, default_value_t = 200_000)]
    tries: u64,
}

/// The test's name.
const TEST: &str = "session::tests::race::no_race_of_renames_leads_outside";

pub(crate) fn race(options: &Options) -> anyhow::Result<()> {
    run(cargo()
        .args(["test", "--workspace", "--lib", "--quiet", "--", "--exact", TEST, "--nocapture"])
        .env("THERIAC_RACE_TRIES", options.tries.to_string()))
}
