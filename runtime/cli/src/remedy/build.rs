//! `theriac remedy build`: cargo makes the component, or another language's tools made it, and the manifest is put into it.
//!
//! The import list is held against the grants at once: what the runner would refuse at load is refused here, where the author
//! still has the source open.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap::Args;
use serde::{Deserialize, Serialize};
use theriac_authority::package;
use theriac_model::units::Bytes;
use theriac_runner::remedies::linkable;

use super::read;
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::{Failure, OrFail as _, chain};

/// What remedies are compiled for.
const TARGET: &str = "wasm32-wasip2";

/// What to build.
#[derive(Debug, Args)]
pub struct Build {
    /// The remedy's directory
    #[arg(value_name = "DIR", default_value = ".")]
    dir: PathBuf,
    /// The component, where another language's tools made it; without it, cargo builds the directory
    #[arg(long, value_name = "FILE", requires = "out")]
    component: Option<PathBuf>,
    /// Where the built remedy goes; without it, `dist/NAME.wasm` in cargo's target directory
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Say nothing when all is well
    #[arg(long)]
    quiet: bool,
}

/// A remedy that was built.
#[derive(Debug, Serialize)]
pub(super) struct Built {
    pub(super) remedy: String,
    pub(super) file: PathBuf,
    bytes: u64,
    component: String,
    imports: Vec<String>,
}

impl Build {
    pub(super) fn run(self, context: &Context) -> Result<Exit, Failure> {
        let built = build(&self.dir, self.component, self.out, self.quiet)?;
        if self.quiet && !context.json {
            return Ok(Exit::Ok);
        }
        context.show(&built, |it| {
            let imports = it.imports.iter().map(|import| format!("  {import}\n")).collect::<String>();
            format!(
                "{}: {}, {}\nIt imports, each covered by its manifest:\n{imports}",
                it.remedy,
                it.file.display(),
                Bytes(it.bytes)
            )
        })
    }
}

/// Builds the remedy of that directory.
pub(super) fn build(
    dir: &Path,
    component: Option<PathBuf>,
    out: Option<PathBuf>,
    quiet: bool,
) -> Result<Built, Failure> {
    let dir = fs::canonicalize(dir).or_fail_at(format!("opening `{}`", dir.display()))?;
    let manifest = dir.join("remedy.toml");
    let text = fs::read_to_string(&manifest).map_err(|error| {
        Failure::failed(format!("`{}` can't be read: {error}", manifest.display()))
            .hint("a remedy is a directory with Cargo.toml and remedy.toml; `theriac remedy new` writes one")
    })?;
    let artefact = self::component(&dir, component, quiet)?;
    let component = fs::read(&artefact).or_fail_at(format!("reading `{}`", artefact.display()))?;
    let bytes = package::embed(&component, &text).or_fail_at(format!("`{}`", manifest.display()))?;
    let package = package::open(bytes).or_fail()?;
    let imports = linkable(&package.manifest, &read::imports(&package)?).or_refuse()?;
    let name = package.manifest.name.to_string();
    let file = out.unwrap_or_else(|| dist(&artefact).join(format!("{name}.wasm")));
    if let Some(parent) = file.parent() {
        fs::create_dir_all(parent).or_fail_at(format!("making `{}`", parent.display()))?;
    }
    fs::write(&file, &package.bytes).or_fail_at(format!("writing `{}`", file.display()))?;
    Ok(Built { remedy: name, file, bytes: package.bytes.len() as u64, component: package.digest.to_string(), imports })
}

/// The component, without a manifest: the one that is named, or what cargo makes of the directory.
pub(super) fn component(dir: &Path, named: Option<PathBuf>, quiet: bool) -> Result<PathBuf, Failure> {
    match named {
        Some(component) => Ok(component),
        None => cargo(&fs::canonicalize(dir).or_fail_at(format!("opening `{}`", dir.display()))?, quiet),
    }
}

/// Beside `wasm32-wasip2/release/`, so that what ignores cargo's directory ignores this one.
fn dist(artefact: &Path) -> PathBuf {
    artefact.ancestors().nth(3).unwrap_or(Path::new(".")).join("dist")
}

/// One line of what cargo says with `--message-format=json`; of its many fields, these.
#[derive(Debug, Deserialize)]
struct Message {
    reason: String,
    #[serde(default)]
    manifest_path: PathBuf,
    #[serde(default)]
    filenames: Vec<PathBuf>,
}

/// Runs cargo in the directory; the component it made. In a workspace, that is the member the directory belongs to.
fn cargo(dir: &Path, quiet: bool) -> Result<PathBuf, Failure> {
    check_target(dir)?;
    let mut command = Command::new("cargo");
    command.current_dir(dir).args([
        "build",
        "--release",
        "--target",
        TARGET,
        "--message-format=json-render-diagnostics",
    ]);
    if quiet {
        command.arg("--quiet");
    }
    let output =
        command.stdin(Stdio::null()).stderr(Stdio::inherit()).output().map_err(|error| missing("cargo", &error))?;
    if !output.status.success() {
        return Err(Failure::failed(format!("cargo could not build `{}`", dir.display())));
    }
    let own = dir.join("Cargo.toml");
    let said = String::from_utf8_lossy(&output.stdout);
    said.lines()
        .filter_map(|line| serde_json::from_str::<Message>(line).ok())
        .filter(|message| message.reason == "compiler-artifact" && message.manifest_path == own)
        .flat_map(|message| message.filenames)
        .find(|file| file.extension().is_some_and(|extension| extension == "wasm"))
        .ok_or_else(|| {
            Failure::failed(format!("cargo built no component from `{}`", own.display()))
                .hint("its [lib] needs crate-type = [\"cdylib\"]")
        })
}

/// Says what is missing before cargo says "can't find crate for `core`".
fn check_target(dir: &Path) -> Result<(), Failure> {
    let asked = Command::new("rustc")
        .current_dir(dir)
        .args(["--print", "target-libdir", "--target", TARGET])
        .stdin(Stdio::null())
        .output()
        .map_err(|error| missing("rustc", &error))?;
    let libraries = PathBuf::from(String::from_utf8_lossy(&asked.stdout).trim());
    if asked.status.success() && libraries.is_dir() {
        return Ok(());
    }
    Err(Failure::failed(format!("the compiler can't build for {TARGET}")).hint(format!("rustup target add {TARGET}")))
}

fn missing(program: &str, error: &std::io::Error) -> Failure {
    Failure::failed(format!("`{program}` can't be started: {}", chain(error)))
        .hint("remedies are built with Rust's cargo: see https://rustup.rs")
}
