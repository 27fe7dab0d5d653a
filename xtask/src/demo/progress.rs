//! What is seen of a case while it is under way: on a terminal one line that is redrawn in place until the case is over, in a
//! pipe, a file or a terminal that can't redraw one line for each thing that happened.
//!
//! It only shows: what counts as right is the case's business.

use std::ffi::OsStr;
use std::io::{IsTerminal as _, Write as _, stdout};

use serde_json::Value;

use super::case::{Finding, Outcome, seconds};

/// Columns of a terminal that does not tell how many it has.
const COLUMNS: usize = 80;
const ARROW: &str = " → ";
const CUT: &str = "…";

/// How to show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// A line for each event, none of them ever changed.
    Lines,
    /// One line for each case, redrawn in place.
    Live { colour: bool },
}

impl Style {
    /// What the standard output is good for.
    pub(crate) fn of_stdout() -> Self {
        let (term, no_color) = (std::env::var_os("TERM"), std::env::var_os("NO_COLOR"));
        Self::of(stdout().is_terminal(), term.as_deref(), no_color.as_deref())
    }

    fn of(terminal: bool, term: Option<&OsStr>, no_color: Option<&OsStr>) -> Self {
        let redraws = terminal && term.is_some_and(|term| !term.is_empty() && term != "dumb");
        // no-color.org: set to anything but nothing.
        let colour = no_color.is_none_or(OsStr::is_empty);
        if redraws { Self::Live { colour } } else { Self::Lines }
    }
}

/// One case as it is being watched.
#[derive(Debug)]
pub(crate) struct Progress {
    style: Style,
    name: &'static str,
    /// Lines of the timeline that were printed.
    said: usize,
}

impl Progress {
    /// Says that the fault is being made.
    pub(crate) fn begin(style: Style, name: &'static str, target: &str) -> Self {
        let progress = Self { style, name, said: 0 };
        match style {
            Style::Lines => println!("\n{name}: breaking {target}"),
            Style::Live { .. } => progress.draw(0.0, &["making the fault"]),
        }
        progress
    }

    /// Shows the state of things: `record` is `theriac incident show --json`, or null while there is no incident.
    pub(crate) fn show(&mut self, record: &Value, broken: u64, now: u64) {
        match self.style {
            Style::Lines => self.say(record, broken),
            Style::Live { .. } => self.draw(seconds(broken, now), &stages(record)),
        }
    }

    /// The lines of the timeline that were not printed yet.
    fn say(&mut self, record: &Value, broken: u64) {
        let timeline = record.pointer("/incident/timeline").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        for line in timeline.iter().skip(self.said) {
            let at = line.get(0).and_then(Value::as_u64).unwrap_or(broken);
            let text = line.get(1).and_then(Value::as_str).unwrap_or_default();
            println!("  {:>6.2} s  {text}", seconds(broken, at));
        }
        self.said = self.said.max(timeline.len());
    }

    fn draw(&self, seconds: f64, stages: &[&str]) {
        let Style::Live { colour } = self.style else { return };
        let line = Line { name: self.name, seconds, stages }.fit(columns(), colour);
        // Carriage return, the line, and nothing of the longer one that may have stood there. A terminal that went away
        // loses its picture, not the demo.
        let _shown = write!(stdout(), "\r{line}\u{1b}[K").and_then(|()| stdout().flush());
    }

    /// The last word on a case.
    pub(crate) fn end(style: Style, finding: &Finding) {
        let last = last_line(style, finding);
        match (style, last) {
            (Style::Lines, Some(line)) => println!("{line}"),
            (Style::Lines, None) => {}
            (Style::Live { .. }, line) => println!("\r{}\u{1b}[K", line.unwrap_or_default()),
        }
    }
}

/// Lines say what went well while it goes; on a terminal nothing else stays.
fn last_line(style: Style, finding: &Finding) -> Option<String> {
    let name = finding.name();
    match (style, &finding.outcome) {
        (Style::Lines, Outcome::Right { .. }) => None,
        (Style::Lines, Outcome::Wrong(why)) => Some(format!("  WRONG: {why}")),
        (Style::Lines, Outcome::NotPossible(why)) => Some(format!("\n{name}: not possible here: {why}")),
        (Style::Live { colour }, Outcome::Right { times, said, .. }) => {
            let marks = [("detected", times.detected), ("healed", times.healed), ("stable", times.stable)];
            let marks = marks.iter().filter_map(|(word, at)| Some(format!("{word} {:.2} s", (*at)?)));
            let marks = marks.collect::<Vec<_>>().join(", ");
            Some(format!("{} {name:<16}  {marks}: {said}", paint(colour, "32", "✓")))
        }
        (Style::Live { colour }, Outcome::Wrong(why)) => {
            Some(format!("{} {name:<16}  WRONG: {why}", paint(colour, "31", "✗")))
        }
        (Style::Live { .. }, Outcome::NotPossible(why)) => Some(format!("- {name:<16}  not possible here: {why}")),
    }
}

/// How far it has come, from the fault on: each stage as often as it was entered.
fn stages(record: &Value) -> Vec<&'static str> {
    let mut stages = vec!["fault made"];
    let incident = record.get("incident").filter(|incident| !incident.is_null());
    let Some(incident) = incident else { return stages };
    stages.push("detected");
    if incident.get("diagnosis").is_some_and(|diagnosis| !diagnosis.is_null()) {
        stages.push("diagnosed");
    }
    let entries = record.get("records").and_then(Value::as_array).into_iter().flatten();
    stages.extend(entries.filter_map(|entry| stage(entry.get("record")?)));
    if incident.get("state").and_then(Value::as_str) == Some("escalated") {
        stages.push("handed to a person");
    }
    stages.dedup();
    stages
}

/// The stage that begins with a record of a run.
fn stage(record: &Value) -> Option<&'static str> {
    if record.get("planned").is_some() {
        return Some("planned");
    }
    if let Some(verified) = record.get("verified") {
        let word = |name: &str| verified.get(name).and_then(Value::as_str);
        return match (word("phase")?, word("verdict")?) {
            ("fast", "improved") => Some("healed"),
            ("stable", "improved") => Some("stable"),
            _other => None,
        };
    }
    match record.pointer("/moved/state").and_then(Value::as_str)? {
        "awaiting-consent" => Some("asking a person"),
        "running" => Some("running"),
        "verifying" => Some("verifying"),
        "undoing" => Some("undoing"),
        "undone" => Some("undone"),
        _said_otherwise => None,
    }
}

struct Line<'a> {
    name: &'a str,
    seconds: f64,
    stages: &'a [&'a str],
}

impl Line<'_> {
    /// As text of less than so many columns, because a line that wraps can't be redrawn: the oldest stages give way first.
    fn fit(&self, columns: usize, colour: bool) -> String {
        let head = format!("  {:<16} {:>5.1} s  ", self.name, self.seconds);
        let room = columns.saturating_sub(1).saturating_sub(head.chars().count());
        let (mut past, last) = match self.stages.split_last() {
            Some((last, past)) => (past, (*last).to_owned()),
            None => (&[][..], String::new()),
        };
        let mut cut = "";
        let trail = loop {
            let trail: String = past.iter().map(|stage| format!("{stage}{ARROW}")).collect();
            let trail = format!("{cut}{trail}");
            match past.split_first() {
                Some((_, rest)) if (trail.chars().count() + last.chars().count()) > room => {
                    past = rest;
                    cut = CUT;
                }
                Some(_) | None => break trail,
            }
        };
        let trail: String = trail.chars().take(room).collect();
        let last: String = last.chars().take(room.saturating_sub(trail.chars().count())).collect();
        let head: String = head.chars().take(columns.saturating_sub(1)).collect();
        format!("{head}{}{}", paint(colour, "2", &trail), paint(colour, "1", &last))
    }
}

fn paint(colour: bool, code: &str, text: &str) -> String {
    if colour && !text.is_empty() { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
}

/// How wide the terminal is now: it may be dragged while a case is under way.
fn columns() -> usize {
    let size = rustix::termios::tcgetwinsize(stdout());
    size.map(|size| usize::from(size.ws_col)).ok().filter(|columns| *columns > 0).unwrap_or(COLUMNS)
}

#[cfg(test)]
mod tests;
