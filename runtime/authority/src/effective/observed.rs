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
    Certificate,
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
        Metric::CertificateLeft => Measured::Certificate,
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
            | (Measured::Certificate, Target::Certificate(_))
            | (Measured::Container, Target::Container(_))
            | (Measured::Pool, Target::Pool(_)) => target.clone(),
            (Measured::Machine, _) => Target::Host,
            (Measured::Mount | Measured::Unit | Measured::Certificate | Measured::Container | Measured::Pool, _) => {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::effective::tests::{applied, bound, rule};
    use crate::manifest::Manifest;

    const TARGETS: [&str; 11] = [
        "unit:web.service",
        "unit:db.service",
        "mount:/var",
        "mount:/srv",
        "certificate:shop",
        "certificate:mail",
        "container:api",
        "container:mail",
        "pool:shop",
        "pool:mail",
        "host",
    ];
    const HOST: &str = "[[unit]]\nname = \"web.service\"\nhealth = [{ tcp = \"127.0.0.1:80\" }]\n\
                        [[unit]]\nname = \"db.service\"\nhealth = [{ tcp = \"127.0.0.1:5432\" }]\n";

    fn manifest(grants: &str) -> String {
        format!(
            "[remedy]\nname = \"x\"\nversion = \"1.0.0\"\nserial = 1\nsummary = \"s\"\nhandles = [\"service-crash\"]\n{grants}"
        )
    }

    #[test]
    fn whatever_the_metric_no_other_targets_series_is_bound() {
        for metric in Metric::ALL {
            let text = manifest(&format!("[grants.series.s]\nmetric = \"{}\"\nwhy = \"w\"\n", metric.as_str()));
            let mut somewhere = 0;
            for target in TARGETS {
                let effective = bound(&text, HOST, target);
                match effective.series("s") {
                    Ok(found) => {
                        let (own, found) = (target.parse().unwrap(), &found.series);
                        assert!(found.target == own || found.target == Target::Host, "{target}: {found:?}");
                        assert_eq!(found.metric, *metric);
                        somewhere += 1;
                    }
                    Err(denial) => assert_eq!(denial.rule, "incident.metric", "{target}"),
                }
            }
            assert!(somewhere > 0, "{} is measured of something", metric.as_str());
        }
    }

    #[test]
    fn a_manifest_names_no_target_and_no_check() {
        let refused = |grants: &str| assert!(Manifest::parse(&manifest(grants)).is_err(), "{grants}");
        for of in ["{ from = \"operator\" }", "\"unit:db.service\"", "{ unit = \"db.service\" }", "{}"] {
            refused(&format!("[grants.series.s]\nmetric = \"unit_cpu\"\nof = {of}\nwhy = \"w\"\n"));
        }
        for check in ["{ tcp = \"127.0.0.1:22\" }", "\"http://127.0.0.1/\"", "{ from = \"operator\" }", "{}"] {
            refused(&format!("[grants.probes.p]\ncheck = {check}\nwhy = \"w\"\n"));
        }
        let fine = "[grants.series.s]\nmetric = \"unit_cpu\"\nof = { from = \"incident\" }\nwhy = \"w\"\n\
                    [grants.probes.p]\ncheck = { from = \"incident\" }\nwhy = \"w\"\n";
        assert!(Manifest::parse(&manifest(fine)).is_ok());
    }

    #[test]
    fn a_probe_has_the_checks_that_the_operator_listed_for_that_unit_and_no_others() {
        let text = manifest("[grants.probes.p]\ncheck = { from = \"incident\" }\nwhy = \"w\"\n");
        let checks = |target| bound(&text, HOST, target).probe("p").map(|probe| probe.checks.clone());
        let shown = |checks: Vec<HealthCheck>| checks.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(shown(checks("unit:web.service").unwrap()), ["TCP connect to 127.0.0.1:80"]);
        assert_eq!(shown(checks("unit:db.service").unwrap()), ["TCP connect to 127.0.0.1:5432"]);
        assert_eq!(rule(checks("mount:/var")), "incident.unit");
        let denial = checks("unit:mail.service").unwrap_err();
        assert_eq!(denial.rule, "runner.unit.health");
        let (text, host) = applied(&denial.suggestion.unwrap(), &text, HOST);
        assert_eq!(bound(&text, &host, "unit:mail.service").probe("p").unwrap().checks.len(), 1);
    }
}
