//! The database server of a scenario: who is connected and how it is set, kept in memory. What a real server makes of it is tested with
//! the courier.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use theriac_model::database::{
    DatabaseKind, Session, SessionId, Sessions, Setting, SettingChange, SettingGoal, SettingState, StoredValue,
    Termination,
};
use theriac_model::id::Label;
use theriac_runner::hands::{Databases, HandError};

use crate::scenario;

/// What the operator calls it.
pub(crate) const NAME: &str = "main";

#[derive(Debug)]
pub(crate) struct Database {
    kind: DatabaseKind,
    max: u32,
    reserved: u32,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    sessions: Vec<Session>,
    settings: BTreeMap<Setting, SettingState>,
}

impl Database {
    pub(crate) fn make(asked: &scenario::Database) -> Self {
        let settings =
            asked.settings.iter().map(|(setting, value)| (*setting, SettingState { value: *value, stored: None }));
        let each = asked.session.iter().flat_map(|session| (0..session.count).map(move |_| session));
        let mut sessions: Vec<Session> = (1..)
            .zip(each)
            .map(|(pid, session)| Session {
                id: SessionId { pid, born: 1 },
                state: session.state,
                application: session.application.clone(),
                for_s: session.for_s,
                protected: session.protected,
            })
            .collect();
        // As the courier lists them.
        sessions.sort_by_key(|session| std::cmp::Reverse(session.for_s));
        let inner = Mutex::new(Inner { sessions, settings: settings.collect() });
        Self { kind: asked.kind, max: asked.max, reserved: asked.reserved, inner }
    }

    /// How many are connected.
    pub(crate) fn connected(&self) -> usize {
        self.lock().sessions.len()
    }

    pub(crate) fn settings(&self) -> BTreeMap<Setting, SettingState> {
        self.lock().settings.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Databases for Database {
    fn sessions(&self, _database: &Label) -> Result<Sessions, HandError> {
        let sessions = self.lock().sessions.clone();
        let used = u32::try_from(sessions.len()).unwrap_or(u32::MAX);
        Ok(Sessions { max: self.max, reserved: self.reserved, used, sessions })
    }

    fn settings(&self, _database: &Label, wanted: &[Setting]) -> Result<Vec<(Setting, SettingState)>, HandError> {
        let inner = self.lock();
        Ok(wanted.iter().filter_map(|setting| Some((*setting, inner.settings.get(setting)?.clone()))).collect())
    }

    fn terminate(&self, _database: &Label, wanted: &Termination) -> Result<(), HandError> {
        let mut inner = self.lock();
        let same = |session: &Session| session.id == wanted.session && session.state == wanted.state;
        let at = inner.sessions.iter().position(same);
        let at = at.ok_or_else(|| HandError::Stale { reason: "that session is gone".to_owned() })?;
        inner.sessions.remove(at);
        Ok(())
    }

    fn set(&self, _database: &Label, change: &SettingChange) -> Result<SettingState, HandError> {
        let stored = |value: i64| (self.kind == DatabaseKind::Postgres).then(|| StoredValue::number(value));
        let mut inner = self.lock();
        let state = inner.settings.get_mut(&change.setting).filter(|state| state.is_as(&change.expected));
        let state = state.ok_or_else(|| HandError::Stale { reason: format!("{} is another one", change.setting) })?;
        *state = match &change.goal {
            SettingGoal::Value(value) => SettingState { value: *value, stored: stored(*value) },
            SettingGoal::Back(before) => before.clone(),
        };
        Ok(state.clone())
    }
}
