//! Guardrails: what stops a run whatever policy says. Concurrency, cooldown, ladder, breaker, hold, window, deploy lock.
//!
//! Pure functions over a [`Standing`], which is the journal's records folded together, so that everything here survives a
//! restart and no clock is read. Whether a plan is *acceptable* is [`crate::policy`]'s question, not this module's.

mod standing;

use std::time::Duration;

use theriac_model::id::RunId;
use theriac_model::record::{Proposal, Record};
use theriac_model::time::{GuardTime, Span, Timestamp, millis};

use crate::host::HostConfig;

pub use standing::{FoldError, History, Hold, OpenRun, Standing};

/// The rule under which the runner refuses a rung whose remedy is not loaded. Such a rung counts as tried, so that the
/// ladder can go on without it.
pub const REMEDY_UNAVAILABLE: &str = "remedy-unavailable";

/// The guardrails' values; the mission's, unless the configuration says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Guardrails {
    /// Runs that may be running or undoing at once.
    pub slots: u32,
    /// Rest of a target after its ladder ended.
    pub cooldown: Span,
    /// That many faults of one kind at one target within [`Self::breaker_window`] disarm the remedy that treated them.
    pub breaker_faults: u32,
    /// See there.
    pub breaker_window: Span,
    /// That many undos disarm a remedy for a target.
    pub breaker_undos: u32,
}

impl Default for Guardrails {
    fn default() -> Self {
        Self {
            slots: 2,
            cooldown: Span::from_secs(300),
            breaker_faults: 3,
            breaker_window: Span::from_secs(24 * 3600),
            breaker_undos: 2,
        }
    }
}

impl From<&HostConfig> for Guardrails {
    fn from(host: &HostConfig) -> Self {
        Self {
            slots: host.limits.concurrent_runs,
            cooldown: host.timing.cooldown,
            breaker_faults: host.limits.breaker_runs,
            breaker_window: host.limits.breaker_window,
            breaker_undos: host.limits.breaker_undos,
        }
    }
}

/// What is the case at this moment, measured by the runner.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Situation {
    /// Now.
    pub now: GuardTime,
    /// A maintenance window or silence covers the target: its name.
    pub window: Option<String>,
    /// A deploy lock or a package manager is at work: what was found.
    pub deploy: Option<String>,
}

impl Situation {
    /// With the configuration's windows looked up; `deploy` is what the runner found of deploy locks.
    pub fn at(host: &HostConfig, now: GuardTime, clock: Timestamp, deploy: Option<String>) -> Self {
        let window = host.windows.iter().find(|window| window.contains(clock)).map(|window| window.why().to_owned());
        Self { now, window, deploy }
    }
}

/// A guardrail's no.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Objection {
    /// Not now and not later by itself.
    #[error("{reason}")]
    Refuse { rule: &'static str, reason: String },
    /// Not now; when that has passed, a new proposal continues it.
    #[error("{reason}")]
    Defer { rule: &'static str, reason: String },
}

impl Objection {
    /// The rule's word, for records and metrics.
    pub const fn rule(&self) -> &'static str {
        match self {
            Self::Refuse { rule, .. } | Self::Defer { rule, .. } => rule,
        }
    }
}

fn refuse(rule: &'static str, reason: String) -> Result<(), Objection> {
    Err(Objection::Refuse { rule, reason })
}

fn defer(rule: &'static str, reason: String) -> Result<(), Objection> {
    Err(Objection::Defer { rule, reason })
}

/// Whether a run may be reserved for this proposal.
pub fn check_proposal(
    standing: &Standing,
    guardrails: &Guardrails,
    proposal: &Proposal,
    situation: &Situation,
) -> Result<(), Objection> {
    hold(standing, proposal, situation.now)?;
    quiet(situation)?;
    lock(standing, proposal, None)?;
    breaker(standing, guardrails, proposal, situation.now)?;
    cooldown(standing, guardrails, proposal, situation.now)?;
    ladder(standing, proposal)
}

/// Whether a reserved run may begin to change things now. Asked again here because hours may have passed since it was
/// reserved, waiting for a person.
pub fn check_start(
    standing: &Standing,
    guardrails: &Guardrails,
    run: &RunId,
    situation: &Situation,
) -> Result<(), Objection> {
    let Some(open) = standing.run(run) else {
        return refuse("run", format!("run `{run}` is not open"));
    };
    hold(standing, &open.proposal, situation.now)?;
    quiet(situation)?;
    lock(standing, &open.proposal, Some(run))?;
    breaker(standing, guardrails, &open.proposal, situation.now)?;
    slots(standing, guardrails, run)
}

fn hold(standing: &Standing, proposal: &Proposal, now: GuardTime) -> Result<(), Objection> {
    match standing.hold_on(&proposal.target, now) {
        Some((None, held)) => refuse("hold", format!("{} holds all healing on this host", held.by)),
        Some((Some(target), held)) => refuse("hold", format!("{} holds `{target}`", held.by)),
        None => Ok(()),
    }
}

fn quiet(situation: &Situation) -> Result<(), Objection> {
    if let Some(window) = &situation.window {
        return defer("window", format!("no healing inside a window: {window}"));
    }
    match &situation.deploy {
        Some(found) => defer("deploy-lock", format!("a deployment is at work: {found}")),
        None => Ok(()),
    }
}

/// One run per target: its lock is held from the reservation until the run is over.
fn lock(standing: &Standing, proposal: &Proposal, own: Option<&RunId>) -> Result<(), Objection> {
    let other = standing.open_runs().find(|(id, run)| Some(*id) != own && run.proposal.target == proposal.target);
    match other {
        Some((id, run)) => refuse("target-locked", format!("run `{id}` of `{}` is {}", proposal.target, run.state)),
        None => Ok(()),
    }
}

fn breaker(standing: &Standing, guardrails: &Guardrails, proposal: &Proposal, now: GuardTime) -> Result<(), Objection> {
    let (remedy, target) = (&proposal.remedy, &proposal.target);
    let reason = match standing.breaker(remedy, target) {
        Some(reason) => Some(reason.to_owned()),
        // Due and not yet written: the runner died between the two records.
        None => due(standing, guardrails, proposal, now, false),
    };
    match reason {
        Some(reason) => refuse("breaker", format!("`{remedy}` is disarmed for `{target}`: {reason}")),
        None => Ok(()),
    }
}

/// The record that disarms the proposal's remedy for its target, if it is time: asked, and written, when a ladder ends.
pub fn breaker_due(
    standing: &Standing,
    guardrails: &Guardrails,
    proposal: &Proposal,
    now: GuardTime,
) -> Option<Record> {
    let (remedy, target) = (&proposal.remedy, &proposal.target);
    if standing.breaker(remedy, target).is_some() {
        return None;
    }
    let reason = due(standing, guardrails, proposal, now, true)?;
    Some(Record::BreakerTripped { remedy: remedy.clone(), target: target.clone(), reason })
}

/// Why the remedy is to be disarmed. The fault being treated just now counts only once its ladder has ended: the third
/// time still has all of its rungs.
fn due(
    standing: &Standing,
    guardrails: &Guardrails,
    proposal: &Proposal,
    now: GuardTime,
    ladder_ended: bool,
) -> Option<String> {
    let history = standing.history(&proposal.remedy, &proposal.target)?;
    if history.lost {
        return Some("a run of it could not be taken back".to_owned());
    }
    if history.undos >= guardrails.breaker_undos {
        return Some(format!("{} of its runs were undone", history.undos));
    }
    let window = guardrails.breaker_window.duration();
    let present = (!ladder_ended).then_some(&proposal.incident);
    let worst = history.faults_within(window, now, present).into_iter().max_by_key(|(_, count)| *count)?;
    (worst.1 >= guardrails.breaker_faults)
        .then(|| format!("`{}` came {} times within {}", worst.0, worst.1, guardrails.breaker_window))
}

fn cooldown(
    standing: &Standing,
    guardrails: &Guardrails,
    proposal: &Proposal,
    now: GuardTime,
) -> Result<(), Objection> {
    let written = standing.cooldown(&proposal.target).filter(|until| now < *until);
    // An agent that starts a new incident instead of climbing the ladder never ends a ladder: the target rests all the same.
    let implied = standing.last_run_at(&proposal.target).and_then(|(incident, ended)| {
        let until = ended.after(guardrails.cooldown.duration());
        (*incident != proposal.incident && now < until).then_some(until)
    });
    match written.max(implied) {
        Some(until) => {
            let left = Span::from_millis(millis(rounded_up(until.since(now))));
            refuse("cooldown", format!("`{}` rests for another {left}", proposal.target))
        }
        None => Ok(()),
    }
}

fn rounded_up(left: Duration) -> Duration {
    Duration::from_secs(left.as_secs() + u64::from(left.subsec_nanos() > 0))
}

/// The ladder is climbed from its foot, one rung at a time, and a rung that ran is not tried again.
fn ladder(standing: &Standing, proposal: &Proposal) -> Result<(), Objection> {
    let ladder = standing.ladder(proposal);
    if ladder.ran.is_some_and(|ran| proposal.rung <= ran) {
        return refuse("ladder", format!("rung {} of incident `{}` was tried", proposal.rung, proposal.incident));
    }
    let next = ladder.tried.map_or(0, |tried| tried.saturating_add(1));
    if proposal.rung > next {
        return refuse("ladder", format!("rung {} comes after rung {next}, which was not tried", proposal.rung));
    }
    Ok(())
}

fn slots(standing: &Standing, guardrails: &Guardrails, own: &RunId) -> Result<(), Objection> {
    let taken = standing.open_runs().filter(|(id, run)| *id != own && run.state.holds_slot()).count();
    if taken >= guardrails.slots as usize {
        return defer("slots", format!("{taken} runs are at work, at most {} may be", guardrails.slots));
    }
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests;
