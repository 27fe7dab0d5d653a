//! What MySQL and MariaDB are asked. Numbers, names of the closed list and hexadecimal digits are all that is ever filled in.

use std::time::Duration;

use theriac_model::database::{
    MAX_SESSIONS, PoolState, Protected, Session, SessionId, SessionState, Sessions, Setting, SettingChange,
    SettingGoal, SettingState, Termination,
};
use tokio::time::Instant;

use super::super::rows::{Fault, Row, hex, one, session};
use super::Mysql;

/// A session that was told to end does so at once, unless it rolls much back.
const ENDS_WITHIN: Duration = Duration::from_secs(2);
const LOOK: Duration = Duration::from_millis(10);
/// Users that every installation has and no application uses.
const ADMINISTRATORS: [&str; 8] =
    ["root", "mysql", "mariadb.sys", "mysql.sys", "mysql.session", "mysql.infoschema", "debian-sys-maint", "admin"];

/// InnoDB shows a copy of its transactions, and renews it only when nobody has looked for a tenth of a second.
const COPY_KEPT: Duration = Duration::from_millis(150);
/// A session that may be ended has done nothing for a second at least, so what a younger copy says of its transaction still holds.
const COPY_TRUSTED: Duration = Duration::from_millis(500);

/// When InnoDB's transactions were looked at.
pub(super) struct Looked {
    renewed: Instant,
    last: Instant,
}

const LIMITS: &str = "SELECT @@GLOBAL.max_connections, UNIX_TIMESTAMP()";
const STATUS: &str = "SHOW GLOBAL STATUS WHERE Variable_name IN ('Threads_connected', 'Uptime')";
/// Who may do more than an application: as far as the courier's user may see that.
const PRIVILEGED: &str = "SELECT DISTINCT grantee FROM information_schema.user_privileges WHERE privilege_type IN \
    ('SUPER', 'SYSTEM_USER', 'CONNECTION ADMIN', 'CONNECTION_ADMIN', 'REPLICATION SLAVE', 'REPLICATION SLAVE ADMIN', \
     'BINLOG_ADMIN', 'BACKUP_ADMIN')";

fn state_of(command: &str, in_transaction: bool) -> SessionState {
    match (command, in_transaction) {
        ("Sleep", false) => SessionState::Idle,
        ("Sleep", true) => SessionState::IdleInTransaction,
        ("Query" | "Execute" | "Prepare" | "Fetch" | "Field List" | "Init DB" | "Change user" | "Long Data", _) => {
            SessionState::Active
        }
        (_, _) => SessionState::Other,
    }
}

impl Mysql {
    pub(in super::super) async fn sessions(&mut self) -> Result<Sessions, Fault> {
        let (max, used, started) = self.limits().await?;
        let privileged = self.privileged().await?;
        let list = format!("{} ORDER BY p.time DESC LIMIT {MAX_SESSIONS}", listing(""));
        let rows = self.look(&list, MAX_SESSIONS).await?;
        let sessions = rows.iter().map(|row| self.seen(row, started, &privileged)).collect::<Result<_, _>>()?;
        // The server lets one more in, if he may end others.
        Ok(Sessions { max: max.saturating_add(1), reserved: 1, used, sessions })
    }

    pub(in super::super) async fn pool(&mut self) -> Result<PoolState, Fault> {
        let (max, used, _) = self.limits().await?;
        // As in `sessions`.
        Ok(PoolState::Counted { max: max.saturating_add(1), reserved: 1, used })
    }

    /// A statement that looks at transactions, with a copy of them that is young enough.
    async fn look(&mut self, statement: &str, most: usize) -> Result<Vec<Row>, Fault> {
        let young = |looked: &&Looked| looked.renewed.elapsed() < COPY_TRUSTED;
        let renewed = match self.looked.as_ref().filter(young) {
            Some(looked) => looked.renewed,
            None => {
                if let Some(looked) = &self.looked {
                    tokio::time::sleep_until(looked.last + COPY_KEPT).await;
                }
                Instant::now()
            }
        };
        let rows = self.rows(statement, most).await;
        self.looked = Some(Looked { renewed, last: Instant::now() });
        rows
    }

    async fn limits(&mut self) -> Result<(u32, u32, u64), Fault> {
        let limits = one(self.rows(LIMITS, 1).await?)?;
        let (mut used, mut uptime) = (None, None);
        for row in self.rows(STATUS, 2).await? {
            match row.text(0)? {
                Some("Threads_connected") => used = Some(row.number(1)?),
                Some("Uptime") => uptime = Some(row.number::<u64>(1)?),
                Some(_) | None => return Err(Fault::nonsense()),
            }
        }
        let (Some(used), Some(uptime)) = (used, uptime) else { return Err(Fault::nonsense()) };
        let computed = limits.number::<u64>(1)?.saturating_sub(uptime);
        let known = self.started.filter(|started| started.abs_diff(computed) <= 2);
        let started = *self.started.insert(known.unwrap_or(computed));
        Ok((limits.number(0)?, used, started))
    }

    async fn privileged(&mut self) -> Result<Vec<String>, Fault> {
        let grantees = self.rows(PRIVILEGED, MAX_SESSIONS).await?;
        let user = |row: &Row| -> Result<String, Fault> {
            let grantee = row.text(0)?.unwrap_or_default();
            // 'user'@'host'
            Ok(grantee.rsplit_once("'@'").map_or(grantee, |(user, _)| user).trim_start_matches('\'').to_owned())
        };
        grantees.iter().map(user).collect()
    }

    fn seen(&self, row: &Row, started: u64, privileged: &[String]) -> Result<Session, Fault> {
        let id = SessionId { pid: row.number(0)?, born: started };
        let user = row.text(1)?.unwrap_or_default();
        let command = row.text(2)?.unwrap_or_default();
        // Replication reports times before the present as negative ones.
        let for_s = u64::try_from(row.number::<i64>(3)?).unwrap_or(0);
        let state = state_of(command, row.text(4)? == Some("1"));
        Ok(session(id, state, user, for_s, self.protected(user, command, privileged)))
    }

    fn protected(&self, user: &str, command: &str, privileged: &[String]) -> Option<Protected> {
        if user == self.user {
            Some(Protected::Own)
        } else if command.starts_with("Binlog Dump") || command.starts_with("Slave") {
            Some(Protected::Replication)
        } else if matches!(user, "system user" | "event_scheduler" | "unauthenticated user") || command == "Daemon" {
            Some(Protected::Server)
        } else if ADMINISTRATORS.contains(&user) || privileged.iter().any(|known| known == user) {
            Some(Protected::Administrator)
        } else {
            None
        }
    }

    pub(in super::super) async fn terminate(&mut self, wanted: &Termination) -> Result<(), Fault> {
        let pid = wanted.session.pid;
        let stale = || Fault::Stale("it is another session by now, or waits no more".to_owned());
        let (_, _, started) = self.limits().await?;
        let privileged = self.privileged().await?;
        let found = self.look(&listing(&format!("WHERE p.id = {pid}")), 1).await?;
        let found = found.first().map(|row| self.seen(row, started, &privileged)).transpose()?;
        let same = |found: &Session| {
            found.id == wanted.session
                && found.state == wanted.state
                && found.application == wanted.application.as_str()
                && found.for_s >= wanted.older_than_s
                && found.protected.is_none()
        };
        if !wanted.state.waits() || !found.as_ref().is_some_and(same) {
            return Err(stale());
        }
        if self.mariadb {
            let ended = self.look(&look_and_kill(wanted), 1).await?;
            if ended.first().map(|row| row.text(0)).transpose()?.flatten() != Some("1") {
                return Err(stale());
            }
        } else {
            self.rows(&format!("KILL CONNECTION {pid}"), 0).await?;
        }
        self.wait_for_the_end(pid).await.map_err(Fault::after_a_change)
    }

    async fn wait_for_the_end(&mut self, pid: u64) -> Result<(), Fault> {
        let still = format!("SELECT 1 FROM information_schema.processlist WHERE id = {pid}");
        let deadline = Instant::now() + ENDS_WITHIN;
        // Between two questions, never in the middle of one: half an answer would be taken for the next.
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

    async fn setting(&mut self, setting: Setting) -> Result<SettingState, Fault> {
        let row = one(self.rows(&format!("SELECT @@GLOBAL.{setting}"), 1).await?)?;
        Ok(SettingState { value: row.number(0)?, stored: None })
    }

    pub(in super::super) async fn set(&mut self, change: &SettingChange) -> Result<SettingState, Fault> {
        let SettingChange { setting, expected, goal } = change;
        let now = self.setting(*setting).await?;
        if !now.is_as(expected) {
            return Err(Fault::Stale(format!("{setting} is {now} by now")));
        }
        let value = match goal {
            SettingGoal::Value(value) => *value,
            SettingGoal::Back(before) => before.value,
        };
        self.rows(&format!("SET GLOBAL {setting} = {value}"), 0).await?;
        let after = self.setting(*setting).await.map_err(Fault::after_a_change)?;
        if after.value == value {
            return Ok(after);
        }
        // It took another value than it was told: that is nobody's wish.
        let back = self.rows(&format!("SET GLOBAL {setting} = {}", now.value), 0).await;
        let is_back = back.is_ok() && self.setting(*setting).await.is_ok_and(|read| read.is_as(&now));
        Err(if is_back {
            Fault::Refused(format!("the server made {} of it, and has the value before again", after.value))
        } else {
            Fault::Unknown(format!("{setting} is {} now, and could not be put back", after.value))
        })
    }
}

/// Number, user, command, seconds, whether a transaction is open.
fn listing(narrowed: &str) -> String {
    format!(
        "SELECT p.id, p.user, p.command, p.time, EXISTS (SELECT 1 FROM information_schema.innodb_trx t \
         WHERE t.trx_mysql_thread_id = p.id) FROM information_schema.processlist p {narrowed}"
    )
}

/// One statement: between the look and the end there is nothing that waits for us.
fn look_and_kill(wanted: &Termination) -> String {
    let Termination { session: SessionId { pid, .. }, state, application, older_than_s } = wanted;
    let open = if *state == SessionState::IdleInTransaction { "" } else { "NOT" };
    format!(
        "BEGIN NOT ATOMIC IF EXISTS (SELECT 1 FROM information_schema.processlist p WHERE p.id = {pid} \
         AND p.user = CONVERT(X'{}' USING utf8mb4) AND p.command = 'Sleep' AND p.time >= {older_than_s} \
         AND {open} EXISTS (SELECT 1 FROM information_schema.innodb_trx t WHERE t.trx_mysql_thread_id = p.id)) \
         THEN KILL CONNECTION {pid}; SELECT 1; ELSE SELECT 0; END IF; END",
        hex(application.as_str()),
    )
}

#[cfg(test)]
mod tests {
    use theriac_model::database::ApplicationName;

    use super::*;

    #[test]
    fn what_is_filled_in_can_not_leave_its_place() {
        let wanted = Termination {
            session: SessionId { pid: 7, born: 1 },
            state: SessionState::Idle,
            application: ApplicationName::parse("x' OR '1'='1").unwrap(),
            older_than_s: 60,
        };
        let statement = look_and_kill(&wanted);
        assert!(statement.contains("X'7827204f52202731273d2731'") && !statement.contains("OR '"), "{statement}");
    }
}
