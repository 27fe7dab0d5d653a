//! A typed no: what was attempted, which rule failed, and the smallest manifest line that would have allowed it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Why a host call did not do what was asked. A denied thing is never reported as not found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Denial {
    /// The class of the refusal.
    pub cause: DenialCause,
    /// The label of the grant that was consulted, or what was asked for where there is none.
    pub label: String,
    /// The rule that failed, as a dotted word: `verbs`, `match`, `min_age`, `max_bytes`, `plan.order`, `identity`, ….
    pub rule: String,
    /// Exactly what was attempted, such as `remove error.log.1 (12 MiB)`.
    pub attempted: String,
    /// The smallest manifest line that would have allowed exactly this call; `None` where no manifest line could.
    pub suggestion: Option<String>,
}

/// The class of a refusal. Three kinds of reaction hide in it: a *decision* of ours, a *state* of the world, a *failure*.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DenialCause {
    /// No grant covers it.
    NotGranted,
    /// A grant covers it, the plan does not.
    OffPlan,
    /// A limit of the grant or the run is used up.
    OverBudget,
    /// The target is no longer the one that was bound.
    StaleTarget,
    /// Somebody else holds or changed the target.
    Conflict,
    /// This machine or this configuration can't do it.
    Unavailable,
    /// It was tried and the world said no.
    Failed,
}

impl DenialCause {
    /// The word used in records and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotGranted => "not-granted",
            Self::OffPlan => "off-plan",
            Self::OverBudget => "over-budget",
            Self::StaleTarget => "stale-target",
            Self::Conflict => "conflict",
            Self::Unavailable => "unavailable",
            Self::Failed => "failed",
        }
    }

    /// Every cause, for metrics that show zeros too.
    pub const ALL: [Self; 7] = [
        Self::NotGranted,
        Self::OffPlan,
        Self::OverBudget,
        Self::StaleTarget,
        Self::Conflict,
        Self::Unavailable,
        Self::Failed,
    ];
}

impl Denial {
    /// A denial without a suggestion; `attempted` is cut to 512 characters, because a guest chose it.
    pub fn new(cause: DenialCause, label: impl fmt::Display, rule: &str, attempted: impl fmt::Display) -> Self {
        Self {
            cause,
            label: shorten(&label.to_string()),
            rule: rule.to_owned(),
            attempted: shorten(&attempted.to_string()),
            suggestion: None,
        }
    }

    /// The same with the manifest line that would have allowed it.
    #[must_use]
    pub fn suggest(mut self, line: impl Into<String>) -> Self {
        self.suggestion = Some(line.into());
        self
    }
}

fn shorten(text: &str) -> String {
    text.chars().take(512).collect()
}

impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: `{}` under `{}` (rule `{}`)",
            self.cause.as_str(),
            self.attempted.escape_debug(),
            self.label.escape_debug(),
            self.rule
        )
    }
}

impl std::error::Error for Denial {}
