use expect_test::{Expect, expect};
use serde_json::json;

use super::super::case::Times;
use super::*;

fn moved(state: &str) -> Value {
    json!({"seq": 1, "record": {"moved": {"run": "r1-1", "event": "x", "state": state, "reason": ""}}})
}

fn verified(phase: &str, verdict: &str) -> Value {
    json!({"record": {"verified": {"run": "r1-1", "phase": phase, "verdict": verdict, "summary": ""}}})
}

fn record(state: &str, records: Vec<Value>) -> Value {
    json!({"incident": {"state": state, "diagnosis": {}}, "records": records})
}

fn planned() -> Value {
    json!({"record": {"planned": {"run": "r1-1"}}})
}

#[test]
fn a_terminal_is_redrawn_in_colour_unless_it_or_its_user_says_otherwise() {
    let of = |terminal, term: Option<&str>, no_color: Option<&str>| {
        Style::of(terminal, term.map(OsStr::new), no_color.map(OsStr::new))
    };
    assert_eq!(of(true, Some("xterm-256color"), None), Style::Live { colour: true });
    assert_eq!(of(true, Some("xterm"), Some("")), Style::Live { colour: true });
    assert_eq!(of(true, Some("xterm"), Some("1")), Style::Live { colour: false });
    assert_eq!(of(true, Some("dumb"), None), Style::Lines);
    assert_eq!(of(true, None, None), Style::Lines);
    assert_eq!(of(false, Some("xterm"), None), Style::Lines);
}

#[test]
fn the_stages_are_those_of_the_records_whatever_was_missed_between_two_looks() {
    assert_eq!(stages(&Value::Null), ["fault made"]);
    assert_eq!(stages(&json!({"incident": {"state": "opened", "diagnosis": null}})), ["fault made", "detected"]);
    let healed = vec![
        planned(),
        moved("planned"),
        moved("running"),
        moved("verifying"),
        verified("fast", "improved"),
        verified("stable", "improved"),
        moved("committed"),
    ];
    let all = ["fault made", "detected", "diagnosed", "planned", "running", "verifying", "healed", "stable"];
    assert_eq!(stages(&record("closed", healed)), all);
}

#[test]
fn a_rung_that_did_not_help_is_seen_to_be_taken_back() {
    let undone = vec![
        planned(),
        moved("running"),
        moved("verifying"),
        verified("fast", "not-improved"),
        moved("undoing"),
        moved("undone"),
    ];
    let stages = stages(&record("escalated", undone));
    assert_eq!(stages[3..], ["planned", "running", "verifying", "undoing", "undone", "handed to a person"]);
}

fn drawn(columns: usize, colour: bool, expected: &Expect) {
    let stages = ["fault made", "detected", "diagnosed", "planned", "running", "verifying"];
    let line = Line { name: "killed service", seconds: 1.24, stages: &stages }.fit(columns, colour);
    expected.assert_eq(&line.escape_debug().to_string().replace("\\u{1b}", "ESC"));
}

#[test]
fn a_line_never_reaches_the_last_column_and_its_newest_stage_stays_longest() {
    drawn(
        120,
        false,
        &expect!["  killed service     1.2 s  fault made → detected → diagnosed → planned → running → verifying"],
    );
    drawn(80, false, &expect!["  killed service     1.2 s  …diagnosed → planned → running → verifying"]);
    drawn(40, false, &expect!["  killed service     1.2 s  …verifying"]);
    drawn(20, false, &expect!["  killed service   "]);
    for columns in 0..130 {
        let line = Line { name: "killed service", seconds: 61.0, stages: &["fault made", "detected", "verifying"] };
        let length = line.fit(columns, false).chars().count();
        assert!(length < columns.max(1), "{length} of {columns} columns");
    }
}

#[test]
fn colour_is_around_the_words_and_takes_no_room() {
    drawn(40, true, &expect!["  killed service     1.2 s  ESC[2m…ESC[0mESC[1mverifyingESC[0m"]);
}

#[test]
fn the_last_line_says_what_came_of_it() {
    let times = Times { detected: Some(0.2), effect: Some(0.3), healed: Some(0.456), stable: None };
    let right = Outcome::Right { times, effects: 1, said: "started again".into() };
    let line = |style, outcome| last_line(style, &Finding::new("killed service", "service-crash", Some(3.0), outcome));
    let live = Style::Live { colour: false };
    assert_eq!(line(live, right).as_deref(), Some("✓ killed service    detected 0.20 s, healed 0.46 s: started again"));
    assert_eq!(line(live, Outcome::Wrong("no end".into())).as_deref(), Some("✗ killed service    WRONG: no end"));
    assert_eq!(line(Style::Lines, Outcome::Wrong("no end".into())).as_deref(), Some("  WRONG: no end"));
    let right = Outcome::Right { times, effects: 1, said: "started again".into() };
    assert_eq!(line(Style::Lines, right), None);
}
