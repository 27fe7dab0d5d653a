//! A bound unit: which calls it admits.

use std::collections::BTreeSet;

use theriac_model::call::{Interface, UnitCall};
use theriac_model::denial::{Denial, DenialCause};
use theriac_model::health::HealthCheck;
use theriac_model::id::{Label, UnitName};
use theriac_model::target::Target;
use theriac_model::time::Span;
use theriac_model::unit::{Backend, Property, Signal};
use theriac_model::units::{Bytes, Permille};

use super::missing::{Missing, Verbs};
use super::{suggest, unbound};
use crate::grant::{PropertyBounds, UnitSource, UnitsGrant, UnitsVerb, never};
use crate::host::{HostConfig, UnitConfig};

/// A unit with what one run may do to it.
#[derive(Debug, Clone, PartialEq)]
pub struct BoundUnit {
    /// The label.
    pub label: Label,
    /// The unit.
    pub unit: UnitName,
    /// Which service manager runs it.
    pub backend: Backend,
    /// What the manifest asks for and the operator leaves.
    pub verbs: BTreeSet<UnitsVerb>,
    /// How long a job is waited for.
    pub job_timeout: Span,
    /// What `set-property` may set.
    pub bounds: PropertyBounds,
    /// What `kill` may send.
    pub signals: BTreeSet<Signal>,
    /// Its health checks.
    pub health: Vec<HealthCheck>,
    /// Share of the traffic that depends on it.
    pub traffic_share: Option<Permille>,
    asked: BTreeSet<UnitsVerb>,
    left: BTreeSet<UnitsVerb>,
}

/// The verb of a call; `None` for what every handle can do.
pub(super) const fn verb_of(call: &UnitCall) -> Option<UnitsVerb> {
    Some(match call {
        UnitCall::Name => return None,
        UnitCall::Status => UnitsVerb::Status,
        UnitCall::Start => UnitsVerb::Start,
        UnitCall::Stop => UnitsVerb::Stop,
        UnitCall::Restart => UnitsVerb::Restart,
        UnitCall::Reload => UnitsVerb::Reload,
        UnitCall::Kill { .. } => UnitsVerb::Kill,
        UnitCall::ResetFailed => UnitsVerb::ResetFailed,
        UnitCall::SetProperty { .. } => UnitsVerb::SetProperty,
        UnitCall::LogTail { .. } => UnitsVerb::LogTail,
    })
}

/// The unit a source names, and its entry; what is not listed is not touched.
pub(super) fn listed<'a>(
    source: Option<&UnitName>,
    host: &'a HostConfig,
    target: &Target,
    missing: impl Fn(&str, Option<&UnitName>) -> Denial,
) -> Result<(UnitName, &'a UnitConfig), Denial> {
    let name = match (source, target) {
        (Some(name), _) | (None, Target::Unit(name)) => name,
        // Who serves a certificate is who has to load it.
        (None, Target::Certificate(label)) => {
            let serving = host.certificate(label).and_then(|entry| entry.unit.as_ref());
            serving.ok_or_else(|| missing("incident.unit", None))?
        }
        (None, Target::Mount(_) | Target::Pool(_) | Target::Container(_) | Target::Host) => {
            return Err(missing("incident.unit", None));
        }
    };
    if never::unit(name).is_some() {
        return Err(missing("never", None));
    }
    match host.units.get(name) {
        Some(config) => Ok((name.clone(), config)),
        None => Err(missing("runner.unit", Some(name))),
    }
}

impl BoundUnit {
    pub(super) fn bind(label: &Label, grant: &UnitsGrant, host: &HostConfig, target: &Target) -> Result<Self, Denial> {
        let source = match &grant.unit {
            UnitSource::Name(name) => Some(name),
            UnitSource::Incident => None,
        };
        let (unit, config) = listed(source, host, target, |rule, name| {
            let denial = unbound(Interface::Units, label, DenialCause::NotGranted, rule);
            let verbs = || suggest::list(grant.verbs.iter().filter(|verb| verb.changes()).map(|verb| verb.as_str()));
            match name {
                Some(name) => denial.suggest(suggest::runner(
                    suggest::unit_table(name),
                    ("name", name.as_str()),
                    "verbs",
                    verbs(),
                )),
                None => denial,
            }
        })?;
        let left = |verb: &UnitsVerb| !verb.changes() || config.verbs.contains(verb);
        Ok(Self {
            label: label.clone(),
            unit,
            backend: config.backend,
            verbs: grant.verbs.iter().copied().filter(left).collect(),
            job_timeout: grant.job_timeout,
            bounds: grant.bounds,
            signals: grant.signals.clone(),
            health: config.health.clone(),
            traffic_share: config.traffic_share,
            asked: grant.verbs.clone(),
            left: config.verbs.clone(),
        })
    }

    const fn all_verbs(&self) -> Verbs<'_, UnitsVerb> {
        Verbs { granted: &self.verbs, asked: &self.asked, left: &self.left }
    }

    /// A call on the unit: verb, signal, bounds.
    pub fn admits(&self, call: &UnitCall) -> Result<(), Denial> {
        let Some(verb) = verb_of(call) else { return Ok(()) };
        let manifest = |key: &str, value: String| suggest::manifest(Interface::Units, &self.label, key, value);
        let mut missing = Missing::default();
        if self.all_verbs().not_asked(&verb) {
            missing.add("verbs", manifest("verbs", suggest::list_with(&self.asked, verb, UnitsVerb::as_str)));
        }
        if self.all_verbs().not_left(&verb, verb.changes()) {
            let table = match self.backend {
                Backend::Systemd => "unit",
                Backend::Supervised => "service",
            };
            let list = suggest::list_with(&self.left, verb, UnitsVerb::as_str);
            missing.add("runner.unit.verbs", suggest::runner(table, ("name", self.unit.as_str()), "verbs", list));
        }
        if let UnitCall::Kill { signal, .. } = call
            && !self.signals.contains(signal)
        {
            let list = suggest::list_with(&self.signals, *signal, Signal::as_str);
            missing.add("signals", manifest("signals", list));
        }
        if let UnitCall::SetProperty { property } = call
            && !within(&self.bounds, property)
        {
            missing.add("bounds", widened(&self.bounds, property).map(|(key, value)| manifest(key, value)));
        }
        missing.answer(&self.label, self.attempted(verb, call))
    }

    fn attempted(&self, verb: UnitsVerb, call: &UnitCall) -> String {
        match call {
            UnitCall::Kill { signal, .. } => format!("kill -{} {}", signal.as_str(), self.unit),
            UnitCall::SetProperty { property } => format!("set-property {} {property}", self.unit),
            UnitCall::Name
            | UnitCall::Status
            | UnitCall::Start
            | UnitCall::Stop
            | UnitCall::Restart
            | UnitCall::Reload
            | UnitCall::ResetFailed
            | UnitCall::LogTail { .. } => format!("{verb} {}", self.unit),
        }
    }
}

/// The value lies within the bounds. No value (no limit) never does.
fn within(bounds: &PropertyBounds, property: &Property) -> bool {
    match property {
        Property::CpuQuota(value) => holds(bounds.cpu_quota, *value),
        Property::CpuWeight(value) => holds(bounds.cpu_weight, *value),
        Property::MemoryHigh(value) => holds(bounds.memory_high, *value),
        Property::TasksMax(value) => holds(bounds.tasks_max, *value),
    }
}

fn holds<T: PartialOrd>(bounds: Option<(T, T)>, value: Option<T>) -> bool {
    matches!((bounds, value), (Some((min, max)), Some(value)) if min <= value && value <= max)
}

/// The key with bounds that hold the value too; `None` where the manifest can't say it.
fn widened(bounds: &PropertyBounds, property: &Property) -> Option<(&'static str, String)> {
    fn wide<T: Ord + Copy>(bounds: Option<(T, T)>, value: T) -> (T, T) {
        bounds.map_or((value, value), |(min, max)| (min.min(value), max.max(value)))
    }
    let range = |min: String, max: String| format!("{{ min = {min}, max = {max} }}");
    match *property {
        Property::CpuQuota(value) => {
            let (min, max) = wide(bounds.cpu_quota, value?);
            // The manifest has whole percents, from 1% to 102400%.
            let text = |percent: u32| suggest::text(&format!("{percent}%"));
            let known = min >= 10 && max <= 1_024_000;
            known.then(|| ("cpu_quota", range(text(min / 10), text(max.div_ceil(10)))))
        }
        Property::CpuWeight(value) => {
            let (min, max) = wide(bounds.cpu_weight, value?);
            (min >= 1 && max <= 10_000).then(|| ("cpu_weight", range(min.to_string(), max.to_string())))
        }
        Property::MemoryHigh(value) => {
            let (min, max) = wide(bounds.memory_high, value?);
            let text = |bytes: u64| suggest::text(&format!("{bytes}B"));
            let known = Bytes(min) >= Bytes(1 << 20) && Bytes(max) <= Bytes(1 << 50);
            known.then(|| ("memory_high", range(text(min), text(max))))
        }
        Property::TasksMax(value) => {
            let (min, max) = wide(bounds.tasks_max, value?);
            (min >= 1 && max <= 4_194_304).then(|| ("tasks_max", range(min.to_string(), max.to_string())))
        }
    }
}
