//! The programs that scenarios need, and one process for each scenario.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde::de::DeserializeOwned;

use theriac_protocol::process::{Identity, may_become};
use theriac_runner::worker::WorkerConfig;

use crate::error::ScenarioError;
use crate::learn::{Learned, Lesson};
use crate::recording::Recording;
use crate::scenario::Scenario;
use crate::summary::{Outcome, Summary, Verdict};

/// Theriac's programs, in one directory.
#[derive(Debug, Clone)]
pub struct Programs {
    dir: PathBuf,
}

impl Programs {
    const NAMES: [&str; 5] =
        ["theriac-scenario", "scenario-stand-in", "theriac-worker", "theriac-launcher", "theriac-courier"];

    /// Those that lie beside the running program, or beside cargo's directory of test programs.
    pub fn beside_this_one() -> Result<Self, ScenarioError> {
        let own = std::env::current_exe().map_err(ScenarioError::io("finding this program"))?;
        let dir = own.parent().unwrap_or(Path::new("/"));
        let dir = if dir.ends_with("deps") { dir.parent().unwrap_or(dir) } else { dir };
        Self::in_dir(dir)
    }

    fn in_dir(dir: &Path) -> Result<Self, ScenarioError> {
        let missing = Self::NAMES.iter().find(|name| !dir.join(name).is_file());
        match missing {
            None => Ok(Self { dir: dir.to_owned() }),
            Some(name) => {
                let problem = format!("`{name}` is not in `{}`: build the whole workspace", dir.display());
                Err(ScenarioError::Scenario { problem })
            }
        }
    }

    /// How their workers are started.
    pub fn workers(&self) -> WorkerConfig {
        workers(self.path("theriac-worker"))
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }
}

/// How workers are started where there is no runner. Where this process is root, they need a user to become: one that nothing
/// else runs as.
pub fn workers(program: PathBuf) -> WorkerConfig {
    /// Within the range that systemd hands out to services for as long as they run, so that no person has it.
    const WORKER: u32 = 65_432;
    let identities = if may_become(WORKER) { vec![Identity { uid: WORKER, gid: WORKER }] } else { Vec::new() };
    WorkerConfig { program, identities }
}

/// Plays every scenario of the directory whose name holds `only`, in the order of their names.
pub fn test(programs: &Programs, remedy: &Path, scenarios: &Path, only: &str) -> Result<Summary, ScenarioError> {
    let entries = fs::read_dir(scenarios).map_err(ScenarioError::io(format!("reading `{}`", scenarios.display())))?;
    let mut files: Vec<PathBuf> = entries
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .filter(|path| name(path).contains(only))
        .collect();
    files.sort();
    let outcomes = files.iter().map(|file| one(programs, remedy, file)).collect::<Result<_, _>>()?;
    Ok(Summary { remedy: remedy.display().to_string(), outcomes })
}

/// A scenario's name: its file's.
pub(crate) fn name(file: &Path) -> String {
    file.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned())
}

/// A scenario whose process ends without an answer has failed, and its last words are the problem.
fn one(programs: &Programs, remedy: &Path, file: &Path) -> Result<Outcome, ScenarioError> {
    let output = child(programs, &[OsStr::new("play"), remedy.as_os_str(), file.as_os_str()])?;
    if let Ok(outcome) = serde_json::from_slice(&output.stdout) {
        return Ok(outcome);
    }
    let problem = last_words(&output);
    let summary = Scenario::read(file).map_or_else(|_| String::new(), |scenario| scenario.summary);
    Ok(Outcome { scenario: name(file), summary, verdict: Verdict::Failed { problems: vec![problem] }, asks: None })
}

/// Records the dry run of a remedy in a scenario's world, in a process of its own.
pub fn record_in_scenario(programs: &Programs, remedy: &Path, file: &Path) -> Result<Recording, ScenarioError> {
    answer(programs, &[OsStr::new("record"), remedy.as_os_str(), file.as_os_str()])
}

/// Learns the smallest grants, in a process of its own.
pub fn learn_in_scenario(programs: &Programs, lesson: Lesson<'_>) -> Result<Learned, ScenarioError> {
    let Lesson { component, manifest, scenario } = lesson;
    answer(programs, &[OsStr::new("learn"), component.as_os_str(), manifest.as_os_str(), scenario.as_os_str()])
}

fn answer<T: DeserializeOwned>(programs: &Programs, arguments: &[&OsStr]) -> Result<T, ScenarioError> {
    let output = child(programs, arguments)?;
    serde_json::from_slice(&output.stdout).map_err(|_none| ScenarioError::Scenario { problem: last_words(&output) })
}

fn child(programs: &Programs, arguments: &[&OsStr]) -> Result<Output, ScenarioError> {
    let mut command = Command::new(programs.path("theriac-scenario"));
    command.args(arguments).stdin(Stdio::null()).output().map_err(ScenarioError::io("starting theriac-scenario"))
}

fn last_words(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.trim().trim_start_matches("Error: ");
    if said.is_empty() { format!("it ended with {}", output.status) } else { said.to_owned() }
}
