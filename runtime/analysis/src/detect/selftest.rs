//! The self-test: a rule must be quiet on its own normal values, find its planted anomaly, and be quiet again after it.
//!
//! A rule that does not separate the two would be silent for ever, or cry all day; either way it is better off and said so.

use std::collections::BTreeMap;

use theriac_model::catalog::{TargetSpec, Thresholds};
use theriac_model::observation::{Metric, Sample, SeriesId};
use theriac_model::target::Target;
use theriac_model::time::{Span, Timestamp};
use theriac_model::units::Bytes;

use super::detector::Detector;
use super::rules::{Rule, TargetKind};

/// Seconds of normal values before and after the planted ones; more than the longest history a rule looks at.
const NORMAL_S: u64 = 130;
/// Seconds of planted values beyond the rule's `for`.
const PLANTED_S: u64 = 60;
/// The self-test stands at one GiB where a rule needs a memory limit.
const MEMORY: Bytes = Bytes(1 << 30);

/// Gives the rule back when it passes, else the sentence for `doctor`.
pub(super) fn run(rule: Rule) -> Result<Rule, String> {
    let Some(target) = example(rule.target) else {
        return Err(format!("rule `{}` has no example target", rule.id));
    };
    let thresholds = Thresholds { memory: Some(MEMORY), ..Thresholds::default() };
    let lasts = rule.lasts.of(&thresholds);
    let (id, test) = (rule.id.clone(), rule.test.clone());
    let mut stage = Stage { detector: Detector::untested(vec![rule]), target, now: 1_000_000 };
    let spec =
        TargetSpec { target: stage.target.clone(), traffic_share: None, health: Vec::new(), thresholds, backend: None };
    stage.detector.set_specs(&[spec]);
    let planted_s = PLANTED_S + Span::duration(lasts).as_secs();
    if stage.play(&test.normal, NORMAL_S) != (0, 0) {
        return Err(format!("rule `{id}` is off: it fires on its own normal values"));
    }
    if stage.play(&test.planted, planted_s).0 == 0 {
        return Err(format!("rule `{id}` is off: it does not find its planted anomaly"));
    }
    if stage.play(&test.normal, NORMAL_S).1 == 0 {
        return Err(format!("rule `{id}` is off: it does not clear when all is normal again"));
    }
    stage.detector.into_rules().pop().ok_or_else(|| format!("rule `{id}` is off"))
}

fn example(kind: TargetKind) -> Option<Target> {
    let text = match kind {
        TargetKind::Unit => "unit:self-test.service",
        TargetKind::Mount => "mount:/self-test",
        TargetKind::Certificate => "certificate:self-test",
        TargetKind::Container => "container:self-test",
        TargetKind::Pool => "pool:self-test",
        TargetKind::Host => "host",
    };
    text.parse().ok()
}

struct Stage {
    detector: Detector,
    target: Target,
    now: u64,
}

impl Stage {
    /// Plays the values at one sample a second; counts signals that began and that ended.
    fn play(&mut self, values: &BTreeMap<String, Vec<f64>>, seconds: u64) -> (usize, usize) {
        let mut counts = (0, 0);
        for second in 0..seconds {
            self.now += 1_000;
            let now = Timestamp(self.now);
            let samples: Vec<Sample> = values
                .iter()
                .filter_map(|(name, path)| {
                    let metric = *Metric::ALL.iter().find(|metric| metric.as_str() == name)?;
                    let series = SeriesId { target: self.target.clone(), metric };
                    Some(Sample { series, at: now, value: along(path, second, seconds)? })
                })
                .collect();
            for signal in self.detector.observe(now, &samples) {
                if signal.resolved { counts.1 += 1 } else { counts.0 += 1 }
            }
        }
        counts
    }
}

/// The value at that second of a path that takes all the seconds.
fn along(path: &[f64], second: u64, seconds: u64) -> Option<f64> {
    let (first, last) = (*path.first()?, path.len() - 1);
    #[expect(clippy::cast_precision_loss, reason = "a path of a few values over a few minutes")]
    let position = second as f64 / seconds as f64 * last as f64;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and the length of the path")]
    let step = position.floor() as usize;
    let from = path.get(step).copied().unwrap_or(first);
    let to = path.get(step + 1).copied().unwrap_or(from);
    Some(from + (to - from) * position.fract())
}

#[cfg(test)]
mod tests {
    use super::super::rules::RuleSet;
    use super::*;

    #[test]
    fn every_rule_that_ships_passes_its_self_test() {
        let detector = Detector::new(RuleSet::defaults().unwrap(), &[]);
        assert_eq!(detector.disarmed(), [] as [String; 0]);
        assert!(detector.armed() >= 9);
    }

    #[test]
    fn a_rule_that_does_not_separate_disarms_itself_and_says_so() {
        let rule = |when: &str, clear: &str| {
            let text = format!(
                "rules:\n  - id: odd\n    kind: disk-full\n    severity: info\n    target: mount\n    when: {when}\n    clear: {clear}\n    for: 5s\n    summary: odd\n    test: {{normal: {{disk_available: [400]}}, planted: {{disk_available: [20]}}}}\n"
            );
            Detector::new(RuleSet::parse(&text).unwrap(), &[]).disarmed().to_vec()
        };
        assert_eq!(rule("disk_available < 50", "disk_available > 60"), [] as [String; 0]);
        assert_eq!(rule("disk_available < 10", "true"), ["rule `odd` is off: it does not find its planted anomaly"]);
        assert_eq!(rule("disk_available < 500", "true"), ["rule `odd` is off: it fires on its own normal values"]);
        let stuck = rule("disk_available < 50", "disk_available > 900");
        assert_eq!(stuck, ["rule `odd` is off: it does not clear when all is normal again"]);
    }

    #[test]
    fn a_path_is_walked_from_its_first_value_to_its_last() {
        assert_eq!(along(&[10.0, 20.0], 0, 10), Some(10.0));
        assert_eq!(along(&[10.0, 20.0], 5, 10), Some(15.0));
        assert_eq!(along(&[7.0], 9, 10), Some(7.0));
        assert_eq!(along(&[], 0, 10), None);
    }
}
