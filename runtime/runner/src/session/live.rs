//! The live mode: the plan is the contract.

use theriac_authority::authorise::Warrant;
use theriac_model::denial::{Denial, DenialCause};
use theriac_model::effect::{Effect, UndoClass};
use theriac_model::plan::{Plan, PlanCursor};
use theriac_model::time::GuardTime;

use crate::gate::{Admission, Draft, Mode};

/// Guard time as the journal counts it, asked anew for each effect.
pub type Clock<'a> = &'a (dyn Fn() -> GuardTime + 'a);

/// Does what the warrant's plan says, in its order, until its deadline, and nothing after the first effect that it does not
/// say.
pub struct Live<'a> {
    plan: &'a Plan,
    deadline: GuardTime,
    clock: Clock<'a>,
    cursor: PlanCursor,
    intents: u32,
    off_plan: Option<Denial>,
    failed: Option<Denial>,
}

impl std::fmt::Debug for Live<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { deadline, intents, off_plan, failed, .. } = self;
        let mut shown = f.debug_struct("Live");
        shown.field("deadline", deadline).field("intents", intents).field("off_plan", off_plan);
        shown.field("failed", failed).finish_non_exhaustive()
    }
}

impl<'a> Live<'a> {
    pub(crate) fn new(warrant: &'a Warrant, clock: Clock<'a>) -> Self {
        Self::of(warrant.plan(), warrant.deadline(), clock)
    }

    /// Private but for the tests of this crate: whoever is outside brings a warrant.
    pub(super) fn of(plan: &'a Plan, deadline: GuardTime, clock: Clock<'a>) -> Self {
        Self { plan, deadline, clock, cursor: PlanCursor::default(), intents: 0, off_plan: None, failed: None }
    }

    pub(crate) fn into_end(self) -> (u32, Option<Denial>, Option<Denial>) {
        (self.intents, self.off_plan, self.failed)
    }

    fn planned(&mut self, draft: &Draft) -> Result<(), Denial> {
        let no = |rule| Denial::new(DenialCause::OffPlan, draft.effect.label(), rule, &draft.effect);
        let plan = self.plan;
        let index = self.cursor.advance(plan, &draft.effect).ok_or_else(|| {
            let known = plan.effects.iter().any(|planned| draft.effect.is_within(&planned.effect));
            no(if known { "plan.order" } else { "plan.effects" })
        })?;
        let planned = plan.effects.get(index).ok_or_else(|| no("plan.effects"))?;
        // A weaker undo, or data that is no longer reproducible, was never agreed to. A better undo is no harm.
        let as_good = draft.class == planned.undo || draft.class == UndoClass::Exact;
        if !as_good || (planned.reproducible && !draft.reproducible) {
            return Err(no("plan.undo"));
        }
        if planned.guards.iter().any(|guard| !draft.guards.contains(guard)) {
            return Err(no("plan.guards"));
        }
        Ok(())
    }
}

impl Mode for Live<'_> {
    fn admit(&mut self, draft: &Draft) -> Result<Admission, Denial> {
        if let Some(first) = self.off_plan.as_ref().or(self.failed.as_ref()) {
            return Err(Denial::new(first.cause, draft.effect.label(), "run.ended", &draft.effect));
        }
        if let Err(denial) = self.planned(draft) {
            self.off_plan = Some(denial.clone());
            return Err(denial);
        }
        let index = self.intents;
        self.intents = self.intents.saturating_add(1);
        Ok(Admission::Perform { index })
    }

    fn in_time(&self, effect: &Effect) -> Result<(), Denial> {
        let now = (self.clock)();
        if now <= self.deadline {
            return Ok(());
        }
        let late = now.since(self.deadline).as_millis();
        let attempted = format!("{effect}, {late} ms after the warrant's deadline");
        Err(Denial::new(DenialCause::OverBudget, effect.label(), "warrant.deadline", attempted))
    }

    /// Only a dry run records.
    fn record(&mut self, _draft: Draft) {}

    fn failed(&mut self, denial: &Denial) {
        self.failed.get_or_insert_with(|| denial.clone());
    }

    fn plan(&self) -> Option<(&Plan, PlanCursor)> {
        Some((self.plan, self.cursor))
    }

    fn is_dry(&self) -> bool {
        false
    }
}
