//! `cargo xtask fuzz`: libFuzzer over the targets of `tests/fuzz`, from the seeds that lie in the tree.
//!
//! CI does not fuzz; it calls the same targets with the seeds (`tests/foreign`). What a run finds becomes a seed there.

use std::process::Command;

use anyhow::{Context as _, ensure};
use clap::Args;

use crate::run::{output, root, run};

/// What to fuzz, and for how long.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// One target; left out, each in turn.
    target: Option<String>,
    /// For each target.
    #[arg(long, default_value_t = 60)]
    seconds: u32,
}

/// An input that takes longer is a finding: every parser here has bounds.
const SLOWEST_SECONDS: u32 = 10;
/// So is one that takes more memory than that.
const MOST_MEGABYTES: u32 = 1024;

pub(crate) fn run_fuzzer(options: &Options) -> anyhow::Result<()> {
    let listed = output(nightly().args(["fuzz", "list", "--fuzz-dir", "."]))
        .context("fuzzing needs `rustup toolchain install nightly` and `cargo install cargo-fuzz --locked`")?;
    let all: Vec<&str> = listed.lines().collect();
    let chosen: Vec<&str> = match &options.target {
        Some(target) => all.iter().copied().filter(|name| name == target).collect(),
        None => all.clone(),
    };
    ensure!(!chosen.is_empty(), "there is no such target; there are: {}", all.join(", "));
    let mut broken = Vec::new();
    for target in chosen {
        println!("── {target}");
        if let Err(error) = fuzz(target, options.seconds) {
            println!("{error}");
            broken.push(target);
        }
    }
    ensure!(broken.is_empty(), "inputs that break a promise lie in tests/fuzz/artifacts: {}", broken.join(", "));
    Ok(())
}

fn fuzz(target: &str, seconds: u32) -> anyhow::Result<()> {
    // Without a sanitizer: the parsers are safe Rust, in which it finds nothing, and they run at twice the speed.
    run(nightly()
        .args(["fuzz", "run", "--fuzz-dir", ".", "--sanitizer", "none", target, "--", "-print_final_stats=1"])
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-timeout={SLOWEST_SECONDS}"))
        .arg(format!("-rss_limit_mb={MOST_MEGABYTES}")))
}

/// The nightly toolchain's cargo, in the fuzzer's own workspace with its own target directory.
fn nightly() -> Command {
    let mut command = Command::new("rustup");
    command.args(["run", "nightly", "cargo"]).current_dir(root().join("tests/fuzz"));
    for outer in ["CARGO", "RUSTC", "RUSTUP_TOOLCHAIN", "CARGO_TARGET_DIR"] {
        command.env_remove(outer);
    }
    command
}
