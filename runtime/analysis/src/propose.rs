//! From a diagnosed incident to one proposal: which playbook, which rung. A choice out of the catalog and nothing else.
//!
//! Whether it may run is the runner's business; here is only what to ask for, or why nothing is asked.

use theriac_model::catalog::Catalog;
use theriac_model::diagnosis::{Inaction, InactionReason};
use theriac_model::fault::FaultKind;
use theriac_model::id::RemedyName;
use theriac_model::incident::Incident;
use theriac_model::playbook::Playbook;
use theriac_model::record::Proposal;
use theriac_model::target::Target;
use theriac_model::units::Permille;

use crate::text::foreign;

/// The most pieces of evidence a remedy is told, and the characters of each.
const MAX_EVIDENCE: usize = 32;
const MAX_SUMMARY: usize = 512;
/// A diagnosed cause replaces the incident's own kind only when it is this sure and was itself measured.
const SURE: Permille = Permille::clamped(700);

/// What to do about an incident now.
#[derive(Debug, Clone, PartialEq)]
pub enum Choice {
    /// Ask the runner for this. Also in mode `observe`: the plan is then shown and nothing runs.
    Propose(Box<Proposal>),
    /// Nothing, with the reason.
    Nothing(Inaction),
    /// A person, with the reason.
    Escalate(String),
}

/// Chooses the next rung. The incident's `playbook` says which one comes next; `None` starts the ladder.
pub fn propose(incident: &Incident, catalog: &Catalog) -> Choice {
    if let Some(inaction) = incident.diagnosis.as_ref().and_then(|diagnosis| diagnosis.inaction.clone()) {
        return Choice::Nothing(inaction);
    }
    if !catalog.targets.iter().any(|spec| spec.target == incident.target) {
        let summary = format!("{} is not listed in runner.toml, so nothing may be done to it", incident.target);
        return Choice::Nothing(Inaction { reason: InactionReason::NotListed, summary });
    }
    if incident.kind == FaultKind::Unknown {
        return Choice::Escalate("no rule names this fault, and unknown faults are for people".to_owned());
    }
    let kinds = kinds(incident);
    let playbook = match &incident.playbook {
        Some((name, _)) => catalog.playbooks.iter().find(|playbook| playbook.name == *name).zip(Some(incident.kind)),
        None => kinds.iter().find_map(|kind| playbook_for(*kind, &incident.target, catalog).zip(Some(*kind))),
    };
    let Some((playbook, kind)) = playbook else {
        let summary = format!("no playbook is in force for {}", incident.kind);
        return Choice::Nothing(Inaction { reason: InactionReason::NoPlaybook, summary });
    };
    let kind = kinds.into_iter().find(|kind| playbook.handles.contains(kind)).unwrap_or(kind);
    next_rung(incident, kind, playbook, catalog)
}

/// The diagnosed cause first, where a local signal of that kind stands beside it, then the incident's own kind.
fn kinds(incident: &Incident) -> Vec<FaultKind> {
    let causes = incident.diagnosis.iter().flat_map(|diagnosis| &diagnosis.causes).take(1);
    let measured = |kind: FaultKind| incident.signals.iter().any(|signal| signal.kind == kind && !signal.resolved);
    let sure =
        causes.filter(|cause| cause.confidence >= SURE && cause.target == incident.target && measured(cause.kind));
    let mut kinds: Vec<FaultKind> = sure.map(|cause| cause.kind).collect();
    if !kinds.contains(&incident.kind) {
        kinds.push(incident.kind);
    }
    kinds
}

/// A playbook that names the target wins over one that does not.
fn playbook_for<'a>(kind: FaultKind, target: &Target, catalog: &'a Catalog) -> Option<&'a Playbook> {
    let fits = || catalog.playbooks.iter().filter(|playbook| playbook.is_for(kind, target));
    fits().find(|playbook| !playbook.targets.is_empty()).or_else(|| fits().next())
}

fn next_rung(incident: &Incident, kind: FaultKind, playbook: &Playbook, catalog: &Catalog) -> Choice {
    let next = incident.playbook.as_ref().map_or(0, |(_, next)| *next);
    let offered = |name: &RemedyName| {
        catalog.remedies.iter().any(|offer| offer.remedy.name == *name && offer.handles.contains(&kind))
    };
    let rungs = (0_u32..).zip(&playbook.rungs).filter(|(index, _)| *index >= next);
    let mut missing = Vec::new();
    for (index, rung) in rungs {
        // A rung whose remedy is not approved here is passed over: the next one may still help.
        if !offered(&rung.remedy) {
            missing.push(rung.remedy.as_str());
            continue;
        }
        return Choice::Propose(Box::new(Proposal {
            incident: incident.id.clone(),
            kind,
            target: incident.target.clone(),
            playbook: playbook.name.clone(),
            rung: index,
            remedy: rung.remedy.clone(),
            params: rung.params.clone(),
            onset: incident.onset,
            detected: incident.detected,
            evidence: evidence(incident),
        }));
    }
    match (next, missing.is_empty()) {
        (0, false) => {
            let summary = format!(
                "playbook `{}` needs a remedy that is not approved here: {}",
                playbook.name,
                missing.join(", ")
            );
            Choice::Nothing(Inaction { reason: InactionReason::NoPlaybook, summary })
        }
        (_, _) => Choice::Escalate(format!("no rung of playbook `{}` is left", playbook.name)),
    }
}

fn evidence(incident: &Incident) -> Vec<(theriac_model::id::EvidenceId, String)> {
    let pieces = incident.evidence.iter().take(MAX_EVIDENCE);
    // Escaping can make a summary longer, so it is cut once more.
    let short = |text: &str| foreign(text, MAX_SUMMARY / 2).chars().take(MAX_SUMMARY).collect();
    pieces.map(|piece| (piece.id.clone(), short(&piece.summary))).collect()
}

#[cfg(test)]
mod tests {
    use theriac_model::catalog::{Mode, TargetSpec, Thresholds};
    use theriac_model::diagnosis::Diagnosis;
    use theriac_model::fault::Severity;
    use theriac_model::id::{Digest, IncidentId, PlaybookName};
    use theriac_model::incident::IncidentState;
    use theriac_model::playbook::{Level, Rung};
    use theriac_model::remedy::{Params, RemedyOffer, RemedyRef};
    use theriac_model::time::{Span, Timestamp};

    use super::*;

    fn rung(remedy: &str) -> Rung {
        Rung {
            remedy: RemedyName::parse(remedy).unwrap(),
            params: Params::new(),
            level: Level::ONE,
            healed_within: None,
            stable_for: None,
        }
    }

    fn offer(name: &str) -> RemedyOffer {
        let remedy = RemedyRef {
            name: RemedyName::parse(name).unwrap(),
            version: "1.0.0".into(),
            serial: 1,
            component: Digest::of(name.as_bytes()),
        };
        let handles = vec![FaultKind::CpuSaturation];
        RemedyOffer { remedy, summary: String::new(), handles, params: std::collections::BTreeMap::new() }
    }

    fn catalog(remedies: &[&str]) -> Catalog {
        Catalog {
            targets: vec![TargetSpec {
                target: "unit:web.service".parse().unwrap(),
                traffic_share: None,
                health: Vec::new(),
                thresholds: Thresholds::default(),
                backend: None,
            }],
            playbooks: vec![Playbook {
                name: PlaybookName::parse("cpu").unwrap(),
                summary: String::new(),
                handles: vec![FaultKind::CpuSaturation],
                targets: Vec::new(),
                rungs: vec![rung("cpu-calm"), rung("service-recover")],
            }],
            remedies: remedies.iter().map(|name| offer(name)).collect(),
            mode: Mode::Observe,
            sample_every: Span::from_secs(1),
        }
    }

    fn incident(kind: FaultKind) -> Incident {
        Incident {
            id: IncidentId::parse("20261123-1").unwrap(),
            state: IncidentState::Diagnosed,
            kind,
            target: "unit:web.service".parse().unwrap(),
            severity: Severity::Warning,
            onset: Timestamp(1),
            detected: Timestamp(2),
            healed: None,
            stable: None,
            closed: None,
            signals: Vec::new(),
            evidence: Vec::new(),
            diagnosis: Some(Diagnosis { causes: Vec::new(), inaction: None }),
            playbook: None,
            runs: Vec::new(),
            timeline: Vec::new(),
        }
    }

    fn rung_of(choice: Choice) -> Option<(u32, String)> {
        match choice {
            Choice::Propose(proposal) => Some((proposal.rung, proposal.remedy.to_string())),
            Choice::Nothing(_) | Choice::Escalate(_) => None,
        }
    }

    fn at(rung: u32) -> Incident {
        Incident { playbook: Some((PlaybookName::parse("cpu").unwrap(), rung)), ..incident(FaultKind::CpuSaturation) }
    }

    #[test]
    fn the_ladder_is_climbed_rung_by_rung_and_then_a_person_is_needed() {
        let catalog = catalog(&["cpu-calm", "service-recover"]);
        assert_eq!(rung_of(propose(&incident(FaultKind::CpuSaturation), &catalog)), Some((0, "cpu-calm".into())));
        assert_eq!(rung_of(propose(&at(1), &catalog)), Some((1, "service-recover".into())));
        assert_eq!(propose(&at(2), &catalog), Choice::Escalate("no rung of playbook `cpu` is left".into()));
    }

    #[test]
    fn a_rung_without_an_approved_remedy_is_passed_over() {
        let first = incident(FaultKind::CpuSaturation);
        assert_eq!(rung_of(propose(&first, &catalog(&["service-recover"]))), Some((1, "service-recover".into())));
        let Choice::Nothing(inaction) = propose(&first, &catalog(&[])) else { panic!() };
        assert_eq!(inaction.reason, InactionReason::NoPlaybook);
        assert!(inaction.summary.contains("cpu-calm, service-recover"), "{}", inaction.summary);
    }

    #[test]
    fn unlisted_unknown_and_unhandled_are_told_apart() {
        let catalog = catalog(&["cpu-calm"]);
        let mut other = incident(FaultKind::CpuSaturation);
        other.target = "unit:other.service".parse().unwrap();
        assert!(matches!(
            propose(&other, &catalog),
            Choice::Nothing(Inaction { reason: InactionReason::NotListed, .. })
        ));
        assert!(matches!(propose(&incident(FaultKind::Unknown), &catalog), Choice::Escalate(_)));
        let unhandled = propose(&incident(FaultKind::ServiceCrash), &catalog);
        assert!(matches!(unhandled, Choice::Nothing(Inaction { reason: InactionReason::NoPlaybook, .. })));
    }

    #[test]
    fn a_playbook_that_names_the_target_wins() {
        let mut catalog = catalog(&["cpu-calm", "service-recover"]);
        let mut own = catalog.playbooks[0].clone();
        own.name = PlaybookName::parse("web-only").unwrap();
        own.targets = vec!["unit:web.service".parse().unwrap()];
        own.rungs.remove(0);
        catalog.playbooks.push(own);
        let first = incident(FaultKind::CpuSaturation);
        assert_eq!(rung_of(propose(&first, &catalog)), Some((0, "service-recover".into())));
        catalog.playbooks[1].targets = vec!["unit:other.service".parse().unwrap()];
        assert_eq!(rung_of(propose(&first, &catalog)), Some((0, "cpu-calm".into())));
    }

    #[test]
    fn a_decision_to_do_nothing_stands() {
        let mut incident = incident(FaultKind::CpuSaturation);
        let inaction = Inaction { reason: InactionReason::BackupRunning, summary: "restic runs".into() };
        incident.diagnosis = Some(Diagnosis { causes: Vec::new(), inaction: Some(inaction.clone()) });
        assert_eq!(propose(&incident, &catalog(&["cpu-calm"])), Choice::Nothing(inaction));
    }
}
