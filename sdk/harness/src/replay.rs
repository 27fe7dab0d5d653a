//! Replaying: the real component in a real worker, answered out of a recording. What it asks is held against what was recorded.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;
use theriac_authority::package::Package;
use theriac_model::call::{Call, Export, Reply};
use theriac_model::denial::{Denial, DenialCause};

use crate::error::{ScenarioError, chain};
use crate::load::Loaded;
use crate::programs::{Programs, name};
use crate::recording::{Ended, Exchange, Recording};
use crate::summary::{Outcome, Verdict};

/// What came of a replay.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Replay {
    /// The recording was made by the very same file.
    pub same_build: bool,
    /// Host calls that were as recorded.
    pub matched: usize,
    /// Host calls of the recording.
    pub recorded: usize,
    /// Where it first did something else.
    pub difference: Option<Difference>,
}

/// How a run was not as recorded.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Difference {
    /// It asked for something else; `None`: nothing more was recorded.
    Asked { at: usize, recorded: Option<Call>, now: Call },
    /// It ended before it had asked everything.
    Stopped { at: usize, recorded: Call, now: Ended },
    /// It asked the same and ended in another way.
    Ended { recorded: Ended, now: Ended },
}

impl Recording {
    /// Runs the component against this recording.
    pub fn replay(&self, programs: &Programs, package: &Package) -> Result<Replay, ScenarioError> {
        let loaded = Loaded::new(package, programs.workers())?;
        let time = package.manifest.limits.time.duration();
        let mut tape = Tape { exchanges: &self.exchanges, matched: 0, difference: None };
        let ending = loaded.worker()?.call(Export::Remediate, self.fault.clone(), time, |call| tape.answer(call));
        let Tape { matched, difference, .. } = tape;
        let difference = difference.or_else(|| self.end(matched, ending.into()));
        let same_build = package.digest == self.remedy.component;
        Ok(Replay { same_build, matched, recorded: self.exchanges.len(), difference })
    }

    fn end(&self, matched: usize, now: Ended) -> Option<Difference> {
        match self.exchanges.get(matched) {
            Some(next) => Some(Difference::Stopped { at: matched, recorded: next.call.clone(), now }),
            None if now != self.ending => Some(Difference::Ended { recorded: self.ending.clone(), now }),
            None => None,
        }
    }
}

/// The recorded answers, handed out as long as the questions are the recorded ones.
struct Tape<'a> {
    exchanges: &'a [Exchange],
    matched: usize,
    difference: Option<Difference>,
}

impl Tape<'_> {
    fn answer(&mut self, call: Call) -> Reply {
        let known = self.exchanges.get(self.matched);
        match known {
            Some(known) if self.difference.is_none() && known.call == call => {
                self.matched += 1;
                known.reply.clone()
            }
            Some(_) | None => {
                let attempted = format!("{call:?}");
                let recorded = known.map(|known| known.call.clone());
                self.difference.get_or_insert(Difference::Asked { at: self.matched, recorded, now: call });
                Reply::Denied(Denial::new(DenialCause::Unavailable, "replay", "recording", attempted))
            }
        }
    }
}

impl fmt::Display for Replay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.same_build {
            writeln!(f, "the recording was made by another build of the remedy")?;
        }
        match &self.difference {
            None => writeln!(f, "as recorded: {} host calls, and the same end", self.matched),
            Some(difference) => writeln!(f, "NOT as recorded, after {} host calls: {difference}", self.matched),
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Asked { recorded: Some(recorded), now, .. } => {
                write!(f, "it asked {now:?}, and the recording has {recorded:?}")
            }
            Self::Asked { recorded: None, now, .. } => write!(f, "it asked {now:?}, and the recording has ended"),
            Self::Stopped { recorded, now, .. } => {
                write!(f, "it ended with {now:?}, and the recording has {recorded:?}")
            }
            Self::Ended { recorded, now } => write!(f, "it ended with {now:?}, and the recording with {recorded:?}"),
        }
    }
}

/// Replays every `*.json` of the directory whose name holds `only`, in the order of their names. No directory: no recordings.
pub fn replays(
    programs: &Programs,
    package: &Package,
    recordings: &Path,
    only: &str,
) -> Result<Vec<Outcome>, ScenarioError> {
    let Ok(entries) = std::fs::read_dir(recordings) else { return Ok(Vec::new()) };
    let paths = entries.filter_map(Result::ok).map(|entry| entry.path());
    let mut files: Vec<PathBuf> = paths
        .filter(|path| path.extension().is_some_and(|extension| extension == "json") && name(path).contains(only))
        .collect();
    files.sort();
    Ok(files.iter().map(|file| outcome(programs, package, file)).collect())
}

fn outcome(programs: &Programs, package: &Package, file: &Path) -> Outcome {
    let replayed = Recording::read(file).and_then(|recording| recording.replay(programs, package));
    let verdict = match replayed {
        Ok(Replay { difference: None, .. }) => Verdict::Passed { worlds: 1 },
        Ok(Replay { difference: Some(difference), .. }) => Verdict::Failed { problems: vec![difference.to_string()] },
        Err(error) => Verdict::Failed { problems: vec![chain(&error)] },
    };
    Outcome { scenario: name(file), summary: "a recorded dry run is repeated".to_owned(), verdict, asks: None }
}
