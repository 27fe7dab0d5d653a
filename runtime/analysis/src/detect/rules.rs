//! Rules as they stand in YAML, parsed once to types. An error names the file's line, the rule and what would be right.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_saphyr::Spanned;
use theriac_model::catalog::Thresholds;
use theriac_model::fault::{FaultKind, Severity};
use theriac_model::time::Span;

use super::names::{self, Name};
use crate::expression::{Expression, ExpressionError};

/// The rules that ship with the daemon.
const DEFAULTS: [&str; 6] = [
    include_str!("../../../../policies/rules/certificates.yaml"),
    include_str!("../../../../policies/rules/containers.yaml"),
    include_str!("../../../../policies/rules/databases.yaml"),
    include_str!("../../../../policies/rules/disk.yaml"),
    include_str!("../../../../policies/rules/resources.yaml"),
    include_str!("../../../../policies/rules/services.yaml"),
];
/// More rules than this are a mistake, and would cost more than they find.
const MAX_RULES: usize = 256;

/// Why a file of rules was refused.
#[derive(Debug, thiserror::Error)]
pub enum RuleError {
    /// The YAML, or a key of it.
    #[error("line {line}: {message}")]
    Yaml { line: u64, message: String },
    /// An expression.
    #[error("line {line}: rule `{rule}`, `{key}`")]
    Expression {
        line: u64,
        rule: String,
        key: &'static str,
        #[source]
        source: ExpressionError,
    },
    /// A value that the key does not take.
    #[error("line {line}: rule `{rule}`: {message}")]
    Value { line: u64, rule: String, message: String },
    /// Two rules of one name.
    #[error("line {line}: there are two rules `{rule}`")]
    Twice { line: u64, rule: String },
    /// Too many.
    #[error("more than {MAX_RULES} rules")]
    TooMany,
}

/// Parsed rules.
#[derive(Debug, Default)]
pub struct RuleSet {
    pub(super) rules: Vec<Rule>,
}

#[derive(Debug)]
pub(super) struct Rule {
    pub(super) id: String,
    pub(super) kind: FaultKind,
    pub(super) severity: Severity,
    pub(super) target: TargetKind,
    pub(super) when: Expression,
    pub(super) clear: Expression,
    pub(super) lasts: Lasts,
    pub(super) summary: String,
    /// What `when` speaks about, in the order of the alphabet.
    pub(super) names: Vec<&'static Name>,
    pub(super) test: SelfTest,
}

/// What a rule is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum TargetKind {
    Unit,
    Mount,
    Certificate,
    Container,
    Pool,
    Host,
}

/// How long the condition has to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lasts {
    Span(Span),
    /// As long as the target's own threshold says.
    CpuFor,
}

impl Lasts {
    pub(super) const fn of(self, thresholds: &Thresholds) -> Span {
        match self {
            Self::Span(span) => span,
            Self::CpuFor => thresholds.cpu_for,
        }
    }
}

/// Values that are normal and values that are a planted fault, per metric. Several values are a path from one to the next.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SelfTest {
    pub(super) normal: BTreeMap<String, Vec<f64>>,
    pub(super) planted: BTreeMap<String, Vec<f64>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    rules: Vec<Spanned<RawRule>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRule {
    id: Spanned<String>,
    kind: FaultKind,
    severity: Severity,
    target: TargetKind,
    when: Spanned<String>,
    clear: Spanned<String>,
    #[serde(rename = "for")]
    lasts: Spanned<String>,
    summary: Spanned<String>,
    test: Spanned<SelfTest>,
}

impl RuleSet {
    /// The rules that ship with the daemon.
    pub fn defaults() -> Result<Self, RuleError> {
        DEFAULTS.iter().try_fold(Self::default(), |set, text| set.with(Self::parse(text)?))
    }

    /// Parses one file.
    pub fn parse(text: &str) -> Result<Self, RuleError> {
        let file: File = serde_saphyr::from_str(text).map_err(|error| RuleError::Yaml {
            line: error.location().map_or(0, |location| location.line()),
            message: first_line(&error.without_snippet().to_string()),
        })?;
        let mut set = Self::default();
        for raw in file.rules {
            let rule = parse_rule(raw.value)?;
            set = set.with(Self { rules: vec![rule] })?;
        }
        Ok(set)
    }

    /// Both sets; a name may stand for one rule only.
    pub fn with(mut self, other: Self) -> Result<Self, RuleError> {
        let known: BTreeSet<String> = self.rules.iter().map(|rule| rule.id.clone()).collect();
        if let Some(twice) = other.rules.iter().find(|rule| known.contains(&rule.id)) {
            return Err(RuleError::Twice { line: 0, rule: twice.id.clone() });
        }
        self.rules.extend(other.rules);
        if self.rules.len() > MAX_RULES { Err(RuleError::TooMany) } else { Ok(self) }
    }

    /// The rules' names with the fault kinds they find.
    pub fn ids(&self) -> impl Iterator<Item = (&str, FaultKind)> {
        self.rules.iter().map(|rule| (rule.id.as_str(), rule.kind))
    }
}

/// serde's message of an unknown key already lists the valid ones; its snippet is not one line.
fn first_line(message: &str) -> String {
    message.lines().next().unwrap_or_default().chars().take(300).collect()
}

fn parse_rule(raw: RawRule) -> Result<Rule, RuleError> {
    let id = raw.id.value.clone();
    let wrong = |line: u64, message: String| RuleError::Value { line, rule: id.clone(), message };
    let line = raw.id.referenced.line();
    if theriac_model::id::Label::parse(&id).is_err() {
        return Err(wrong(line, "an id is 1 to 64 of a-z, 0-9, `-` and `_`, starting with a letter".to_owned()));
    }
    let compile = |key: &'static str, text: &Spanned<String>| {
        Expression::compile(&text.value, &names::examples()).map_err(|source| RuleError::Expression {
            line: text.referenced.line(),
            rule: id.clone(),
            key,
            source,
        })
    };
    let when = compile("when", &raw.when)?;
    let clear = compile("clear", &raw.clear)?;
    let lasts = match raw.lasts.value.as_str() {
        "cpu_for" => Lasts::CpuFor,
        text => Lasts::Span(
            Span::parse(text)
                .map_err(|error| wrong(raw.lasts.referenced.line(), format!("`for`: {error}, or `cpu_for`")))?,
        ),
    };
    check_names(&raw.summary.value).map_err(|message| wrong(raw.summary.referenced.line(), message))?;
    for name in raw.test.value.normal.keys().chain(raw.test.value.planted.keys()) {
        if theriac_model::observation::Metric::ALL.iter().all(|metric| metric.as_str() != name) {
            return Err(wrong(raw.test.referenced.line(), format!("`test`: `{name}` is not a metric")));
        }
    }
    let names = when.names().iter().filter_map(|name| names::meaning(name)).collect();
    Ok(Rule {
        kind: raw.kind,
        severity: raw.severity,
        target: raw.target,
        summary: raw.summary.value,
        test: raw.test.value,
        id,
        when,
        clear,
        lasts,
        names,
    })
}

/// Every `{name}` of a summary has a meaning.
fn check_names(summary: &str) -> Result<(), String> {
    for part in summary.split('{').skip(1) {
        let Some((name, _)) = part.split_once('}') else { return Err("`summary`: a `{` without its `}`".to_owned()) };
        if name != "target" && names::meaning(name).is_none() {
            return Err(format!("`summary`: unknown name `{{{name}}}`; use `{{target}}` or a name of an expression"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: &str = "rules:
  - id: low-disk
    kind: disk-full
    severity: critical
    target: mount
    when: disk_available < disk_full
    clear: disk_available > disk_full + 20.0
    for: 0s
    summary: '{disk_available} of {target} left'
    test: {normal: {disk_available: [400]}, planted: {disk_available: [20]}}
";

    fn message(text: &str) -> String {
        let error = RuleSet::parse(text).unwrap_err();
        match std::error::Error::source(&error) {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        }
    }

    #[test]
    fn a_rule_is_read_and_the_defaults_are_whole() {
        assert_eq!(RuleSet::parse(RULE).unwrap().rules.len(), 1);
        let kinds: BTreeSet<FaultKind> = RuleSet::defaults().unwrap().ids().map(|(_, kind)| kind).collect();
        let table = [
            FaultKind::DiskFull,
            FaultKind::DiskFilling,
            FaultKind::InodeExhaustion,
            FaultKind::CpuSaturation,
            FaultKind::MemoryLeak,
            FaultKind::OomKill,
            FaultKind::ServiceCrash,
            FaultKind::ServiceUnhealthy,
            FaultKind::StartLimitHit,
        ];
        assert!(table.iter().all(|kind| kinds.contains(kind)), "{kinds:?}");
    }

    #[test]
    fn an_error_names_its_line_and_its_rule() {
        let unknown_name = message(&RULE.replace("disk_available < disk_full", "disk_free < disk_full"));
        assert!(
            unknown_name.starts_with("line 6: rule `low-disk`, `when`: unknown name `disk_free`"),
            "{unknown_name}"
        );
        let span = message(&RULE.replace("for: 0s", "for: 0"));
        assert!(span.starts_with("line 8: rule `low-disk`: `for`: `0` is not a span"), "{span}");
        let summary = message(&RULE.replace("{target}", "{tarket}"));
        assert!(summary.starts_with("line 9: rule `low-disk`: `summary`: unknown name `{tarket}`"), "{summary}");
    }

    #[test]
    fn an_unknown_key_is_refused_with_the_keys_that_exist() {
        let key = message(&RULE.replace("    severity:", "    sevrity:"));
        assert!(key.contains("sevrity") && key.contains("severity") && key.starts_with("line "), "{key}");
        let kind = message(&RULE.replace("kind: disk-full", "kind: disk-fool"));
        assert!(kind.contains("disk-fool"), "{kind}");
    }

    #[test]
    fn two_rules_of_one_name_are_refused() {
        let twice = format!("{RULE}{}", RULE.trim_start_matches("rules:\n"));
        assert!(message(&twice).contains("two rules `low-disk`"));
    }
}
