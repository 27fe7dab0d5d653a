//! How incidents end, and what may outlive them.

use std::time::Duration;

use theriac_model::id::IncidentId;
use theriac_model::incident::{Incident, IncidentEvent, IncidentState};
use theriac_model::record::IncidentSummary;
use theriac_model::signal::Origin;
use theriac_model::time::{Timestamp, millis};

use super::{Act, Incidents, News, What};

/// A signal that outlives its healed incident this long is trouble of its own.
const LEFTOVER: Duration = Duration::from_secs(300);

/// How an incident ended, as far as it says itself: one that was handed over or gone by itself is known only at its end.
pub(crate) fn summary_of(incident: &Incident) -> IncidentSummary {
    let since = |at: Timestamp| millis(at.since(incident.onset));
    IncidentSummary {
        incident: incident.id.clone(),
        kind: incident.kind,
        target: incident.target.clone(),
        detected_ms: since(incident.detected),
        healed_ms: incident.healed.map(since),
        stable_ms: incident.stable.map(since),
        escalated: false,
        false_alarm: incident.healed.is_none() && incident.runs.is_empty(),
    }
}

/// How an incident ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// Every signal is over.
    Gone,
    /// It is meant to be so.
    Meant,
    /// The runner measured that it is well.
    Settled,
}

impl Incidents {
    pub(super) fn close(&mut self, now: Timestamp, id: &IncidentId, ending: Ending, reason: String) {
        let Some(escalated) = self.get(id).map(|incident| incident.state == IncidentState::Escalated) else { return };
        if !self.step(now, id, IncidentEvent::Closed, Some(format!("closed: {reason}"))) {
            return;
        }
        let course = self.courses.remove(id).unwrap_or_default();
        self.changed.remove(id);
        let Some(mut incident) = self.correlator.remove(id) else { return };
        incident.closed = Some(now);
        if ending == Ending::Settled {
            self.leave_over(now, &incident);
        }
        let false_alarm = !escalated && !course.acted && incident.healed.is_none();
        let summary = IncidentSummary { escalated, false_alarm, ..summary_of(&incident) };
        if escalated || !course.told.is_empty() {
            let news = News {
                what: What::Over,
                run: incident.runs.last().cloned(),
                summary: reason,
                incident: incident.clone(),
            };
            self.acts.push(Act::Tell(Box::new(news)));
        }
        self.acts.push(Act::Ended(Box::new(incident), summary));
    }

    /// Signals of an incident that is settled may be trouble of their own: another kind at once, the same kind when it stays.
    fn leave_over(&mut self, now: Timestamp, incident: &Incident) {
        let local = incident.signals.iter().filter(|signal| !signal.resolved && signal.origin == Origin::Local);
        for signal in local {
            let from = if signal.kind == incident.kind { now.after(LEFTOVER) } else { now };
            let key = (signal.source.clone(), signal.target.to_string());
            self.leftovers.insert(key, (signal.clone(), from));
        }
    }
}
