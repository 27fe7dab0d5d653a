//! The names a rule may use: every metric, what is derived from its history, and the target's thresholds.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use theriac_model::catalog::Thresholds;
use theriac_model::observation::Metric;

use crate::expression::{Fact, Values};

/// What is derived from the history of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Derived {
    /// The newest reading.
    Value,
    /// Change per second over the last minute.
    Trend,
    /// Seconds until it is zero at this pace; a billion when it is not falling.
    ZeroIn,
    /// Readings in a row with the same value.
    Repeats,
}

/// Stands for "never": CEL has no literal for infinity.
pub(super) const NEVER: f64 = 1e9;

/// One name with its meaning and the unit of its values.
#[derive(Debug, Clone, Copy)]
pub(super) struct Name {
    pub(super) text: &'static str,
    pub(super) metric: Option<(Metric, Derived)>,
    pub(super) unit: &'static str,
}

const THRESHOLDS: [(&str, &str); 10] = [
    ("disk_full", "permille"),
    ("disk_filling", "permille"),
    ("inodes", "permille"),
    ("cpu_share", "permille"),
    ("cpu_for", "seconds"),
    ("expires_within", "seconds"),
    ("memory", "bytes"),
    ("health_failures", "count"),
    ("loop_restarts", "count"),
    ("connections_used", "permille"),
];

static NAMES: LazyLock<BTreeMap<&'static str, Name>> = LazyLock::new(|| {
    let thresholds = THRESHOLDS.into_iter().map(|(text, unit)| Name { text, metric: None, unit });
    let metrics = Metric::ALL.iter().flat_map(|metric| {
        let unit = metric.unit();
        let pace = if unit == "bytes" { "bytes-per-second" } else { "per-second" };
        let derived = [
            ("", Derived::Value, unit),
            ("_trend", Derived::Trend, pace),
            ("_zero_in", Derived::ZeroIn, "seconds"),
            ("_repeats", Derived::Repeats, "count"),
        ];
        derived.map(|(suffix, derived, unit)| {
            // Made once for the life of the process: the list of metrics is closed.
            let text: &'static str = String::leak(format!("{}{suffix}", metric.as_str()));
            Name { text, metric: Some((*metric, derived)), unit }
        })
    });
    thresholds.chain(metrics).map(|name| (name.text, name)).collect()
});

/// The name's meaning.
pub(super) fn meaning(name: &str) -> Option<&'static Name> {
    NAMES.get(name)
}

/// An example value for every name, to try an expression with.
pub(super) fn examples() -> Values {
    NAMES.keys().map(|name| (*name, Fact::Number(1.0))).collect()
}

/// The thresholds of one target by name; `memory` only where a limit is set.
pub(super) fn thresholds(of: &Thresholds) -> Values {
    #[expect(clippy::cast_precision_loss, reason = "53 bits hold every byte count of a machine")]
    let memory = of.memory.map(|bytes| bytes.0 as f64);
    let share = |permille: theriac_model::units::Permille| Some(f64::from(permille.get()));
    let values = [
        share(of.disk_full),
        share(of.disk_filling),
        share(of.inodes),
        share(of.cpu_share),
        Some(of.cpu_for.duration().as_secs_f64()),
        Some(of.expires_within.duration().as_secs_f64()),
        memory,
        Some(f64::from(of.health_failures.max(1))),
        Some(f64::from(of.loop_restarts.max(1))),
        share(of.connections_used),
    ];
    let named = THRESHOLDS.into_iter().zip(values);
    named.filter_map(|((name, _), value)| Some((name, Fact::Number(value?)))).collect()
}
