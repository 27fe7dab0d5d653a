//! A host's configuration, a remedy that two people approved for it, and a plan that may run: made with the same public
//! functions as the runner's, so that a warrant of a bench is a real one.

use std::path::Path;

use anyhow::Context as _;
use theriac_authority::approval::{Approval, Validity};
use theriac_authority::authorise::{self, Decided, DryRunPermit, Request};
use theriac_authority::guardrail::{Situation, Standing};
use theriac_authority::host::HostConfig;
use theriac_authority::key::Signer;
use theriac_authority::manifest::Manifest;
use theriac_authority::note::Note;
use theriac_authority::policy::Policies;
use theriac_authority::trust::{Approved, Candidate, Moment, Refusal, TrustStore};
use theriac_model::fault::FaultKind;
use theriac_model::id::{Digest, IncidentId, KeyName, PlaybookName, RemedyName, RunId};
use theriac_model::plan::{Plan, PlannedEffect};
use theriac_model::playbook::Level;
use theriac_model::record::{Entry, Proposal, Record};
use theriac_model::remedy::Params;
use theriac_model::run::{RunEvent, RunState};
use theriac_model::target::Target;
use theriac_model::time::{GuardTime, Timestamp};

/// A remedy that may truncate logs and restart the unit at fault.
pub const MANIFEST: &str = r#"
[remedy]
name    = "bench-remedy"
version = "1.0.0"
serial  = 1
summary = "Truncates a log and restarts the unit"
handles = ["service-crash"]

[grants.files.logs]
dir       = { from = "operator" }
match     = ["**/*.log"]
verbs     = ["list", "stat", "truncate"]
min_age   = "0s"
max_bytes = "64MiB"
max_files = 8
why       = "benches"

[grants.units.target]
unit  = { from = "incident" }
verbs = ["status", "restart"]
why   = "benches"
"#;

/// In the middle of every approval made here.
const NOW: Timestamp = Timestamp(1_800_000_000_000);
const MONTH: u64 = 30 * 86_400_000;

/// Everything a decision is made from.
#[derive(Debug)]
pub struct Office {
    /// Root's configuration.
    pub host: HostConfig,
    /// Who may approve what: two must.
    pub trust: TrustStore,
    /// The remedy's manifest.
    pub manifest: Manifest,
    /// The approval with both signatures.
    pub note: Vec<u8>,
    /// The judgement.
    pub approved: Approved,
    /// The policies that ship.
    pub policies: Policies,
    run: RunId,
}

impl Office {
    /// With a directory in which logs may be truncated.
    pub fn open(logs: &Path) -> anyhow::Result<Self> {
        Self::of(MANIFEST, logs, "truncate")
    }

    /// For another remedy, with a directory in which logs may be changed in that way.
    pub fn of(manifest: &str, logs: &Path, verb: &str) -> anyhow::Result<Self> {
        let host = HostConfig::parse(&format!(
            "mode = \"relaxed\"\n[[service]]\nname = \"web\"\nverbs = [\"restart\"]\ntraffic_share = 0.1\n\
             [[directory]]\npath = \"{}\"\nlabel = \"logs\"\nverbs = [\"{verb}\"]\nreproducible = [\"**/*\"]\n",
            logs.display()
        ))?;
        let manifest = Manifest::parse(manifest)?;
        let signers = ["bench/alice", "bench/bob"]
            .into_iter()
            .map(|name| Ok(Signer::generate(KeyName::parse(name)?)?))
            .collect::<anyhow::Result<Vec<_>>>()?;
        let trust = TrustStore::parse(&trust(&signers))?;
        let note = approve(&manifest, &signers)?;
        let approved = judge(&trust, &manifest, &note)?;
        Ok(Self { host, trust, manifest, note, approved, policies: Policies::new(&[])?, run: RunId::parse("r1-1")? })
    }

    /// What the runner does at each load.
    pub fn judge(&self) -> Result<Approved, Refusal> {
        judge(&self.trust, &self.manifest, &self.note)
    }

    /// Grants for recording.
    pub fn permit(&self) -> anyhow::Result<DryRunPermit> {
        let target: Target = "unit:web".parse()?;
        Ok(authorise::authorise_dry_run(&self.approved, &self.host, FaultKind::ServiceCrash, &target, moment())?)
    }

    /// The run that everything here is about.
    pub const fn run(&self) -> &RunId {
        &self.run
    }

    /// The remedy's name.
    pub fn remedy(&self) -> RemedyName {
        self.approved.remedy().name.clone()
    }

    /// A plan of these effects.
    pub fn plan(&self, effects: Vec<PlannedEffect>) -> anyhow::Result<Plan> {
        Ok(Plan {
            incident: IncidentId::parse("i-1")?,
            kind: FaultKind::ServiceCrash,
            target: "unit:web".parse()?,
            remedy: self.approved.remedy().clone(),
            params: Params::new(),
            rung: Some((PlaybookName::parse("service-crash")?, 0)),
            effects,
            report: "done".to_owned(),
        })
    }

    /// What the journal amounts to when this plan waits for its authorisation.
    pub fn standing(&self, plan: &Plan) -> anyhow::Result<Standing> {
        let proposal = Proposal {
            incident: plan.incident.clone(),
            kind: plan.kind,
            target: plan.target.clone(),
            playbook: PlaybookName::parse("service-crash")?,
            rung: 0,
            remedy: plan.remedy.name.clone(),
            params: Params::new(),
            onset: Timestamp(0),
            detected: Timestamp(0),
            evidence: Vec::new(),
        };
        let run = || self.run.clone();
        let records = [
            Record::Reserved { run: run(), proposal },
            Record::Planned { run: run(), plan: Box::new(plan.clone()), hash: plan.hash() },
            Record::Moved { run: run(), event: RunEvent::Planned, state: RunState::Planned, reason: String::new() },
        ];
        let mut standing = Standing::default();
        for (seq, record) in (0..).zip(records) {
            standing.apply(&Entry { seq, at: NOW, guard: GuardTime(0), epoch: 1, record })?;
        }
        Ok(standing)
    }

    /// The whole authorisation of one plan.
    pub fn authorise(&self, plan: &Plan, standing: &Standing) -> Decided {
        authorise::authorise(&Request {
            run: &self.run,
            plan,
            rung: Level::ONE,
            approved: &self.approved,
            host: &self.host,
            policies: &self.policies,
            standing,
            situation: &Situation::default(),
            now: moment(),
            consent: None,
        })
    }
}

fn moment() -> Moment {
    Moment::new(NOW, Timestamp(0))
}

/// The component's bytes play no part in a judgement, only their digest.
fn component() -> Digest {
    Digest::of(b"component")
}

fn trust(signers: &[Signer]) -> String {
    let signer = |signer: &Signer| {
        let key = signer.public();
        format!(
            "[[signer]]\nname = \"{}\"\nkey = \"{key}\"\nremedies = [\"*\"]\nclasses = [\"files-read\", \"files-change\", \"units-observe\", \"units-change\"]\n",
            key.name()
        )
    };
    let threshold = |class| format!("[[threshold]]\nclass = \"{class}\"\nk = 2\n");
    signers.iter().map(signer).chain(["files-change", "units-change"].map(threshold)).collect()
}

fn approve(manifest: &Manifest, signers: &[Signer]) -> anyhow::Result<Vec<u8>> {
    let valid = Validity { from: Timestamp(NOW.0 - MONTH), until: Timestamp(NOW.0 + MONTH) };
    let mut note = Note::unsigned(&Approval::of(manifest, component(), valid)?.to_string()).context("the note")?;
    for signer in signers {
        note.sign(signer)?;
    }
    Ok(note.to_string().into_bytes())
}

fn judge(trust: &TrustStore, manifest: &Manifest, note: &[u8]) -> Result<Approved, Refusal> {
    trust.judge(&Candidate { manifest, component: component(), note: Some(note) }, moment(), |_| Some(1))
}
