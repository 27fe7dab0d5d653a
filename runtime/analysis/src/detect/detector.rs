//! The streaming part: samples in, signals out. State per target and rule; no clock of its own.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use theriac_model::call::Number;
use theriac_model::catalog::{TargetSpec, Thresholds};
use theriac_model::observation::{Metric, Sample};
use theriac_model::signal::{Origin, Signal};
use theriac_model::target::Target;
use theriac_model::time::Timestamp;
use theriac_model::trend::Trend;

use super::names::{self, Derived, NEVER};
use super::rules::{Rule, RuleSet, TargetKind};
use super::selftest;
use crate::expression::{Fact, Values};
use crate::text::quantity;

/// A reading older than this is no longer the present, and a `for` does not bridge such a hole.
const STALE_MS: u64 = 60_000;
/// Two looks at a pending rule further apart than this start its `for` anew.
const GAP_MS: u64 = 10_000;
/// A trend looks back this far; the same as the runner's own.
const TREND_MS: u64 = 60_000;
/// … and needs at least this many seconds.
const TREND_LEAST_S: f64 = 10.0;
/// Readings from further ahead than this are of a clock that was wrong.
const FUTURE_MS: u64 = 5_000;
/// Readings kept per metric: a minute at one a second, and room for events.
const MAX_READINGS: usize = 128;
/// More targets than an operator can list; the samples come from our own sampler.
const MAX_TARGETS: usize = 1_024;

/// Watches the samples of every target.
#[derive(Debug)]
pub struct Detector {
    rules: Vec<Rule>,
    disarmed: Vec<String>,
    specs: BTreeMap<Target, Thresholds>,
    targets: BTreeMap<Target, State>,
    last: Timestamp,
}

#[derive(Debug, Default)]
struct State {
    readings: BTreeMap<Metric, Readings>,
    rules: BTreeMap<String, Phase>,
}

#[derive(Debug, Default)]
struct Readings {
    history: VecDeque<(Timestamp, f64)>,
    repeats: u32,
}

/// Where a rule is for one target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The condition has been true since then, last seen at the second time.
    Pending(Timestamp, Timestamp),
    /// The signal was given; since then.
    Firing(Timestamp),
}

impl Detector {
    /// A detector of these rules. Each rule first has to find its own planted anomaly; one that does not is off, and named.
    pub fn new(rules: RuleSet, specs: &[TargetSpec]) -> Self {
        let mut armed = Vec::new();
        let mut disarmed = Vec::new();
        for rule in rules.rules {
            match selftest::run(rule) {
                Ok(rule) => armed.push(rule),
                Err(reason) => disarmed.push(reason),
            }
        }
        let mut detector = Self::untested(armed);
        detector.disarmed = disarmed;
        detector.set_specs(specs);
        detector
    }

    pub(super) const fn untested(rules: Vec<Rule>) -> Self {
        Self { rules, disarmed: Vec::new(), specs: BTreeMap::new(), targets: BTreeMap::new(), last: Timestamp(0) }
    }

    pub(super) fn into_rules(self) -> Vec<Rule> {
        self.rules
    }

    /// Rules that failed their self-test, each with the reason.
    pub fn disarmed(&self) -> &[String] {
        &self.disarmed
    }

    /// How many rules are armed.
    pub const fn armed(&self) -> usize {
        self.rules.len()
    }

    /// Takes another list of targets; a target that is no longer listed is forgotten, without a signal.
    pub fn set_specs(&mut self, specs: &[TargetSpec]) {
        self.specs = specs.iter().map(|spec| (spec.target.clone(), spec.thresholds)).collect();
        let listed = &self.specs;
        self.targets.retain(|target, _| *target == Target::Host || listed.contains_key(target));
    }

    /// Takes samples, of a tick or of one event, and says what became abnormal or well. Only targets with a sample are judged.
    pub fn observe(&mut self, now: Timestamp, samples: &[Sample]) -> Vec<Signal> {
        if now.0.saturating_add(FUTURE_MS) < self.last.0 {
            self.clock_went_back();
        }
        self.last = now;
        let mut touched = BTreeSet::new();
        for sample in samples {
            let target = &sample.series.target;
            if !self.targets.contains_key(target) && self.targets.len() >= MAX_TARGETS {
                continue;
            }
            let state = self.targets.entry(target.clone()).or_default();
            if state.readings.entry(sample.series.metric).or_default().take(now, sample.at, sample.value) {
                touched.insert(target.clone());
            }
        }
        let mut signals = Vec::new();
        for target in touched {
            let thresholds = self.specs.get(&target).copied().unwrap_or_default();
            if let Some(state) = self.targets.get_mut(&target) {
                signals.extend(state.judge(&self.rules, &target, &thresholds, now));
            }
        }
        signals
    }

    /// What was measured under the other time can't be compared with what comes. What fires keeps firing until it is well.
    fn clock_went_back(&mut self) {
        for state in self.targets.values_mut() {
            state.readings.clear();
            state.rules.retain(|_, phase| matches!(phase, Phase::Firing(_)));
        }
    }
}

impl Readings {
    /// Keeps the reading unless it is not finite, old news, or from the future. Says whether it is news.
    fn take(&mut self, now: Timestamp, at: Timestamp, value: f64) -> bool {
        if !value.is_finite() || at.0 > now.0.saturating_add(FUTURE_MS) || now.0.saturating_sub(at.0) > STALE_MS {
            return false;
        }
        match self.history.back().copied() {
            Some((last, _)) if last > at => return false,
            // The tick tells again what the event told a moment before.
            Some((last, before)) if last == at && before.to_bits() == value.to_bits() => return false,
            Some((_, before)) if before.to_bits() == value.to_bits() => self.repeats = self.repeats.saturating_add(1),
            Some(_) | None => self.repeats = 1,
        }
        while self.history.len() >= MAX_READINGS
            || self.history.front().is_some_and(|(first, _)| at.0.saturating_sub(first.0) > TREND_MS)
        {
            self.history.pop_front();
        }
        self.history.push_back((at, value));
        true
    }

    fn value(&self, now: Timestamp, derived: Derived) -> Option<f64> {
        let (at, value) = self.history.back().copied()?;
        if now.0.saturating_sub(at.0) > STALE_MS {
            return None;
        }
        let trend = || Trend::over(self.history.iter().copied()).filter(|trend| trend.seconds >= TREND_LEAST_S);
        match derived {
            Derived::Value => Some(value),
            Derived::Repeats => Some(f64::from(self.repeats)),
            Derived::Trend => trend().map(|trend| trend.per_second),
            Derived::ZeroIn => trend().map(|trend| trend.seconds_until(value, 0.0).unwrap_or(NEVER).min(NEVER)),
        }
    }
}

impl State {
    fn judge(&mut self, rules: &[Rule], target: &Target, thresholds: &Thresholds, now: Timestamp) -> Vec<Signal> {
        let mut signals = Vec::new();
        let limits = names::thresholds(thresholds);
        for rule in rules.iter().filter(|rule| rule.target.fits(target)) {
            let values = self.values(rule, &limits, now);
            let phase = self.rules.get(&rule.id).copied();
            let (phase, news) = match phase {
                Some(Phase::Firing(onset)) => match rule.clear.holds(&values) {
                    Some(true) => (None, Some((onset, true))),
                    Some(false) | None => (Some(Phase::Firing(onset)), None),
                },
                Some(Phase::Pending(..)) | None => match rule.when.holds(&values) {
                    Some(true) => advance(phase, rule, thresholds, now),
                    Some(false) | None => (None, None),
                },
            };
            match phase {
                Some(phase) => self.rules.insert(rule.id.clone(), phase),
                None => self.rules.remove(&rule.id),
            };
            signals.extend(
                news.map(|(onset, resolved)| signal(rule, target, &values, Moment { onset, at: now, resolved })),
            );
        }
        signals
    }

    /// Only what the rule speaks about: a trend is not worked out for nobody.
    fn values(&self, rule: &Rule, limits: &Values, now: Timestamp) -> Values {
        let mut values = limits.clone();
        for name in rule.when.names().iter().chain(rule.clear.names()) {
            let Some((metric, derived)) = names::meaning(name).and_then(|name| name.metric) else { continue };
            if let Some(value) = self.readings.get(&metric).and_then(|readings| readings.value(now, derived)) {
                values.insert(name, Fact::Number(value));
            }
        }
        values
    }
}

type News = Option<(Timestamp, bool)>;

/// The condition is true now: since when, and is that long enough?
fn advance(phase: Option<Phase>, rule: &Rule, thresholds: &Thresholds, now: Timestamp) -> (Option<Phase>, News) {
    let since = match phase {
        Some(Phase::Pending(since, seen)) if now.0.saturating_sub(seen.0) <= GAP_MS => since,
        Some(Phase::Pending(..) | Phase::Firing(_)) | None => now,
    };
    if now.since(since) >= rule.lasts.of(thresholds).duration() {
        (Some(Phase::Firing(since)), Some((since, false)))
    } else {
        (Some(Phase::Pending(since, now)), None)
    }
}

struct Moment {
    onset: Timestamp,
    at: Timestamp,
    resolved: bool,
}

fn signal(rule: &Rule, target: &Target, values: &Values, moment: Moment) -> Signal {
    let number = |name: &&'static names::Name| match values.get(name.text) {
        Some(Fact::Number(value)) => {
            Some(Number { name: name.text.to_owned(), value: *value, unit: name.unit.to_owned() })
        }
        Some(Fact::Flag(_) | Fact::Text(_)) | None => None,
    };
    Signal {
        source: rule.id.clone(),
        kind: rule.kind,
        target: target.clone(),
        severity: rule.severity,
        summary: fill(&rule.summary, target, values),
        numbers: rule.names.iter().filter_map(number).collect(),
        onset: moment.onset,
        at: moment.at,
        resolved: moment.resolved,
        origin: Origin::Local,
    }
}

fn fill(template: &str, target: &Target, values: &Values) -> String {
    let mut parts = template.split('{');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (name, rest) = part.split_once('}').unwrap_or((part, ""));
        match (name, values.get(name), names::meaning(name)) {
            ("target", _, _) => text.push_str(&target.to_string()),
            (_, Some(Fact::Number(value)), Some(name)) => text.push_str(&quantity(*value, name.unit)),
            _not_measured => text.push('?'),
        }
        text.push_str(rest);
    }
    text
}

impl TargetKind {
    pub(super) const fn fits(self, target: &Target) -> bool {
        match (self, target) {
            (Self::Unit, Target::Unit(_))
            | (Self::Mount, Target::Mount(_))
            | (Self::Certificate, Target::Certificate(_))
            | (Self::Container, Target::Container(_))
            | (Self::Pool, Target::Pool(_))
            | (Self::Host, Target::Host) => true,
            (Self::Unit | Self::Mount | Self::Certificate | Self::Container | Self::Pool | Self::Host, _) => false,
        }
    }
}

#[cfg(test)]
mod tests;
