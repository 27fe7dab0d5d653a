//! Sessions and settings, with a hand that keeps a pool in memory. Real servers are asked in the courier's own tests.

use std::sync::{Arc, Mutex, MutexGuard};

use theriac_model::call::{Call, Interface, Reply};
use theriac_model::database::{
    DatabaseCall, DatabaseUsage, Protected, Session, SessionId, SessionState, Sessions, Setting, SettingChange,
    SettingGoal, SettingInfo, SettingState, StoredValue, Termination,
};
use theriac_model::denial::DenialCause;
use theriac_model::effect::{Observed, UndoClass, UndoOutcome};
use theriac_model::id::Label;
use theriac_model::plan::Plan;
use theriac_model::record::Record;

use super::world::*;
use crate::hands::{Databases, HandError};
use crate::recover::{Happened, observe};
use crate::undo::Intent;

const GRANTS: &str = r#"
[grants.databases.pool]
server = "main"
verbs = ["sessions", "terminate-idle", "settings", "set"]
applications = ["shop"]
idle_for = "1m"
at_most = 3
settings.idle_in_transaction_session_timeout = { min = 10000, max = 60000 }
settings.lock_timeout = "read"
why = "tests"
"#;
const HOST: &str = r#"
[[database]]
name = "main"
kind = "postgres"
applications = ["shop"]
settings.idle_in_transaction_session_timeout = { min = 10000, max = 60000 }
"#;
const TIMEOUT: Setting = Setting::IdleInTransactionSessionTimeout;

#[derive(Debug)]
struct Pool {
    sessions: Vec<Session>,
    setting: SettingState,
    /// What is answered to the next change, in place of making it.
    fails: Option<HandError>,
}

#[derive(Debug)]
struct Hand(Mutex<Pool>);

impl Hand {
    fn pool(&self) -> MutexGuard<'_, Pool> {
        self.0.lock().unwrap()
    }

    fn pids(&self) -> Vec<u64> {
        self.pool().sessions.iter().map(|session| session.id.pid).collect()
    }
}

impl Databases for Hand {
    fn sessions(&self, database: &Label) -> Result<Sessions, HandError> {
        assert_eq!(database.as_str(), "main");
        let sessions = self.pool().sessions.clone();
        Ok(Sessions { max: 10, reserved: 3, used: u32::try_from(sessions.len()).unwrap(), sessions })
    }

    fn settings(&self, _: &Label, settings: &[Setting]) -> Result<Vec<(Setting, SettingState)>, HandError> {
        let state = self.pool().setting.clone();
        Ok(settings.iter().filter(|setting| **setting == TIMEOUT).map(|setting| (*setting, state.clone())).collect())
    }

    fn terminate(&self, _: &Label, wanted: &Termination) -> Result<(), HandError> {
        let mut pool = self.pool();
        if let Some(error) = pool.fails.take() {
            return Err(error);
        }
        let same = |session: &Session| session.id == wanted.session && session.state == wanted.state;
        let at = pool.sessions.iter().position(same).ok_or(HandError::Stale { reason: "gone".into() })?;
        pool.sessions.remove(at);
        Ok(())
    }

    fn set(&self, _: &Label, change: &SettingChange) -> Result<SettingState, HandError> {
        let mut pool = self.pool();
        if let Some(error) = pool.fails.take() {
            return Err(error);
        }
        if !pool.setting.is_as(&change.expected) {
            return Err(HandError::Stale { reason: "changed".into() });
        }
        pool.setting = match &change.goal {
            SettingGoal::Value(value) => SettingState { value: *value, stored: Some(StoredValue::number(*value)) },
            SettingGoal::Back(before) => before.clone(),
        };
        Ok(pool.setting.clone())
    }
}

fn session(pid: u64, state: SessionState, application: &str, for_s: u64) -> Session {
    let id = SessionId { pid, born: 1 };
    Session { id, state, application: application.into(), for_s, protected: None }
}

/// Longest in their state first, as the courier lists them.
fn crowd() -> Vec<Session> {
    use SessionState::{Active, Idle, IdleInTransaction};
    vec![
        Session { protected: Some(Protected::Administrator), ..session(1, Idle, "shop", 900) },
        session(2, Idle, "shop", 500),
        session(3, IdleInTransaction, "shop", 400),
        session(4, Active, "shop", 300),
        session(5, Idle, "mail", 200),
        session(6, Idle, "shop", 100),
        session(7, Idle, "shop", 90),
        session(8, Idle, "shop", 59),
    ]
}

fn with_hand() -> (Place, Arc<Hand>) {
    let mut place = place_granting(GRANTS, HOST);
    let setting = SettingState { value: 0, stored: None };
    let hand = Arc::new(Hand(Mutex::new(Pool { sessions: crowd(), setting, fails: None })));
    place.world.hands.databases = Some(Arc::clone(&hand) as Arc<dyn Databases>);
    (place, hand)
}

fn ask_for(ask: Ask<'_>, verb: DatabaseCall) -> Reply {
    let handle = open(ask, Interface::Databases, "pool");
    ask(Call::Database { handle, verb })
}

fn end(older_than_s: u64, application: &str, at_most: u32) -> DatabaseCall {
    DatabaseCall::TerminateIdle { older_than_s, application: application.into(), at_most }
}

fn set(value: i64) -> DatabaseCall {
    DatabaseCall::Set { setting: TIMEOUT.to_string(), value }
}

fn usage(reply: Reply) -> DatabaseUsage {
    let Reply::Database(usage) = reply else { panic!("{reply:?}") };
    usage
}

fn planned(place: &Place, verb: DatabaseCall) -> Plan {
    place.plan(|ask| drop(ask_for(ask, verb.clone())))
}

/// The live run of one call.
fn live(place: &Place, plan: &Plan, verb: DatabaseCall) -> (Reply, crate::session::LiveEnd) {
    let mut session = place.live(plan);
    let reply = ask_for(&mut |call| crate::session::Host::answer(&mut session, call), verb);
    (reply, session.finish())
}

#[test]
fn sessions_are_counted_by_state_and_application_and_no_query_is_among_it() {
    let (place, _) = with_hand();
    place.plan(|ask| {
        let seen = usage(ask_for(ask, DatabaseCall::Sessions));
        assert_eq!((seen.used, seen.max, seen.reserved, seen.assumed), (8, 10, 3, false));
        assert_eq!(seen.by_application, [("shop".to_owned(), 7), ("mail".to_owned(), 1)]);
        let counts: Vec<u32> = seen.by_state.iter().map(|(_, count)| *count).collect();
        assert_eq!(counts, [1, 6, 1, 0]);
        assert_eq!(seen.oldest_idle_in_transaction_s, Some(400));
    });
}

#[test]
fn idle_sessions_of_one_application_are_ended_longest_first_and_at_most_that_many() {
    let (place, hand) = with_hand();
    let done = place.both(|ask| assert_eq!(ask_for(ask, end(60, "shop", 3)), Reply::Count(3)));
    assert!(!done.must_undo(), "{done:?}");
    assert_eq!(hand.pids(), [1, 4, 5, 7, 8], "neither an administrator's, nor one that works, nor another's");
    assert!(place.undo().iter().all(|outcome| matches!(outcome, UndoOutcome::Impossible { .. })));
}

#[test]
fn each_session_is_an_effect_of_the_plan_and_a_dry_run_ends_none() {
    let (place, hand) = with_hand();
    let plan = place.plan(|ask| {
        assert_eq!(ask_for(ask, end(60, "shop", 2)), Reply::Count(2));
        let seen = usage(ask_for(ask, DatabaseCall::Sessions));
        assert_eq!((seen.used, seen.assumed, seen.oldest_idle_in_transaction_s), (6, true, None));
        assert_eq!(ask_for(ask, end(60, "shop", 1)), Reply::Count(1), "the next one: those two are gone");
    });
    assert_eq!(hand.pids().len(), 8);
    let shown: Vec<String> = plan.effects.iter().map(|planned| planned.effect.to_string()).collect();
    assert_eq!(
        shown,
        [
            "end session 2 of `shop` at main, idle for 60 s or more",
            "end session 3 of `shop` at main, idle in transaction for 60 s or more",
            "end session 6 of `shop` at main, idle for 60 s or more",
        ]
    );
    assert_eq!(plan.effects[0].before, Observed::Session(Some(SessionState::Idle)));
    assert!(plan.effects.iter().all(|planned| matches!(planned.undo, UndoClass::Irreversible { .. })));
}

#[test]
fn what_the_grant_does_not_say_is_denied() {
    let (place, hand) = with_hand();
    place.both(|ask| {
        assert_eq!(denied(ask_for(ask, end(60, "mail", 1))).rule, "applications");
        assert_eq!(denied(ask_for(ask, end(59, "shop", 1))).rule, "idle_for");
        assert_eq!(denied(ask_for(ask, end(60, "shop", 4))).rule, "at_most");
        assert_eq!(denied(ask_for(ask, set(9_999))).rule, "settings");
        let other = DatabaseCall::Set { setting: "lock_timeout".into(), value: 1 };
        assert_eq!(denied(ask_for(ask, other)).rule, "settings");
    });
    assert_eq!(hand.pids().len(), 8);
}

#[test]
fn the_bound_holds_over_all_calls_of_a_run() {
    let (place, hand) = with_hand();
    place.both(|ask| {
        assert_eq!(ask_for(ask, end(60, "shop", 2)), Reply::Count(2));
        assert_eq!(denied(ask_for(ask, end(60, "shop", 2))).cause, DenialCause::OverBudget);
        assert_eq!(ask_for(ask, end(60, "shop", 1)), Reply::Count(1));
    });
    assert_eq!(hand.pids().len(), 5);
}

#[test]
fn a_session_that_works_again_or_came_since_is_left_alone() {
    let (place, hand) = with_hand();
    let plan = planned(&place, end(60, "shop", 3));
    {
        let mut pool = hand.pool();
        pool.sessions[1].state = SessionState::Active;
        pool.sessions[2].id.born = 2;
        pool.sessions.insert(1, session(9, SessionState::Idle, "shop", 700));
    }
    let (reply, done) = live(&place, &plan, end(60, "shop", 3));
    assert_eq!(reply, Reply::Count(1));
    assert!(!done.must_undo(), "{done:?}");
    assert_eq!(hand.pids(), [1, 9, 2, 3, 4, 5, 7, 8], "6 was planned and still waits");
}

#[test]
fn sessions_of_an_application_that_no_plan_names_are_off_plan() {
    let (place, hand) = with_hand();
    let plan = planned(&place, set(20_000));
    let (reply, done) = live(&place, &plan, end(60, "shop", 1));
    assert_eq!(denied(reply).rule, "plan.effects");
    assert!(done.must_undo());
    assert_eq!(hand.pids().len(), 8);
}

#[test]
fn one_that_changes_in_the_last_moment_is_stale_and_stays() {
    let (place, hand) = with_hand();
    let plan = planned(&place, end(60, "shop", 1));
    hand.pool().fails = Some(HandError::Stale { reason: "it works again".into() });
    let (reply, _) = live(&place, &plan, end(60, "shop", 1));
    assert_eq!(denied(reply).cause, DenialCause::StaleTarget);
    assert_eq!(hand.pids().len(), 8);
}

#[test]
fn an_end_that_nobody_saw_is_observed_afterwards() {
    let (place, hand) = with_hand();
    let plan = planned(&place, end(60, "shop", 1));
    hand.pool().fails = Some(HandError::Unknown { reason: "the connection broke".into() });
    let (_, done) = live(&place, &plan, end(60, "shop", 1));
    assert!(done.must_undo());
    let entries = place.entries();
    let intent = entries.iter().find_map(|entry| Intent::of(&entry.record)).unwrap();
    assert_eq!(observe(&place.world, &intent), Happened::No, "it is there");
    hand.pool().sessions.retain(|session| session.id.pid != 2);
    assert_eq!(observe(&place.world, &intent), Happened::Yes(Observed::Session(None)));
}

#[test]
fn a_setting_is_set_within_its_range_and_put_back_twice() {
    let (place, hand) = with_hand();
    let before = hand.pool().setting.clone();
    let done = place.both(|ask| {
        assert_eq!(ask_for(ask, set(20_000)), Reply::Done);
        let Reply::Settings(found) = ask_for(ask, DatabaseCall::Settings) else { panic!() };
        assert_eq!(found.iter().map(|info| (info.setting, info.value)).collect::<Vec<_>>(), [(TIMEOUT, 20_000)]);
    });
    assert!(!done.must_undo(), "{done:?}");
    assert_eq!(hand.pool().setting.value, 20_000);
    assert_eq!(place.undo(), [UndoOutcome::Restored]);
    assert_eq!(hand.pool().setting, before);
    assert_eq!(place.undo(), [UndoOutcome::Restored], "twice is harmless");
}

#[test]
fn a_dry_run_sets_nothing_and_reads_what_it_assumes() {
    let (place, hand) = with_hand();
    let plan = place.plan(|ask| {
        let info = |value, assumed| Reply::Settings(vec![SettingInfo { setting: TIMEOUT, value, assumed }]);
        assert_eq!(ask_for(ask, DatabaseCall::Settings), info(0, false));
        assert_eq!(ask_for(ask, set(20_000)), Reply::Done);
        assert_eq!(ask_for(ask, DatabaseCall::Settings), info(20_000, true));
    });
    assert_eq!(hand.pool().setting.value, 0);
    assert_eq!(plan.effects[0].undo, UndoClass::Exact);
}

#[test]
fn what_somebody_else_has_set_since_is_left_alone() {
    let (place, hand) = with_hand();
    place.both(|ask| drop(ask_for(ask, set(20_000))));
    hand.pool().setting = SettingState { value: 5000, stored: Some(StoredValue::parse("5s").unwrap()) };
    assert!(matches!(place.undo()[..], [UndoOutcome::ChangedSince { .. }]));
    assert_eq!(hand.pool().setting.value, 5000);
}

#[test]
fn a_setting_that_changed_between_plan_and_run_is_a_conflict_only_within_the_run() {
    let (place, hand) = with_hand();
    let plan = planned(&place, set(20_000));
    hand.pool().setting.value = 77;
    let (reply, _) = live(&place, &plan, set(20_000));
    assert_eq!(reply, Reply::Done, "the plan is about what it becomes");
    assert_eq!(place.undo(), [UndoOutcome::Restored]);
    assert_eq!(hand.pool().setting.value, 77, "and back goes what was there");
}

#[test]
fn after_a_crash_the_server_says_whether_it_was_set() {
    let (place, hand) = with_hand();
    place.both(|ask| drop(ask_for(ask, set(20_000))));
    let entries = place.without_outcomes();
    let intent = entries.iter().find_map(|entry| Intent::of(&entry.record)).unwrap();
    let after = hand.pool().setting.clone();
    assert_eq!(observe(&place.world, &intent), Happened::Yes(Observed::Setting(after)));
    hand.pool().setting = SettingState { value: 0, stored: None };
    assert_eq!(observe(&place.world, &intent), Happened::No);
    hand.pool().setting = SettingState { value: 3, stored: Some(StoredValue::number(3)) };
    assert!(matches!(observe(&place.world, &intent), Happened::Unknown { .. }));
    assert!(entries.iter().any(|entry| matches!(entry.record, Record::Intent { .. })));
}

#[test]
fn without_a_courier_the_server_is_unavailable() {
    let place = place_granting(GRANTS, HOST);
    place.plan(|ask| {
        for verb in [DatabaseCall::Sessions, DatabaseCall::Settings, end(60, "shop", 1), set(20_000)] {
            assert_eq!(denied(ask_for(ask, verb)).rule, "courier");
        }
    });
}
