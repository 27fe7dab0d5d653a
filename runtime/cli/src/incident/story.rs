//! One incident in sentences: signal, evidence, diagnosis, then each run with its plan, effects and verdict.

use std::fmt::Write as _;

use theriac_model::incident::Incident;
use theriac_model::record::Entry;
use theriac_protocol::runner::RunSummary;

use super::Story;
use crate::record;
use crate::text::{clock, indent, outside, span, when};

/// The whole story.
pub(super) fn tell(story: &Story) -> String {
    let mut text = String::new();
    match &story.incident {
        Some(incident) => {
            text.push_str(&head(incident));
            text.push_str(&section("signal", signals(incident)));
            text.push_str(&section("evidence", evidence(incident)));
            text.push_str(&section("diagnosis", diagnosis(incident)));
        }
        None => text.push_str("the agent does not know this incident (any more); this is the runner's part\n"),
    }
    for run in &story.runs {
        text.push_str(&self::run(run, &story.records));
    }
    if let Some(incident) = &story.incident {
        text.push_str(&section("timeline", timeline(incident)));
    }
    text
}

fn head(incident: &Incident) -> String {
    let after = |at: Option<theriac_model::time::Timestamp>| {
        at.map_or_else(|| "-".to_owned(), |at| format!("+{}", span(at.since(incident.onset))))
    };
    format!(
        "incident {} is {}: {} at {} ({:?})\n  began {}, detected {}, healed {}, stable {}\n",
        incident.id,
        incident.state,
        incident.kind,
        incident.target,
        incident.severity,
        when(incident.onset),
        after(Some(incident.detected)),
        after(incident.healed),
        after(incident.stable)
    )
}

fn section(title: &str, lines: String) -> String {
    if lines.is_empty() { String::new() } else { format!("\n{title}\n{}", indent(&lines)) }
}

fn signals(incident: &Incident) -> String {
    let line = |signal: &theriac_model::signal::Signal| {
        let over = if signal.resolved { " (over)" } else { "" };
        format!("{}  {}{over}, by {}\n", clock(signal.at), outside(&signal.summary), outside(&signal.source))
    };
    incident.signals.iter().map(line).collect()
}

fn evidence(incident: &Incident) -> String {
    let line = |evidence: &theriac_model::diagnosis::Evidence| {
        let measured = if evidence.source.is_measured() { "measured" } else { "told" };
        format!("{}  {}  {} ({measured})\n", evidence.id, clock(evidence.at), outside(&evidence.summary))
    };
    incident.evidence.iter().map(line).collect()
}

fn diagnosis(incident: &Incident) -> String {
    let Some(diagnosis) = &incident.diagnosis else { return String::new() };
    let mut text = String::new();
    for cause in &diagnosis.causes {
        let cited: Vec<&str> = cause.evidence.iter().map(theriac_model::id::EvidenceId::as_str).collect();
        let _infallible = writeln!(
            text,
            "{}  {} at {}: {} [{}], rule {}",
            cause.confidence,
            cause.kind,
            cause.target,
            outside(&cause.summary),
            cited.join(", "),
            outside(&cause.rule)
        );
    }
    if let Some(inaction) = &diagnosis.inaction {
        let _infallible =
            writeln!(text, "nothing is done ({}): {}", inaction.reason.as_str(), outside(&inaction.summary));
    }
    text
}

fn run(run: &RunSummary, records: &[Entry]) -> String {
    let title = format!("run {} (rung {}) is {}: {}", run.run, run.rung, run.state, outside(&run.reason));
    let mine = records.iter().filter(|entry| entry.record.run() == Some(&run.run));
    let lines: String = mine.map(record::line).collect();
    section(&title, if lines.is_empty() { "its records are not at hand\n".to_owned() } else { lines })
}

fn timeline(incident: &Incident) -> String {
    incident.timeline.iter().map(|(at, said)| format!("{}  {}\n", clock(*at), outside(said))).collect()
}
