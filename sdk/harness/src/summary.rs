//! What came of scenarios, for people and for `--json`.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What came of one scenario.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// Its file's name, without `.toml`.
    pub scenario: String,
    /// What it shows.
    pub summary: String,
    /// Whether it did.
    pub verdict: Verdict,
    /// Whether a person would have been asked before the run, and why.
    pub asks: Option<String>,
}

/// Whether a scenario showed what it says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It did, in that many worlds: as written, and with each effect failing.
    Passed { worlds: u32 },
    /// This machine can't make what it asks for: neither passed nor failed.
    NotPossible { reason: String },
    /// It did not: each way in which it did not.
    Failed { problems: Vec<String> },
}

/// Every scenario of one remedy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// The remedy's file.
    pub remedy: String,
    /// In the order of their names.
    pub outcomes: Vec<Outcome>,
}

impl Summary {
    /// None failed, and there is at least one.
    pub fn passed(&self) -> bool {
        !self.outcomes.is_empty() && self.failed().count() == 0
    }

    /// Those that failed.
    pub fn failed(&self) -> impl Iterator<Item = &Outcome> {
        self.outcomes.iter().filter(|outcome| matches!(outcome.verdict, Verdict::Failed { .. }))
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { scenario, summary, .. } = self;
        match &self.verdict {
            Verdict::Passed { worlds } => writeln!(f, "  passed   {scenario} (in {worlds} worlds): {summary}")?,
            Verdict::NotPossible { reason } => writeln!(f, "  skipped  {scenario}: not possible here: {reason}")?,
            Verdict::Failed { problems } => {
                writeln!(f, "  FAILED   {scenario}: {summary}")?;
                problems.iter().try_for_each(|problem| writeln!(f, "             {problem}"))?;
            }
        }
        self.asks.iter().try_for_each(|why| writeln!(f, "             asks a person first: {why}"))
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.remedy)?;
        self.outcomes.iter().try_for_each(|outcome| write!(f, "{outcome}"))?;
        let count = |wanted: fn(&Verdict) -> bool| self.outcomes.iter().filter(|it| wanted(&it.verdict)).count();
        writeln!(
            f,
            "{} passed, {} failed, {} not possible here",
            count(|verdict| matches!(verdict, Verdict::Passed { .. })),
            count(|verdict| matches!(verdict, Verdict::Failed { .. })),
            count(|verdict| matches!(verdict, Verdict::NotPossible { .. })),
        )
    }
}
