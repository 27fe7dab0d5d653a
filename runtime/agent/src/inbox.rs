//! The inbox: alerts and incidents on disk, in the journal's segments, below the agent's own user.
//!
//! An alert is here before its sender hears 2xx, and an incident's snapshot before anything is asked for it. A snapshot is
//! whole, so that the newest one of an incident is all that counts. When the disk fails, healing goes on without memory (a full
//! disk is one of the faults to heal), and alerts are turned away.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;

use serde::{Deserialize, Serialize};
use theriac_journal::Log;
use theriac_journal::log::AppendError;
use theriac_journal::segment::{Durability, OpenError, Options};
use theriac_model::id::IncidentId;
use theriac_model::incident::{Incident, IncidentState};
use theriac_model::record::IncidentSummary;
use theriac_model::time::Timestamp;

use crate::clock::chain;

/// A full incident is about 300 KiB; two files of 4 MiB, and the one in use.
const OPTIONS: Options = Options { segment_bytes: 4 << 20, spares: 2 };
/// Closed incidents kept for people.
const KEPT: usize = 200;
/// Alerts remembered, so that one that is sent twice is kept once.
const KEPT_ALERTS: usize = 4_096;
/// Records after which what is still wanted is written again and the rest dropped.
const COMPACT_AFTER: u64 = 2_048;

/// One record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum Record {
    /// An alert was taken in.
    Alert { at: Timestamp, key: AlertKey, meaning: String },
    /// An incident as it is now; `next` is the number of the next one, so that ids are never given twice.
    Incident { at: Timestamp, incident: Box<Incident>, next: u64 },
    /// How an incident ended; the runner is still to be told.
    Ended { at: Timestamp, summary: IncidentSummary },
    /// The runner has heard of it.
    Reported { at: Timestamp, incident: IncidentId },
    /// The agent was alive.
    Alive { at: Timestamp, boot: String },
}

/// What makes two alerts the same.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AlertKey {
    pub(crate) fingerprint: String,
    pub(crate) starts_at: String,
    pub(crate) resolved: bool,
}

/// What the inbox holds.
#[derive(Debug)]
pub(crate) struct Inbox {
    log: Log<Record>,
    kept: Kept,
    /// Records up to this position were written again at the last compaction.
    compacted: u64,
    failed: Option<String>,
}

/// The records folded together.
#[derive(Debug, Default)]
struct Kept {
    incidents: BTreeMap<IncidentId, Incident>,
    closed: VecDeque<IncidentId>,
    unreported: BTreeMap<IncidentId, IncidentSummary>,
    alerts: BTreeMap<AlertKey, (Timestamp, String)>,
    alert_order: VecDeque<AlertKey>,
    next: u64,
    last: Option<Timestamp>,
    boot: Option<String>,
}

/// What was there before.
#[derive(Debug)]
pub(crate) struct Reopened {
    pub(crate) inbox: Inbox,
    /// Incidents that are not closed.
    pub(crate) open: Vec<Incident>,
    /// Ends the runner has not heard of.
    pub(crate) unreported: Vec<IncidentSummary>,
    /// The number of the next incident.
    pub(crate) next: u64,
    /// The last record's time, and the boot it was written in.
    pub(crate) last: Option<(Timestamp, Option<String>)>,
}

impl Inbox {
    /// Opens it. Malformed saved state means stop and ask, never "start empty".
    pub(crate) fn open(directory: &Path) -> Result<Reopened, OpenError> {
        Self::open_with(directory, OPTIONS)
    }

    fn open_with(directory: &Path, options: Options) -> Result<Reopened, OpenError> {
        let replayed = Log::<Record>::open(directory, options)?;
        let mut kept = Kept::default();
        let compacted = replayed.records.first().map_or(0, |(seq, _)| *seq);
        for (_, record) in replayed.records {
            kept.fold(record);
        }
        let open =
            kept.incidents.values().filter(|incident| incident.state != IncidentState::Closed).cloned().collect();
        let unreported = kept.unreported.values().cloned().collect();
        let (next, last) = (kept.next.max(1), kept.last.map(|at| (at, kept.boot.clone())));
        Ok(Reopened { inbox: Self { log: replayed.log, kept, compacted, failed: None }, open, unreported, next, last })
    }

    /// Whether it can be written.
    pub(crate) const fn is_writable(&self) -> bool {
        self.failed.is_none()
    }

    /// Whether this alert is here already.
    pub(crate) fn knows(&self, key: &AlertKey) -> bool {
        self.kept.alerts.contains_key(key)
    }

    /// Appends the records in their order and makes them durable with one sync. All or an error.
    pub(crate) fn keep(&mut self, records: Vec<Record>) -> Result<(), AppendError> {
        let kept = records.iter().try_for_each(|record| self.log.append(record, Durability::Buffered).map(drop));
        let kept = kept.and_then(|()| self.log.sync());
        match &kept {
            Ok(()) => {
                self.failed = None;
                records.into_iter().for_each(|record| self.kept.fold(record));
            }
            Err(error) => {
                if self.failed.is_none() {
                    tracing::error!(error = chain(error), "the inbox can't be written; healing goes on without it");
                }
                self.failed = Some(error.to_string());
                // What people are shown is right all the same.
                records
                    .into_iter()
                    .filter(|record| matches!(record, Record::Incident { .. }))
                    .for_each(|record| self.kept.fold(record));
            }
        }
        kept
    }

    /// The agent is alive. Not synced: a lost minute makes an outage look a minute longer.
    pub(crate) fn alive(&mut self, at: Timestamp, boot: &str) {
        let record = Record::Alive { at, boot: boot.to_owned() };
        match self.log.append(&record, Durability::Buffered) {
            Ok(_) => self.kept.fold(record),
            Err(error) => self.failed = Some(error.to_string()),
        }
        if self.log.end().saturating_sub(self.compacted) >= COMPACT_AFTER {
            self.compact(at);
        }
        if let Err(error) = self.log.top_up() {
            tracing::debug!(error = chain(&error), "the inbox's reserve can't be filled up");
        }
    }

    /// Writes again what is still wanted, then drops what is older.
    fn compact(&mut self, at: Timestamp) {
        let from = self.log.end();
        let next = self.kept.next;
        let closed_first =
            self.kept.closed.iter().chain(self.kept.incidents.keys().filter(|id| !self.kept.closed.contains(id)));
        let incidents = closed_first.filter_map(|id| self.kept.incidents.get(id));
        let mut records: Vec<Record> =
            incidents.map(|incident| Record::Incident { at, incident: Box::new(incident.clone()), next }).collect();
        let unreported = self.kept.unreported.values().cloned();
        records.extend(unreported.map(|summary| Record::Ended { at, summary }));
        let alert = |key: &AlertKey| {
            let (at, meaning) = self.kept.alerts.get(key)?;
            Some(Record::Alert { at: *at, key: key.clone(), meaning: meaning.clone() })
        };
        records.extend(self.kept.alert_order.iter().filter_map(alert));
        self.compacted = from;
        if self.keep(records).is_ok()
            && let Err(error) = self.log.drop_before(from)
        {
            tracing::warn!(error = chain(&error), "old segments of the inbox can't be removed");
        }
    }

    /// Newest first.
    pub(crate) fn newest(&self, limit: usize) -> Vec<Incident> {
        let mut incidents: Vec<&Incident> = self.kept.incidents.values().collect();
        incidents.sort_by_key(|incident| std::cmp::Reverse((incident.detected, incident.id.clone())));
        incidents.into_iter().take(limit).cloned().collect()
    }

    /// One of them.
    pub(crate) fn get(&self, id: &IncidentId) -> Option<&Incident> {
        self.kept.incidents.get(id)
    }
}

impl Kept {
    fn fold(&mut self, record: Record) {
        match record {
            Record::Alert { at, key, meaning } => {
                self.seen(at);
                if self.alerts.insert(key.clone(), (at, meaning)).is_none() {
                    self.alert_order.push_back(key);
                }
                if self.alert_order.len() > KEPT_ALERTS
                    && let Some(oldest) = self.alert_order.pop_front()
                {
                    self.alerts.remove(&oldest);
                }
            }
            Record::Incident { at, incident, next } => {
                self.seen(at);
                self.next = self.next.max(next);
                self.fold_incident(*incident);
            }
            Record::Ended { at, summary } => {
                self.seen(at);
                self.unreported.insert(summary.incident.clone(), summary);
            }
            Record::Reported { at, incident } => {
                self.seen(at);
                self.unreported.remove(&incident);
            }
            Record::Alive { at, boot } => {
                self.seen(at);
                self.boot = Some(boot);
            }
        }
    }

    fn fold_incident(&mut self, incident: Incident) {
        let id = incident.id.clone();
        if incident.state == IncidentState::Closed && !self.closed.contains(&id) {
            self.closed.push_back(id.clone());
        }
        self.incidents.insert(id, incident);
        if self.closed.len() > KEPT
            && let Some(oldest) = self.closed.pop_front()
        {
            self.incidents.remove(&oldest);
            self.unreported.remove(&oldest);
        }
    }

    fn seen(&mut self, at: Timestamp) {
        self.last = self.last.max(Some(at));
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::incidents::summary_of;
    use crate::incidents::tests::incident;

    const SMALL: Options = Options { segment_bytes: 64 << 10, spares: 1 };

    fn snapshot(number: u64, state: IncidentState) -> Record {
        let mut incident = incident(&format!("i-{number}"));
        incident.state = state;
        Record::Incident { at: Timestamp(number), incident: Box::new(incident), next: number + 1 }
    }

    fn key(text: &str) -> AlertKey {
        AlertKey { fingerprint: text.to_owned(), starts_at: "2026-11-23T00:00:00Z".to_owned(), resolved: false }
    }

    #[test]
    fn open_incidents_and_known_alerts_come_back_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("inbox");
        let mut inbox = Inbox::open_with(&path, SMALL).unwrap().inbox;
        let ended = Record::Ended { at: Timestamp(6), summary: summary_of(&incident("i-2")) };
        let alert = Record::Alert { at: Timestamp(7), key: key("a"), meaning: "disk".into() };
        inbox.keep(vec![snapshot(1, IncidentState::Opened), snapshot(2, IncidentState::Closed), ended, alert]).unwrap();
        inbox.keep(vec![snapshot(1, IncidentState::Healing)]).unwrap();
        inbox.alive(Timestamp(60_000), "boot-1");
        drop(inbox);
        let again = Inbox::open_with(&path, SMALL).unwrap();
        assert_eq!(again.open.iter().map(|incident| incident.state).collect::<Vec<_>>(), [IncidentState::Healing]);
        assert_eq!(again.unreported.len(), 1, "the runner has not heard of the closed one");
        assert_eq!((again.next, again.last), (3, Some((Timestamp(60_000), Some("boot-1".to_owned())))));
        assert!(again.inbox.knows(&key("a")) && !again.inbox.knows(&key("b")));
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn what_is_no_longer_wanted_is_dropped_and_what_is_wanted_stays() {
        let dir = tempfile::tempdir().unwrap();
        let mut inbox = Inbox::open_with(dir.path(), SMALL).unwrap().inbox;
        inbox.keep(vec![snapshot(1, IncidentState::Escalated)]).unwrap();
        for number in 2..=KEPT as u64 + 50 {
            let id = IncidentId::parse(&format!("i-{number}")).unwrap();
            let reported = Record::Reported { at: Timestamp(number), incident: id };
            let life = [IncidentState::Opened, IncidentState::Planned, IncidentState::Healing, IncidentState::Closed];
            inbox.keep(life.map(|state| snapshot(number, state)).into_iter().chain([reported]).collect()).unwrap();
        }
        let files = || std::fs::read_dir(dir.path()).unwrap().count();
        let before = files();
        inbox.compact(Timestamp(9));
        assert!(files() < before, "{before} files");
        drop(inbox);
        let again = Inbox::open_with(dir.path(), SMALL).unwrap();
        assert_eq!((again.open.len(), again.unreported.len()), (1, 0));
        assert_eq!(again.inbox.newest(usize::MAX).len(), KEPT + 1);
        assert_eq!(again.next, KEPT as u64 + 51);
    }

    #[test]
    fn a_second_agent_on_the_same_inbox_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let first = Inbox::open_with(dir.path(), SMALL).unwrap();
        assert!(Inbox::open_with(dir.path(), SMALL).is_err());
        drop(first);
        assert!(Inbox::open_with(dir.path(), SMALL).is_ok());
    }

    #[test]
    fn what_does_not_fit_is_an_error_and_what_fits_afterwards_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let mut inbox = Inbox::open_with(dir.path(), SMALL).unwrap().inbox;
        let mut huge = incident("i-1");
        huge.timeline = vec![(Timestamp(1), "x".repeat(100_000))];
        assert!(inbox.keep(vec![Record::Incident { at: Timestamp(1), incident: Box::new(huge), next: 2 }]).is_err());
        assert!(!inbox.is_writable() && inbox.newest(9).len() == 1, "people still see it");
        inbox.keep(vec![snapshot(2, IncidentState::Opened)]).unwrap();
        assert!(inbox.is_writable());
    }
}
