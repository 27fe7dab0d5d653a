//! Units against a service manager that is a table; the real ones have their own tests.

use theriac_model::call::{Reply, UnitCall};
use theriac_model::denial::DenialCause;
use theriac_model::effect::UndoOutcome;
use theriac_model::record::Record;
use theriac_model::time::GuardTime;
use theriac_model::unit::{ActiveState, Property};
use theriac_model::verdict::Verdict;

use super::world::*;
use crate::session::Host as _;

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
fn until_its_deadline_a_warrant_holds_and_after_it_nothing_is_done_and_all_is_undone() {
    let place = place();
    let plan = place.plan(|ask| {
        on_unit(ask, UnitCall::ResetFailed);
        on_unit(ask, UnitCall::Start);
    });
    let now = std::cell::Cell::new(GuardTime(60_000));
    let clock = || now.get();
    let mut session = place.live_until(&plan, GuardTime(60_000), &clock);
    assert_eq!(on_unit(&mut |call| session.answer(call), UnitCall::ResetFailed), Reply::Done, "not late yet");
    now.set(GuardTime(60_001));
    let late = denied(on_unit(&mut |call| session.answer(call), UnitCall::Start));
    assert_eq!((late.cause, late.rule.as_str()), (DenialCause::OverBudget, "warrant.deadline"));
    now.set(GuardTime(0));
    assert_eq!(denied(on_unit(&mut |call| session.answer(call), UnitCall::Start)).rule, "run.ended");
    assert!(session.finish().must_undo());
    assert!(!place.units.is_up(), "the start came too late");
    let intents = place.entries().iter().filter(|entry| matches!(entry.record, Record::Intent { .. })).count();
    assert_eq!(intents, 1, "what comes too late has no intent either");
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
fn a_job_is_waited_for_as_long_as_the_grant_says() {
    let verbs = "\"stop\", \"restart\", \"reset-failed\", \"set-property\"]\n";
    for (line, seconds) in [("job_timeout = \"7s\"\n", 7), ("", 30)] {
        let place = place_with_line(verbs, &format!("{verbs}{line}"));
        place.both(|ask| {
            for verb in [UnitCall::Restart, UnitCall::Stop, UnitCall::Start] {
                assert_eq!(on_unit(ask, verb), Reply::Done);
            }
        });
        assert_eq!(*place.units.waits.lock().unwrap(), [std::time::Duration::from_secs(seconds); 3]);
    }
}

// SV10, SV13.
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
