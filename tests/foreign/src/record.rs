//! Records of the journal: intents with the states an undo puts back, plans, outcomes.

use serde_json::from_slice;
use theriac_model::effect::{Effect, Observed, Undo};
use theriac_model::plan::{Plan, PlanCursor};
use theriac_model::record::{Entry, Record};

use crate::Answer;

/// What is read is written the same way again, and a plan agrees with itself.
pub(crate) fn check(bytes: &[u8]) -> Answer {
    if let Ok(plan) = from_slice::<Plan>(bytes) {
        self::plan(&plan);
    }
    drop(from_slice::<Undo>(bytes).map(|undo| format!("{undo:?}")));
    drop(from_slice::<Observed>(bytes).map(|observed| observed.to_string()));
    if let Ok(effect) = from_slice::<Effect>(bytes) {
        assert!(effect.is_within(&effect), "an effect is no larger than itself");
    }
    let Ok(entry) = from_slice::<Entry>(bytes) else { return Answer::Refused };
    let written = serde_json::to_vec(&entry).expect("what was read can be written");
    assert_eq!(from_slice::<Entry>(&written).expect("what was written can be read"), entry);
    record(&entry.record);
    Answer::Taken
}

fn record(record: &Record) {
    if let Record::Planned { plan, .. } = record {
        self::plan(plan);
    }
}

fn plan(plan: &Plan) {
    let written = serde_json::to_vec(plan).expect("a plan can be written");
    let again: Plan = from_slice(&written).expect("a plan can be read");
    assert_eq!(again.hash(), plan.hash(), "one plan, one hash");
    assert!(plan.is_subset_of(plan), "a plan is a subset of itself");
    assert!(plan.risk().get() <= 1000, "a permille");
    let mut cursor = PlanCursor::default();
    for planned in &plan.effects {
        assert!(cursor.advance(plan, &planned.effect).is_some(), "a plan's own effects are on the plan");
    }
}
