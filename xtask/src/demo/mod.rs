//! The demo: breaks real things in a scratch area, lets the daemon find and heal them by itself, and checks what it did.
//!
//! It drives Theriac as a user does, with the `theriac` command and its `--json` output, and it exits non-zero if anything was
//! not as it should be.

mod case;
mod cases;
mod namespace;
mod progress;
mod scratch;
mod table;
mod theriac;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use clap::Args;

use crate::build;
use case::Finding;
use progress::Style;
use scratch::Scratch;
use theriac::Theriac;

/// How the demo runs.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Keep the scratch area and print where it is.
    #[arg(long)]
    keep: bool,
    /// Build nothing: use the programs beside this one and the remedies as they were packed last. So another user can run it.
    #[arg(long)]
    no_build: bool,
    /// Only these cases, by name.
    #[arg(long = "case")]
    only: Vec<String>,
}

/// The daemon starts, compiles the remedies once and measures: a cold debug build takes a few seconds.
const READY: Duration = Duration::from_secs(60);

/// Guests of the tests that the demo shows, too.
const GUESTS: [&str; 2] = ["misguided", "hostile"];

fn built() -> anyhow::Result<(build::Programs, Vec<PathBuf>)> {
    eprintln!("building (the first time takes a few minutes)");
    let programs = build::programs()?;
    let mut remedies = build::remedies_by(&programs)?;
    remedies.extend(build::guests(&programs, &GUESTS)?);
    Ok((programs, remedies))
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let (programs, remedies) = if options.no_build { build::as_they_are(&GUESTS)? } else { built()? };

    let began = Instant::now();
    // From here on in a mount namespace of our own: a real filesystem is filled, and nobody else sees it.
    let mounts = namespace::enter();
    if let Err(error) = &mounts {
        println!("not possible here: a filesystem of our own ({error:#})");
    }
    let scratch = Scratch::make(options.keep, mounts.is_ok())?;
    scratch.write_configuration()?;
    let theriac = Theriac::new(&programs, &scratch);
    theriac.sign(&remedies).context("signing the remedies with throw-away keys")?;
    let daemon = theriac.up()?;
    theriac.wait_until_ready(READY)?;
    println!("theriac is up, with {} signed remedies, in {}", remedies.len(), scratch.dir().display());

    let style = Style::of_stdout();
    let mut findings = Vec::new();
    for case in cases::all(&scratch) {
        if options.only.is_empty() || options.only.iter().any(|name| name == case.name) {
            findings.push(case.run(&theriac, style)?);
        }
    }
    daemon.stop()?;
    let ledger = theriac.verify_ledger();

    table::print(&findings);
    match &ledger {
        Ok(summary) => println!("\nledger: {summary}"),
        Err(error) => println!("\nledger: NOT VERIFIED: {error:#}"),
    }
    println!("{:.0} s, scratch area {}", began.elapsed().as_secs_f64(), if options.keep { "kept" } else { "removed" });
    let wrong: Vec<&str> = findings.iter().filter(|finding| finding.is_wrong()).map(Finding::name).collect();
    ensure!(wrong.is_empty(), "not as it should be: {}", wrong.join(", "));
    ledger.map(drop)
}
