//! What the loop remembers of an incident besides the incident itself. It is lost with the process, on purpose: after a restart
//! everything is asked and measured again.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use theriac_analysis::diagnose::Context;
use theriac_model::diagnosis::InactionReason;
use theriac_model::id::RunId;
use theriac_model::run::RunState;
use theriac_model::time::Timestamp;

use super::{CALM, What};

/// Between two tries, at first and at most: a cooldown of minutes should not be asked about each second.
const BACKOFF: Duration = Duration::from_secs(1);
const BACKOFF_MOST: Duration = Duration::from_secs(60);

/// Where one incident is on its way.
#[derive(Debug, Clone)]
pub(super) struct Course {
    /// A proposal was sent and not answered.
    pub(super) in_flight: bool,
    /// Look again then.
    pub(super) next_try: Option<Timestamp>,
    /// Tries in a row that came to nothing, and since when.
    tries: u32,
    waiting: Option<Timestamp>,
    /// All signals are over since then.
    pub(super) cleared: Option<Timestamp>,
    /// For how long they have to be.
    pub(super) calm: Duration,
    /// When the runner was last asked about its runs.
    pub(super) asked: Timestamp,
    /// The newest run's state as last heard.
    pub(super) heard: Option<(RunId, RunState, bool)>,
    /// Something was done.
    pub(super) acted: bool,
    /// What people were told.
    pub(super) told: BTreeSet<(What, Option<RunId>)>,
    /// The last decision to do nothing.
    pub(super) inaction: Option<InactionReason>,
    /// What was known besides the evidence when the causes were last ranked.
    pub(super) context: Option<Arc<Context>>,
    /// The last line about waiting.
    said: String,
}

impl Default for Course {
    fn default() -> Self {
        Self {
            in_flight: false,
            next_try: None,
            tries: 0,
            waiting: None,
            cleared: None,
            calm: CALM,
            asked: Timestamp::default(),
            heard: None,
            acted: false,
            told: BTreeSet::new(),
            inaction: None,
            context: None,
            said: String::new(),
        }
    }
}

impl Course {
    /// Sets the next try; `false` when patience is at its end.
    pub(super) fn wait(&mut self, now: Timestamp, patience: Duration) -> bool {
        let since = *self.waiting.get_or_insert(now);
        if now.since(since) > patience {
            return false;
        }
        let pause = BACKOFF.saturating_mul(1_u32.checked_shl(self.tries).unwrap_or(u32::MAX)).min(BACKOFF_MOST);
        self.tries = self.tries.saturating_add(1);
        self.next_try = Some(now.after(pause));
        true
    }

    /// Something moved: the next wait begins anew.
    pub(super) fn moved(&mut self) {
        self.tries = 0;
        self.waiting = None;
        self.next_try = None;
        self.inaction = None;
        self.said.clear();
    }

    /// The condition has been gone for long enough.
    pub(super) fn is_calm(&self, now: Timestamp) -> bool {
        self.cleared.is_some_and(|since| now.since(since) >= self.calm)
    }

    /// Whether the line says something new. Digits do not count: "rests for another 40s" is the same sentence ten times.
    pub(super) fn says(&mut self, line: &str) -> bool {
        let bare: String = line.chars().filter(|c| !c.is_ascii_digit()).collect();
        let new = bare != self.said;
        self.said = bare;
        new
    }
}
