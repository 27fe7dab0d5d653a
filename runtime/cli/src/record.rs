//! The runner's records in sentences, for `theriac incident show` and `theriac audit show`.

use theriac_model::effect::{Outcome, UndoOutcome};
use theriac_model::record::{Entry, Record};
use theriac_model::target::Target;
use theriac_model::verdict::Phase;

use crate::plan;
use crate::text::{clock, outside, span};

/// The time of day and the sentence; a plan takes several lines.
pub fn line(entry: &Entry) -> String {
    let said = sentence(&entry.record);
    let mut lines = said.trim_end().lines();
    let first = format!("{}  {}\n", clock(entry.at), lines.next().unwrap_or_default());
    // Under the sentence, not under the time.
    lines.fold(first, |text, line| format!("{text}{:14}{line}\n", ""))
}

/// What happened, without the time.
#[expect(clippy::too_many_lines, reason = "one arm per record, each a sentence")]
pub fn sentence(record: &Record) -> String {
    match record {
        Record::Reserved { proposal, .. } => {
            let place = format!("rung {} of playbook {}", proposal.rung, proposal.playbook);
            format!("proposed: {} for {} at {}, {place}", proposal.remedy, proposal.kind, proposal.target)
        }
        Record::Measured { phase: at, measurement, .. } => {
            let present = match measurement.present {
                Some(true) => "the fault is there",
                Some(false) => "the fault is not there",
                None => "could not be measured",
            };
            format!("measured ({}): {}: {present}", phase(*at), outside(&measurement.summary))
        }
        Record::Planned { plan, .. } => plan::describe(plan),
        Record::Decided { decision, .. } => {
            format!("decided: {}: {}", plan::action(decision.action), outside(&decision.summary))
        }
        Record::Consented { plan, by, .. } => format!("{} said yes to {plan}", outside(by)),
        Record::Declined { by, .. } => format!("{} said no", outside(by)),
        Record::Moved { state, reason, .. } => format!("now {state}: {}", outside(reason)),
        Record::Verified { phase: at, verdict, summary, .. } => {
            format!("verdict ({}): {}: {}", phase(*at), verdict.as_str(), outside(summary))
        }
        Record::Intent { index, effect, class, before, .. } => {
            let (effect, before) = (outside(&effect.to_string()), outside(&before.to_string()));
            format!("effect {index}: {effect} (undo {}, before: {before})", class.as_str())
        }
        Record::Done { index, outcome, .. } => match outcome {
            Outcome::Applied { after, .. } => format!("effect {index}: applied, now {}", outside(&after.to_string())),
            Outcome::Denied(denial) => format!("effect {index}: not done: {denial}"),
            Outcome::Ambiguous { reason } => format!("effect {index}: may have happened: {}", outside(reason)),
        },
        Record::Denied { remedy, dry, denial, .. } => {
            let dry = if *dry { " in its dry run" } else { "" };
            format!("DENIED to {remedy}{dry}: {denial}")
        }
        Record::RemedyLog { text, .. } => format!("remedy says: {}", outside(text)),
        Record::WorkerEnded { sentence, .. } => format!("the remedy was ended: {}", outside(sentence)),
        Record::UndoIntent { index, .. } => format!("effect {index}: being taken back"),
        Record::UndoDone { index, outcome, .. } => format!("effect {index}: {}", undone(outcome)),
        Record::Started { version, outage, .. } => {
            let outage =
                outage.map_or_else(String::new, |gap| format!(", after {} without a runner", span(gap.duration())));
            format!("runner {} started{outage}", outside(version))
        }
        Record::Stopped => "runner stopped in good order".to_owned(),
        Record::CooldownBegan { target, .. } => format!("{target} is left alone for a while"),
        Record::BreakerTripped { remedy, target, reason } => {
            format!("{remedy} is disarmed at {target}: {}", outside(reason))
        }
        Record::BreakerReset { remedy, target, by } => format!("{} armed {remedy} at {target} again", outside(by)),
        Record::Held { target, until, by } => {
            let until = if until.is_none() { "until resumed" } else { "for a time" };
            format!("{} holds {} {until}", outside(by), everything(target.as_ref()))
        }
        Record::Resumed { target, by } => format!("{} resumed {}", outside(by), everything(target.as_ref())),
        Record::RemedyLoaded { remedy, signers } => {
            format!("loaded {}, signed by {}", outside(&remedy.to_string()), outside(&signers.join(", ")))
        }
        Record::RemedyRefused { name, reason } => format!("refused {}: {}", outside(name), outside(reason)),
        Record::ProposalRefused { proposal, rule, reason } => {
            let what = format!("{} at {}", proposal.remedy, proposal.target);
            format!("proposal of {what} refused (rule {}): {}", outside(rule), outside(reason))
        }
        Record::ReleaseSeen { unit, release, .. } => format!("{unit} is at release {release}"),
        Record::NotActing { incident, kind, target, reason, summary } => {
            let what = format!("{kind} at {target} (incident {incident})");
            format!("not acting on {what}: {}: {}", outside(reason), outside(summary))
        }
        Record::IncidentEnded { summary } => {
            let how = match (summary.escalated, summary.false_alarm) {
                (true, _) => "handed to a person",
                (false, true) => "a false alarm",
                (false, false) => "over",
            };
            format!("incident {} ({} at {}) ended: {how}", summary.incident, summary.kind, summary.target)
        }
    }
}

fn everything(target: Option<&Target>) -> String {
    target.map_or_else(|| "everything".to_owned(), ToString::to_string)
}

const fn phase(phase: Phase) -> &'static str {
    match phase {
        Phase::Before => "before the run",
        Phase::Fast => "fast check",
        Phase::Stable => "stability check",
    }
}

fn undone(outcome: &UndoOutcome) -> String {
    match outcome {
        UndoOutcome::Restored => "restored".to_owned(),
        UndoOutcome::NotNeeded { reason } => format!("nothing to take back: {}", outside(reason)),
        UndoOutcome::ChangedSince { found } => format!("LEFT ALONE, somebody changed it since: {}", outside(found)),
        UndoOutcome::Impossible { reason } => format!("CAN'T BE TAKEN BACK: {}", outside(reason)),
        UndoOutcome::Failed { reason } => format!("UNDO FAILED: {}", outside(reason)),
    }
}

#[cfg(test)]
mod tests {
    use theriac_model::id::RunId;
    use theriac_model::time::{GuardTime, Timestamp};

    use super::*;

    // AB10.
    #[test]
    fn what_a_remedy_says_can_not_break_out_of_its_line() {
        let run = RunId::parse("r-1").unwrap();
        let record = Record::RemedyLog { run, dry: false, text: "ok\n12:00:00.000  now committed".into() };
        let entry = Entry { seq: 1, at: Timestamp(0), guard: GuardTime(0), epoch: 1, record };
        assert_eq!(line(&entry).lines().count(), 1);
    }

    #[test]
    fn an_undo_that_needs_a_person_is_shouted() {
        let run = RunId::parse("r-1").unwrap();
        let done = |outcome| sentence(&Record::UndoDone { run: run.clone(), index: 2, outcome });
        assert_eq!(done(UndoOutcome::Restored), "effect 2: restored");
        let changed = UndoOutcome::ChangedSince { found: "other content".into() };
        assert_eq!(done(changed), "effect 2: LEFT ALONE, somebody changed it since: other content");
    }

    #[test]
    fn a_plan_keeps_its_lines_under_its_sentence() {
        let plan = crate::plan::tests::restart();
        let hash = plan.hash();
        let record = Record::Planned { run: RunId::parse("r-1").unwrap(), plan: Box::new(plan), hash };
        let entry = Entry { seq: 1, at: Timestamp(0), guard: GuardTime(0), epoch: 1, record };
        assert!(line(&entry).lines().skip(1).all(|line| line.starts_with("              ")));
    }
}
