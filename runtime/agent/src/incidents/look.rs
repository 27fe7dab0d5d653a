//! From an incident to its diagnosis: the evidence that stands at this moment, and what it means.

use std::time::Duration;

use theriac_analysis::diagnose::{Causes, Context};
use theriac_analysis::evidence::Collected;
use theriac_model::diagnosis::{Evidence, EvidenceSource};
use theriac_model::fault::FaultKind;
use theriac_model::incident::Incident;
use theriac_model::observation::{Metric, SeriesId};
use theriac_model::target::Target;

use super::Moment;

/// How far back a series is looked at.
const BACK_S: u32 = 300;
/// Facts younger than this are not written down again: waiting for a cooldown must not fill the record.
const FRESH: Duration = Duration::from_secs(60);

/// Collects evidence and ranks the causes; gives back what else was known at this moment.
pub(super) fn diagnose(incident: &mut Incident, causes: &Causes, at: Moment<'_>) -> Context {
    let context = at.senses.context(&incident.target);
    let mut collected = Collected::after(std::mem::take(&mut incident.evidence));
    collect(incident, &mut collected, at);
    incident.evidence = collected.into_pieces();
    incident.diagnosis = Some(causes.diagnose(incident, &incident.evidence, &context));
    context
}

/// Takes lines of the target's log as evidence, and ranks the causes again with them: by the facts of the diagnosis they belong
/// to, because the log says why it failed and by now it may be up again. `false`: there was nothing new in them.
pub(super) fn read_log(
    incident: &mut Incident,
    causes: &Causes,
    (lines, context): (&[String], Option<&Context>),
    at: Moment<'_>,
) -> bool {
    let before = incident.evidence.len();
    let mut collected = Collected::after(std::mem::take(&mut incident.evidence));
    collected.log(lines, at.now);
    incident.evidence = collected.into_pieces();
    let ranked = context.map(|context| causes.diagnose(incident, &incident.evidence, context).causes);
    // Only the causes: whether to do nothing was decided, and is decided again, at moments of its own.
    if let (Some(diagnosis), Some(ranked)) = (&mut incident.diagnosis, ranked) {
        diagnosis.causes = ranked;
    }
    incident.evidence.len() > before
}

fn collect(incident: &Incident, collected: &mut Collected, at: Moment<'_>) {
    for signal in incident.signals.iter().filter(|signal| !signal.resolved) {
        let name = format!("{}: ", signal.source);
        if !collected.pieces().iter().any(|piece| piece.at == signal.at && piece.summary.starts_with(&name)) {
            collected.signal(signal);
        }
    }
    let told = |piece: &Evidence| matches!(piece.source, EvidenceSource::Signal | EvidenceSource::Log);
    let fresh = |piece: &Evidence| !told(piece) && at.now.since(piece.at) < FRESH;
    if !collected.pieces().iter().any(fresh) {
        facts(incident, collected, at);
    }
}

fn facts(incident: &Incident, collected: &mut Collected, at: Moment<'_>) {
    let target = &incident.target;
    if let Some(state) = at.senses.unit_of(target) {
        collected.unit(state, at.now);
    }
    if let Some(streak) = at.senses.streak(target) {
        collected.health(&streak.last, streak.failures, streak.at);
    }
    for (target, metric) in telling(incident.kind, target) {
        let series = SeriesId { target, metric };
        let readings = at.senses.range(&series, BACK_S);
        collected.series(&series, &readings, incident.onset);
    }
}

/// The series that tell something about a kind of fault.
fn telling(kind: FaultKind, target: &Target) -> Vec<(Target, Metric)> {
    let own: &[Metric] = match kind {
        FaultKind::DiskFull | FaultKind::DiskFilling | FaultKind::LogExplosion => {
            &[Metric::DiskAvailable, Metric::DiskAvailableBytes]
        }
        FaultKind::InodeExhaustion => &[Metric::InodesAvailable],
        FaultKind::CpuSaturation => &[Metric::UnitCpuShare, Metric::UnitProcesses],
        FaultKind::MemoryLeak | FaultKind::OomKill => &[Metric::UnitMemory, Metric::UnitOomKills],
        FaultKind::ServiceCrash | FaultKind::StartLimitHit | FaultKind::BadRelease => {
            &[Metric::UnitMemory, Metric::UnitOomKills]
        }
        FaultKind::ContainerUnhealthy => &[Metric::ContainerUp, Metric::ContainerRestarts],
        FaultKind::ServiceUnhealthy => &[Metric::UnitCpuShare, Metric::UnitMemory],
        FaultKind::CertificateExpiry => &[Metric::CertificateLeft],
        FaultKind::DbConnectionsExhausted => &[Metric::PoolUsed],
        FaultKind::SwapThrash | FaultKind::TrafficFlood | FaultKind::Unknown => &[],
    };
    let host: &[Metric] = match kind {
        FaultKind::CpuSaturation | FaultKind::ServiceUnhealthy | FaultKind::TrafficFlood | FaultKind::Unknown => {
            &[Metric::HostCpu, Metric::HostSteal]
        }
        FaultKind::MemoryLeak | FaultKind::OomKill | FaultKind::SwapThrash => {
            &[Metric::HostMemoryAvailableShare, Metric::HostSwapPages]
        }
        FaultKind::DiskFull
        | FaultKind::DiskFilling
        | FaultKind::LogExplosion
        | FaultKind::InodeExhaustion
        | FaultKind::ServiceCrash
        | FaultKind::StartLimitHit
        | FaultKind::BadRelease
        | FaultKind::ContainerUnhealthy
        | FaultKind::CertificateExpiry
        | FaultKind::DbConnectionsExhausted => &[],
    };
    let own = own.iter().map(|metric| (target.clone(), *metric));
    own.chain(host.iter().map(|metric| (Target::Host, *metric))).collect()
}
