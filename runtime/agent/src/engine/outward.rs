//! What goes out: proposals and reports to the runner, notifications to people. Called only after everything is on disk.

use std::sync::Arc;
use std::time::Duration;

use theriac_model::record::IncidentSummary;
use theriac_protocol::runner::{RunnerAnswer, RunnerRequest};

use super::{Engine, Reply};
use crate::clock::chain;
use crate::incidents::Act;
use crate::runner_link::RunnerLink;

/// Lines of a log that are looked at for one incident at a time.
const LOG_LINES: u32 = 20;
/// journald, or the launcher, takes a service's last words from a pipe: the end of the service is known a moment before them.
const LAST_WORDS: Duration = Duration::from_millis(200);
/// Ends kept for a runner that is not there.
const MAX_UNREPORTED: usize = 256;

impl Engine {
    pub(super) fn perform(&mut self, act: Act) {
        match act {
            Act::Propose(proposal) => self.spawn(async move |link: &RunnerLink| {
                let answer = link.ask(&RunnerRequest::Propose(proposal.clone())).await;
                Some(Reply::Proposal(proposal, answer))
            }),
            Act::PassOver(proposal) => self.spawn(async move |link: &RunnerLink| {
                // Refused, as it has to be: the runner's ladder has then seen this rung.
                drop(link.ask(&RunnerRequest::Propose(proposal)).await);
                None
            }),
            Act::AskRuns(incident) => self.spawn(async move |link: &RunnerLink| {
                match link.ask(&RunnerRequest::Runs { incident: incident.clone() }).await {
                    Ok(RunnerAnswer::Runs(runs)) => Some(Reply::Runs(incident, runs)),
                    Ok(_) | Err(_) => None,
                }
            }),
            Act::AskLog(incident, unit) => self.spawn(async move |link: &RunnerLink| {
                tokio::time::sleep(LAST_WORDS).await;
                // A line of its own: a proposal never waits for a log.
                match link.another().ask(&RunnerRequest::LogTail { unit, lines: LOG_LINES }).await {
                    Ok(RunnerAnswer::Lines(lines)) => Some(Reply::Log(incident, lines)),
                    Ok(RunnerAnswer::Refused(reason)) => {
                        tracing::debug!(%incident, reason, "the log is no evidence");
                        None
                    }
                    Ok(_) | Err(_) => None,
                }
            }),
            Act::AskCatalog => self.ask_catalog(),
            Act::NotActing(incident, inaction) => {
                let request = RunnerRequest::NotActing {
                    incident: incident.id,
                    kind: incident.kind,
                    target: incident.target,
                    reason: inaction.reason.as_str().to_owned(),
                    summary: inaction.summary,
                };
                self.spawn(async move |link: &RunnerLink| {
                    if let Err(error) = link.ask(&request).await {
                        tracing::debug!(error = chain(&error), "the runner did not hear of a decision to do nothing");
                    }
                    None
                });
            }
            Act::Ended(_, summary) => {
                self.report(summary.clone());
                self.parts.unreported.push(summary);
                let over = self.parts.unreported.len().saturating_sub(MAX_UNREPORTED);
                self.parts.unreported.drain(..over);
            }
            Act::Tell(news) => self.parts.notifier.tell(&news),
        }
    }

    /// Tells the runner how an incident ended; it is told again until it has heard.
    fn report(&self, summary: IncidentSummary) {
        self.spawn(async move |link: &RunnerLink| {
            let id = summary.incident.clone();
            let answer = link.ask(&RunnerRequest::IncidentEnded(summary)).await;
            Some(Reply::Reported(id, matches!(answer, Ok(RunnerAnswer::Noted))))
        });
    }

    pub(super) fn report_again(&self) {
        self.parts.unreported.iter().for_each(|summary| self.report(summary.clone()));
    }

    pub(super) fn ask_catalog(&mut self) {
        self.wants_catalog = false;
        self.spawn(async move |link: &RunnerLink| match link.ask(&RunnerRequest::Catalog).await {
            Ok(RunnerAnswer::Catalog(catalog)) => Some(Reply::Catalog(Some(catalog))),
            Ok(_) | Err(_) => Some(Reply::Catalog(None)),
        });
    }

    /// Asks the runner beside the engine; the reply comes back as a thing to take.
    fn spawn(&self, asking: impl AsyncFnOnce(&RunnerLink) -> Option<Reply> + 'static) {
        let (link, replies) = (Arc::clone(&self.parts.link), self.replies.0.clone());
        tokio::task::spawn_local(async move {
            if let Some(reply) = asking(&link).await {
                // The engine is gone: nobody wants it.
                drop(replies.send(reply).await);
            }
        });
    }
}
