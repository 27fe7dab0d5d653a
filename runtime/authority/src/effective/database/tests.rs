//! What a bound server admits, and that a suggestion allows exactly the call it was made for.

use proptest::prelude::*;
use theriac_model::database::{SessionId, SessionState};
use theriac_model::effect::{Effect, Observed};

use super::*;
use crate::effective::tests::{applied, bound, rule};

const MANIFEST: &str = r#"
[remedy]
name = "x"
version = "1.0.0"
serial = 1
summary = "s"
handles = ["db-connections-exhausted"]

[grants.databases.pool]
server = { from = "incident" }
verbs = ["sessions", "terminate-idle", "settings", "set"]
applications = ["shop", "reports"]
idle_for = "5m"
at_most = 20
settings.idle_in_transaction_session_timeout = { min = 10000, max = 600000 }
settings.statement_timeout = "read"
settings.wait_timeout = { min = 30, max = 600 }
why = "w"
"#;
const HOST: &str = r#"
[[database]]
name = "main"
kind = "postgres"
applications = ["shop", "mail"]
settings.idle_in_transaction_session_timeout = { min = 30000, max = 900000 }
"#;
const LOOKING: &str = r#"
[remedy]
name = "x"
version = "1.0.0"
serial = 1
summary = "s"
handles = ["db-connections-exhausted"]

[grants.databases.pool]
server = "main"
verbs = ["sessions"]
why = "w"
"#;
const LISTED: &str = "[[database]]\nname = \"main\"\nkind = \"postgres\"\n";

fn end(application: &str, older_than_s: u64, at_most: u32) -> DatabaseCall {
    DatabaseCall::TerminateIdle { older_than_s, application: application.into(), at_most }
}

fn set(setting: &str, value: i64) -> DatabaseCall {
    DatabaseCall::Set { setting: setting.into(), value }
}

const TIMEOUT: &str = "idle_in_transaction_session_timeout";

fn calls() -> Vec<DatabaseCall> {
    vec![
        DatabaseCall::Sessions,
        DatabaseCall::Settings,
        end("shop", 300, 20),
        end("shop", 299, 20),
        end("shop", 300, 21),
        end("reports", 300, 1),
        end("mail", 300, 1),
        end("o'ther \"one\"", 7, 3),
        set(TIMEOUT, 30_000),
        set(TIMEOUT, 10_000),
        set(TIMEOUT, 900_000),
        set("lock_timeout", 5),
    ]
}

fn admits(manifest: &str, host: &str, call: &DatabaseCall) -> Result<(), Denial> {
    bound(manifest, host, "pool:main").server("pool").and_then(|server| server.admits(call, 0))
}

#[test]
fn a_call_is_held_to_verbs_applications_idleness_amount_and_both_ranges() {
    for call in [
        DatabaseCall::Sessions,
        DatabaseCall::Settings,
        end("shop", 300, 20),
        end("shop", 86_400, 1),
        set(TIMEOUT, 30_000),
        set(TIMEOUT, 600_000),
    ] {
        assert!(admits(MANIFEST, HOST, &call).is_ok(), "{call:?}");
    }
    for (call, wanted) in [
        (end("mail", 300, 1), "applications"),
        (end("reports", 300, 1), "runner.database.applications"),
        (end("Shop", 300, 1), "applications"),
        (end("pg_dump", 300, 1), "applications"),
        (end("sh\u{1b}[2J", 300, 1), "applications"),
        (end("shop", 299, 1), "idle_for"),
        (end("shop", 300, 21), "at_most"),
        (end("shop", 300, u32::MAX), "at_most"),
        (set(TIMEOUT, 29_999), "runner.database.settings"),
        (set(TIMEOUT, 600_001), "settings"),
        (set(TIMEOUT, 9_999), "settings"),
        (set("statement_timeout", 1), "settings"),
        (set("wait_timeout", 60), "kind"),
        (set("fsync", 0), "settings"),
        (set("lock_timeout = 1; DROP TABLE x", 0), "settings"),
    ] {
        assert_eq!(rule(admits(MANIFEST, HOST, &call)), wanted, "{call:?}");
    }
}

#[test]
fn a_verb_needs_the_manifest() {
    assert!(admits(LOOKING, HOST, &DatabaseCall::Sessions).is_ok());
    for call in [DatabaseCall::Settings, end("shop", 300, 1), set(TIMEOUT, 30_000)] {
        assert_eq!(rule(admits(LOOKING, HOST, &call)), "verbs", "{call:?}");
    }
}

#[test]
fn sessions_are_counted_over_the_whole_run() {
    let effective = bound(MANIFEST, HOST, "pool:main");
    let server = effective.server("pool").unwrap();
    assert!(server.admits(&end("shop", 300, 5), 15).is_ok());
    let denial = server.admits(&end("shop", 300, 5), 16).unwrap_err();
    assert_eq!((denial.cause, denial.rule.as_str()), (DenialCause::OverBudget, "at_most"));
    assert_eq!(denial.suggestion.unwrap(), "remedy.toml: grants.databases.pool.at_most = 21");
}

#[test]
fn a_server_is_bound_by_its_name_or_the_incident_and_only_when_it_is_listed() {
    let of = |manifest: &str, host: &str, target: &str| {
        bound(manifest, host, target).server("pool").map(|_| ()).cloned_rule()
    };
    assert_eq!(of(MANIFEST, HOST, "pool:main"), None);
    assert_eq!(of(MANIFEST, HOST, "pool:other").as_deref(), Some("runner.database"));
    assert_eq!(of(MANIFEST, HOST, "host").as_deref(), Some("incident.database"));
    assert_eq!(of(LOOKING, HOST, "host"), None);
    assert_eq!(of(LOOKING, "", "host").as_deref(), Some("runner.database"));
}

trait Rule {
    fn cloned_rule(self) -> Option<String>;
}

impl Rule for Result<(), Denial> {
    fn cloned_rule(self) -> Option<String> {
        self.err().map(|denial| denial.rule)
    }
}

#[test]
fn what_is_only_listed_is_only_looked_at() {
    assert!(admits(MANIFEST, LISTED, &DatabaseCall::Sessions).is_ok());
    assert_eq!(rule(admits(MANIFEST, LISTED, &end("shop", 300, 1))), "runner.database.applications");
    assert_eq!(rule(admits(MANIFEST, LISTED, &set(TIMEOUT, 30_000))), "runner.database.settings");
    let operators =
        MANIFEST.replace("applications = [\"shop\", \"reports\"]", "applications = { from = \"operator\" }");
    assert!(admits(&operators, HOST, &end("mail", 300, 1)).is_ok(), "the operator's word is enough");
    assert_eq!(rule(admits(&operators, HOST, &end("reports", 300, 1))), "runner.database.applications");
}

#[test]
fn a_suggestion_allows_exactly_the_call_it_was_made_for() {
    for (manifest, host) in [(MANIFEST, HOST), (MANIFEST, LISTED), (LOOKING, HOST), (LOOKING, LISTED), (LOOKING, "")] {
        for call in calls() {
            let Err(denial) = admits(manifest, host, &call) else { continue };
            let (wider, left) = applied(&denial.suggestion.unwrap_or_else(|| panic!("{call:?}")), manifest, host);
            // A label that was bound by the first lines may need the lines of the call.
            let (wider, left) = match admits(&wider, &left, &call) {
                Ok(()) => (wider, left),
                Err(denial) => applied(&denial.suggestion.unwrap(), &wider, &left),
            };
            assert!(admits(&wider, &left, &call).is_ok(), "{call:?}: {wider}\n{left}");
            for other in
                [end("nobody", 300, 1), end("shop", 1, 1), set(TIMEOUT, i64::MAX), set("tcp_keepalives_idle", 1)]
            {
                assert!(admits(&wider, &left, &other).is_err(), "{call:?} also allowed {other:?}");
            }
        }
    }
}

fn planned(state: SessionState, undo: UndoClass, reproducible: bool) -> (PlannedEffect, DatabaseEffect) {
    let label = |text| Label::parse(text).unwrap();
    let effect = DatabaseEffect {
        label: label("pool"),
        database: label("main"),
        verb: DatabaseVerb::Terminate(Termination {
            session: SessionId { pid: 7, born: 1 },
            state,
            application: ApplicationName::parse("shop").unwrap(),
            older_than_s: 300,
        }),
    };
    let planned = PlannedEffect {
        effect: Effect::Database(effect.clone()),
        undo,
        guards: Vec::new(),
        before: Observed::Session(Some(state)),
        reproducible,
        risk: Permille::ZERO,
    };
    (planned, effect)
}

#[test]
fn what_a_plan_claims_of_a_session_counts_for_nothing() {
    let lost = || UndoClass::Irreversible { reason: "gone".into() };
    let effective = bound(MANIFEST, HOST, "pool:main");
    let server = effective.server("pool").unwrap();
    let asked = |state, undo, reproducible, ended| {
        let (planned, effect) = planned(state, undo, reproducible);
        server.admits_effect(&planned, &effect, ended).cloned_rule()
    };
    assert_eq!(asked(SessionState::Idle, lost(), false, 19), None);
    assert_eq!(asked(SessionState::IdleInTransaction, lost(), false, 0), None);
    assert_eq!(asked(SessionState::Idle, lost(), false, 20).as_deref(), Some("at_most"));
    assert_eq!(asked(SessionState::Active, lost(), false, 0).as_deref(), Some("state"));
    assert_eq!(asked(SessionState::Idle, UndoClass::Exact, false, 0).as_deref(), Some("undo"));
    assert_eq!(asked(SessionState::Idle, lost(), true, 0).as_deref(), Some("reproducible"));
    let (planned, mut effect) = planned(SessionState::Idle, lost(), false);
    effect.database = Label::parse("other").unwrap();
    assert_eq!(server.admits_effect(&planned, &effect, 0).cloned_rule().as_deref(), Some("identity"));
}

fn host_with(applications: &[&str], range: Option<(i64, i64)>) -> String {
    let range = range.map_or_else(String::new, |(min, max)| format!("settings.{TIMEOUT} = {}\n", range_line(min, max)));
    let applications = if applications.is_empty() {
        String::new()
    } else {
        format!("applications = {}\n", suggest::list(applications))
    };
    format!("{LISTED}{applications}{range}")
}

fn allowed(host: &str) -> std::collections::BTreeSet<String> {
    let server = bound(MANIFEST, host, "pool:main").server("pool").unwrap().clone();
    let calls = calls().into_iter().filter(|call| server.admits(call, 0).is_ok());
    calls.map(|call| format!("{call:?}")).collect()
}

/// Any call that a remedy could make.
fn any_call() -> impl Strategy<Value = DatabaseCall> {
    let names = proptest::sample::select(vec!["shop", "reports", "mail", "a b", "q\"uote'", "back\\slash"]);
    let settings = proptest::sample::select(Setting::ALL);
    prop_oneof![
        Just(DatabaseCall::Sessions),
        Just(DatabaseCall::Settings),
        (0..4_000_000_u64, names, 0..1500_u32).prop_map(|(older, name, most)| end(name, older, most)),
        (settings, any::<i64>()).prop_map(|(setting, value)| set(setting.as_str(), value)),
    ]
}

proptest! {
    #[test]
    fn less_configuration_never_allows_more(
        names in proptest::sample::subsequence(vec!["shop", "reports", "mail"], 0..=3),
        mask: u8,
        range in proptest::option::of((0_i64..500_000, 0_i64..500_000)),
        cut in 0_i64..200_000,
    ) {
        let range = range.map(|(min, more)| (min, min + more));
        let fewer: Vec<&str> =
            names.iter().enumerate().filter(|(at, _)| mask >> at & 1 == 1).map(|(_, name)| *name).collect();
        let narrower = range.map(|(min, max)| (min + cut, max)).filter(|(min, max)| min <= max);
        let (more, less) = (allowed(&host_with(&names, range)), allowed(&host_with(&fewer, narrower)));
        prop_assert!(less.is_subset(&more), "{less:?} {more:?}");
    }

    #[test]
    fn every_suggestion_allows_its_call_and_without_one_no_line_could(call in any_call(), looking: bool, listed: bool) {
        let (manifest, host) = (if looking { LOOKING } else { MANIFEST }, if listed { LISTED } else { HOST });
        let Err(denial) = admits(manifest, host, &call) else { return Ok(()) };
        match denial.suggestion {
            Some(line) => {
                let (wider, left) = applied(&line, manifest, host);
                prop_assert!(admits(&wider, &left, &call).is_ok(), "{call:?} after {line}");
            }
            None => {
                let beyond = match &call {
                    DatabaseCall::TerminateIdle { older_than_s, at_most, .. } => *older_than_s < 1 || *at_most > MAX_ENDED,
                    DatabaseCall::Set { setting, .. } => {
                        Setting::named(setting).is_none_or(|setting| setting.kind() != DatabaseKind::Postgres)
                    }
                    DatabaseCall::Sessions | DatabaseCall::Settings => false,
                };
                prop_assert!(beyond, "{call:?}");
            }
        }
    }
}
