//! One case: break something, watch the daemon, check what came of it.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use super::progress::{Progress, Style};
use super::theriac::Theriac;

/// The longest a case may take from the break to its end.
const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(50);
/// Milliseconds.
const EARLY: u64 = 2_000;

type Check = Box<dyn Fn(&Theriac<'_>, &Watched) -> anyhow::Result<String>>;
type Break = Box<dyn Fn(&Theriac<'_>) -> anyhow::Result<u64>>;
type CleanUp = Box<dyn Fn(&Theriac<'_>) -> anyhow::Result<()>>;

/// Something to break.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) fault: &'static str,
    pub(crate) target: String,
    /// Seconds that the mission gives from the fault to healed; `None` where healing is not the point.
    pub(crate) mission: Option<f64>,
    /// Why it can't be shown on this machine.
    pub(crate) impossible: Option<String>,
    /// Makes the fault; when it was there, in milliseconds since 1970.
    pub(crate) break_it: Break,
    /// What it must have come to, and what is to be said of it.
    pub(crate) check: Check,
    /// Puts right what is not the daemon's business, so that the next case starts well.
    pub(crate) clean_up: CleanUp,
}

/// What was seen of one case's incident.
#[derive(Debug, Clone)]
pub(crate) struct Watched {
    /// `theriac incident show --json`, at its end.
    pub(crate) record: Value,
    /// When it was broken, in milliseconds since 1970.
    pub(crate) broken: u64,
}

/// How a case went.
#[derive(Debug)]
pub(crate) struct Finding {
    name: &'static str,
    pub(crate) fault: &'static str,
    pub(crate) mission: Option<f64>,
    pub(crate) outcome: Outcome,
}

#[derive(Debug)]
pub(crate) enum Outcome {
    /// As it should be.
    Right { times: Times, effects: u64, said: String },
    /// Not as it should be.
    Wrong(String),
    /// This machine can't show it; counts for nothing.
    NotPossible(String),
}

/// Seconds after the break.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Times {
    pub(crate) detected: Option<f64>,
    pub(crate) effect: Option<f64>,
    pub(crate) healed: Option<f64>,
    pub(crate) stable: Option<f64>,
}

impl Finding {
    pub(crate) const fn new(name: &'static str, fault: &'static str, mission: Option<f64>, outcome: Outcome) -> Self {
        Self { name, fault, mission, outcome }
    }

    pub(crate) const fn name(&self) -> &'static str {
        self.name
    }

    pub(crate) const fn is_wrong(&self) -> bool {
        matches!(self.outcome, Outcome::Wrong(_))
    }
}

impl Case {
    pub(crate) fn run(&self, theriac: &Theriac<'_>, style: Style) -> anyhow::Result<Finding> {
        let outcome = match &self.impossible {
            Some(why) => Outcome::NotPossible(why.clone()),
            None => self.outcome(theriac, style)?,
        };
        let finding = Finding::new(self.name, self.fault, self.mission, outcome);
        Progress::end(style, &finding);
        Ok(finding)
    }

    fn outcome(&self, theriac: &Theriac<'_>, style: Style) -> anyhow::Result<Outcome> {
        let mut progress = Progress::begin(style, self.name, &self.target);
        let broken = (self.break_it)(theriac)?;
        let seen = self.watch(theriac, broken, &mut progress).and_then(|watched| {
            let said = (self.check)(theriac, &watched)?;
            Ok(Outcome::Right { times: watched.times(), effects: watched.effects(), said })
        });
        (self.clean_up)(theriac)?;
        Ok(seen.unwrap_or_else(|error| Outcome::Wrong(format!("{error:#}"))))
    }

    /// Follows the incident to its end, showing what happens as it happens.
    fn watch(&self, theriac: &Theriac<'_>, broken: u64, progress: &mut Progress) -> anyhow::Result<Watched> {
        let deadline = Instant::now() + PATIENCE;
        let mut record = Value::Null;
        while Instant::now() < deadline {
            if let Some(id) = self.find(theriac, broken)? {
                record = theriac.incident(&id)?;
            }
            progress.show(&record, broken, now());
            if matches!(record.pointer("/incident/state").and_then(Value::as_str), Some("closed" | "escalated")) {
                return Ok(Watched { record, broken });
            }
            std::thread::sleep(POLL);
        }
        anyhow::bail!(
            "no end within {} s: {}",
            PATIENCE.as_secs(),
            record.pointer("/incident/state").unwrap_or(&Value::Null)
        )
    }

    /// The incident of this target that was detected after the break; a volume is below its threshold a moment before it is full.
    fn find(&self, theriac: &Theriac<'_>, broken: u64) -> anyhow::Result<Option<String>> {
        let mine = |incident: &&Value| {
            incident.get("target").and_then(Value::as_str) == Some(&self.target)
                && incident.get("detected").and_then(Value::as_u64).is_some_and(|at| at + EARLY >= broken)
        };
        let id = |incident: &Value| incident.get("id").and_then(Value::as_str).map(str::to_owned);
        Ok(theriac.incidents()?.iter().find(mine).and_then(id))
    }
}

impl Watched {
    fn stamp(&self, pointer: &str) -> Option<f64> {
        self.record.pointer(pointer).and_then(Value::as_u64).map(|at| seconds(self.broken, at))
    }

    pub(crate) fn runs(&self) -> impl Iterator<Item = &Value> {
        self.record.get("runs").and_then(Value::as_array).into_iter().flatten()
    }

    /// Records of all runs, oldest first.
    pub(crate) fn records(&self) -> impl Iterator<Item = &Value> {
        self.record
            .get("records")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(|entry| entry.get("record"))
    }

    pub(crate) fn state(&self) -> &str {
        self.record.pointer("/incident/state").and_then(Value::as_str).unwrap_or_default()
    }

    /// The final state of each run.
    pub(crate) fn run_states(&self) -> Vec<&str> {
        self.runs().filter_map(|run| run.get("state").and_then(Value::as_str)).collect()
    }

    fn times(&self) -> Times {
        let first_effect = self.runs().filter_map(|run| run.get("first_effect").and_then(Value::as_u64)).min();
        Times {
            detected: self.stamp("/incident/detected"),
            effect: first_effect.map(|at| seconds(self.broken, at)),
            healed: self.stamp("/incident/healed"),
            stable: self.stamp("/incident/stable"),
        }
    }

    fn effects(&self) -> u64 {
        self.runs().filter_map(|run| run.get("effects").and_then(Value::as_u64)).sum()
    }
}

pub(crate) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[expect(clippy::cast_precision_loss, reason = "milliseconds of one demo")]
pub(crate) fn seconds(from: u64, to: u64) -> f64 {
    to.saturating_sub(from) as f64 / 1000.0
}
