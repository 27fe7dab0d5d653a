//! Containers, with an engine that is a table. A real engine is asked by the courier's own tests.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use theriac_model::call::{Call, Interface, Reply};
use theriac_model::container::{
    ContainerCall, ContainerHealth, ContainerId, ContainerInfo, ContainerName, ContainerRef, ContainerSelector,
    ContainerState, ContainerVerb, Incarnation, RestartPolicy, RunState,
};
use theriac_model::denial::DenialCause;
use theriac_model::effect::{Effect, UndoClass, UndoOutcome};
use theriac_model::plan::Guard;
use theriac_model::record::{Entry, Record};
use theriac_model::verdict::Verdict;

use super::world::*;
use crate::hands::{Containers, HandError};
use crate::recover::{Happened, observe};
use crate::session::{Host as _, LiveEnd};
use crate::undo::Intent;

const GRANTS: &str = r#"
[grants.containers.api]
container = "shop-api"
verbs = ["inspect", "log-tail", "start", "stop", "restart"]
job_timeout = "20s"
why = "tests"
"#;
const HOST: &str = r#"
[[container]]
label = "api"
name = "shop-api"
verbs = ["start", "stop", "restart"]
traffic_share = 0.1
"#;

fn id(digit: &str) -> ContainerId {
    ContainerId::parse(&digit.repeat(64)).unwrap()
}

/// An engine with one container.
struct Engine {
    state: Mutex<ContainerState>,
    /// What was changed, by which reference.
    changes: Mutex<Vec<(ContainerVerb, ContainerRef, Duration)>>,
    /// What comes of the next change in place of the change itself.
    answer: Mutex<Option<HandError>>,
}

impl Engine {
    fn new() -> Self {
        Self {
            state: Mutex::new(ContainerState {
                id: id("a"),
                name: ContainerName::parse("shop-api").unwrap(),
                run: RunState::Running,
                health: ContainerHealth::Unhealthy,
                failing_streak: 7,
                restarts: 0,
                exit_code: 0,
                oom_killed: false,
                started: "t1".into(),
                since_ms: Some(5_000),
                policy: RestartPolicy::Always,
            }),
            changes: Mutex::default(),
            answer: Mutex::default(),
        }
    }

    fn set(&self, change: impl FnOnce(&mut ContainerState)) {
        change(&mut self.state.lock().unwrap());
    }

    fn verbs(&self) -> Vec<&'static str> {
        self.changes.lock().unwrap().iter().map(|(verb, ..)| verb.as_str()).collect()
    }

    fn run(&self) -> RunState {
        self.state.lock().unwrap().run
    }

    /// A start by hand, whoever's: a new time, and the count begins anew.
    fn started_by_hand(state: &mut ContainerState) {
        let next = state.started.trim_start_matches('t').parse::<u32>().unwrap() + 1;
        state.started = format!("t{next}");
        state.run = RunState::Running;
        state.restarts = 0;
        state.health = ContainerHealth::Healthy;
    }

    /// It ends, and the engine starts it again.
    fn restarted_by_the_engine(state: &mut ContainerState) {
        let restarts = state.restarts + 1;
        Self::started_by_hand(state);
        state.restarts = restarts;
    }

    fn stopped(state: &mut ContainerState) {
        state.run = RunState::Exited;
        state.exit_code = 143;
    }
}

impl Containers for Engine {
    fn find(&self, selector: &ContainerSelector) -> Result<ContainerState, HandError> {
        let state = self.state.lock().unwrap().clone();
        match selector {
            ContainerSelector::Name(name) if *name == state.name => Ok(state),
            ContainerSelector::Name(_) | ContainerSelector::Label(_) => {
                Err(HandError::Stale { reason: format!("no {selector}") })
            }
        }
    }

    fn change(
        &self,
        container: &ContainerRef,
        verb: ContainerVerb,
        timeout: Duration,
    ) -> Result<ContainerState, HandError> {
        let mut state = self.state.lock().unwrap();
        if !container.is(&state) {
            return Err(HandError::Stale { reason: "another life".into() });
        }
        self.changes.lock().unwrap().push((verb, container.clone(), timeout));
        if let Some(error) = self.answer.lock().unwrap().take() {
            return Err(error);
        }
        match verb {
            ContainerVerb::Start if state.is_up() => {}
            ContainerVerb::Start | ContainerVerb::Restart => Self::started_by_hand(&mut state),
            ContainerVerb::Stop => Self::stopped(&mut state),
        }
        Ok(state.clone())
    }

    fn log_tail(&self, asked: &ContainerId, lines: u32) -> Result<Vec<String>, HandError> {
        Ok((0..lines.min(3)).map(|line| format!("{} line {line}", asked.short())).collect())
    }
}

fn with_engine() -> (Place, Arc<Engine>) {
    with_engine_and(GRANTS, HOST)
}

fn with_engine_and(grants: &str, host: &str) -> (Place, Arc<Engine>) {
    let mut place = place_granting(grants, host);
    let engine = Arc::new(Engine::new());
    place.world.hands.containers = Some(Arc::clone(&engine) as Arc<dyn Containers>);
    (place, engine)
}

fn ask_for(ask: Ask<'_>, verb: ContainerCall) -> Reply {
    let handle = open(ask, Interface::Containers, "api");
    ask(Call::Container { handle, verb })
}

fn inspect(ask: Ask<'_>) -> ContainerInfo {
    match ask_for(ask, ContainerCall::Inspect) {
        Reply::Container(info) => info,
        other => panic!("{other:?}"),
    }
}

fn live_after(place: &Place, call: ContainerCall, between: impl FnOnce()) -> (Reply, LiveEnd) {
    let plan = place.plan(|ask| drop(ask_for(ask, call)));
    between();
    let mut session = place.live(&plan);
    let reply = ask_for(&mut |call| session.answer(call), call);
    (reply, session.finish())
}

fn happened(place: &Place, entries: &[Entry]) -> Happened {
    let intent = entries.iter().find(|entry| matches!(entry.record, Record::Intent { .. })).unwrap();
    observe(&place.world, &Intent::of(&intent.record).unwrap())
}

#[test]
fn a_dry_run_looks_changes_nothing_and_reads_what_it_assumes() {
    let (place, engine) = with_engine();
    let plan = place.plan(|ask| {
        let info = inspect(ask);
        assert_eq!((info.run, info.health, info.failing_streak), (RunState::Running, ContainerHealth::Unhealthy, 7));
        assert_eq!((info.since_s, info.exit_code, info.assumed), (Some(5), None, false));
        assert_eq!(ask_for(ask, ContainerCall::Restart), Reply::Done);
        let info = inspect(ask);
        assert_eq!((info.run, info.health, info.since_s), (RunState::Running, ContainerHealth::Healthy, Some(0)));
        assert!(info.assumed);
    });
    assert!(engine.verbs().is_empty());
    let planned = &plan.effects[0];
    assert!(matches!(&planned.effect, Effect::Container(effect) if effect.container == ContainerRef {
        id: id("a"),
        incarnation: Incarnation::Started("t1".into()),
    }));
    assert_eq!(planned.undo, UndoClass::Compensated { inverse: "start, if it does not run".into() });
    assert_eq!(planned.guards, [Guard::SameContainer, Guard::NotStoppedOnPurpose, Guard::NotRestartingItself]);
    assert_eq!(planned.effect.to_string(), "restart container shop-api (aaaaaaaaaaaa)");
}

#[test]
fn a_restart_is_done_once_by_its_full_id_within_the_grants_time() {
    let (place, engine) = with_engine();
    let done = place.both(|ask| assert_eq!(ask_for(ask, ContainerCall::Restart), Reply::Done));
    assert!(!done.must_undo(), "{done:?}");
    let changes = engine.changes.lock().unwrap().clone();
    let meant = ContainerRef { id: id("a"), incarnation: Incarnation::Started("t1".into()) };
    assert_eq!(changes, [(ContainerVerb::Restart, meant, Duration::from_secs(20))]);
    assert!(matches!(place.undo()[..], [UndoOutcome::NotNeeded { .. }]), "it runs");
}

#[test]
fn output_is_read_and_a_verb_that_is_not_granted_is_denied_with_its_line() {
    let narrow = GRANTS
        .replace(r#""log-tail", "start", "stop", "restart""#, r#""log-tail""#)
        .replace("job_timeout = \"20s\"\n", "");
    let (place, engine) = with_engine_and(&narrow, HOST);
    place.both(|ask| {
        assert_eq!(ask_for(ask, ContainerCall::LogTail { lines: 1 }), Reply::Lines(vec!["aaaaaaaaaaaa line 0".into()]));
        let denial = denied(ask_for(ask, ContainerCall::Stop));
        assert_eq!((denial.cause, denial.rule.as_str()), (DenialCause::NotGranted, "verbs"));
        assert!(
            denial.suggestion.unwrap().contains("grants.containers.api.verbs = [\"inspect\", \"log-tail\", \"stop\"]")
        );
    });
    assert!(engine.verbs().is_empty());
    let (place, engine) = with_engine_and(GRANTS, &HOST.replace("verbs = [\"start\", \"stop\", \"restart\"]\n", ""));
    place.both(|ask| assert_eq!(denied(ask_for(ask, ContainerCall::Stop)).rule, "runner.container.verbs"));
    assert!(engine.verbs().is_empty());
}

#[test]
fn without_a_courier_the_container_is_unavailable() {
    let place = place_granting(GRANTS, HOST);
    place.plan(|ask| {
        for call in [ContainerCall::Inspect, ContainerCall::LogTail { lines: 1 }, ContainerCall::Restart] {
            let denial = denied(ask_for(ask, call));
            assert_eq!((denial.cause, denial.rule.as_str()), (DenialCause::Unavailable, "courier"));
        }
    });
}

#[test]
fn a_container_that_took_the_name_since_the_plan_is_not_touched() {
    let (place, engine) = with_engine();
    let (reply, end) = live_after(&place, ContainerCall::Restart, || engine.set(|state| state.id = id("b")));
    // Another id is another effect: it is off the plan before it is looked at any further.
    assert_eq!(denied(reply).rule, "plan.effects");
    assert!(engine.verbs().is_empty() && end.must_undo());
}

#[test]
fn a_container_that_was_started_anew_since_this_run_looked_is_stale() {
    let (place, engine) = with_engine();
    let plan = place.plan(|ask| {
        ask_for(ask, ContainerCall::Restart);
        ask_for(ask, ContainerCall::Stop);
    });
    let mut session = place.live(&plan);
    let mut ask = |call| session.answer(call);
    assert_eq!(ask_for(&mut ask, ContainerCall::Restart), Reply::Done);
    engine.set(Engine::started_by_hand);
    let denial = denied(ask_for(&mut ask, ContainerCall::Stop));
    assert_eq!((denial.cause, denial.rule.as_str()), (DenialCause::StaleTarget, "container"));
    assert_eq!(engine.verbs(), ["restart"]);
}

#[test]
fn a_second_verb_goes_by_what_the_first_one_left() {
    let (place, engine) = with_engine();
    let done = place.both(|ask| {
        assert_eq!(ask_for(ask, ContainerCall::Stop), Reply::Done);
        assert_eq!(ask_for(ask, ContainerCall::Start), Reply::Done);
    });
    assert!(!done.must_undo(), "{done:?}");
    assert_eq!((engine.verbs(), engine.run()), (vec!["stop", "start"], RunState::Running));
}

#[test]
fn what_somebody_stopped_stays_stopped_and_what_failed_is_started() {
    let (place, engine) = with_engine();
    engine.set(Engine::stopped);
    place.plan(|ask| {
        for call in [ContainerCall::Start, ContainerCall::Restart] {
            let denial = denied(ask_for(ask, call));
            assert_eq!((denial.cause, denial.rule.as_str()), (DenialCause::Conflict, "stopped-on-purpose"));
        }
        assert!(inspect(ask).stopped_on_purpose);
    });
    engine.set(|state| state.policy = RestartPolicy::No);
    place.both(|ask| assert_eq!(ask_for(ask, ContainerCall::Start), Reply::Done));
    assert_eq!(engine.verbs(), ["start"]);
}

#[test]
fn what_the_engine_is_about_to_restart_is_left_to_it_and_a_loop_can_be_stopped() {
    let (place, engine) = with_engine();
    engine.set(|state| {
        state.run = RunState::Restarting;
        state.restarts = 4;
    });
    let plan = place.plan(|ask| {
        assert_eq!(denied(ask_for(ask, ContainerCall::Restart)).rule, "restarting-itself");
        assert!(inspect(ask).will_restart);
        assert_eq!(ask_for(ask, ContainerCall::Stop), Reply::Done);
        let info = inspect(ask);
        assert!(info.run == RunState::Exited && !info.will_restart && info.assumed);
    });
    // It was started twice more while somebody read the plan: the same container, the same loop.
    engine.set(Engine::restarted_by_the_engine);
    engine.set(Engine::restarted_by_the_engine);
    let mut session = place.live(&plan);
    assert_eq!(ask_for(&mut |call| session.answer(call), ContainerCall::Stop), Reply::Done);
    assert!(!session.finish().must_undo());
    assert_eq!(engine.verbs(), ["stop"]);
}

#[test]
fn a_loop_that_a_person_ended_is_another_life() {
    let (place, engine) = with_engine();
    engine.set(|state| {
        state.run = RunState::Restarting;
        state.restarts = 4;
    });
    let (reply, _) = live_after(&place, ContainerCall::Stop, || engine.set(Engine::started_by_hand));
    assert_eq!(denied(reply).rule, "plan.effects");
    assert!(engine.verbs().is_empty());
}

#[test]
fn a_stop_is_undone_by_a_start_and_twice_is_harmless() {
    let (place, engine) = with_engine();
    place.both(|ask| assert_eq!(ask_for(ask, ContainerCall::Stop), Reply::Done));
    assert_eq!(place.undo(), [UndoOutcome::Restored]);
    assert_eq!(engine.run(), RunState::Running);
    assert_eq!(place.undo(), [UndoOutcome::Restored], "as it was reported");
    assert_eq!(engine.verbs(), ["stop", "start"]);
}

#[test]
fn an_undo_leaves_alone_what_somebody_else_did_since() {
    // Started again by hand: nothing to do.
    let (place, engine) = with_engine();
    place.both(|ask| drop(ask_for(ask, ContainerCall::Stop)));
    engine.set(Engine::started_by_hand);
    assert!(matches!(place.undo()[..], [UndoOutcome::NotNeeded { .. }]));
    // Started and stopped by hand: theirs.
    let (place, engine) = with_engine();
    place.both(|ask| drop(ask_for(ask, ContainerCall::Stop)));
    engine.set(Engine::started_by_hand);
    engine.set(Engine::stopped);
    assert!(matches!(place.undo()[..], [UndoOutcome::ChangedSince { .. }]));
    // Another container has the name.
    let (place, engine) = with_engine();
    place.both(|ask| drop(ask_for(ask, ContainerCall::Stop)));
    engine.set(|state| state.id = id("b"));
    assert!(matches!(place.undo()[..], [UndoOutcome::ChangedSince { .. }]));
    assert_eq!(engine.verbs(), ["stop"]);
}

#[test]
fn a_start_is_taken_back_only_when_it_made_things_worse() {
    let started = || {
        let (place, engine) = with_engine();
        engine.set(|state| {
            Engine::stopped(state);
            state.policy = RestartPolicy::No;
        });
        place.both(|ask| assert_eq!(ask_for(ask, ContainerCall::Start), Reply::Done));
        (place, engine)
    };
    let (place, engine) = started();
    assert!(matches!(place.undo_with(&place.entries(), Verdict::NotImproved)[..], [UndoOutcome::NotNeeded { .. }]));
    assert_eq!(engine.run(), RunState::Running);
    let (place, engine) = started();
    assert_eq!(place.undo_with(&place.entries(), Verdict::Worse), [UndoOutcome::Restored]);
    assert_eq!(engine.run(), RunState::Exited);
    let (place, engine) = started();
    engine.set(Engine::started_by_hand);
    assert!(matches!(place.undo_with(&place.entries(), Verdict::Worse)[..], [UndoOutcome::ChangedSince { .. }]));
    assert_eq!(engine.run(), RunState::Running);
}

#[test]
fn after_a_crash_the_engine_says_whether_it_happened() {
    let (place, engine) = with_engine();
    place.both(|ask| assert_eq!(ask_for(ask, ContainerCall::Restart), Reply::Done));
    let entries = place.without_outcomes();
    assert!(matches!(happened(&place, &entries), Happened::Yes(_)));
    engine.set(|state| state.started = "t1".into());
    assert_eq!(happened(&place, &entries), Happened::No);
    engine.set(Engine::restarted_by_the_engine);
    assert!(matches!(happened(&place, &entries), Happened::Unknown { .. }), "that was not us");
    engine.set(|state| state.id = id("b"));
    assert!(matches!(happened(&place, &entries), Happened::Unknown { .. }));

    let (place, engine) = with_engine();
    place.both(|ask| assert_eq!(ask_for(ask, ContainerCall::Stop), Reply::Done));
    let entries = place.without_outcomes();
    assert!(matches!(happened(&place, &entries), Happened::Yes(_)));
    assert_eq!(place.undo_with(&entries, Verdict::Unknown), [UndoOutcome::Restored], "the runner comes back");
    assert_eq!(engine.run(), RunState::Running);
}

#[test]
fn an_answer_that_did_not_come_ends_the_run_and_the_world_is_asked() {
    let (place, engine) = with_engine();
    *engine.answer.lock().unwrap() = Some(HandError::Unknown { reason: "no answer".into() });
    let done = place.both(|ask| {
        ask_for(ask, ContainerCall::Stop);
    });
    assert!(done.must_undo());
    // It had not happened: it still runs in the same life.
    assert!(matches!(place.undo()[..], [UndoOutcome::NotNeeded { .. }]));
    assert_eq!((engine.verbs(), engine.run()), (vec!["stop"], RunState::Running));
}

#[test]
fn a_person_who_comes_between_the_last_look_and_the_change_wins() {
    let (place, engine) = with_engine();
    *engine.answer.lock().unwrap() = Some(HandError::Stale { reason: "started anew".into() });
    let plan = place.plan(|ask| drop(ask_for(ask, ContainerCall::Restart)));
    let mut session = place.live(&plan);
    let denial = denied(ask_for(&mut |call| session.answer(call), ContainerCall::Restart));
    assert_eq!((denial.cause, denial.rule.as_str()), (DenialCause::StaleTarget, "container"));
    assert!(session.finish().must_undo());
    assert!(matches!(place.undo()[..], [UndoOutcome::NotNeeded { .. }]), "nothing was changed");
}
