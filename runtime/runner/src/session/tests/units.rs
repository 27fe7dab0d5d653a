//! Units against a service manager that is a table; the real ones have their own tests.

use theriac_model::call::{Reply, UnitCall};
use theriac_model::denial::DenialCause;
use theriac_model::effect::UndoOutcome;
use theriac_model::unit::{ActiveState, Property};
use theriac_model::verdict::Verdict;

use super::world::*;

#[test]
fn a_recorded_start_shows_as_active_and_is_not_done() {
    let place = place();
    place.plan(|ask| {
        assert_eq!(on_unit(ask, UnitCall::Start), Reply::Done);
        let Reply::Status(status) = on_unit(ask, UnitCall::Status) else { panic!() };
        assert!(status.assumed && status.active == ActiveState::Active);
    });
    assert!(!place.units.is_up());
}

#[test]
fn a_started_unit_is_stopped_again_only_on_worse() {
    for (verdict, up) in [(Verdict::NotImproved, true), (Verdict::Worse, false)] {
        let place = place();
        let end = place.both(|ask| drop(on_unit(ask, UnitCall::Start)));
        assert!(!end.must_undo() && place.units.is_up());
        assert!(place.undo_with(&place.entries(), verdict).iter().all(|outcome| !outcome.needs_person()));
        assert_eq!(place.units.is_up(), up, "{verdict:?}");
    }
}

#[test]
fn a_unit_that_somebody_else_started_since_is_left_alone() {
    let place = place();
    place.both(|ask| drop(on_unit(ask, UnitCall::Start)));
    place.units.down();
    place.units.up();
    let undone = place.undo_with(&place.entries(), Verdict::Worse);
    assert!(matches!(undone.as_slice(), [UndoOutcome::ChangedSince { .. }]), "{undone:?}");
    assert!(place.units.is_up());
}

#[test]
fn what_a_person_stopped_and_what_restarts_itself_is_not_started() {
    let place = place();
    place.units.down();
    place.plan(|ask| assert_eq!(denied(on_unit(ask, UnitCall::Start)).rule, "stopped-on-purpose"));
    place.units.state.lock().unwrap().stopped_on_purpose = false;
    place.units.state.lock().unwrap().will_restart = true;
    place.plan(|ask| assert_eq!(denied(on_unit(ask, UnitCall::Restart)).rule, "restarting-itself"));
    place.units.state.lock().unwrap().will_restart = false;
    place.plan(|ask| assert_eq!(on_unit(ask, UnitCall::Restart), Reply::Done));
}

#[test]
fn another_invocation_than_the_planned_one_is_another_unit() {
    let place = place();
    let plan = place.plan(|ask| drop(on_unit(ask, UnitCall::Restart)));
    place.units.up();
    let mut live = place.live(&plan);
    let denial = denied(on_unit(&mut |call| crate::session::Host::answer(&mut live, call), UnitCall::Restart));
    assert_eq!(denial.cause, DenialCause::OffPlan);
}

#[test]
fn a_run_may_act_twice_on_a_unit_whose_invocation_it_changed_itself() {
    let place = place();
    let quota = UnitCall::SetProperty { property: Property::CpuQuota(Some(500)) };
    let end = place.both(|ask| {
        assert_eq!(on_unit(ask, UnitCall::Stop), Reply::Done);
        assert_eq!(on_unit(ask, UnitCall::Start), Reply::Done);
        assert_eq!(on_unit(ask, quota), Reply::Done);
    });
    assert!(!end.must_undo() && end.intents == 3, "{end:?}");
}

#[test]
fn a_property_goes_back_to_its_old_value_unless_somebody_changed_it() {
    for foreign in [None, Some(Property::CpuQuota(Some(700)))] {
        let place = place();
        let quota = UnitCall::SetProperty { property: Property::CpuQuota(Some(500)) };
        place.both(|ask| drop(on_unit(ask, quota)));
        assert_eq!(*place.units.quota.lock().unwrap(), Property::CpuQuota(Some(500)));
        if let Some(foreign) = foreign {
            *place.units.quota.lock().unwrap() = foreign;
        }
        assert_eq!(matches!(place.undo().as_slice(), [UndoOutcome::Restored]), foreign.is_none());
        assert_eq!(*place.units.quota.lock().unwrap(), foreign.unwrap_or(Property::CpuQuota(None)));
    }
}

#[test]
fn a_restart_whose_job_failed_may_have_happened_and_is_compensated() {
    let place = place();
    place.units.up();
    let plan = place.plan(|ask| drop(on_unit(ask, UnitCall::Restart)));
    *place.units.job_fails.lock().unwrap() = true;
    let mut live = place.live(&plan);
    denied(on_unit(&mut |call| crate::session::Host::answer(&mut live, call), UnitCall::Restart));
    assert!(live.finish().must_undo());
    *place.units.job_fails.lock().unwrap() = false;
    assert_eq!(place.undo(), [UndoOutcome::Restored]);
    assert!(place.units.is_up());
}

#[test]
fn a_value_out_of_the_grants_bounds_is_denied() {
    let place = place();
    for (value, right) in [(Some(500), true), (Some(2000), false), (None, false)] {
        let call = UnitCall::SetProperty { property: Property::CpuQuota(value) };
        place.plan(|ask| assert_eq!(on_unit(ask, call) == Reply::Done, right, "{value:?}"));
    }
}
