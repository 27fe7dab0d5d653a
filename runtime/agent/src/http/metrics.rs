//! `/metrics` in Prometheus' text format, and `/healthz`. No text from outside is in either.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use theriac_model::diagnosis::InactionReason;
use theriac_model::fault::FaultKind;
use theriac_protocol::runner::{RunnerAnswer, RunnerNumbers, RunnerRequest};

use super::Site;
use crate::question::{Counts, Question, ask};

/// The runner's counters where it answers, and our own.
pub(super) async fn metrics(State(site): State<Arc<Site>>) -> Response {
    let Some(counts) = ask(&site.asker, Question::Counts).await else {
        return (StatusCode::SERVICE_UNAVAILABLE, "the agent is too busy\n").into_response();
    };
    let numbers = match site.runner.ask(&RunnerRequest::Numbers).await {
        Ok(RunnerAnswer::Numbers(numbers)) => Some(numbers),
        Ok(_) | Err(_) => None,
    };
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    ([(header::CONTENT_TYPE, kind)], render(&counts, numbers.as_ref())).into_response()
}

/// 200 while the self-test passes.
pub(super) async fn healthz(State(site): State<Arc<Site>>) -> Response {
    match ask(&site.asker, Question::SelfTest).await {
        Some(Ok(())) => (StatusCode::OK, "ok\n").into_response(),
        Some(Err(reason)) => (StatusCode::SERVICE_UNAVAILABLE, reason + "\n").into_response(),
        None => (StatusCode::SERVICE_UNAVAILABLE, "the agent is too busy\n").into_response(),
    }
}

/// One family of metrics after the other.
struct Page(String);

impl Page {
    fn line(&mut self, line: &str) {
        self.0.push_str(line);
        self.0.push('\n');
    }

    fn family(&mut self, name: &str, kind: &str, help: &str) {
        self.line(&format!("# HELP {name} {help}\n# TYPE {name} {kind}"));
    }

    fn one(&mut self, name: &str, kind: &str, help: &str, value: u64) {
        self.family(name, kind, help);
        self.line(&format!("{name} {value}"));
    }

    fn by<'a>(&mut self, (name, label, help): (&str, &str, &str), values: impl IntoIterator<Item = (&'a str, u64)>) {
        self.family(name, "counter", help);
        for (word, value) in values {
            self.line(&format!("{name}{{{label}=\"{}\"}} {value}", escaped(word)));
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "milliseconds of a few years fit into 53 bits")]
    fn seconds(&mut self, name: &str, help: &str, (sum_ms, count): (u64, u64)) {
        self.family(name, "summary", help);
        self.line(&format!("{name}_sum {}\n{name}_count {count}", sum_ms as f64 / 1000.0));
    }
}

fn escaped(word: &str) -> String {
    word.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn render(counts: &Counts, numbers: Option<&RunnerNumbers>) -> String {
    let mut page = Page(String::with_capacity(8 << 10));
    own(&mut page, counts);
    if let Some(numbers) = numbers {
        of_runner(&mut page, counts, numbers);
    }
    page.0
}

fn own(page: &mut Page, counts: &Counts) {
    let gauge = |page: &mut Page, name, help, value| page.one(name, "gauge", help, value);
    gauge(page, "theriac_up", "The agent runs.", 1);
    gauge(page, "theriac_runner_connected", "The agent has a connection to the runner.", u64::from(counts.connected));
    gauge(page, "theriac_inbox_writable", "The inbox can be written.", u64::from(counts.inbox));
    gauge(page, "theriac_uptime_seconds", "Seconds since the agent started.", counts.uptime_s);
    gauge(page, "theriac_series", "Series sampled.", counts.series);
    gauge(page, "theriac_rules_armed", "Detection rules at work.", counts.armed);
    gauge(page, "theriac_rules_disarmed", "Detection rules that failed their self-test.", counts.disarmed);
    gauge(page, "theriac_incidents_open", "Incidents that are not closed.", counts.open);
    gauge(page, "theriac_incidents_escalated", "Open incidents that wait for a person.", counts.escalated);
    let alerts = [("new", counts.alerts), ("known", counts.duplicates), ("elsewhere", counts.elsewhere)];
    page.by(("theriac_alerts_total", "result", "Alerts received, by what became of them."), alerts);
    page.one("theriac_signals_dropped_total", "counter", "Signals there was no room for.", counts.dropped);
    page.one("theriac_missteps_total", "counter", "Bugs: steps that the incident table refused.", counts.missteps);
}

fn of_runner(page: &mut Page, counts: &Counts, numbers: &RunnerNumbers) {
    let words = |map: &std::collections::BTreeMap<String, u64>| -> Vec<(String, u64)> {
        map.iter().map(|(word, value)| (word.clone(), *value)).collect()
    };
    fn refs(values: &[(String, u64)]) -> impl Iterator<Item = (&str, u64)> {
        values.iter().map(|(word, value)| (word.as_str(), *value))
    }
    let of = |map: &std::collections::BTreeMap<String, u64>, word: &str| map.get(word).copied().unwrap_or(0);
    let kinds = FaultKind::ALL.iter().map(|kind| (kind.as_str(), of(&numbers.incidents, kind.as_str())));
    page.by(("theriac_incidents_total", "kind", "Incidents ended, by fault kind."), kinds);
    page.seconds("theriac_time_to_detect_seconds", "From onset to detection.", numbers.detect_ms);
    page.seconds("theriac_time_to_heal_seconds", "From onset to the first passing check.", numbers.heal_ms);
    page.seconds("theriac_time_to_stable_seconds", "From onset to the passed stability check.", numbers.stable_ms);
    page.by(
        ("theriac_runs_total", "state", "Runs by their last state; `committed` are the successes."),
        refs(&words(&numbers.runs)),
    );
    page.one("theriac_effects_total", "counter", "Effects applied.", numbers.effects);
    page.one("theriac_effects_undone_total", "counter", "Effects taken back.", numbers.undone_effects);
    page.one(
        "theriac_false_alarms_total",
        "counter",
        "Incidents that were gone before anything was done.",
        numbers.false_alarms,
    );
    let people = numbers.escalated.saturating_add(counts.escalated);
    page.one("theriac_people_needed", "gauge", "Incidents handed to a person, ended or open.", people);
    page.by(("theriac_denials_total", "cause", "Denied host calls, by cause."), refs(&words(&numbers.denials)));
    let reasons = InactionReason::ALL.iter().map(|reason| (reason.as_str(), of(&numbers.not_acting, reason.as_str())));
    page.by(("theriac_not_acting_total", "reason", "Decisions to do nothing, by reason."), reasons);
    page.by(("theriac_proposals_refused_total", "rule", "Proposals refused, by rule."), refs(&words(&numbers.refused)));
    page.one("theriac_journal_records", "gauge", "Records in the runner's journal.", numbers.records);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_a_comment_or_a_name_with_a_number() {
        let mut numbers = RunnerNumbers { detect_ms: (1_500, 2), ..RunnerNumbers::default() };
        numbers.denials.insert("off-\"plan".into(), 3);
        let page = render(&Counts::default(), Some(&numbers));
        for line in page.lines().filter(|line| !line.starts_with("# ")) {
            let (name, value) = line.rsplit_once(' ').unwrap();
            assert!(name.starts_with("theriac_") && value.parse::<f64>().is_ok(), "{line}");
        }
        assert!(page.contains("theriac_time_to_detect_seconds_sum 1.5\ntheriac_time_to_detect_seconds_count 2\n"));
        assert!(page.contains("theriac_denials_total{cause=\"off-\\\"plan\"} 3\n"));
        assert!(page.contains("theriac_not_acting_total{reason=\"deploy-running\"} 0\n"), "zeros are shown too");
        assert!(page.contains("theriac_incidents_total{kind=\"disk-full\"} 0\n"));
    }

    #[test]
    fn without_the_runner_our_own_numbers_are_still_there() {
        let page = render(&Counts::default(), None);
        assert!(page.contains("theriac_runner_connected 0\n") && !page.contains("theriac_runs_total"));
    }
}
