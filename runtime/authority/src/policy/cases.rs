//! `theriac policy check`: reads an operator's policies as the runner would, and decides the shipped cases with them.

use std::collections::BTreeSet;
use std::path::Path;

use theriac_model::catalog::Mode;
use theriac_model::fault::FaultKind;
use theriac_model::id::{RemedyName, UnitName};
use theriac_model::playbook::Level;
use theriac_model::target::Target;
use theriac_model::units::Permille;

use super::facts::Traits;
use super::{Facts, Policies, PolicyError, PolicyFile, word};
use crate::document::{self, Field, Mistake, Table};

const CASES: &str = include_str!("../../../../policies/cedar/cases.toml");

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckReport {
    /// The operator's files that were read.
    pub files: Vec<String>,
    /// Each shipped case with the answer of the policies in force.
    pub cases: Vec<CaseAnswer>,
}

/// One case and its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaseAnswer {
    /// The case.
    pub name: String,
    /// What the built-in policies decide.
    pub built_in: &'static str,
    /// What the policies in force decide.
    pub in_force: &'static str,
    /// Why.
    pub summary: String,
}

impl CheckReport {
    /// The cases that an operator's file decides differently.
    pub fn changed(&self) -> impl Iterator<Item = &CaseAnswer> {
        self.cases.iter().filter(|case| case.built_in != case.in_force)
    }
}

/// Reads the `*.cedar` files of a directory, and decides the cases with and without them.
pub fn check(dir: &Path) -> Result<CheckReport, PolicyError> {
    let files = PolicyFile::read_dir(dir)?;
    let (built_in, in_force) = (Policies::new(&[])?, Policies::new(&files)?);
    let broken = |mistake: Mistake| PolicyError::Cases { problem: mistake };
    let answer = |case: Case| {
        let decision = in_force.decide(&case.facts);
        CaseAnswer {
            name: case.name,
            built_in: word(built_in.decide(&case.facts).action),
            in_force: word(decision.action),
            summary: decision.summary,
        }
    };
    let cases = shipped().map_err(broken)?.into_iter().map(answer).collect();
    Ok(CheckReport { files: files.into_iter().map(|file| file.name).collect(), cases })
}

pub(super) struct Case {
    pub(super) name: String,
    pub(super) facts: Facts,
    /// The word of the action.
    #[cfg_attr(not(test), expect(dead_code, reason = "the tests hold the built-in policies to it"))]
    pub(super) expect: String,
}

pub(super) fn shipped() -> Result<Vec<Case>, Mistake> {
    let mut top = document::toml(CASES)?.table(&["case"])?;
    top.required("case", "`[[case]]`")?.list()?.into_iter().map(case).collect()
}

const KEYS: &[&str] = &[
    "name",
    "mode",
    "kind",
    "target",
    "level",
    "risk",
    "traffic_share",
    "traffic_unknown",
    "verbs",
    "irreversible",
    "reproducible",
    "in_window",
    "database_schema",
    "security_configuration",
    "sealed_wasi",
    "expect",
];

fn case(field: Field) -> Result<Case, Mistake> {
    let mut table = field.table(KEYS)?;
    let name = table.required("name", "what the case is")?.sentence(120)?;
    let verbs: BTreeSet<String> = table.required("verbs", "a list such as [\"units.start\"]")?.set()?;
    let risk = table.optional("risk").map_or(Ok(100), |field| field.integer(0, 1000))?;
    let level = table.optional("level").map_or(Ok(1), |field| field.integer(1, 3))?;
    let unknown = flag(&mut table, "traffic_unknown")?;
    let share = table.optional("traffic_share").map_or(Ok(200), |field| field.integer(0, 1000))?;
    let risk = Permille::clamped(risk);
    let broken = table.mistake("the names of a case are broken", "");
    let (Ok(remedy), Ok(service)) = (RemedyName::parse("example"), UnitName::parse("web")) else { return Err(broken) };
    let facts = Facts {
        remedy,
        mode: table.optional("mode").map_or(Ok(Mode::Relaxed), |field| field.parse_with(mode))?,
        kind: table.optional("kind").map_or(Ok(FaultKind::ServiceCrash), |field| field.parse())?,
        target: table.optional("target").map_or_else(|| Ok(Target::Unit(service)), |field| field.parse())?,
        level: super::level(Level::new(level).unwrap_or(Level::THREE), risk),
        risk,
        traffic_share: (!unknown).then(|| Permille::clamped(share)),
        traits: Traits {
            affects_service: verbs.iter().any(|verb| serves(verb)),
            irreversible: flag(&mut table, "irreversible")?,
            reproducible: flag(&mut table, "reproducible")?,
            in_window: flag(&mut table, "in_window")?,
            database_schema: flag(&mut table, "database_schema")?,
            security_configuration: flag(&mut table, "security_configuration")?,
            sealed_wasi: flag(&mut table, "sealed_wasi")?,
        },
        non_idempotent: verbs.iter().filter(|verb| repeats(verb)).cloned().collect(),
        to_be_named: verbs.iter().filter(|verb| repeats(verb) || *verb == "firewall.add").cloned().collect(),
        verbs,
    };
    let expect = table.required("expect", "an action such as `run`")?.sentence(40)?;
    Ok(Case { name, facts, expect })
}

fn flag(table: &mut Table, key: &str) -> Result<bool, Mistake> {
    table.optional(key).map_or(Ok(false), |field| field.flag())
}

fn mode(text: &str) -> Result<Mode, String> {
    let all = [Mode::Observe, Mode::Strict, Mode::Relaxed];
    all.into_iter().find(|mode| mode.as_str() == text).ok_or_else(|| format!("`{text}` is no mode"))
}

fn serves(verb: &str) -> bool {
    !verb.starts_with("files.")
        && !matches!(verb, "units.start" | "units.reset-failed" | "containers.start" | "firewall.add")
}

fn repeats(verb: &str) -> bool {
    let once = [
        "units.restart",
        "units.kill",
        "processes.signal",
        "files.append",
        "releases.switch-back",
        "containers.restart",
        "certificates.renew",
    ];
    once.contains(&verb) || verb == "http.POST" || verb == "http.PATCH"
}
