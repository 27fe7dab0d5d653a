//! What the gate takes: a warrant for a live run, or a permit to record.
//!
//! The constructors can be called from [`super`] alone, and neither type can be copied: who holds one was given it.

use theriac_model::id::RunId;
use theriac_model::plan::{Plan, PlanHash};
use theriac_model::record::Action;
use theriac_model::time::GuardTime;

use crate::effective::Effective;

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::Warrant {}
    impl Sealed for super::DryRunPermit {}
}

/// What every way into the gate carries.
pub trait Permit: sealed::Sealed {
    /// The effective grants.
    fn grants(&self) -> &Effective;
}

/// Proof that one plan may run once. Made by [`super::authorise`] and nowhere else; it can't be cloned, stored or sent.
#[derive(Debug)]
pub struct Warrant {
    plan: Plan,
    hash: PlanHash,
    grants: Effective,
    run: RunId,
    action: Action,
    deadline: GuardTime,
}

impl Warrant {
    pub(super) fn issue(plan: &Plan, grants: Effective, run: &RunId, action: Action, now: GuardTime) -> Self {
        let deadline = deadline(plan, &grants, now);
        Self { hash: plan.hash(), plan: plan.clone(), grants, run: run.clone(), action, deadline }
    }

    /// The plan that the live run is held to.
    pub const fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Its hash.
    pub const fn hash(&self) -> PlanHash {
        self.hash
    }

    /// The effective grants.
    pub const fn grants(&self) -> &Effective {
        &self.grants
    }

    /// The run it is for.
    pub const fn run(&self) -> &RunId {
        &self.run
    }

    /// Policy wants a person to be told.
    pub fn tells(&self) -> bool {
        self.action == Action::RunAndTell
    }

    /// No effect after this.
    pub const fn deadline(&self) -> GuardTime {
        self.deadline
    }
}

/// The remedy's own time, and for each planned job of a service manager the time that its grant lets it take.
fn deadline(plan: &Plan, grants: &Effective, now: GuardTime) -> GuardTime {
    let jobs = plan.effects.iter().filter_map(|planned| grants.units.get(planned.effect.label()));
    jobs.fold(now.after(grants.limits.time.duration()), |at, unit| at.after(unit.job_timeout.duration()))
}

impl Permit for Warrant {
    fn grants(&self) -> &Effective {
        &self.grants
    }
}

/// Leave to run a remedy against a recorder. Nothing turns one into a [`Warrant`]: that takes an approval, and a permit
/// holds none.
#[derive(Debug)]
pub struct DryRunPermit {
    grants: Effective,
}

impl DryRunPermit {
    pub(super) const fn recording(grants: Effective) -> Self {
        Self { grants }
    }

    /// For a component that nobody has signed: the CLI records it under the caller's own uid, with the caller's own rights.
    /// The runner never calls this.
    pub const fn unsigned(grants: Effective) -> Self {
        Self { grants }
    }

    /// The effective grants.
    pub const fn grants(&self) -> &Effective {
        &self.grants
    }
}

impl Permit for DryRunPermit {
    fn grants(&self) -> &Effective {
        &self.grants
    }
}
