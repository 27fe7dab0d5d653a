//! What PostgreSQL is asked. Numbers, names of the closed list and hexadecimal digits are all that is ever filled in.

use std::time::Duration;

use theriac_model::database::{
    MAX_SESSIONS, PoolState, Protected, SessionId, SessionState, Sessions, Setting, SettingChange, SettingGoal,
    SettingState, StoredValue, Termination,
};
use tokio::time::Instant;

use super::super::rows::{Fault, Row, hex, one, session};
use super::Postgres;

/// A backend that was told to end does so in a millisecond, unless it rolls much back.
const ENDS_WITHIN: Duration = Duration::from_secs(2);
/// The same for a changed setting to arrive in the courier's own session.
const ARRIVES_WITHIN: Duration = Duration::from_secs(2);
const LOOK: Duration = Duration::from_millis(10);

/// When a session began, in microseconds: with its process id, it is one and no other.
const BORN: &str =
    "pg_catalog.round(EXTRACT(epoch FROM a.backend_start)::pg_catalog.numeric * 1000000)::pg_catalog.int8";
const STATE: &str = "CASE a.state WHEN 'active' THEN 'active' WHEN 'idle' THEN 'idle' \
    WHEN 'idle in transaction' THEN 'waiting' WHEN 'idle in transaction (aborted)' THEN 'waiting' ELSE 'other' END";
/// Seconds in its state; none for one whose state may not be seen.
const FOR: &str =
    "GREATEST(0, COALESCE(EXTRACT(epoch FROM pg_catalog.clock_timestamp() - a.state_change), 0))::pg_catalog.int8";
/// Never ended: the courier's own user, administrators, replication.
const PROTECTED: &str = "CASE WHEN a.usename IS NULL THEN 'server' WHEN a.usename = current_user THEN 'own' \
    WHEN r.rolsuper THEN 'administrator' WHEN r.rolreplication THEN 'replication' ELSE 'no' END";
const CLIENTS: &str = "FROM pg_catalog.pg_stat_activity a LEFT JOIN pg_catalog.pg_roles r ON r.oid = a.usesysid \
    WHERE a.backend_type = 'client backend'";

const LIMITS: &str = "SELECT \
    (SELECT setting FROM pg_catalog.pg_settings WHERE name = 'max_connections'), \
    (SELECT COALESCE(sum(setting::pg_catalog.int8), 0)::pg_catalog.int8 FROM pg_catalog.pg_settings \
     WHERE name IN ('superuser_reserved_connections', 'reserved_connections')), \
    (SELECT count(*) FROM pg_catalog.pg_stat_activity WHERE backend_type = 'client backend')";

const fn state_word(state: SessionState) -> &'static str {
    match state {
        SessionState::Active => "active",
        SessionState::Idle => "idle",
        SessionState::IdleInTransaction => "waiting",
        SessionState::Other => "other",
    }
}

fn state_of(word: &str) -> Result<SessionState, Fault> {
    SessionState::ALL.into_iter().find(|state| state_word(*state) == word).ok_or_else(Fault::nonsense)
}

fn protected(word: &str) -> Result<Option<Protected>, Fault> {
    Ok(match word {
        "no" => None,
        "own" => Some(Protected::Own),
        "administrator" => Some(Protected::Administrator),
        "replication" => Some(Protected::Replication),
        "server" => Some(Protected::Server),
        _ => return Err(Fault::nonsense()),
    })
}

fn seen(row: &Row) -> Result<theriac_model::database::Session, Fault> {
    let id = SessionId { pid: row.number(0)?, born: row.number(1)? };
    let state = state_of(row.text(2)?.unwrap_or_default())?;
    let protected = protected(row.text(5)?.unwrap_or_default())?;
    Ok(session(id, state, row.text(3)?.unwrap_or_default(), row.number(4)?, protected))
}

impl Postgres {
    pub(in super::super) async fn sessions(&mut self) -> Result<Sessions, Fault> {
        let limits = one(self.rows(LIMITS, 1).await?)?;
        let list = format!(
            "SELECT a.pid, {BORN}, {STATE}, a.application_name, {FOR}, {PROTECTED} {CLIENTS} \
             ORDER BY a.state_change NULLS LAST LIMIT {MAX_SESSIONS}"
        );
        let rows = self.rows(&list, MAX_SESSIONS).await?;
        Ok(Sessions {
            max: limits.number(0)?,
            reserved: limits.number(1)?,
            used: limits.number(2)?,
            sessions: rows.iter().map(seen).collect::<Result<_, _>>()?,
        })
    }

    pub(in super::super) async fn pool(&mut self) -> Result<PoolState, Fault> {
        let limits = one(self.rows(LIMITS, 1).await?)?;
        Ok(PoolState::Counted { max: limits.number(0)?, reserved: limits.number(1)?, used: limits.number(2)? })
    }

    /// Looks for exactly this session and ends it, in one statement.
    pub(in super::super) async fn terminate(&mut self, wanted: &Termination) -> Result<(), Fault> {
        let Termination { session: SessionId { pid, born }, state, application, older_than_s } = wanted;
        if !state.waits() {
            return Err(Fault::Refused("a session that does not wait is never ended".to_owned()));
        }
        let statement = format!(
            "SELECT pg_catalog.pg_terminate_backend(a.pid) {CLIENTS} AND a.pid = {pid} AND {BORN} = {born} \
             AND {STATE} = '{}' AND {FOR} >= {older_than_s} AND {PROTECTED} = 'no' \
             AND a.application_name = pg_catalog.convert_from(pg_catalog.decode('{}', 'hex'), 'UTF8')",
            state_word(*state),
            hex(application.as_str()),
        );
        let told = self.rows(&statement, 1).await?;
        let Some(told) = told.into_iter().next() else {
            return Err(Fault::Stale("it is another session by now, or waits no more".to_owned()));
        };
        if told.text(0)? != Some("t") {
            return Err(Fault::Stale("it ended by itself".to_owned()));
        }
        self.wait_for_the_end(*pid, *born).await.map_err(Fault::after_a_change)
    }

    async fn wait_for_the_end(&mut self, pid: u64, born: u64) -> Result<(), Fault> {
        let still = format!("SELECT 1 FROM pg_catalog.pg_stat_activity a WHERE a.pid = {pid} AND {BORN} = {born}");
        let deadline = Instant::now() + ENDS_WITHIN;
        while !self.rows(&still, 1).await?.is_empty() {
            if Instant::now() >= deadline {
                return Err(Fault::Unknown("it was told to end, and is still there".to_owned()));
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    pub(in super::super) async fn settings(
        &mut self,
        wanted: &[Setting],
    ) -> Result<Vec<(Setting, SettingState)>, Fault> {
        let mut found = Vec::new();
        for setting in wanted {
            match self.setting(*setting).await {
                Ok(state) => found.push((*setting, state)),
                Err(Fault::Unavailable(_)) => {}
                Err(fault) => return Err(fault),
            }
        }
        Ok(found)
    }

    /// What holds for new sessions, whatever holds in the courier's own, and what `ALTER SYSTEM` has written down.
    async fn setting(&mut self, setting: Setting) -> Result<SettingState, Fault> {
        let value =
            format!("SELECT reset_val FROM pg_catalog.pg_settings WHERE name = '{setting}' AND vartype = 'integer'");
        let Some(row) = self.rows(&value, 1).await?.into_iter().next() else {
            return Err(Fault::Unavailable(format!("this server has no {setting}")));
        };
        let stored = match self.stored(setting).await {
            Ok(stored) => stored,
            // Reading what holds needs no right; what is missing is missed when something is to be set.
            Err(Fault::Refused(_)) => None,
            Err(fault) => return Err(fault),
        };
        Ok(SettingState { value: row.number(0)?, stored })
    }

    async fn stored(&mut self, setting: Setting) -> Result<Option<StoredValue>, Fault> {
        let stored = format!(
            "SELECT setting FROM pg_catalog.pg_file_settings WHERE name = '{setting}' \
             AND sourcefile LIKE '%/postgresql.auto.conf' ORDER BY seqno DESC LIMIT 1"
        );
        let Some(row) = self.rows(&stored, 1).await?.into_iter().next() else { return Ok(None) };
        let text = row.text(0)?.unwrap_or_default();
        let odd = |_| Fault::Unavailable(format!("what is written down for {setting} could not be put back exactly"));
        StoredValue::parse(text).map(Some).map_err(odd)
    }

    pub(in super::super) async fn set(&mut self, change: &SettingChange) -> Result<SettingState, Fault> {
        let SettingChange { setting, expected, goal } = change;
        let mut now = self.setting(*setting).await?;
        // This time without the right to look it is refused: what can't be read can't be put back.
        now.stored = self.stored(*setting).await?;
        if !now.is_as(expected) {
            return Err(Fault::Stale(format!("{setting} is {now} by now")));
        }
        let (stored, value) = match goal {
            SettingGoal::Value(value) => (Some(StoredValue::number(*value)), *value),
            SettingGoal::Back(before) => (before.stored.clone(), before.value),
        };
        let arrived = match self.write(*setting, stored.as_ref()).await {
            Ok(()) => self.arrival(*setting, stored.as_ref(), value).await.map_err(Fault::after_a_change)?,
            Err(fault) => return self.give_up(*setting, &now, fault).await,
        };
        match (arrived, goal) {
            (Some(state), _) => Ok(state),
            // The file is as it was; what holds beside it is somebody else's doing.
            (None, SettingGoal::Back(_)) => self.setting(*setting).await.map_err(Fault::after_a_change),
            (None, SettingGoal::Value(_)) => {
                let kept = format!("{setting} stays as it is: something stronger than ALTER SYSTEM sets it");
                self.give_up(*setting, &now, Fault::Refused(kept)).await
            }
        }
    }

    async fn write(&mut self, setting: Setting, stored: Option<&StoredValue>) -> Result<(), Fault> {
        let statement = match stored {
            Some(stored) => format!("ALTER SYSTEM SET {setting} = '{}'", stored.as_str()),
            None => format!("ALTER SYSTEM RESET {setting}"),
        };
        self.rows(&statement, 0).await?;
        self.rows("SELECT pg_catalog.pg_reload_conf()", 1).await.map(|_| ())
    }

    /// Until it holds; none where it does not in time.
    async fn arrival(
        &mut self,
        setting: Setting,
        stored: Option<&StoredValue>,
        value: i64,
    ) -> Result<Option<SettingState>, Fault> {
        let deadline = Instant::now() + ARRIVES_WITHIN;
        loop {
            let state = self.setting(setting).await?;
            if state.value == value && state.stored.as_ref() == stored {
                return Ok(Some(state));
            }
            if Instant::now() >= deadline {
                return Ok(None);
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Writes down again what was there. Then nothing was changed; else nobody knows.
    async fn give_up(&mut self, setting: Setting, before: &SettingState, why: Fault) -> Result<SettingState, Fault> {
        let is_back = match self.stored(setting).await {
            Ok(stored) if stored == before.stored => true,
            Ok(_) => self.write(setting, before.stored.as_ref()).await.is_ok(),
            Err(_) => false,
        };
        Err(if is_back { why } else { Fault::Unknown(format!("{setting} was changed, and could not be put back")) })
    }
}
