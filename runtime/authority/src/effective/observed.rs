//! Bound series and probes: read only, and only of the incident's target or of the machine.

use theriac_model::call::Interface;
use theriac_model::denial::{Denial, DenialCause};
use theriac_model::health::HealthCheck;
use theriac_model::id::Label;
use theriac_model::observation::{Metric, SeriesId};
use theriac_model::target::Target;

use super::{suggest, unbound};
use crate::grant::SeriesGrant;
use crate::host::HostConfig;

/// A series that may be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BoundSeries {
    /// The label.
    pub label: Label,
    /// Which series.
    pub series: SeriesId,
}

/// Health checks that may be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BoundProbe {
    /// The label.
    pub label: Label,
    /// Of which target.
    pub target: Target,
    /// The checks; all must pass.
    pub checks: Vec<HealthCheck>,
}

/// What a metric is measured of.
enum Measured {
    Mount,
    Unit,
    Container,
    Pool,
    Machine,
}

const fn measured(metric: Metric) -> Measured {
    match metric {
        Metric::DiskAvailable | Metric::DiskAvailableBytes | Metric::InodesAvailable => Measured::Mount,
        Metric::UnitCpu
        | Metric::UnitCpuShare
        | Metric::UnitMemory
        | Metric::UnitProcesses
        | Metric::UnitOomKills
        | Metric::UnitUp
        | Metric::UnitFailed
        | Metric::UnitStartLimit
        | Metric::UnitWillRestart
        | Metric::UnitHealthy => Measured::Unit,
        Metric::ContainerUp
        | Metric::ContainerFailed
        | Metric::ContainerHealthy
        | Metric::ContainerRestarts
        | Metric::ContainerRecentRestarts => Measured::Container,
        Metric::PoolUsed => Measured::Pool,
        Metric::HostCpu
        | Metric::HostSteal
        | Metric::HostLoad1
        | Metric::HostMemoryAvailable
        | Metric::HostMemoryAvailableShare
        | Metric::HostSwapPages
        | Metric::HostCpuPressure
        | Metric::HostMemoryPressure
        | Metric::HostIoPressure => Measured::Machine,
    }
}

impl BoundSeries {
    pub(super) fn bind(label: &Label, grant: &SeriesGrant, target: &Target) -> Result<Self, Denial> {
        let target = match (measured(grant.metric), target) {
            (Measured::Mount, Target::Mount(_))
            | (Measured::Unit, Target::Unit(_))
            | (Measured::Container, Target::Container(_))
            | (Measured::Pool, Target::Pool(_)) => target.clone(),
            (Measured::Machine, _) => Target::Host,
            (Measured::Mount | Measured::Unit | Measured::Container | Measured::Pool, _) => {
                return Err(unbound(Interface::Series, label, DenialCause::Unavailable, "incident.metric"));
            }
        };
        Ok(Self { label: label.clone(), series: SeriesId { target, metric: grant.metric } })
    }
}

impl BoundProbe {
    pub(super) fn bind(label: &Label, host: &HostConfig, target: &Target) -> Result<Self, Denial> {
        let denial = |rule| unbound(Interface::Probes, label, DenialCause::Unavailable, rule);
        let Target::Unit(name) = target else { return Err(denial("incident.unit")) };
        let checks = host.units.get(name).map(|unit| unit.health.clone()).unwrap_or_default();
        if checks.is_empty() {
            let example = r#"[{ tcp = "127.0.0.1:80" }]"#;
            let line = suggest::runner(suggest::unit_table(name), ("name", name.as_str()), "health", example);
            return Err(denial("runner.unit.health").suggest(line));
        }
        Ok(Self { label: label.clone(), target: target.clone(), checks })
    }
}
