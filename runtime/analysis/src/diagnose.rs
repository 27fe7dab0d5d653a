//! Causes ranked by rules, each citing its evidence, and the decision to do nothing where that is right.
//!
//! Whoever can write to a log can write anything: a cause that rests on a log line is named only when a measured fact of
//! another source stands beside it. Without any cause the incident keeps its kind, and its playbook looks first.

use std::sync::LazyLock;

use serde::Deserialize;
use serde_saphyr::Spanned;
use theriac_model::diagnosis::{Cause, Diagnosis, Evidence, EvidenceSource, Inaction, InactionReason};
use theriac_model::fault::FaultKind;
use theriac_model::id::EvidenceId;
use theriac_model::incident::Incident;
use theriac_model::observation::Metric;
use theriac_model::unit::{ActiveState, UnitState};
use theriac_model::units::Permille;

use crate::expression::{Expression, ExpressionError, Fact, Values};
use crate::text::foreign;

const CAUSES: &str = include_str!("../../../policies/causes/causes.yaml");
const INACTION: &str = include_str!("../../../policies/causes/inaction.yaml");
/// Causes kept, and pieces of evidence one of them cites.
const MAX_CAUSES: usize = 8;
const MAX_CITED: usize = 16;

/// What is known besides the evidence, at the moment of the diagnosis.
#[derive(Debug, Clone, Default)]
pub struct Context {
    /// The newest readings: of the target, and of the host.
    pub metrics: Vec<(Metric, f64)>,
    /// The unit, where the target is one.
    pub unit: Option<UnitState>,
    /// The least share of available blocks of all listed mounts, in permille.
    pub lowest_disk_available: Option<f64>,
    /// The program that deploys or installs now.
    pub deploy: Option<String>,
    /// The program that backs up now.
    pub backup: Option<String>,
}

/// Why the rules were refused.
#[derive(Debug, thiserror::Error)]
pub enum CausesError {
    /// The YAML, or a key of it.
    #[error("line {line}: {message}")]
    Yaml { line: u64, message: String },
    /// An expression.
    #[error("line {line}: rule `{rule}`, `when`")]
    Expression {
        line: u64,
        rule: String,
        #[source]
        source: ExpressionError,
    },
    /// A value that its key does not take.
    #[error("line {line}: rule `{rule}`: {message}")]
    Value { line: u64, rule: String, message: String },
}

/// The rules of diagnosis.
#[derive(Debug)]
pub struct Causes {
    causes: Vec<CauseRule>,
    inaction: Vec<InactionRule>,
}

#[derive(Debug)]
struct CauseRule {
    raw: RawCause,
    when: Expression,
    confidence: Permille,
}

#[derive(Debug)]
struct InactionRule {
    raw: RawInaction,
    when: Expression,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CauseFile {
    causes: Vec<RawCause>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCause {
    id: String,
    #[serde(rename = "for")]
    kinds: Vec<FaultKind>,
    cause: FaultKind,
    #[serde(default)]
    log: Vec<String>,
    when: Spanned<String>,
    confidence: u16,
    cites: Vec<EvidenceSource>,
    summary: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct InactionFile {
    inaction: Vec<RawInaction>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawInaction {
    reason: InactionReason,
    #[serde(rename = "for")]
    kinds: Vec<FaultKind>,
    when: Spanned<String>,
    summary: String,
}

/// An example of every name an expression may use.
static EXAMPLES: LazyLock<Values> = LazyLock::new(|| {
    let metrics = Metric::ALL.iter().map(|metric| (metric.as_str(), Fact::Number(1.0)));
    let flags =
        ["up", "failed", "will_restart", "stopped_on_purpose", "needs_reload", "deploy_running", "backup_running"];
    let texts = ["active", "sub", "result"].map(|name| (name, Fact::Text(String::new())));
    let numbers = ["restarts", "since_s", "lowest_disk_available"].map(|name| (name, Fact::Number(1.0)));
    metrics.chain(flags.map(|name| (name, Fact::Flag(true)))).chain(texts).chain(numbers).collect()
});

impl Causes {
    /// The rules that ship with the daemon.
    pub fn defaults() -> Result<Self, CausesError> {
        Self::parse(CAUSES, INACTION)
    }

    /// Parses a file of causes and a file of reasons to do nothing.
    pub fn parse(causes: &str, inaction: &str) -> Result<Self, CausesError> {
        let causes: CauseFile = serde_saphyr::from_str(causes).map_err(|error| yaml(&error))?;
        let inaction: InactionFile = serde_saphyr::from_str(inaction).map_err(|error| yaml(&error))?;
        let causes = causes.causes.into_iter().map(cause_rule).collect::<Result<_, _>>()?;
        let inaction = inaction.inaction.into_iter().map(inaction_rule).collect::<Result<_, _>>()?;
        Ok(Self { causes, inaction })
    }

    /// Ranks the causes of an incident by the evidence, and says whether anything should be done now.
    pub fn diagnose(&self, incident: &Incident, evidence: &[Evidence], context: &Context) -> Diagnosis {
        let values = values(context);
        let mut causes: Vec<Cause> = self
            .causes
            .iter()
            .filter(|rule| rule.raw.kinds.contains(&incident.kind) && rule.when.holds(&values) == Some(true))
            .filter_map(|rule| rule.name(incident, evidence))
            .collect();
        // Stable: of two equally sure causes the one that stands first in the file leads.
        causes.sort_by_key(|cause| std::cmp::Reverse(cause.confidence));
        causes.truncate(MAX_CAUSES);
        let inaction = self
            .inaction
            .iter()
            .find(|rule| rule.raw.kinds.contains(&incident.kind) && rule.when.holds(&values) == Some(true))
            .map(|rule| Inaction { reason: rule.raw.reason, summary: fill(&rule.raw.summary, incident, context) });
        Diagnosis { causes, inaction }
    }
}

fn yaml(error: &serde_saphyr::Error) -> CausesError {
    let message = error.without_snippet().to_string();
    CausesError::Yaml {
        line: error.location().map_or(0, |location| location.line()),
        message: message.lines().next().unwrap_or_default().chars().take(300).collect(),
    }
}

fn cause_rule(raw: RawCause) -> Result<CauseRule, CausesError> {
    let line = raw.when.referenced.line();
    let wrong = |message: &str| CausesError::Value { line, rule: raw.id.clone(), message: message.to_owned() };
    let confidence = Permille::new(raw.confidence).map_err(|error| wrong(&error.to_string()))?;
    if !raw.cites.iter().any(|source| source.is_measured()) {
        return Err(wrong("`cites` needs a measured source: a log alone names no cause"));
    }
    if raw.log.iter().any(|text| text.chars().any(char::is_uppercase) || text.len() < 4) {
        return Err(wrong("`log` takes texts of four characters or more in lower case"));
    }
    if !raw.log.is_empty() && !raw.cites.contains(&EvidenceSource::Log) {
        return Err(wrong("a rule with `log` cites `log`"));
    }
    let when = Expression::compile(&raw.when.value, &EXAMPLES).map_err(|source| CausesError::Expression {
        line,
        rule: raw.id.clone(),
        source,
    })?;
    Ok(CauseRule { when, confidence, raw })
}

fn inaction_rule(raw: RawInaction) -> Result<InactionRule, CausesError> {
    let (line, rule) = (raw.when.referenced.line(), raw.reason.as_str().to_owned());
    let when = Expression::compile(&raw.when.value, &EXAMPLES).map_err(|source| CausesError::Expression {
        line,
        rule,
        source,
    })?;
    Ok(InactionRule { when, raw })
}

impl CauseRule {
    /// The cause with what it cites; `None` when the evidence it needs is not there.
    fn name(&self, incident: &Incident, evidence: &[Evidence]) -> Option<Cause> {
        let says = |piece: &&Evidence| {
            let line = piece.summary.to_lowercase();
            self.raw.log.iter().any(|text| line.contains(text))
        };
        let logs: Vec<&Evidence> =
            evidence.iter().filter(|piece| piece.source == EvidenceSource::Log).filter(says).collect();
        if !self.raw.log.is_empty() && logs.is_empty() {
            return None;
        }
        let measured: Vec<&Evidence> = evidence
            .iter()
            .filter(|piece| piece.source.is_measured() && self.raw.cites.contains(&piece.source))
            .collect();
        if measured.is_empty() {
            return None;
        }
        let cited: Vec<EvidenceId> =
            logs.into_iter().chain(measured).take(MAX_CITED).map(|piece| piece.id.clone()).collect();
        Some(Cause {
            kind: self.raw.cause,
            target: incident.target.clone(),
            summary: self.raw.summary.replace("{target}", &incident.target.to_string()),
            confidence: self.confidence,
            evidence: cited,
            rule: self.raw.id.clone(),
        })
    }
}

fn fill(template: &str, incident: &Incident, context: &Context) -> String {
    let program = |name: &Option<String>| foreign(name.as_deref().unwrap_or("a program"), 40);
    template
        .replace("{deploy}", &program(&context.deploy))
        .replace("{backup}", &program(&context.backup))
        .replace("{target}", &incident.target.to_string())
}

fn values(context: &Context) -> Values {
    let mut values: Values = context
        .metrics
        .iter()
        .filter(|(_, value)| value.is_finite())
        .map(|(metric, value)| (metric.as_str(), Fact::Number(*value)))
        .collect();
    values.insert("deploy_running", Fact::Flag(context.deploy.is_some()));
    values.insert("backup_running", Fact::Flag(context.backup.is_some()));
    values.extend(context.lowest_disk_available.map(|lowest| ("lowest_disk_available", Fact::Number(lowest))));
    if let Some(unit) = &context.unit {
        let active = match unit.active {
            ActiveState::Active => "active",
            ActiveState::Activating => "activating",
            ActiveState::Deactivating => "deactivating",
            ActiveState::Inactive => "inactive",
            ActiveState::Failed => "failed",
            ActiveState::Reloading => "reloading",
            ActiveState::Other => "other",
        };
        let failed =
            unit.active == ActiveState::Failed || (unit.active == ActiveState::Inactive && !unit.stopped_on_purpose);
        values.extend([
            ("active", Fact::Text(active.to_owned())),
            ("sub", Fact::Text(unit.sub.clone())),
            ("result", Fact::Text(unit.result.clone())),
            ("up", Fact::Flag(unit.is_up())),
            ("failed", Fact::Flag(failed)),
            ("will_restart", Fact::Flag(unit.will_restart)),
            ("stopped_on_purpose", Fact::Flag(unit.stopped_on_purpose)),
            ("needs_reload", Fact::Flag(unit.needs_reload)),
            ("restarts", Fact::Number(f64::from(unit.restarts))),
            ("since_s", Fact::Number(std::time::Duration::from_millis(unit.since_ms).as_secs_f64())),
        ]);
    }
    values
}

#[cfg(test)]
mod tests;
