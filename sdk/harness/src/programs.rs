//! The programs that scenarios need, and one process for each scenario.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::error::ScenarioError;
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

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }
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
    let output = Command::new(programs.path("theriac-scenario"))
        .arg("--remedy")
        .arg(remedy)
        .arg(file)
        .stdin(Stdio::null())
        .output()
        .map_err(ScenarioError::io("starting theriac-scenario"))?;
    if let Ok(outcome) = serde_json::from_slice(&output.stdout) {
        return Ok(outcome);
    }
    let problem = format!("it ended with {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    let summary = Scenario::read(file).map_or_else(|_| String::new(), |scenario| scenario.summary);
    Ok(Outcome { scenario: name(file), summary, verdict: Verdict::Failed { problems: vec![problem] }, asks: None })
}
