//! Everything CI runs, in the order in which a mistake is cheapest to find.

use std::process::Command;

use clap::Args;

use crate::build;
use crate::run::{cargo, root, run as run_command};
use crate::supply;

/// What to leave out.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Leave the demo out.
    #[arg(long)]
    no_demo: bool,
}

fn run_step(name: &str, command: &mut Command) -> anyhow::Result<()> {
    eprintln!("── {name}");
    run_command(command)
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    run_step("format", cargo().args(["fmt", "--all", "--check"]))?;
    eprintln!("── dependencies");
    supply::check()?;
    build::wasm_target()?;
    run_step("lints", cargo().args(["clippy", "--workspace", "--all-targets", "--quiet", "--", "--deny", "warnings"]))?;
    run_step("guests", &mut guest("build", "plugins"))?;
    run_step("hostile guests", &mut guest("build", "tests/guests"))?;
    run_step(
        "remedies' own tests",
        cargo().env_remove("CARGO_TARGET_DIR").current_dir(root().join("plugins")).args(["test", "--quiet"]),
    )?;
    // Tests that run the programs find them beside their own binary.
    run_step("programs", cargo().args(["build", "--workspace", "--bins", "--tests", "--quiet"]))?;
    run_step("tests", cargo().args(["test", "--workspace", "--no-fail-fast"]))?;
    run_step("benches compile", cargo().args(["bench", "--workspace", "--no-run", "--quiet", "--profile", "dev"]))?;
    if !options.no_demo {
        run_step("demo", &mut demo())?;
    }
    Ok(())
}

fn guest(verb: &str, workspace: &str) -> Command {
    let mut command = cargo();
    // Guests have target directories of their own, where the tests and the demo find them again.
    command.env_remove("CARGO_TARGET_DIR");
    command.current_dir(root().join(workspace)).args([verb, "--release", "--target", "wasm32-wasip2", "--quiet"]);
    command
}

fn demo() -> Command {
    let mut command = cargo();
    command.args(["xtask", "demo"]);
    command
}
