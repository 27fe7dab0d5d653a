//! Evidence: facts written down so that a diagnosis can cite them. Everything is given in; text from outside is escaped and capped.

use theriac_model::diagnosis::{Evidence, EvidenceSource};
use theriac_model::health::HealthAnswer;
use theriac_model::id::EvidenceId;
use theriac_model::observation::SeriesId;
use theriac_model::signal::Signal;
use theriac_model::time::Timestamp;
use theriac_model::unit::{ActiveState, UnitState};

use crate::text::{foreign, quantity};

/// Pieces of evidence per incident.
pub const MAX_PIECES: usize = 64;
/// Characters of one log line, and lines taken.
const MAX_LINE: usize = 300;
const MAX_LINES: usize = 20;
/// Of all pieces, so many may be log lines: a service that writes much must not push out what was measured.
const MAX_LOG: usize = 40;
/// A step is one only when it explains most of the movement.
const STEP_SHARE: f64 = 0.6;
/// Readings needed on each side of a step.
const LEAST_SIDE: usize = 3;

/// The evidence of one incident, numbered as it comes in.
#[derive(Debug, Clone, Default)]
pub struct Collected {
    pieces: Vec<Evidence>,
    /// The number of the next piece.
    next: usize,
}

impl Collected {
    /// Goes on after what an incident already has.
    pub fn after(pieces: Vec<Evidence>) -> Self {
        Self { next: pieces.len(), pieces }
    }

    /// Everything so far.
    pub fn pieces(&self) -> &[Evidence] {
        &self.pieces
    }

    /// Everything, to be kept with the incident.
    pub fn into_pieces(self) -> Vec<Evidence> {
        self.pieces
    }

    /// A detector's signal.
    pub fn signal(&mut self, signal: &Signal) {
        let summary = format!("{}: {}", signal.source, foreign(&signal.summary, MAX_LINE));
        self.add(signal.at, EvidenceSource::Signal, summary);
    }

    /// A series around the onset: from where to where it moved, and when.
    pub fn series(&mut self, series: &SeriesId, readings: &[(Timestamp, f64)], onset: Timestamp) {
        let Some((at, newest)) = readings.last().copied() else { return };
        let unit = series.metric.unit();
        let name = format!("{} of {}", series.metric.as_str(), series.target);
        let summary = match turning_point(readings) {
            Some(turn) => {
                let when = if turn.at >= onset {
                    format!("{:.1} s after the onset", turn.at.since(onset).as_secs_f64())
                } else {
                    format!("{:.1} s before the onset", onset.since(turn.at).as_secs_f64())
                };
                format!("{name} went from {} to {}, {when}", quantity(turn.before, unit), quantity(turn.after, unit))
            }
            None => format!("{name} is {}, without a step", quantity(newest, unit)),
        };
        self.add(at, EvidenceSource::Metric, summary);
    }

    /// The service manager's word.
    pub fn unit(&mut self, state: &UnitState, at: Timestamp) {
        let active = match state.active {
            ActiveState::Active => "active",
            ActiveState::Activating => "activating",
            ActiveState::Deactivating => "deactivating",
            ActiveState::Inactive => "inactive",
            ActiveState::Failed => "failed",
            ActiveState::Reloading => "reloading",
            ActiveState::Other => "in a state of its own",
        };
        let mut summary = format!(
            "{} is {active} ({}) for {:.1} s, result {}, {} restarts",
            state.name,
            foreign(&state.sub, 40),
            std::time::Duration::from_millis(state.since_ms).as_secs_f64(),
            foreign(&state.result, 40),
            state.restarts
        );
        if state.needs_reload {
            summary.push_str("; its unit file changed since it was loaded");
        }
        self.add(at, EvidenceSource::UnitState, summary);
    }

    /// A health check.
    pub fn health(&mut self, answer: &HealthAnswer, failures: u32, at: Timestamp) {
        let word = if answer.ok { "passed" } else { "failed" };
        let detail = foreign(&answer.detail, MAX_LINE);
        let row = if failures > 1 { format!(", {failures} in a row") } else { String::new() };
        let summary = format!("the health check {word} after {} ms: {detail}{row}", answer.latency_ms);
        self.add(at, EvidenceSource::Health, summary);
    }

    /// The last log lines, oldest first: what somebody else wrote. A line that is evidence already is not repeated.
    pub fn log(&mut self, lines: &[String], at: Timestamp) {
        let newest = lines.len().saturating_sub(MAX_LINES);
        for line in lines.iter().skip(newest).filter(|line| !line.trim().is_empty()) {
            let line = foreign(line, MAX_LINE);
            let logs = || self.pieces.iter().filter(|piece| piece.source == EvidenceSource::Log);
            if logs().count() < MAX_LOG && !logs().any(|piece| piece.summary == line) {
                self.add(at, EvidenceSource::Log, line);
            }
        }
    }

    /// Something measured on the machine, in our words.
    pub fn system(&mut self, summary: &str, at: Timestamp) {
        self.add(at, EvidenceSource::System, foreign(summary, MAX_LINE));
    }

    fn add(&mut self, at: Timestamp, source: EvidenceSource, summary: String) {
        if self.pieces.len() >= MAX_PIECES {
            return;
        }
        self.next += 1;
        if let Ok(id) = EvidenceId::parse(&format!("e{}", self.next)) {
            self.pieces.push(Evidence { id, at, source, summary });
        }
    }
}

/// Where a series stepped from one level to another.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TurningPoint {
    /// The first reading of the new level.
    pub at: Timestamp,
    /// The mean before.
    pub before: f64,
    /// The mean from then on.
    pub after: f64,
}

/// The split that explains most of the movement, if it explains enough of it.
pub fn turning_point(readings: &[(Timestamp, f64)]) -> Option<TurningPoint> {
    let values = || readings.iter().map(|(_, value)| *value);
    #[expect(clippy::cast_precision_loss, reason = "a history holds hundreds of readings")]
    let count = |n: usize| n as f64;
    let total: f64 = values().sum();
    let mean = total / count(readings.len());
    let movement: f64 = values().map(|value| (value - mean).powi(2)).sum();
    if !movement.is_finite() || movement <= f64::EPSILON * mean.abs().max(1.0) {
        return None;
    }
    let mut left = 0.0;
    let mut best: Option<(f64, TurningPoint)> = None;
    for (index, (at, value)) in readings.iter().enumerate() {
        let (before, after) = (index, readings.len() - index);
        if before >= LEAST_SIDE && after >= LEAST_SIDE {
            let (low, high) = (left / count(before), (total - left) / count(after));
            let explained = count(before) * (low - mean).powi(2) + count(after) * (high - mean).powi(2);
            if best.is_none_or(|(most, _)| explained > most) {
                best = Some((explained, TurningPoint { at: *at, before: low, after: high }));
            }
        }
        left += value;
    }
    best.filter(|(explained, _)| *explained >= STEP_SHARE * movement).map(|(_, turn)| turn)
}

#[cfg(test)]
mod tests {
    use theriac_model::observation::Metric;

    use super::*;

    fn readings(values: &[f64]) -> Vec<(Timestamp, f64)> {
        values.iter().enumerate().map(|(second, value)| (Timestamp(10_000 + 1_000 * second as u64), *value)).collect()
    }

    #[test]
    fn a_step_is_found_where_it_is_and_noise_has_none() {
        let step = turning_point(&readings(&[10.0, 11.0, 9.0, 10.0, 90.0, 91.0, 89.0])).unwrap();
        assert_eq!((step.at, step.before.round(), step.after.round()), (Timestamp(14_000), 10.0, 90.0));
        assert_eq!(turning_point(&readings(&[1.0, 2.0, 1.0, 2.0, 1.0, 2.0, 1.0, 2.0])), None);
        assert_eq!(turning_point(&readings(&[5.0; 9])), None);
        assert_eq!(turning_point(&[]), None);
        assert_eq!(turning_point(&readings(&[1.0, f64::NAN, 3.0, 4.0, 5.0, 6.0, 7.0])), None);
    }

    #[test]
    fn evidence_is_numbered_and_says_when_a_series_turned() {
        let mut collected = Collected::default();
        let series = SeriesId { target: "unit:web.service".parse().unwrap(), metric: Metric::UnitCpu };
        collected.series(&series, &readings(&[10.0, 10.0, 10.0, 1900.0, 1900.0, 1900.0]), Timestamp(15_000));
        collected.log(&["boom\x1b[31m".to_owned(), "  ".to_owned()], Timestamp(16_000));
        let summaries: Vec<_> =
            collected.pieces().iter().map(|piece| format!("{} {}", piece.id, piece.summary)).collect();
        let expected = [
            "e1 unit_cpu of unit:web.service went from 0.01 cores to 1.90 cores, 2.0 s before the onset",
            "e2 boom\\u{1b}[31m",
        ];
        assert_eq!(summaries, expected);
        let mut more = Collected::after(collected.into_pieces());
        more.system("port 80 is taken", Timestamp(17_000));
        assert_eq!(more.pieces().last().unwrap().id.as_str(), "e3");
    }

    #[test]
    fn a_log_flood_is_cut_and_leaves_room_for_what_is_measured() {
        let mut collected = Collected::default();
        let lines = |turn: u32| -> Vec<String> {
            (0..1_000).map(|line| format!("{turn} {line} {}", "x".repeat(1_000))).collect()
        };
        for turn in 0..10 {
            collected.log(&lines(turn), Timestamp(1));
        }
        assert_eq!(collected.pieces().len(), MAX_LOG);
        assert!(collected.pieces().iter().all(|piece| piece.summary.chars().count() <= MAX_LINE + 1));
        assert!(collected.pieces()[0].summary.starts_with("0 980 "));
        collected.system("measured", Timestamp(2));
        assert_eq!(collected.pieces().len(), MAX_LOG + 1);
    }

    #[test]
    fn a_line_that_repeats_itself_is_one_piece_of_evidence() {
        let mut collected = Collected::default();
        let lines = ["connection refused", "connection refused", "giving up"].map(str::to_owned);
        collected.log(&lines, Timestamp(1));
        collected.log(&lines, Timestamp(2));
        assert_eq!(collected.pieces().len(), 2);
    }
}
