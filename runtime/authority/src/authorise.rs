//! The authorisation of one plan: the only maker of a [`Warrant`].
//!
//! Everything else in this crate answers a part of the question; here the parts are put together, in one place, and in
//! the order in which a no is most useful: is it the plan of this run, is the remedy still approved, do the guardrails
//! allow it now, does each effect lie within the grants, and what does policy say. Nothing here touches the world.

mod warrant;
mod within;

use theriac_model::catalog::Mode;
use theriac_model::fault::FaultKind;
use theriac_model::id::RunId;
use theriac_model::plan::Plan;
use theriac_model::playbook::Level;
use theriac_model::record::{Action, Decision};
use theriac_model::remedy::resolve_params;
use theriac_model::run::RunState;
use theriac_model::target::Target;

use crate::consent::Consent;
use crate::effective;
use crate::guardrail::{self, Guardrails, Objection, Situation, Standing};
use crate::host::HostConfig;
use crate::policy::{Facts, Policies, Setting};
use crate::trust::{Approved, Moment, Refusal};

pub use warrant::{DryRunPermit, Permit, Warrant};
pub use within::check_effects;

/// Why there is no dry run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DryRunError {
    /// The approval no longer holds.
    #[error(transparent)]
    Approval(#[from] Refusal),
    /// The manifest does not list the kind.
    #[error("`{remedy}` does not treat `{kind}`")]
    Kind { remedy: theriac_model::id::RemedyName, kind: FaultKind },
}

/// Lets an approved remedy run against a recorder, for one fault on this host.
pub fn authorise_dry_run(
    approved: &Approved,
    host: &HostConfig,
    kind: FaultKind,
    target: &Target,
    now: Moment,
) -> Result<DryRunPermit, DryRunError> {
    approved.check_valid(now)?;
    let manifest = approved.manifest();
    if !manifest.handles.contains(&kind) {
        return Err(DryRunError::Kind { remedy: manifest.name.clone(), kind });
    }
    Ok(DryRunPermit::recording(effective::bind(manifest, host, target)))
}

/// What is asked: may this plan run, now, here?
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The run that was reserved for it.
    pub run: &'a RunId,
    /// Its plan, as it was recorded last.
    pub plan: &'a Plan,
    /// The level of its rung.
    pub rung: Level,
    /// The remedy's approval.
    pub approved: &'a Approved,
    /// Root's configuration.
    pub host: &'a HostConfig,
    /// The policies in force.
    pub policies: &'a Policies,
    /// What the journal amounts to.
    pub standing: &'a Standing,
    /// What is the case now.
    pub situation: &'a Situation,
    /// The wall clock, never earlier than what was last seen.
    pub now: Moment,
    /// A person's yes, if there is one.
    pub consent: Option<&'a Consent>,
}

/// The answer. There is a warrant exactly when the plan may begin at once.
#[derive(Debug)]
pub struct Decided {
    /// For the journal.
    pub decision: Decision,
    /// For the gate.
    pub warrant: Option<Warrant>,
}

/// A no before policy is asked.
struct No {
    action: Action,
    rule: String,
    reason: String,
}

impl No {
    fn refuse(rule: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { action: Action::Refuse, rule: rule.into(), reason: reason.into() }
    }
}

impl From<Objection> for No {
    fn from(objection: Objection) -> Self {
        match objection {
            Objection::Refuse { rule, reason } => Self::refuse(rule, reason),
            Objection::Defer { rule, reason } => Self { action: Action::Defer, rule: rule.to_owned(), reason },
        }
    }
}

/// Decides about one plan.
pub fn authorise(request: &Request<'_>) -> Decided {
    let facts = facts_of(request);
    let grants = effective::bind(request.approved.manifest(), request.host, &request.plan.target);
    let checked = check_identity(request)
        .and_then(|()| check_guardrails(request))
        .and_then(|()| check_effects(request.plan, &grants).map_err(|denial| No::refuse("grants", denial.to_string())));
    if let Err(no) = checked {
        let No { action, rule, reason } = no;
        let decision = Decision { action, risk: facts.risk, level: facts.level, rules: vec![rule], summary: reason };
        return Decided { decision, warrant: None };
    }
    let mut decision = request.policies.decide(&facts);
    let may_begin = match decision.action {
        Action::Run | Action::RunAndTell => true,
        Action::RunWithConsent => match consent_covers(request) {
            Ok(None) => false,
            Ok(Some(by)) => {
                decision.rules.push("consent".to_owned());
                decision.summary = format!("{by} said yes; {}", decision.summary);
                true
            }
            // A yes that does not count leaves the question open.
            Err(why) => {
                decision.summary = format!("{why}; {}", decision.summary);
                false
            }
        },
        Action::Defer | Action::Refuse => false,
    };
    let warrant =
        may_begin.then(|| Warrant::issue(request.plan, grants, request.run, decision.action, request.situation.now));
    Decided { decision, warrant }
}

/// The facts that policy is asked about, for this request; `theriac policy explain` shows them.
pub fn facts_of(request: &Request<'_>) -> Facts {
    let mode: Mode = request.host.mode;
    let setting = Setting {
        mode,
        rung: request.rung,
        in_window: request.situation.window.is_some(),
        wasi: request.approved.manifest().wasi,
        host: request.host,
    };
    Facts::of(request.plan, &setting)
}

fn check_identity(request: &Request<'_>) -> Result<(), No> {
    let Request { run, plan, approved, .. } = *request;
    request.approved.check_valid(request.now).map_err(|refusal| No::refuse("approval", refusal.to_string()))?;
    let Some(open) = request.standing.run(run) else {
        return Err(No::refuse("run", format!("run `{run}` is not open")));
    };
    if !matches!(open.state, RunState::Planned | RunState::AwaitingConsent) {
        return Err(No::refuse("run", format!("run `{run}` is {}, not planned", open.state)));
    }
    let asked = &open.proposal;
    let same = plan.incident == asked.incident
        && plan.kind == asked.kind
        && plan.target == asked.target
        && plan.remedy.name == asked.remedy
        && plan.rung.as_ref().is_none_or(|(playbook, rung)| *playbook == asked.playbook && *rung == asked.rung);
    if !same {
        return Err(No::refuse("plan", format!("the plan is not what run `{run}` was reserved for")));
    }
    if plan.remedy != *approved.remedy() {
        let reason = format!("the plan was made by {}, approved is {}", plan.remedy, approved.remedy());
        return Err(No::refuse("plan", reason));
    }
    let manifest = approved.manifest();
    if !manifest.handles.contains(&plan.kind) {
        return Err(No::refuse("plan", format!("`{}` does not treat `{}`", manifest.name, plan.kind)));
    }
    match resolve_params(&manifest.params, &plan.params) {
        Ok(resolved) if resolved == plan.params => Ok(()),
        Ok(_) => Err(No::refuse("params", "the plan leaves parameters out")),
        Err(error) => Err(No::refuse("params", error.to_string())),
    }
}

fn check_guardrails(request: &Request<'_>) -> Result<(), No> {
    let guardrails = Guardrails::from(request.host);
    Ok(guardrail::check_start(request.standing, &guardrails, request.run, request.situation)?)
}

/// Who consented to this plan: to it, or to one of which it is a part because the world has moved on meanwhile.
fn consent_covers<'a>(request: &Request<'a>) -> Result<Option<&'a str>, String> {
    let Some(consent) = request.consent else { return Ok(None) };
    let question = consent.question();
    if question.run != *request.run || question.incident != request.plan.incident {
        return Err("the consent is for another run".to_owned());
    }
    if !consent.holds_at(request.now.timestamp()) {
        return Err("the consent has expired".to_owned());
    }
    let same = question.plan == request.plan.hash();
    let part_of = request
        .standing
        .run(request.run)
        .and_then(|open| open.consented.as_ref())
        .is_some_and(|(consented, _)| consented.hash() == question.plan && request.plan.is_subset_of(consented));
    if same || part_of {
        Ok(Some(consent.by()))
    } else {
        Err("the plan is no longer the one that was consented to".to_owned())
    }
}

#[cfg(test)]
mod tests;
