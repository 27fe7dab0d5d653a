//! Cedar: the policies in force, read and validated once, and asked about one plan.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use cedar_policy::{
    Authorizer, Context, Decision, Entities, EntityId, EntityTypeName, EntityUid, Policy, PolicyId, PolicySet, Request,
    RestrictedExpression, Schema, ValidationMode, Validator,
};
use theriac_model::record::Action;
use theriac_trusted::{self as trusted, TrustedError};

use super::Facts;
use crate::document;

const SCHEMA: &str = include_str!("../../../../policies/cedar/schema.cedarschema");
const BUILT_IN: &str = include_str!("../../../../policies/cedar/default.cedar");
/// An operator's policies are a few pages.
const MAX_POLICIES: usize = 512;
/// Files in the directory.
const MAX_FILES: usize = 64;

/// One file of an operator's policies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyFile {
    /// Its name, for people.
    pub name: String,
    /// Its text.
    pub text: String,
}

/// Why policies are not taken. One bad file refuses all: a missing `forbid` must not go unnoticed.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// The directory can't be listed.
    #[error("can't list `{}`", path.display())]
    List { path: PathBuf, source: std::io::Error },
    /// The opening rule refused a file.
    #[error(transparent)]
    Open(#[from] TrustedError),
    /// Too many.
    #[error("{found} {what}, at most {most} are read")]
    TooMany { what: &'static str, found: usize, most: usize },
    /// Not Cedar.
    #[error("`{file}`, line {line}: {problem}")]
    Syntax { file: String, line: usize, problem: String },
    /// A policy that can't be named in a decision.
    #[error("`{file}`: policy {index} has no `@id(\"…\")`, which decisions are told by")]
    NoId { file: String, index: usize },
    /// Two of one name.
    #[error("`{file}`: there is another policy with the id `{id}`, in `{other}`")]
    DuplicateId { file: String, id: String, other: String },
    /// Templates have no use here.
    #[error("`{file}` holds a policy template, and templates are not used")]
    Template { file: String },
    /// It asks about what the schema does not have.
    #[error("`{file}`, policy `{id}`: {problem}")]
    Invalid { file: String, id: String, problem: String },
    /// The built-in cases can't be read: our mistake.
    #[error("the built-in policy cases are broken: {problem}")]
    Cases { problem: crate::document::Mistake },
    /// The built-in schema or the request does not fit Cedar: our mistake.
    #[error("the built-in policy schema is broken: {problem}")]
    Schema { problem: String },
}

/// The policies in force.
#[derive(Debug, Clone)]
pub struct Policies {
    set: PolicySet,
    schema: Schema,
    origins: BTreeMap<String, (Option<String>, Option<String>)>,
    types: Types,
}

#[derive(Debug, Clone)]
struct Types {
    remedy: EntityTypeName,
    target: EntityTypeName,
    verb: EntityTypeName,
    action: EntityTypeName,
}

/// What Cedar says about one action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) action: Action,
    pub(super) permitted: bool,
    /// The permits that let it, or the forbids that stopped it, sorted.
    pub(super) policies: Vec<String>,
    /// A policy could not be evaluated.
    pub(super) failure: Option<String>,
}

impl PolicyFile {
    /// Reads every `*.cedar` file of a directory, in the order of their names, by the opening rule. No directory, no files.
    pub fn read_dir(path: &Path) -> Result<Vec<Self>, PolicyError> {
        let listed = |source| PolicyError::List { path: path.to_owned(), source };
        let entries = match std::fs::read_dir(path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(listed(error)),
        };
        let mut paths = Vec::new();
        for entry in entries {
            let path = entry.map_err(listed)?.path();
            if path.extension().is_some_and(|extension| extension == "cedar") {
                paths.push(path);
            }
        }
        if paths.len() > MAX_FILES {
            return Err(PolicyError::TooMany { what: "policy files", found: paths.len(), most: MAX_FILES });
        }
        paths.sort();
        let read = |path: &PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            Ok(Self { name, text: trusted::read(path, document::MAX_FILE)? })
        };
        paths.iter().map(read).collect()
    }
}

impl Policies {
    /// The built-in policies and an operator's, validated against the schema.
    pub fn new(operator: &[PolicyFile]) -> Result<Self, PolicyError> {
        let broken = |problem: String| PolicyError::Schema { problem };
        let (schema, _warnings) = Schema::from_cedarschema_str(SCHEMA).map_err(|error| broken(error.to_string()))?;
        let kind = |name: &str| name.parse::<EntityTypeName>().map_err(|error| broken(error.to_string()));
        let types = Types {
            remedy: kind("Theriac::Remedy")?,
            target: kind("Theriac::Target")?,
            verb: kind("Theriac::Verb")?,
            action: kind("Theriac::Action")?,
        };
        let mut policies = Self { set: PolicySet::new(), schema, origins: BTreeMap::new(), types };
        policies.add("built in", BUILT_IN, None)?;
        for file in operator {
            policies.add(&file.name, &file.text, Some(&file.name))?;
        }
        if policies.origins.len() > MAX_POLICIES {
            let found = policies.origins.len();
            return Err(PolicyError::TooMany { what: "policies", found, most: MAX_POLICIES });
        }
        policies.validate()?;
        Ok(policies)
    }

    fn add(&mut self, file: &str, text: &str, origin: Option<&str>) -> Result<(), PolicyError> {
        let parsed: PolicySet = text.parse().map_err(|error| syntax(file, text, &error))?;
        if parsed.num_of_templates() > 0 {
            return Err(PolicyError::Template { file: file.to_owned() });
        }
        for (index, policy) in parsed.policies().enumerate() {
            let id = policy.annotation("id").filter(|id| !id.is_empty());
            let id = id.ok_or_else(|| PolicyError::NoId { file: file.to_owned(), index: index + 1 })?.to_owned();
            let why = policy.annotation("why").map(str::to_owned);
            let entry = (origin.map(str::to_owned), why);
            if let Some((other, _)) = self.origins.insert(id.clone(), entry) {
                let other = other.unwrap_or_else(|| "built in".to_owned());
                return Err(PolicyError::DuplicateId { file: file.to_owned(), id, other });
            }
            let named: Policy = policy.new_id(PolicyId::new(&id));
            // Ids were just shown to differ, so this can only be a template, and there is none.
            self.set.add(named).map_err(|_cause| PolicyError::Template { file: file.to_owned() })?;
        }
        Ok(())
    }

    fn validate(&self) -> Result<(), PolicyError> {
        let result = Validator::new(self.schema.clone()).validate(&self.set, ValidationMode::Strict);
        let Some(error) = result.validation_errors().next() else { return Ok(()) };
        let id = error.policy_id().to_string();
        let file = self.origin(&id).unwrap_or("built in").to_owned();
        Err(PolicyError::Invalid { file, id, problem: one_line(&error.to_string()) })
    }

    /// What a person is told when the policy decides.
    pub(super) fn why(&self, id: &str) -> Option<&str> {
        self.origins.get(id)?.1.as_deref()
    }

    /// The operator's file it is from; `None` for the built-in ones.
    pub(super) fn origin(&self, id: &str) -> Option<&str> {
        self.origins.get(id)?.0.as_deref()
    }

    /// The plan's verbs that have to be named and that no policy names.
    pub(super) fn unnamed(&self, facts: &Facts) -> Vec<String> {
        let named = |verb: &&String| {
            let context = [("kind", text(facts.kind.as_str())), ("target_kind", text(facts.target_kind()))];
            let resource = uid(&self.types.verb, verb);
            self.query("use-verb", facts, resource, context.into()).is_ok_and(|answer| {
                answer.decision() == Decision::Allow && answer.diagnostics().errors().next().is_none()
            })
        };
        facts.to_be_named.iter().filter(|verb| !named(verb)).cloned().collect()
    }

    /// Asks about one action.
    pub(super) fn answer(&self, action: Action, facts: &Facts, unnamed: &[String]) -> Answer {
        let resource = uid(&self.types.target, &facts.target.to_string());
        let response = match self.query(super::word(action), facts, resource, context(facts, unnamed)) {
            Ok(response) => response,
            Err(problem) => {
                return Answer { action, permitted: false, policies: Vec::new(), failure: Some(problem) };
            }
        };
        let mut policies: Vec<String> = response.diagnostics().reason().map(ToString::to_string).collect();
        policies.sort();
        let failure = response.diagnostics().errors().next().map(|error| one_line(&error.to_string()));
        Answer { action, permitted: response.decision() == Decision::Allow, policies, failure }
    }

    fn query(
        &self,
        action: &str,
        facts: &Facts,
        resource: EntityUid,
        context: Vec<(&'static str, RestrictedExpression)>,
    ) -> Result<cedar_policy::Response, String> {
        let pairs = context.into_iter().map(|(key, value)| (key.to_owned(), value));
        let context = Context::from_pairs(pairs).map_err(|error| error.to_string())?;
        let principal = uid(&self.types.remedy, facts.remedy.as_str());
        let action = uid(&self.types.action, action);
        let request = Request::new(principal, action, resource, context, Some(&self.schema))
            .map_err(|error| one_line(&error.to_string()))?;
        Ok(Authorizer::new().is_authorized(&request, &self.set, &Entities::empty()))
    }
}

fn uid(kind: &EntityTypeName, id: &str) -> EntityUid {
    EntityUid::from_type_name_and_id(kind.clone(), EntityId::new(id))
}

fn text(text: &str) -> RestrictedExpression {
    RestrictedExpression::new_string(text.to_owned())
}

fn context(facts: &Facts, unnamed: &[String]) -> Vec<(&'static str, RestrictedExpression)> {
    let flag = RestrictedExpression::new_bool;
    let set = |words: &mut dyn Iterator<Item = &String>| RestrictedExpression::new_set(words.map(|word| text(word)));
    let traits = facts.traits;
    let mut context = vec![
        ("mode", text(facts.mode.as_str())),
        ("kind", text(facts.kind.as_str())),
        ("target_kind", text(facts.target_kind())),
        ("level", RestrictedExpression::new_long(i64::from(facts.level.get()))),
        ("risk", RestrictedExpression::new_long(i64::from(facts.risk.get()))),
        ("affects_service", flag(traits.affects_service)),
        ("irreversible", flag(traits.irreversible)),
        ("reproducible", flag(traits.reproducible)),
        ("verbs", set(&mut facts.verbs.iter())),
        ("non_idempotent", flag(!facts.non_idempotent.is_empty())),
        ("unnamed", set(&mut unnamed.iter())),
        ("in_window", flag(traits.in_window)),
        ("database_schema", flag(traits.database_schema)),
        ("security_configuration", flag(traits.security_configuration)),
        ("sealed_wasi", flag(traits.sealed_wasi)),
    ];
    if let Some(share) = facts.traffic_share {
        context.push(("traffic_share", RestrictedExpression::new_long(i64::from(share.get()))));
    }
    context
}

fn syntax(file: &str, text: &str, error: &cedar_policy::ParseErrors) -> PolicyError {
    use miette::Diagnostic as _;
    let offset = error.labels().and_then(|mut labels| labels.next()).map_or(0, |label| label.offset());
    let line = text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1;
    PolicyError::Syntax { file: file.to_owned(), line, problem: one_line(&error.to_string()) }
}

fn one_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().chars().take(300).collect()
}
