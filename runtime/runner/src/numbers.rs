//! The counters: a fold over the journal, so that they survive restarts and can be checked against it.

use std::collections::BTreeMap;

use theriac_model::denial::DenialCause;
use theriac_model::effect::{Outcome, UndoOutcome};
use theriac_model::record::{Entry, IncidentSummary, Record};
use theriac_protocol::runner::RunnerNumbers;

/// Distinct words a counter may have. Words come from our own code, but reasons pass through the agent.
const MAX_WORDS: usize = 64;

/// Folds the next entry in.
pub(crate) fn apply(numbers: &mut RunnerNumbers, entry: &Entry) {
    numbers.records = entry.seq + 1;
    match &entry.record {
        Record::Moved { state, .. } if state.is_terminal() => count(&mut numbers.runs, state.as_str()),
        Record::Denied { denial, .. } => count(&mut numbers.denials, denial.cause.as_str()),
        Record::Done { outcome: Outcome::Applied { .. }, .. } => numbers.effects += 1,
        Record::Done { outcome: Outcome::Denied(denial), .. } => count(&mut numbers.denials, denial.cause.as_str()),
        Record::UndoDone { outcome: UndoOutcome::Restored, .. } => numbers.undone_effects += 1,
        Record::ProposalRefused { rule, .. } => count(&mut numbers.refused, rule),
        Record::NotActing { reason, .. } => count(&mut numbers.not_acting, reason),
        Record::IncidentEnded { summary } => incident(numbers, summary),
        Record::Started { .. }
        | Record::Stopped
        | Record::Reserved { .. }
        | Record::Measured { .. }
        | Record::Planned { .. }
        | Record::Decided { .. }
        | Record::Consented { .. }
        | Record::Declined { .. }
        | Record::Moved { .. }
        | Record::Intent { .. }
        | Record::Done { .. }
        | Record::RemedyLog { .. }
        | Record::WorkerEnded { .. }
        | Record::UndoIntent { .. }
        | Record::UndoDone { .. }
        | Record::Verified { .. }
        | Record::CooldownBegan { .. }
        | Record::BreakerTripped { .. }
        | Record::BreakerReset { .. }
        | Record::Held { .. }
        | Record::Resumed { .. }
        | Record::RemedyLoaded { .. }
        | Record::RemedyRefused { .. }
        | Record::ReleaseSeen { .. } => {}
    }
}

/// Every denial cause at zero, so that a graph shows a cause before its first denial.
pub(crate) fn empty() -> RunnerNumbers {
    let denials = DenialCause::ALL.iter().map(|cause| (cause.as_str().to_owned(), 0)).collect();
    RunnerNumbers { denials, ..RunnerNumbers::default() }
}

fn incident(numbers: &mut RunnerNumbers, summary: &IncidentSummary) {
    count(&mut numbers.incidents, summary.kind.as_str());
    numbers.escalated += u64::from(summary.escalated);
    numbers.false_alarms += u64::from(summary.false_alarm);
    add(&mut numbers.detect_ms, Some(summary.detected_ms));
    add(&mut numbers.heal_ms, summary.healed_ms);
    add(&mut numbers.stable_ms, summary.stable_ms);
}

fn add(sum: &mut (u64, u64), value: Option<u64>) {
    if let Some(value) = value {
        *sum = (sum.0.saturating_add(value), sum.1 + 1);
    }
}

fn count(words: &mut BTreeMap<String, u64>, word: &str) {
    let word = if words.contains_key(word) || words.len() < MAX_WORDS { word } else { "other" };
    *words.entry(word.to_owned()).or_default() += 1;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_from_outside_cannot_grow_a_counter_without_bound() {
        let mut words = BTreeMap::new();
        for n in 0..1000 {
            count(&mut words, &format!("reason-{n}"));
        }
        assert_eq!(words.len(), MAX_WORDS + 1);
        assert_eq!(words.values().sum::<u64>(), 1000);
    }
}
