//! Signals become incidents: what concerns one target and one family of faults is one incident, with one stable id.
//!
//! The correlator owns the open incidents; their life after diagnosis is the caller's, who moves their state. It never closes one
//! by itself: that all signals ended is told, and whether that means healed is measured elsewhere.

use std::collections::BTreeMap;

use theriac_model::fault::FaultKind;
use theriac_model::id::IncidentId;
use theriac_model::incident::{Incident, IncidentState};
use theriac_model::signal::Signal;
use theriac_model::target::Target;
use theriac_model::time::Timestamp;

/// Open incidents; an alert storm beyond this is counted, not stored.
pub const MAX_OPEN: usize = 256;
/// Signals kept per incident: one per rule or alert.
pub const MAX_SIGNALS: usize = 64;
/// Lines of a timeline.
pub const MAX_TIMELINE: usize = 256;

/// What one signal changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A new incident.
    Opened(IncidentId),
    /// Another signal joined; with `kind` the incident is now taken for something else.
    Joined { id: IncidentId, kind: Option<FaultKind> },
    /// The same signal again; nothing but its numbers changed.
    Repeated(IncidentId),
    /// A signal ended, and others have not.
    Eased(IncidentId),
    /// The last signal ended.
    Cleared(IncidentId),
    /// The end of something that was not open.
    Nothing,
    /// There is no room for it.
    Dropped,
}

/// The open incidents.
#[derive(Debug)]
pub struct Correlator {
    open: BTreeMap<IncidentId, Incident>,
    next: u64,
    dropped: u64,
}

/// Kinds that are faces of one trouble. Families never mix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    Service,
    Space,
    Inodes,
    Certificate,
    Connections,
    Memory,
    Traffic,
    Unknown,
}

const fn family(kind: FaultKind) -> Family {
    match kind {
        FaultKind::ServiceCrash
        | FaultKind::ServiceUnhealthy
        | FaultKind::StartLimitHit
        | FaultKind::OomKill
        | FaultKind::CpuSaturation
        | FaultKind::MemoryLeak
        | FaultKind::ContainerUnhealthy
        | FaultKind::BadRelease => Family::Service,
        FaultKind::DiskFull | FaultKind::DiskFilling | FaultKind::LogExplosion => Family::Space,
        FaultKind::InodeExhaustion => Family::Inodes,
        FaultKind::CertificateExpiry => Family::Certificate,
        FaultKind::DbConnectionsExhausted => Family::Connections,
        FaultKind::SwapThrash => Family::Memory,
        FaultKind::TrafficFlood => Family::Traffic,
        FaultKind::Unknown => Family::Unknown,
    }
}

/// The more specific kind wins: it says more about what to do. Causes stand above their symptoms.
const fn specificity(kind: FaultKind) -> u8 {
    match kind {
        FaultKind::StartLimitHit => 9,
        FaultKind::OomKill => 8,
        FaultKind::ServiceCrash => 7,
        FaultKind::BadRelease => 6,
        FaultKind::MemoryLeak => 5,
        FaultKind::CpuSaturation | FaultKind::DiskFull => 4,
        FaultKind::ServiceUnhealthy | FaultKind::ContainerUnhealthy | FaultKind::LogExplosion => 3,
        FaultKind::DiskFilling
        | FaultKind::InodeExhaustion
        | FaultKind::CertificateExpiry
        | FaultKind::DbConnectionsExhausted
        | FaultKind::SwapThrash
        | FaultKind::TrafficFlood => 2,
        FaultKind::Unknown => 0,
    }
}

impl Correlator {
    /// With what was open before a restart, and the number of the next incident.
    pub fn new(open: impl IntoIterator<Item = Incident>, next: u64) -> Self {
        Self { open: open.into_iter().map(|incident| (incident.id.clone(), incident)).collect(), next, dropped: 0 }
    }

    /// The number the next incident will have: to be stored, so that ids are never given twice.
    pub const fn next_number(&self) -> u64 {
        self.next
    }

    /// Signals there was no room for.
    pub const fn dropped(&self) -> u64 {
        self.dropped
    }

    /// The open incidents, by id.
    pub fn open(&self) -> impl Iterator<Item = &Incident> {
        self.open.values()
    }

    /// One open incident.
    pub fn get(&self, id: &IncidentId) -> Option<&Incident> {
        self.open.get(id)
    }

    /// One open incident, to move its life on.
    pub fn get_mut(&mut self, id: &IncidentId) -> Option<&mut Incident> {
        self.open.get_mut(id)
    }

    /// Takes an incident that ended.
    pub fn remove(&mut self, id: &IncidentId) -> Option<Incident> {
        self.open.remove(id)
    }

    /// Puts a signal where it belongs.
    pub fn take(&mut self, signal: Signal) -> Change {
        match self.home_of(&signal) {
            Some(id) => self.join(&id, signal),
            None if signal.resolved => Change::Nothing,
            None => self.begin(signal),
        }
    }

    fn home_of(&self, signal: &Signal) -> Option<IncidentId> {
        let same =
            |incident: &&Incident| incident.target == signal.target && family(incident.kind) == family(signal.kind);
        self.open.values().find(same).map(|incident| incident.id.clone())
    }

    fn begin(&mut self, signal: Signal) -> Change {
        let id = format!("{}-{}", day(signal.onset), self.next);
        let id = IncidentId::parse(&id).ok().filter(|id| self.open.len() < MAX_OPEN && !self.open.contains_key(id));
        let Some(id) = id else {
            self.dropped = self.dropped.saturating_add(1);
            return Change::Dropped;
        };
        self.next = self.next.saturating_add(1);
        let incident = Incident {
            id: id.clone(),
            state: IncidentState::Opened,
            kind: signal.kind,
            target: signal.target.clone(),
            severity: signal.severity,
            onset: signal.onset,
            detected: signal.at,
            healed: None,
            stable: None,
            closed: None,
            timeline: vec![(signal.at, format!("signal {}: {}", signal.source, signal.summary))],
            signals: vec![signal],
            evidence: Vec::new(),
            diagnosis: None,
            playbook: None,
            runs: Vec::new(),
        };
        self.open.insert(id.clone(), incident);
        Change::Opened(id)
    }

    fn join(&mut self, id: &IncidentId, signal: Signal) -> Change {
        let Some(incident) = self.open.get_mut(id) else { return Change::Nothing };
        let known = incident.signals.iter().rposition(|known| known.source == signal.source && !known.resolved);
        match (known.and_then(|index| incident.signals.get_mut(index)), signal.resolved) {
            (None, true) => Change::Nothing,
            (Some(known), true) => {
                known.resolved = true;
                known.at = signal.at;
                note(incident, signal.at, format!("signal {} ended", signal.source));
                if incident.signals.iter().all(|signal| signal.resolved) {
                    Change::Cleared(id.clone())
                } else {
                    Change::Eased(id.clone())
                }
            }
            (Some(known), false) => {
                // The onset stays the first one: an alert that is sent again did not begin again.
                let onset = known.onset.min(signal.onset);
                *known = Signal { onset, ..signal };
                Change::Repeated(id.clone())
            }
            (None, false) => {
                incident.severity = incident.severity.max(signal.severity);
                incident.onset = incident.onset.min(signal.onset);
                note(incident, signal.at, format!("signal {}: {}", signal.source, signal.summary));
                if incident.signals.len() >= MAX_SIGNALS {
                    forget_one(&mut incident.signals);
                }
                incident.signals.push(signal);
                Change::Joined { id: id.clone(), kind: reconsider(incident) }
            }
        }
    }
}

/// Looks again at what an incident is taken for, by its open signals; only before a rung was chosen, because a ladder that has begun
/// belongs to its kind. `Some` when it changed.
pub fn reconsider(incident: &mut Incident) -> Option<FaultKind> {
    match incident.state {
        IncidentState::Opened | IncidentState::Diagnosed => {}
        IncidentState::Planned
        | IncidentState::AwaitingConsent
        | IncidentState::Healing
        | IncidentState::Healed
        | IncidentState::Escalated
        | IncidentState::Closed => return None,
    }
    let open = incident.signals.iter().filter(|signal| !signal.resolved);
    let kind = open.map(|signal| signal.kind).max_by_key(|kind| specificity(*kind))?;
    if kind == incident.kind {
        return None;
    }
    incident.kind = kind;
    // The ladder was the other kind's.
    incident.playbook = None;
    Some(kind)
}

/// Adds a line to the timeline; of a long one the beginning and the newest lines stay.
pub fn note(incident: &mut Incident, at: Timestamp, line: String) {
    if incident.timeline.len() >= MAX_TIMELINE {
        incident.timeline.remove(MAX_TIMELINE / 2);
    }
    incident.timeline.push((at, line));
}

/// Drops the oldest ended signal, or the oldest but the first.
fn forget_one(signals: &mut Vec<Signal>) {
    let index = signals.iter().position(|signal| signal.resolved).unwrap_or(1);
    if index < signals.len() {
        signals.remove(index);
    }
}

/// `20261123`, for people who read ids aloud.
fn day(at: Timestamp) -> String {
    i64::try_from(at.0)
        .ok()
        .and_then(|millis| jiff::Timestamp::from_millisecond(millis).ok())
        .map_or_else(|| "00000000".to_owned(), |at| at.strftime("%Y%m%d").to_string())
}

/// Whether a target has an open incident of the kind's family.
pub fn concerns(incident: &Incident, target: &Target, kind: FaultKind) -> bool {
    incident.target == *target && family(incident.kind) == family(kind)
}

#[cfg(test)]
mod tests {
    use theriac_model::fault::Severity;
    use theriac_model::signal::Origin;

    use super::*;

    fn signal(source: &str, kind: FaultKind, target: &str, at: u64) -> Signal {
        Signal {
            source: source.into(),
            kind,
            target: target.parse().unwrap(),
            severity: Severity::Warning,
            summary: "odd".into(),
            numbers: Vec::new(),
            onset: Timestamp(1_795_339_561_000 + at),
            at: Timestamp(1_795_339_561_000 + at),
            resolved: false,
            origin: Origin::Local,
        }
    }

    fn ended(signal: Signal) -> Signal {
        Signal { resolved: true, ..signal }
    }

    fn one(correlator: &Correlator) -> &Incident {
        let mut open = correlator.open();
        let incident = open.next().unwrap();
        assert!(open.next().is_none());
        incident
    }

    const WEB: &str = "unit:web.service";

    #[test]
    fn a_crash_after_failed_checks_is_one_incident_and_the_more_specific_kind() {
        let mut correlator = Correlator::new([], 7);
        let opened = correlator.take(signal("service-unhealthy", FaultKind::ServiceUnhealthy, WEB, 0));
        let Change::Opened(id) = opened else { panic!("{opened:?}") };
        assert_eq!(id.as_str(), "20261122-7");
        let joined = correlator.take(signal("service-crash", FaultKind::ServiceCrash, WEB, 5));
        assert_eq!(joined, Change::Joined { id: id.clone(), kind: Some(FaultKind::ServiceCrash) });
        let joined = correlator.take(signal("start-limit-hit", FaultKind::StartLimitHit, WEB, 9));
        assert_eq!(joined, Change::Joined { id: id.clone(), kind: Some(FaultKind::StartLimitHit) });
        let joined = correlator.take(signal("cpu", FaultKind::CpuSaturation, WEB, 10));
        assert_eq!(joined, Change::Joined { id, kind: None });
        assert_eq!(one(&correlator).onset, Timestamp(1_795_339_561_000));
    }

    #[test]
    fn other_targets_and_other_families_are_other_incidents() {
        let mut correlator = Correlator::new([], 1);
        correlator.take(signal("a", FaultKind::DiskFull, "mount:/var", 0));
        correlator.take(signal("b", FaultKind::DiskFull, "mount:/srv", 0));
        correlator.take(signal("c", FaultKind::InodeExhaustion, "mount:/var", 0));
        correlator.take(signal("d", FaultKind::DiskFilling, "mount:/var", 0));
        assert_eq!(correlator.open().count(), 3);
    }

    #[test]
    fn the_same_signal_again_changes_no_onset_and_opens_nothing() {
        let mut correlator = Correlator::new([], 1);
        correlator.take(signal("a", FaultKind::DiskFull, "mount:/var", 0));
        let again = correlator.take(signal("a", FaultKind::DiskFull, "mount:/var", 60_000));
        assert!(matches!(again, Change::Repeated(_)));
        let incident = one(&correlator);
        assert_eq!((incident.signals.len(), incident.signals[0].onset), (1, Timestamp(1_795_339_561_000)));
    }

    #[test]
    fn the_end_of_the_last_signal_clears_and_an_end_without_a_beginning_is_nothing() {
        let mut correlator = Correlator::new([], 1);
        let crash = || signal("crash", FaultKind::ServiceCrash, WEB, 0);
        assert_eq!(correlator.take(ended(crash())), Change::Nothing);
        correlator.take(crash());
        correlator.take(signal("checks", FaultKind::ServiceUnhealthy, WEB, 1));
        assert!(matches!(correlator.take(ended(crash())), Change::Eased(_)));
        assert_eq!(correlator.take(ended(crash())), Change::Nothing);
        assert!(matches!(
            correlator.take(ended(signal("checks", FaultKind::ServiceUnhealthy, WEB, 2))),
            Change::Cleared(_)
        ));
        assert!(correlator.take(crash()) != Change::Nothing, "it comes back into the incident that is still open");
    }

    #[test]
    fn a_ladder_that_has_begun_keeps_its_kind() {
        let mut correlator = Correlator::new([], 1);
        let Change::Opened(id) = correlator.take(signal("checks", FaultKind::ServiceUnhealthy, WEB, 0)) else {
            panic!()
        };
        correlator.get_mut(&id).unwrap().state = IncidentState::Healing;
        let joined = correlator.take(signal("crash", FaultKind::ServiceCrash, WEB, 1));
        assert_eq!(joined, Change::Joined { id: id.clone(), kind: None });
        let incident = correlator.get_mut(&id).unwrap();
        incident.state = IncidentState::Diagnosed;
        assert_eq!(reconsider(incident), Some(FaultKind::ServiceCrash));
    }

    #[test]
    fn an_alert_storm_is_bounded() {
        let mut correlator = Correlator::new([], 1);
        for unit in 0..MAX_OPEN + 10 {
            correlator.take(signal("x", FaultKind::ServiceCrash, &format!("unit:u{unit}.service"), 0));
        }
        assert_eq!((correlator.open().count(), correlator.dropped()), (MAX_OPEN, 10));
        for source in 0..MAX_SIGNALS * 5 {
            correlator.take(signal(&format!("s{source}"), FaultKind::ServiceCrash, "unit:u0.service", 1));
        }
        let incident = correlator.open().find(|incident| incident.target.to_string() == "unit:u0.service").unwrap();
        assert_eq!(incident.signals.len(), MAX_SIGNALS);
        assert!(incident.timeline.len() <= MAX_TIMELINE && incident.signals[0].source == "x");
    }
}
