//! What a person may ask, through the CLI. Works with the agent dead, and is where consents and holds come in.

use std::os::unix::net::UnixStream;
use std::sync::{Arc, PoisonError};

use theriac_authority::consent::{Consent, Question};
use theriac_authority::key::VerifierKey;
use theriac_journal::Durability;
use theriac_model::id::IncidentId;
use theriac_model::plan::PlanHash;
use theriac_model::record::{Proposal, Record};
use theriac_model::run::RunState;
use theriac_model::target::Target;
use theriac_model::time::{GuardTime, Span, Timestamp, millis};
use theriac_protocol::operator::{OperatorAnswer, OperatorRequest, RunnerStatus, WaitingPlan};
use theriac_protocol::peer::Peer;
use theriac_protocol::runner::RunnerEvent;

use crate::parts::Parts;
use crate::rules::Rules;
use crate::run;
use crate::server::Service;
use crate::writer::Writer as _;

const MAX_RUNS: usize = 256;
const MAX_ENTRIES: usize = 256;

/// The service on `run/operator.sock`.
#[derive(Debug)]
pub(crate) struct OperatorSocket {
    pub(crate) parts: Arc<Parts>,
    /// The runner's own user.
    pub(crate) me: u32,
    /// All processes share one user: the socket can't tell a person from the agent.
    pub(crate) shared_user: bool,
}

type Refused = String;

impl OperatorSocket {
    fn serve(&self, peer: Peer, request: OperatorRequest) -> Result<OperatorAnswer, Refused> {
        let book = &self.parts.book;
        match request {
            OperatorRequest::Status => Ok(OperatorAnswer::Status(Box::new(self.status()))),
            OperatorRequest::Catalog => Ok(OperatorAnswer::Catalog(Box::new(self.parts.catalog()))),
            OperatorRequest::Runs { incident, limit } => {
                Ok(OperatorAnswer::Runs(book.runs(incident.as_ref(), bounded(limit, MAX_RUNS))))
            }
            OperatorRequest::Run { run } => {
                let mut entries = run::recovery::entries_of(book, &run).map_err(|error| error.to_string())?;
                let more = entries.len() > MAX_ENTRIES;
                entries.truncate(MAX_ENTRIES);
                Ok(OperatorAnswer::Entries { entries, more })
            }
            OperatorRequest::Waiting { incident } => Ok(OperatorAnswer::Waiting(self.waiting(&incident).map(Box::new))),
            OperatorRequest::Consent { incident, plan, note } => self.consent(peer, &incident, plan, note.as_deref()),
            OperatorRequest::Decline { incident } => self.decline(peer, &incident),
            OperatorRequest::Hold { target, span } => self.hold(peer, target, span),
            OperatorRequest::Resume { target } => self.write(Record::Resumed { target, by: name_of(peer) }),
            OperatorRequest::ResetBreaker { remedy, target } => {
                self.write(Record::BreakerReset { remedy, target, by: name_of(peer) })
            }
            OperatorRequest::DryRun { kind, target, remedy, params } => {
                let (plan, decision) = run::dry_run(&self.parts, &proposal(kind, target, remedy, params)?)?;
                let hash = plan.hash();
                Ok(OperatorAnswer::DryRun { plan: Box::new(plan), hash, decision })
            }
            OperatorRequest::Entries { from } => {
                let entries = book.entries(from, MAX_ENTRIES).map_err(|error| error.to_string())?;
                let more = entries.last().is_some_and(|last| last.seq + 1 < book.head().size);
                Ok(OperatorAnswer::Entries { entries, more })
            }
            OperatorRequest::Numbers => Ok(OperatorAnswer::Numbers(book.numbers())),
            OperatorRequest::Reload => self.reload(),
        }
    }

    fn waiting(&self, incident: &IncidentId) -> Option<WaitingPlan> {
        let (run, plan, hash) = self.parts.book.standing(|standing, _| {
            standing
                .open_runs()
                .find(|(_, open)| open.proposal.incident == *incident && open.state == RunState::AwaitingConsent)
                .and_then(|(id, open)| open.plan.as_ref().map(|(plan, hash)| (id.clone(), (**plan).clone(), *hash)))
        })?;
        let entries = run::recovery::entries_of(&self.parts.book, &run).ok()?;
        let decision = entries.into_iter().rev().find_map(|entry| {
            if let Record::Decided { decision, .. } = entry.record { Some(decision) } else { None }
        })?;
        Some(WaitingPlan { run, plan, hash, decision, needs_note: self.shared_user })
    }

    /// A yes counts by the peer's user where that proves a person, by an operator's signature where it does not.
    fn consent(
        &self,
        peer: Peer,
        incident: &IncidentId,
        plan: PlanHash,
        note: Option<&str>,
    ) -> Result<OperatorAnswer, Refused> {
        let waiting =
            self.waiting(incident).ok_or_else(|| format!("no plan of incident `{incident}` waits for a consent"))?;
        if waiting.hash != plan {
            return Err("the plan has changed since it was shown: look at it again".to_owned());
        }
        let question = Question { incident: incident.clone(), run: waiting.run, plan };
        let consent = match note {
            Some(note) => {
                let operators: Vec<VerifierKey> = self.parts.rules().trust.operators().cloned().collect();
                let now: Timestamp = self.parts.moment().timestamp();
                Consent::verify(note.as_bytes(), &operators, &question, now).map_err(|error| error.to_string())?
            }
            None if self.shared_user => {
                return Err("here all processes share one user, so a consent has to be signed: `theriac consent INCIDENT --key FILE`".to_owned());
            }
            None => Consent::from_peer(question, peer.uid),
        };
        self.parts.book.consent(consent).map_err(|error| error.to_string())?;
        Ok(OperatorAnswer::Done)
    }

    fn decline(&self, peer: Peer, incident: &IncidentId) -> Result<OperatorAnswer, Refused> {
        let waiting =
            self.waiting(incident).ok_or_else(|| format!("no plan of incident `{incident}` waits for a consent"))?;
        self.write(Record::Declined { run: waiting.run, by: name_of(peer) })
    }

    fn hold(&self, peer: Peer, target: Option<Target>, span: Option<Span>) -> Result<OperatorAnswer, Refused> {
        if let Some(target) = &target
            && self.parts.rules().host.target(target).is_none()
        {
            return Err(format!("`{target}` is not listed in runner.toml"));
        }
        let until: Option<GuardTime> = span.map(|span| self.parts.book.now().after(span.duration()));
        self.write(Record::Held { target, until, by: name_of(peer) })
    }

    /// Targets and units are bound at start; what can be read again is read again, all or nothing.
    fn reload(&self) -> Result<OperatorAnswer, Refused> {
        let rules = Rules::read(&self.parts.layout).map_err(|error| crate::remedies::chain(&error))?;
        if rules.host.catalog_targets() != self.parts.rules().host.catalog_targets() {
            return Err("the list of targets has changed: restart the runner for that".to_owned());
        }
        *self.parts.rules.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(rules);
        self.parts.load_remedies().map_err(|error| error.to_string())?;
        self.parts.book.events().publish(&RunnerEvent::CatalogChanged);
        Ok(OperatorAnswer::Done)
    }

    fn write(&self, record: Record) -> Result<OperatorAnswer, Refused> {
        self.parts.book.write(record, Durability::Synced).map_err(|error| error.to_string())?;
        self.parts.book.events().publish(&RunnerEvent::CatalogChanged);
        Ok(OperatorAnswer::Done)
    }

    fn status(&self) -> RunnerStatus {
        let parts = &self.parts;
        let remedies = parts.remedies();
        let left = |until: GuardTime, now: GuardTime| Span::from_millis(millis(until.since(now)));
        let (holds, breakers, cooldowns) = parts.book.standing(|standing, now| {
            (
                standing
                    .holds(now)
                    .map(|(target, hold)| (target.cloned(), hold.until.map(|until| left(until, now))))
                    .collect(),
                standing
                    .breakers()
                    .map(|(remedy, target, why)| (remedy.clone(), target.clone(), why.to_owned()))
                    .collect(),
                standing.cooldowns(now).map(|(target, until)| (target.clone(), left(until, now))).collect(),
            )
        });
        let head = parts.book.head();
        let rules = parts.rules();
        RunnerStatus {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            epoch: parts.book.epoch(),
            uptime_s: parts.started.elapsed().as_secs(),
            mode: rules.host.mode,
            targets: u32::try_from(rules.host.catalog_targets().len()).unwrap_or(u32::MAX),
            remedies: remedies.loaded().map(|(remedy, _)| remedy.clone()).collect(),
            refused: remedies.refused().to_vec(),
            open_runs: parts.book.runs(None, MAX_RUNS).into_iter().filter(|run| !run.state.is_terminal()).collect(),
            holds,
            breakers,
            cooldowns,
            disabled: parts.disabled.clone(),
            ledger: (head.size, head.root.iter().map(|byte| format!("{byte:02x}")).collect()),
        }
    }
}

fn proposal(
    kind: theriac_model::fault::FaultKind,
    target: Target,
    remedy: theriac_model::id::RemedyName,
    params: theriac_model::remedy::Params,
) -> Result<Proposal, Refused> {
    Ok(Proposal {
        incident: IncidentId::parse("dry-run").map_err(|error| error.to_string())?,
        kind,
        target,
        playbook: theriac_model::id::PlaybookName::parse("dry-run").map_err(|error| error.to_string())?,
        rung: 0,
        remedy,
        params,
        onset: Timestamp(0),
        detected: Timestamp(0),
        evidence: Vec::new(),
    })
}

fn bounded(limit: u32, most: usize) -> usize {
    usize::try_from(limit).map_or(most, |limit| limit.min(most))
}

fn name_of(peer: Peer) -> String {
    format!("uid {}", peer.uid)
}

impl Service for OperatorSocket {
    type Request = OperatorRequest;
    type Answer = OperatorAnswer;

    fn admits(&self, peer: Peer) -> bool {
        peer.uid == 0 || peer.uid == self.me
    }

    fn answer(&self, peer: Peer, request: OperatorRequest) -> (OperatorAnswer, bool) {
        (self.serve(peer, request).unwrap_or_else(OperatorAnswer::Refused), false)
    }

    fn follow(&self, _: &mut UnixStream) {}

    fn epoch(&self) -> u64 {
        self.parts.book.epoch()
    }
}
