//! `cargo xtask vm`: the packaged tree in a virtual machine, with a kernel and a systemd of its own, cgroup version 2 and every
//! controller. A container has the controllers of its host; there MemoryHigh may not exist at all.
//!
//! What is shown inside are the end-to-end tests of the packaged tree, the same that run in the container. The machine's root is
//! this machine's own, read-only below a layer in memory. It takes minutes, because software emulates the processor, and is
//! no part of `cargo xtask test`.

mod boot;
mod host;
mod inside;

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;

use crate::run::{cargo, output};
use crate::{build, package};
use host::Host;
use inside::Inside;

/// What to run inside.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// End-to-end tests that were built already, with the programs in the directory above theirs.
    #[arg(long, value_name = "FILE")]
    test: Option<PathBuf>,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let host = Host::find()?;
    let test = match &options.test {
        Some(test) => test.canonicalize().with_context(|| format!("looking for {}", test.display()))?,
        None => built_test()?,
    };
    let inside = Inside::make(&test)?;
    package::run(&package::Options::of(&programs_of(&test)?, &inside.tree()))?;
    inside.initrd(&host)?;
    boot::boot(&host, &inside)
}

/// The programs lie in the directory above the test's, where it looks for them, too.
fn programs_of(test: &Path) -> anyhow::Result<PathBuf> {
    let programs = test.parent().and_then(Path::parent);
    programs.map(Path::to_owned).with_context(|| format!("{} lies in no target directory", test.display()))
}

/// Builds the programs and the test as `cargo xtask test` does, so that nothing is built twice.
fn built_test() -> anyhow::Result<PathBuf> {
    build::programs()?;
    let built =
        output(cargo().args(["test", "--workspace", "--test", "it", "--no-run", "--message-format=json", "--quiet"]))?;
    let executable = |line: &str| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        let is_it = message.pointer("/target/name").and_then(serde_json::Value::as_str) == Some("it");
        message.get("executable").filter(|_| is_it)?.as_str().map(PathBuf::from)
    };
    built.lines().find_map(executable).context("cargo built no test `it`")
}
