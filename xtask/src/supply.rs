//! What the dependencies may be: licences, sources, duplicates and bans, by `cargo deny` and `deny.toml`.

use std::process::{Command, Stdio};

use crate::run::{cargo, output, root, run};

/// The version whose rules `deny.toml` is written for. `cargo xtask tools` installs it.
const CARGO_DENY: &str = "0.20.2";

/// Guests are what remedies are made of, so the same rules hold for them; what the rules list beyond that is not theirs.
const GUESTS: [&str; 2] = ["plugins", "tests/guests"];

/// Installs the tools that CI has and Rust does not bring along, at the version CI has, unless they are there.
pub(crate) fn tools() -> anyhow::Result<()> {
    if installed().as_deref() == Some(CARGO_DENY) {
        return Ok(());
    }
    // Not optimised: it runs for seconds, and optimising it takes minutes.
    run(cargo().args(["install", "cargo-deny", "--locked", "--debug", "--force", "--version", CARGO_DENY]))
}

/// Checks every workspace; where `cargo deny` is not installed, says so and goes on.
pub(crate) fn check() -> anyhow::Result<()> {
    match installed() {
        None => {
            println!("not checked: cargo-deny is not installed; `cargo xtask tools` installs version {CARGO_DENY}");
            return Ok(());
        }
        Some(version) if version != CARGO_DENY => {
            println!("cargo-deny is {version} here, and {CARGO_DENY} in CI; `cargo xtask tools` installs that one");
        }
        Some(_) => {}
    }
    // A warning is a rule that matches nothing any more: it would let in what nobody decided about.
    run(deny(".").args(["--deny", "warnings", "bans", "licenses", "sources"]))?;
    for workspace in GUESTS {
        let spare = ["unmatched-skip", "unnecessary-skip", "unused-wrapper", "license-not-encountered"];
        let spare = spare.iter().flat_map(|lint| ["--allow", lint]);
        run(deny(workspace).args(["--deny", "warnings"]).args(spare).args(["bans", "licenses", "sources"]))?;
    }
    Ok(())
}

fn deny(workspace: &str) -> Command {
    let mut command = cargo();
    command.args(["deny", "--locked", "--log-level", "warn", "--manifest-path"]);
    command.arg(root().join(workspace).join("Cargo.toml"));
    command.arg("--config").arg(root().join("deny.toml")).args(["check", "--hide-inclusion-graph"]);
    command
}

fn installed() -> Option<String> {
    let version = output(cargo().args(["deny", "--version"]).stderr(Stdio::null())).ok()?;
    version.trim().strip_prefix("cargo-deny ").map(str::to_owned)
}
