//! Recordings: what a remedy was told in one dry run, what it asked, what it was answered, and what came of it, as one file
//! that a person can read. A remedy has no clock, no random numbers and no other input, so the same component answers a
//! recording in the same way each time ([`crate::replay`]).
//!
//! A recording gives no rights and is played into nothing: it holds answers, and a replay hands them out without looking at the
//! world.

use std::fs;
use std::io::Read as _;
use std::path::Path;

use serde::{Deserialize, Serialize};
use theriac_model::call::{Call, FaultInput, Opinion, Reply, Report};
use theriac_model::plan::PlannedEffect;
use theriac_model::remedy::RemedyRef;
use theriac_runner::worker::Ending;

use crate::error::ScenarioError;

/// The first line's word; another one is another format.
const FORMAT: &str = "theriac.recording/v1";
/// 10,000 host calls, some of them with content.
const MAX_FILE: u64 = 64 << 20;

/// One host call and its answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exchange {
    /// What the remedy asked.
    pub call: Call,
    /// What it was answered.
    pub reply: Reply,
}

/// How the remedy ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Ended {
    /// `remediate` returned.
    Remediated(Report),
    /// `check` returned.
    Checked(Opinion),
    /// It was ended, in a sentence.
    Ended(String),
}

impl From<Ending> for Ended {
    fn from(ending: Ending) -> Self {
        match ending {
            Ending::Remediated(report) => Self::Remediated(report),
            Ending::Checked(opinion) => Self::Checked(opinion),
            Ending::Ended { sentence, .. } => Self::Ended(sentence),
        }
    }
}

/// One dry run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recording {
    format: String,
    /// Which remedy ran.
    pub remedy: RemedyRef,
    /// What it was told.
    pub fault: FaultInput,
    /// Its host calls, in order.
    pub exchanges: Vec<Exchange>,
    /// What the gate made of its changing calls; for readers.
    pub effects: Vec<PlannedEffect>,
    /// How it ended.
    pub ending: Ended,
}

impl Recording {
    /// Puts one dry run together.
    pub fn new(
        remedy: RemedyRef,
        fault: FaultInput,
        exchanges: Vec<Exchange>,
        effects: Vec<PlannedEffect>,
        ending: Ending,
    ) -> Self {
        Self { format: FORMAT.to_owned(), remedy, fault, exchanges, effects, ending: ending.into() }
    }

    /// Reads one.
    pub fn read(path: &Path) -> Result<Self, ScenarioError> {
        let doing = || format!("reading `{}`", path.display());
        let mut text = String::new();
        let file = fs::File::open(path).map_err(ScenarioError::io(doing()))?;
        file.take(MAX_FILE).read_to_string(&mut text).map_err(ScenarioError::io(doing()))?;
        let wrong = |problem: String| ScenarioError::Scenario { problem: format!("`{}`: {problem}", path.display()) };
        let recording: Self = serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
        if recording.format == FORMAT { Ok(recording) } else { Err(wrong(format!("its format is not `{FORMAT}`"))) }
    }

    /// The file's text: JSON, with each host call and each effect on a line of its own.
    pub fn text(&self) -> Result<String, ScenarioError> {
        let exchanges = self.exchanges.iter().map(json).collect::<Result<Vec<_>, _>>()?;
        let effects = self.effects.iter().map(json).collect::<Result<Vec<_>, _>>()?;
        Ok(format!(
            "{{\n  \"format\": {},\n  \"remedy\": {},\n  \"fault\": {},\n  \"exchanges\": {},\n  \"effects\": {},\n  \"ending\": {}\n}}\n",
            json(&self.format)?,
            json(&self.remedy)?,
            json(&self.fault)?,
            lines(&exchanges),
            lines(&effects),
            json(&self.ending)?,
        ))
    }
}

fn json<T: Serialize>(value: &T) -> Result<String, ScenarioError> {
    serde_json::to_string(value).map_err(ScenarioError::part("writing the recording"))
}

fn lines(items: &[String]) -> String {
    if items.is_empty() { "[]".to_owned() } else { format!("[\n    {}\n  ]", items.join(",\n    ")) }
}
