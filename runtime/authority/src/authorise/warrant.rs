//! What the gate takes: a warrant for a live run, or a permit to record.
//!
//! The constructors can be called from [`super`] alone, and neither type can be copied: who holds one was given it.

use theriac_model::effect::Effect;
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

/// The remedy's own time, and for each planned job of a service manager or a container engine the time that its grant lets it take.
fn deadline(plan: &Plan, grants: &Effective, now: GuardTime) -> GuardTime {
    let job = |effect: &Effect| {
        let unit = || grants.units.get(effect.label()).map(|unit| unit.job_timeout);
        let container = || grants.containers.get(effect.label()).map(|container| container.job_timeout);
        match effect {
            Effect::Unit { .. } => unit(),
            Effect::Container(_) => container(),
            Effect::File { .. }
            | Effect::Group { .. }
            | Effect::Process { .. }
            | Effect::Certificate(_)
            | Effect::Program(_)
            | Effect::Http(_)
            | Effect::Knob(_)
            | Effect::Release(_)
            | Effect::Firewall(_)
            | Effect::Database(_) => None,
        }
    };
    let jobs = plan.effects.iter().filter_map(|planned| job(&planned.effect));
    jobs.fold(now.after(grants.limits.time.duration()), |at, job| at.after(job.duration()))
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

#[cfg(test)]
mod tests {
    use theriac_model::container::{
        ContainerEffect, ContainerId, ContainerName, ContainerRef, ContainerSelector, ContainerVerb, Incarnation,
    };
    use theriac_model::effect::UndoClass;
    use theriac_model::id::Label;

    use super::*;
    use crate::effective::tests::bound;
    use crate::policy::tests::{plan, planned};

    const MANIFEST: &str = r#"
[remedy]
name = "x"
version = "1.0.0"
serial = 1
summary = "s"
handles = ["container-unhealthy"]

[grants.containers.app]
container = { from = "incident" }
verbs = ["restart"]
job_timeout = "40s"
why = "w"

[limits]
time = "10s"
"#;
    const HOST: &str = "[[container]]\nlabel = \"api\"\nname = \"shop-api\"\nverbs = [\"restart\"]\n";

    #[test]
    fn each_container_that_is_waited_for_adds_the_time_of_its_grant() {
        let container = ContainerRef {
            id: ContainerId::parse(&"a".repeat(64)).unwrap(),
            incarnation: Incarnation::Started(String::new()),
        };
        let effect = Effect::Container(ContainerEffect {
            label: Label::parse("app").unwrap(),
            target: Label::parse("api").unwrap(),
            selector: ContainerSelector::Name(ContainerName::parse("shop-api").unwrap()),
            container,
            verb: ContainerVerb::Restart,
        });
        let grants = bound(MANIFEST, HOST, "container:api");
        let ends = |effects| deadline(&plan(effects), &grants, GuardTime(1_000));
        let restart = || planned(effect.clone(), UndoClass::Exact);
        assert_eq!(ends(Vec::new()), GuardTime(11_000));
        assert_eq!(ends(vec![restart()]), GuardTime(51_000));
        assert_eq!(ends(vec![restart(), restart()]), GuardTime(91_000));
    }
}
