//! Leave to run: the remedy approved by a throw-away key, and the way from there to a warrant, as the runner takes it.
//!
//! There is no other way: a live session needs a warrant, and only `authority::authorise` makes one.

use theriac_authority::approval::{Approval, Validity};
use theriac_authority::authorise::{self, DryRunPermit, Request, Warrant};
use theriac_authority::consent::{Consent, Question};
use theriac_authority::guardrail::{Situation, Standing};
use theriac_authority::host::HostConfig;
use theriac_authority::key::Signer;
use theriac_authority::note::Note;
use theriac_authority::package::Package;
use theriac_authority::policy::Policies;
use theriac_authority::trust::{Approved, Candidate, Class, Moment, TrustStore};
use theriac_model::fault::FaultKind;
use theriac_model::id::{KeyName, RunId};
use theriac_model::plan::Plan;
use theriac_model::playbook::Level;
use theriac_model::record::{Action, Entry, Proposal, Record};
use theriac_model::run::{RunEvent, RunState};
use theriac_model::target::Target;
use theriac_model::time::{GuardTime, Timestamp};
use theriac_runner::clock;
use theriac_runner::worker::{Worker, WorkerConfig};

use crate::error::ScenarioError;
use crate::load::Loaded;

const HOUR_MS: u64 = 3_600_000;

/// An approved, compiled remedy.
#[derive(Debug)]
pub(crate) struct Licence {
    pub(crate) approved: Approved,
    loaded: Loaded,
    policies: Policies,
}

/// A warrant, and why a person would have been asked for it.
#[derive(Debug)]
pub(crate) struct Leave {
    pub(crate) warrant: Warrant,
    pub(crate) asks: Option<String>,
}

impl Licence {
    pub(crate) fn new(package: &Package, workers: WorkerConfig) -> Result<Self, ScenarioError> {
        let approved = approve(package)?;
        let loaded = Loaded::new(package, workers)?;
        let policies = Policies::new(&[]).map_err(ScenarioError::part("reading the built-in policies"))?;
        Ok(Self { approved, loaded, policies })
    }

    /// A fresh worker with the remedy in it.
    pub(crate) fn worker(&self) -> Result<Worker, ScenarioError> {
        self.loaded.worker()
    }

    /// Leave for a dry run.
    pub(crate) fn permit(
        &self,
        host: &HostConfig,
        kind: FaultKind,
        target: &Target,
    ) -> Result<DryRunPermit, ScenarioError> {
        authorise::authorise_dry_run(&self.approved, host, kind, target, moment())
            .map_err(ScenarioError::part("authorising the dry run"))
    }

    /// Leave for the live run of the plan. Where policy wants a person's yes, it is given, and told.
    pub(crate) fn warrant(
        &self,
        host: &HostConfig,
        run: &RunId,
        plan: &Plan,
        proposal: &Proposal,
    ) -> Result<Leave, ScenarioError> {
        let standing = planned(run, plan, proposal)?;
        let situation = Situation::default();
        let question = Question { incident: plan.incident.clone(), run: run.clone(), plan: plan.hash() };
        let consent = Consent::from_peer(question, rustix::process::geteuid().as_raw());
        let mut request = Request {
            run,
            plan,
            rung: Level::ONE,
            approved: &self.approved,
            host,
            policies: &self.policies,
            standing: &standing,
            situation: &situation,
            now: moment(),
            consent: None,
        };
        let unasked = authorise::authorise(&request);
        let asks = (unasked.decision.action == Action::RunWithConsent).then_some(unasked.decision.summary.clone());
        let decided = if asks.is_some() {
            request.consent = Some(&consent);
            authorise::authorise(&request)
        } else {
            unasked
        };
        let why = decided.decision.summary;
        let warrant = decided.warrant.ok_or(ScenarioError::Part { doing: "authorising the plan", why })?;
        Ok(Leave { warrant, asks })
    }
}

fn moment() -> Moment {
    Moment::new(clock::wall(), Timestamp(0))
}

/// Signed by a key that is made for this and forgotten, in a trust store that knows it alone.
fn approve(package: &Package) -> Result<Approved, ScenarioError> {
    let doing = "approving the remedy";
    let name = KeyName::parse("scenario/author").map_err(ScenarioError::part(doing))?;
    let signer = Signer::generate(name).map_err(ScenarioError::part(doing))?;
    let classes = Class::ALL.map(|class| format!("\"{class}\"")).join(", ");
    let trust = format!(
        "[[signer]]\nname = \"scenario/author\"\nkey = \"{}\"\nremedies = [\"*\"]\nclasses = [{classes}]\n",
        signer.public()
    );
    let trust = TrustStore::parse(&trust).map_err(ScenarioError::part(doing))?;
    let now = clock::wall();
    let valid = Validity {
        from: Timestamp(now.0.saturating_sub(HOUR_MS)),
        until: Timestamp(now.0.saturating_add(24 * HOUR_MS)),
    };
    let approval = Approval::of(&package.manifest, package.digest, valid).map_err(ScenarioError::part(doing))?;
    let mut note = Note::unsigned(&approval.to_string()).map_err(ScenarioError::part(doing))?;
    note.sign(&signer).map_err(ScenarioError::part(doing))?;
    let note = note.to_string();
    let candidate = Candidate { manifest: &package.manifest, component: package.digest, note: Some(note.as_bytes()) };
    trust.judge(&candidate, moment(), |_| None).map_err(ScenarioError::part(doing))
}

/// What the journal of a runner would amount to that has just planned this run.
fn planned(run: &RunId, plan: &Plan, proposal: &Proposal) -> Result<Standing, ScenarioError> {
    let (run, hash) = (run.clone(), plan.hash());
    let records = [
        Record::Reserved { run: run.clone(), proposal: proposal.clone() },
        Record::Planned { run: run.clone(), plan: Box::new(plan.clone()), hash },
        Record::Moved { run, event: RunEvent::Planned, state: RunState::Planned, reason: String::new() },
    ];
    let mut standing = Standing::default();
    for (seq, record) in (0..).zip(records) {
        let entry = Entry { seq, at: clock::wall(), guard: GuardTime(0), epoch: 1, record };
        standing.apply(&entry).map_err(ScenarioError::part("reserving the run"))?;
    }
    Ok(standing)
}
