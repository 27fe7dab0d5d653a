//! Plans: what a dry run recorded, and what the live run is held to.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::effect::{Effect, Observed, UndoClass};
use crate::fault::FaultKind;
use crate::id::{Digest, IncidentId, PlaybookName};
use crate::remedy::{Params, RemedyRef};
use crate::target::Target;
use crate::units::Permille;

/// What a dry run recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// The incident it is for.
    pub incident: IncidentId,
    /// The fault kind.
    pub kind: FaultKind,
    /// The target.
    pub target: Target,
    /// The remedy.
    pub remedy: RemedyRef,
    /// Its parameters, all of them.
    pub params: Params,
    /// The playbook and the rung's index, where one asked for it.
    pub rung: Option<(PlaybookName, u32)>,
    /// The effects, in order.
    pub effects: Vec<PlannedEffect>,
    /// What the remedy said it would do.
    pub report: String,
}

/// One effect of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlannedEffect {
    /// The effect with its upper bounds.
    pub effect: Effect,
    /// Whether it can be taken back.
    pub undo: UndoClass,
    /// Conditions that are checked again immediately before it.
    pub guards: Vec<Guard>,
    /// The state before, for display.
    pub before: Observed,
    /// The data it destroys is of a class that the operator's configuration calls reproducible.
    pub reproducible: bool,
    /// Its share of the plan's risk.
    pub risk: Permille,
}

/// A named condition that is checked again before the effect.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Guard {
    /// The file is at least that old.
    MinAge { seconds: u64 },
    /// No process has the file open.
    NotOpen,
    /// Every writer that has the file open appends.
    AppendedOnly,
    /// The file has one name only.
    OneLink,
    /// The unit is still in the invocation that was planned for.
    SameInvocation,
    /// The unit was not stopped on purpose.
    NotStoppedOnPurpose,
    /// The manager is not about to do it by itself.
    NotRestartingItself,
    /// Nobody has asked for this certificate within that time.
    NotAskedFor { seconds: u64 },
    /// The program's file is root's in every part of its path.
    TrustedProgram,
    /// The container is still the one that was planned for, in the same life.
    SameContainer,
    /// The value before is still the one that was planned for.
    SameValue,
    /// It is no address that the operator needs: his own, his gateways', his sessions', those he lists.
    NotNeeded,
    /// The session is still the one that was planned for, in the same state, and has waited long enough.
    SameSession,
    /// The runner still measures the fault.
    FaultPresent,
}

/// SHA-256 over the contract part of a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PlanHash(pub Digest);

impl fmt::Display for PlanHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The part of a plan that a consent is about: no free bytes, no before-values, nothing that changes while a person reads.
#[derive(Serialize)]
struct Contract<'a> {
    format: &'static str,
    incident: &'a IncidentId,
    kind: FaultKind,
    target: &'a Target,
    remedy: &'a RemedyRef,
    params: &'a Params,
    rung: &'a Option<(PlaybookName, u32)>,
    effects: Vec<(&'a Effect, &'a UndoClass, &'a [Guard], bool)>,
}

impl Plan {
    /// The hash that a consent names.
    pub fn hash(&self) -> PlanHash {
        let effects = self.effects.iter().map(|e| (&e.effect, &e.undo, e.guards.as_slice(), e.reproducible)).collect();
        let contract = Contract {
            format: "theriac.plan/v1",
            incident: &self.incident,
            kind: self.kind,
            target: &self.target,
            remedy: &self.remedy,
            params: &self.params,
            rung: &self.rung,
            effects,
        };
        #[expect(clippy::expect_used, reason = "plain structs with string keys always serialise")]
        let bytes = serde_json::to_vec(&contract).expect("a contract serialises");
        PlanHash(Digest::of(&bytes))
    }

    /// `1000·(1 − Π(1 − rᵢ))` over the effects.
    pub fn risk(&self) -> Permille {
        self.effects.iter().fold(Permille::ZERO, |risk, effect| risk.or(effect.risk))
    }

    /// Effects that can't be taken back and whose data is not reproducible.
    pub fn irreversible(&self) -> impl Iterator<Item = &PlannedEffect> {
        self.effects
            .iter()
            .filter(|effect| matches!(effect.undo, UndoClass::Irreversible { .. }) && !effect.reproducible)
    }

    /// Whether everything this plan does is also in `consented`, in the same order and not larger: then the consent to
    /// that plan covers this one.
    pub fn is_subset_of(&self, consented: &Self) -> bool {
        let same = self.incident == consented.incident
            && self.kind == consented.kind
            && self.target == consented.target
            && self.remedy == consented.remedy
            && self.params == consented.params
            && self.rung == consented.rung;
        let mut cursor = PlanCursor::default();
        same && self.effects.iter().all(|mine| {
            cursor.advance(consented, &mine.effect).is_some_and(|index| {
                consented.effects.get(index).is_some_and(|theirs| {
                    mine.undo == theirs.undo
                        && mine.reproducible == theirs.reproducible
                        && theirs.guards.iter().all(|g| mine.guards.contains(g))
                })
            })
        })
    }
}

/// How far a live run has come in its plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PlanCursor {
    next: usize,
}

impl PlanCursor {
    /// The effects that can still be done: those before were done or skipped.
    pub fn ahead(self, plan: &Plan) -> &[PlannedEffect] {
        plan.effects.get(self.next..).unwrap_or_default()
    }

    /// Finds the next planned effect that covers this one and moves past it; `None` is off plan and moves nothing.
    /// What is skipped can't be done later: the live run is an *ordered* subsequence.
    pub fn advance(&mut self, plan: &Plan, effect: &Effect) -> Option<usize> {
        let ahead = self.ahead(plan);
        let index = self.next + ahead.iter().position(|planned| effect.is_within(&planned.effect))?;
        self.next = index + 1;
        Some(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::effect::UnitVerb;
    use crate::id::{Label, RemedyName, UnitName};
    use crate::unit::ActiveState;

    fn unit(verb: UnitVerb) -> Effect {
        let label = Label::parse("target").unwrap();
        Effect::Unit { label, unit: UnitName::parse("web").unwrap(), invocation: "a1".into(), verb }
    }

    fn plan(verbs: &[UnitVerb]) -> Plan {
        let planned = |verb: &UnitVerb| PlannedEffect {
            effect: unit(*verb),
            undo: UndoClass::Compensated { inverse: "start".into() },
            guards: vec![Guard::SameInvocation],
            before: Observed::Unit { active: ActiveState::Failed, invocation: "a1".into(), sub: "failed".into() },
            reproducible: false,
            risk: Permille::new(100).unwrap(),
        };
        Plan {
            incident: IncidentId::parse("i-1").unwrap(),
            kind: FaultKind::ServiceCrash,
            target: "unit:web".parse().unwrap(),
            remedy: RemedyRef {
                name: RemedyName::parse("service-recover").unwrap(),
                version: "1.0.0".into(),
                serial: 1,
                component: Digest::of(b"x"),
            },
            params: Params::new(),
            rung: None,
            effects: verbs.iter().map(planned).collect(),
            report: String::new(),
        }
    }

    #[test]
    fn a_live_run_may_skip_but_not_go_back() {
        let plan = plan(&[UnitVerb::ResetFailed, UnitVerb::Start]);
        let mut cursor = PlanCursor::default();
        assert_eq!(cursor.advance(&plan, &unit(UnitVerb::Start)), Some(1));
        assert_eq!(cursor.advance(&plan, &unit(UnitVerb::ResetFailed)), None);
        assert_eq!(cursor.advance(&plan, &unit(UnitVerb::Start)), None, "each planned effect is used once");
    }

    #[test]
    fn the_hash_covers_the_contract_and_not_what_is_for_display() {
        let base = plan(&[UnitVerb::Start]);
        let mut shown = base.clone();
        shown.report = "other words".into();
        if let Some(effect) = shown.effects.first_mut() {
            effect.before = Observed::NoFile;
        }
        assert_eq!(base.hash(), shown.hash());
        let mut guards = base.clone();
        guards.effects[0].guards.clear();
        assert_ne!(base.hash(), guards.hash());
        assert_ne!(base.hash(), plan(&[UnitVerb::Restart]).hash());
    }

    #[test]
    fn a_smaller_plan_is_covered_by_a_consent_and_a_larger_one_is_not() {
        let consented = plan(&[UnitVerb::ResetFailed, UnitVerb::Start]);
        assert!(plan(&[UnitVerb::Start]).is_subset_of(&consented));
        assert!(!plan(&[UnitVerb::Start, UnitVerb::Restart]).is_subset_of(&consented));
        let mut unguarded = plan(&[UnitVerb::Start]);
        unguarded.effects[0].guards.clear();
        assert!(!unguarded.is_subset_of(&consented));
    }

    #[test]
    fn risk_is_combined_over_the_effects() {
        assert_eq!(plan(&[]).risk(), Permille::ZERO);
        assert_eq!(plan(&[UnitVerb::ResetFailed, UnitVerb::Start]).risk().get(), 190);
    }
}
