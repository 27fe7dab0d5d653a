//! Building the programs and the guests.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Context as _;

use crate::run::{cargo, output, root, run};

/// The remedies that ship.
const SHIPPED: [&str; 7] = [
    "certificate-renew",
    "disk-reclaim",
    "service-recover",
    "cpu-calm",
    "memory-relief",
    "release-return",
    "db-relieve",
];
const TARGET: &str = "wasm32-wasip2";

/// The programs of one build.
#[derive(Debug, Clone)]
pub(crate) struct Programs {
    /// Where they are.
    pub(crate) dir: PathBuf,
}

impl Programs {
    /// One of them.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The CLI.
    pub(crate) fn theriac(&self) -> Command {
        Command::new(self.path("theriac"))
    }
}

/// Builds the workspace as one, so that features unify the same way each time and the heavy crates are built once.
pub(crate) fn programs() -> anyhow::Result<Programs> {
    programs_of(Profile::Dev)
}

/// How they are built.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Profile {
    /// For tests and the demo.
    Dev,
    /// For packages.
    Release,
}

/// The same, in the profile.
pub(crate) fn programs_of(profile: Profile) -> anyhow::Result<Programs> {
    let (flags, dir): (&[&str], &str) = match profile {
        Profile::Dev => (&[], "debug"),
        Profile::Release => (&["--release"], "release"),
    };
    run(cargo().args(["build", "--workspace", "--quiet"]).args(flags))?;
    let metadata = output(cargo().args(["metadata", "--format-version=1", "--no-deps"]))?;
    let metadata: serde_json::Value = serde_json::from_str(&metadata)?;
    let target = metadata
        .get("target_directory")
        .and_then(serde_json::Value::as_str)
        .context("cargo metadata names no target directory")?;
    Ok(Programs { dir: PathBuf::from(target).join(dir) })
}

/// Adds the guests' target where it is missing.
pub(crate) fn wasm_target() -> anyhow::Result<()> {
    let sysroot = output(Command::new("rustc").args(["--print", "sysroot"]))?;
    if PathBuf::from(sysroot.trim()).join("lib/rustlib").join(TARGET).is_dir() {
        return Ok(());
    }
    run(Command::new("rustup").args(["target", "add", TARGET]))
        .with_context(|| format!("the target {TARGET} is missing; with another toolchain manager, add it by hand"))
}

/// Builds the shipped remedies; their packed files.
pub(crate) fn remedies() -> anyhow::Result<Vec<PathBuf>> {
    remedies_by(&programs()?)
}

/// The same, packed by programs that are built already.
pub(crate) fn remedies_by(programs: &Programs) -> anyhow::Result<Vec<PathBuf>> {
    wasm_target()?;
    SHIPPED.into_iter().map(|name| pack(programs, &root().join("plugins"), name)).collect()
}

/// What was built and packed last: the programs beside this one, the shipped remedies and the named guests.
pub(crate) fn as_they_are(guests: &[&str]) -> anyhow::Result<(Programs, Vec<PathBuf>)> {
    let dir = std::env::current_exe()?.parent().map(PathBuf::from).context("this program lies in no directory")?;
    let shipped = SHIPPED.iter().map(|name| packed(&root().join("plugins"), name));
    let remedies: Vec<PathBuf> =
        shipped.chain(guests.iter().map(|name| packed(&root().join("tests/guests"), name))).collect();
    let missing = remedies.iter().find(|file| !file.exists());
    anyhow::ensure!(
        missing.is_none(),
        "{} is not there: run `cargo xtask demo` once",
        missing.map_or_else(String::new, |file| file.display().to_string())
    );
    Ok((Programs { dir }, remedies))
}

fn packed(workspace: &std::path::Path, name: &str) -> PathBuf {
    workspace.join("target/dist").join(format!("{name}.wasm"))
}

/// Builds the test guests that the demo uses.
pub(crate) fn guests(programs: &Programs, names: &[&str]) -> anyhow::Result<Vec<PathBuf>> {
    names.iter().map(|name| pack(programs, &root().join("tests/guests"), name)).collect()
}

fn pack(programs: &Programs, workspace: &std::path::Path, name: &str) -> anyhow::Result<PathBuf> {
    std::fs::create_dir_all(workspace.join("target/dist"))?;
    let file = packed(workspace, name);
    run(programs
        .theriac()
        .env_remove("CARGO_TARGET_DIR")
        .args(["remedy", "build", "--quiet"])
        .arg(workspace.join(name))
        .arg("--out")
        .arg(&file))?;
    Ok(file)
}
