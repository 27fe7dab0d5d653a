//! The two modes that change nothing.

use theriac_authority::policy::{Scope, risk_of};
use theriac_model::denial::{Denial, DenialCause};
use theriac_model::effect::Effect;
use theriac_model::plan::PlannedEffect;

use crate::gate::{Admission, Draft, Mode};

/// Most effects of one plan: a person reads it.
const MAX_EFFECTS: usize = 4096;

/// Effects are written down. There is no way from here to the world.
#[derive(Debug, Default)]
pub struct Recording {
    effects: Vec<PlannedEffect>,
}

impl Recording {
    pub(crate) fn into_effects(self) -> Vec<PlannedEffect> {
        self.effects
    }
}

impl Mode for Recording {
    fn admit(&mut self, draft: &Draft) -> Result<Admission, Denial> {
        if self.effects.len() >= MAX_EFFECTS {
            return Err(Denial::new(DenialCause::OverBudget, draft.effect.label(), "plan.effects", &draft.effect));
        }
        Ok(Admission::Recorded)
    }

    /// A dry run does nothing that could come too late.
    fn in_time(&self, _effect: &Effect) -> Result<(), Denial> {
        Ok(())
    }

    fn record(&mut self, draft: Draft) {
        let scope = Scope { traffic_share: draft.traffic_share, reproducible: draft.reproducible };
        let risk = risk_of(&draft.bound, &draft.class, scope, &self.effects);
        self.effects.push(PlannedEffect {
            effect: draft.bound,
            undo: draft.class,
            guards: draft.guards,
            before: draft.before,
            reproducible: draft.reproducible,
            risk,
        });
    }

    fn failed(&mut self, _denial: &Denial) {}

    fn is_dry(&self) -> bool {
        true
    }
}

/// Reads only.
#[derive(Debug, Clone, Copy)]
pub struct Checking;

impl Mode for Checking {
    fn admit(&mut self, draft: &Draft) -> Result<Admission, Denial> {
        Err(Denial::new(DenialCause::NotGranted, draft.effect.label(), "check", &draft.effect))
    }

    fn in_time(&self, effect: &Effect) -> Result<(), Denial> {
        Err(Denial::new(DenialCause::NotGranted, effect.label(), "check", effect))
    }

    fn record(&mut self, _draft: Draft) {}

    fn failed(&mut self, _denial: &Denial) {}

    fn is_dry(&self) -> bool {
        false
    }
}
