//! Database servers, reached by the `databases` courier for the runner: sessions and settings. No text of a query occurs here.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::id::{Label, NameError};

/// Which sort of server; MariaDB is the second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DatabaseKind {
    /// PostgreSQL.
    Postgres,
    /// MySQL and MariaDB.
    Mysql,
}

impl DatabaseKind {
    /// Every kind.
    pub const ALL: [Self; 2] = [Self::Postgres, Self::Mysql];

    /// The word used in configurations.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Mysql => "mysql",
        }
    }
}

impl fmt::Display for DatabaseKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What a client calls itself: `application_name` in PostgreSQL, the user in MySQL, which has no such name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ApplicationName(String);

impl ApplicationName {
    /// Parses a name that grants may hold; programs that back up or replicate have none, see [`is_backup`].
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let printable = text.bytes().all(|b| b.is_ascii_graphic() || b == b' ') && text.trim() == text;
        let rule = "use 1 to 80 printable ASCII characters, and no program that backs up or replicates";
        if (1..=80).contains(&text.len()) && printable && !is_backup(text) {
            Ok(Self(text.to_owned()))
        } else {
            Err(NameError::new("application name", text, rule))
        }
    }

    /// The name as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Beginnings of the names under which backups and replication connect. A session that looks idle between two of their steps
/// holds the backup together.
const BACKUPS: &[&str] = &[
    "pg_",
    "pgbackrest",
    "barman",
    "wal-g",
    "wal_g",
    "walreceiver",
    "mysqldump",
    "mysqlbackup",
    "mariabackup",
    "mariadb-dump",
    "mariadb-backup",
    "xtrabackup",
    "backup",
    "bkpuser",
    "repl",
    "slave",
];

/// The name is one under which backups or replication connect.
pub fn is_backup(application: &str) -> bool {
    let name = application.to_ascii_lowercase();
    BACKUPS.iter().any(|beginning| name.starts_with(beginning))
}

impl fmt::Display for ApplicationName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::str::FromStr for ApplicationName {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::parse(text)
    }
}

impl TryFrom<String> for ApplicationName {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        Self::parse(&text)
    }
}

impl From<ApplicationName> for String {
    fn from(name: ApplicationName) -> String {
        name.0
    }
}

/// What a session does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SessionState {
    /// It works on a query.
    Active,
    /// It waits for its client, outside of a transaction.
    Idle,
    /// It waits for its client inside of one.
    IdleInTransaction,
    /// Something else, or not to be seen.
    Other,
}

impl SessionState {
    /// Every state.
    pub const ALL: [Self; 4] = [Self::Active, Self::Idle, Self::IdleInTransaction, Self::Other];

    /// It waits for its client: the only sort of session that is ever ended.
    pub const fn waits(self) -> bool {
        matches!(self, Self::Idle | Self::IdleInTransaction)
    }
}

impl fmt::Display for SessionState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Active => "active",
            Self::Idle => "idle",
            Self::IdleInTransaction => "idle in transaction",
            Self::Other => "in another state",
        })
    }
}

/// One session, so that another one with the same number is not taken for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SessionId {
    /// PostgreSQL's process, MySQL's connection id.
    pub pid: u64,
    /// PostgreSQL: when the session began, in microseconds. MySQL, whose ids are never used twice: when the server was started, in
    /// seconds.
    pub born: u64,
}

/// Whose sessions are never ended, whatever is granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protected {
    /// The courier's own user.
    Own,
    /// An administrator.
    Administrator,
    /// Replication.
    Replication,
    /// A backup, by its name.
    Backup,
    /// A part of the server.
    Server,
}

/// One session as the courier saw it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Session {
    /// Which.
    pub id: SessionId,
    /// What it does.
    pub state: SessionState,
    /// What its client calls itself; a client can say anything.
    pub application: String,
    /// Seconds in this state.
    pub for_s: u64,
    /// Why it is never ended; `None`: it may be.
    pub protected: Option<Protected>,
}

/// Who is connected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sessions {
    /// How many there may be.
    pub max: u32,
    /// Of these, kept for administrators.
    pub reserved: u32,
    /// How many there are; more than are listed, where there are very many.
    pub used: u32,
    /// Those that have been longest in their state, longest first.
    pub sessions: Vec<Session>,
}

impl Sessions {
    /// The counts alone.
    pub const fn pool(&self) -> PoolState {
        PoolState::Counted { used: self.used, max: self.max, reserved: self.reserved }
    }
}

/// How full a server is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "kebab-case", deny_unknown_fields)]
pub enum PoolState {
    /// As it counts: sessions, how many there may be, and how many of these are kept for administrators.
    Counted { used: u32, max: u32, reserved: u32 },
    /// It lets nobody in, not even the courier, which was not in already.
    Refusing,
}

impl PoolState {
    /// Used share of what ordinary clients can get, in thousandths. Administrators can take it above 1000, as the server counts
    /// them too before it refuses anybody.
    pub fn used_share(self) -> f64 {
        match self {
            Self::Counted { used, max, reserved } => match max.saturating_sub(reserved) {
                0 => 1000.0,
                slots => f64::from(used) * 1000.0 / f64::from(slots),
            },
            Self::Refusing => 1000.0,
        }
    }
}

/// Most sessions of one list: with their names they fit into a frame.
pub const MAX_SESSIONS: usize = 4000;

macro_rules! settings {
    ($($(#[$doc:meta])* $variant:ident = $name:literal of $kind:ident,)*) => {
        /// The settings there are, in this contract: numbers that a running server takes, none of which decides who may see what,
        /// whether what was committed is kept, or what a table is.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum Setting { $($(#[$doc])* #[serde(rename = $name)] $variant,)* }

        impl Setting {
            /// Every setting.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Its name in the server.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// Which sort of server has it.
            pub const fn kind(self) -> DatabaseKind {
                match self { $(Self::$variant => DatabaseKind::$kind,)* }
            }
        }
    };
}

settings! {
    /// Milliseconds after which a transaction that waits for its client is ended.
    IdleInTransactionSessionTimeout = "idle_in_transaction_session_timeout" of Postgres,
    /// Milliseconds after which an idle session is ended.
    IdleSessionTimeout = "idle_session_timeout" of Postgres,
    /// Milliseconds after which a statement is cancelled.
    StatementTimeout = "statement_timeout" of Postgres,
    /// Milliseconds after which waiting for a lock is given up.
    LockTimeout = "lock_timeout" of Postgres,
    /// Seconds of silence after which a client is asked whether it is there.
    TcpKeepalivesIdle = "tcp_keepalives_idle" of Postgres,
    /// Mebibytes of log that a silent replication slot may hold back.
    MaxSlotWalKeepSize = "max_slot_wal_keep_size" of Postgres,
    /// Milliseconds above which a statement is logged.
    LogMinDurationStatement = "log_min_duration_statement" of Postgres,
    /// Sessions there may be.
    MaxConnections = "max_connections" of Mysql,
    /// Sessions that one user may have.
    MaxUserConnections = "max_user_connections" of Mysql,
    /// Seconds after which an idle session is ended.
    WaitTimeout = "wait_timeout" of Mysql,
    /// The same for a person's.
    InteractiveTimeout = "interactive_timeout" of Mysql,
    /// Seconds after which waiting for a table's lock is given up.
    LockWaitTimeout = "lock_wait_timeout" of Mysql,
    /// Seconds after which waiting for a row's lock is given up.
    InnodbLockWaitTimeout = "innodb_lock_wait_timeout" of Mysql,
    /// Threads kept for the next client.
    ThreadCacheSize = "thread_cache_size" of Mysql,
}

impl Setting {
    /// Those of one sort of server.
    pub fn of(kind: DatabaseKind) -> impl Iterator<Item = Self> {
        Self::ALL.iter().copied().filter(move |setting| setting.kind() == kind)
    }

    /// The setting of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|setting| setting.as_str() == name)
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A setting's text as the server's own file has it: digits and a unit, so that it is put back letter by letter and can hold
/// nothing else.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct StoredValue(String);

impl StoredValue {
    /// Parses a whole number with a unit or without.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let digits = text.strip_prefix('-').unwrap_or(text);
        let unit = digits.trim_start_matches(|c: char| c.is_ascii_digit());
        let units = ["", "us", "ms", "s", "min", "h", "d", "B", "kB", "MB", "GB", "TB"];
        if (1..=20).contains(&(digits.len() - unit.len())) && units.contains(&unit) {
            Ok(Self(text.to_owned()))
        } else {
            Err(NameError::new("stored value", text, "it is no whole number with a unit"))
        }
    }

    /// A number in the setting's own unit.
    pub fn number(value: i64) -> Self {
        Self(value.to_string())
    }

    /// The text as it stands in the file.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for StoredValue {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        Self::parse(&text)
    }
}

impl From<StoredValue> for String {
    fn from(value: StoredValue) -> String {
        value.0
    }
}

/// A setting as it is: what holds, and, where the server keeps changes in a file (PostgreSQL), what that file says of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SettingState {
    /// What holds, in the server's own unit.
    pub value: i64,
    /// What `postgresql.auto.conf` says; `None` where it says nothing, and in MySQL.
    pub stored: Option<StoredValue>,
}

impl SettingState {
    /// The same as far as a change of ours goes: where the file says something, it alone counts.
    pub fn is_as(&self, other: &Self) -> bool {
        match (&self.stored, &other.stored) {
            (None, None) => self.value == other.value,
            (one, another) => one == another,
        }
    }
}

impl fmt::Display for SettingState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.stored {
            None => write!(f, "{}", self.value),
            Some(stored) => write!(f, "{} (set at run time as {})", self.value, stored.as_str()),
        }
    }
}

/// Verbs of a granted server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum DatabaseCall {
    /// Who is connected.
    Sessions,
    /// Sessions of one application that have waited that many seconds are ended, at most that many.
    TerminateIdle { older_than_s: u64, application: String, at_most: u32 },
    /// The granted settings.
    Settings,
    /// Another value of one of them.
    Set { setting: String, value: i64 },
}

/// Who is connected, as a remedy sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatabaseUsage {
    /// How many there are.
    pub used: u32,
    /// How many there may be.
    pub max: u32,
    /// Of these, kept for administrators.
    pub reserved: u32,
    /// How many in each state.
    pub by_state: Vec<(SessionState, u32)>,
    /// How many of each application, most first, at most 64.
    pub by_application: Vec<(String, u32)>,
    /// Seconds since the longest waiting transaction last did something.
    pub oldest_idle_in_transaction_s: Option<u64>,
    /// Includes effects that the dry run only recorded.
    pub assumed: bool,
}

/// A setting as a remedy sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SettingInfo {
    /// Which.
    pub setting: Setting,
    /// What holds.
    pub value: i64,
    /// Includes effects that the dry run only recorded.
    pub assumed: bool,
}

/// The end of one session, complete: the courier looks for exactly this one, and ends it in the same breath.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Termination {
    /// Which.
    pub session: SessionId,
    /// What it was seen to do; it waits for its client.
    pub state: SessionState,
    /// What its client calls itself.
    pub application: ApplicationName,
    /// It has waited at least that many seconds.
    pub older_than_s: u64,
}

/// A change of one setting, complete: the courier makes it only where the setting is still as expected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SettingChange {
    /// Which.
    pub setting: Setting,
    /// As it was seen.
    pub expected: SettingState,
    /// As it shall be.
    pub goal: SettingGoal,
}

/// What a setting is changed to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SettingGoal {
    /// Another value.
    Value(i64),
    /// As it was before a change.
    Back(SettingState),
}

/// One change of one server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatabaseEffect {
    /// The grant's label.
    pub label: Label,
    /// Which server, by the operator's name.
    pub database: Label,
    /// What is done.
    pub verb: DatabaseVerb,
}

/// What is done to a server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DatabaseVerb {
    /// A session is ended.
    Terminate(Termination),
    /// A setting gets another value.
    Set { setting: Setting, value: i64 },
}

/// How a setting is put back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatabaseUndo {
    /// Which server.
    pub database: Label,
    /// Which setting.
    pub setting: Setting,
    /// As it was.
    pub before: SettingState,
}

impl DatabaseEffect {
    /// The verb in the manifest's word.
    pub const fn verb(&self) -> &'static str {
        match self.verb {
            DatabaseVerb::Terminate(_) => "terminate-idle",
            DatabaseVerb::Set { .. } => "set",
        }
    }

    /// The same session in the same state, for which at least as long a wait is asked; the same setting and value.
    pub fn is_within(&self, planned: &Self) -> bool {
        let waits = |now: &Termination, then: &Termination| {
            now.session == then.session
                && now.state == then.state
                && now.application == then.application
                && now.older_than_s >= then.older_than_s
        };
        self.label == planned.label
            && self.database == planned.database
            && match (&self.verb, &planned.verb) {
                (DatabaseVerb::Terminate(now), DatabaseVerb::Terminate(then)) => waits(now, then),
                (DatabaseVerb::Set { .. }, DatabaseVerb::Set { .. }) => self.verb == planned.verb,
                (DatabaseVerb::Terminate(_) | DatabaseVerb::Set { .. }, _) => false,
            }
    }
}

impl fmt::Display for DatabaseEffect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { database, verb, .. } = self;
        match verb {
            DatabaseVerb::Terminate(Termination { session, state, application, older_than_s }) => {
                let pid = session.pid;
                write!(f, "end session {pid} of `{application}` at {database}, {state} for {older_than_s} s or more")
            }
            DatabaseVerb::Set { setting, value } => write!(f, "set {setting} of {database} to {value}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(pid: u64, born: u64, older_than_s: u64) -> DatabaseEffect {
        let label = Label::parse("main").unwrap();
        let termination = Termination {
            session: SessionId { pid, born },
            state: SessionState::Idle,
            application: ApplicationName::parse("shop").unwrap(),
            older_than_s,
        };
        DatabaseEffect { label: label.clone(), database: label, verb: DatabaseVerb::Terminate(termination) }
    }

    #[test]
    fn a_session_is_a_number_and_a_birth_and_a_longer_wait_is_no_larger_effect() {
        assert!(end(7, 1, 60).is_within(&end(7, 1, 60)));
        assert!(end(7, 1, 90).is_within(&end(7, 1, 60)));
        assert!(!end(7, 1, 59).is_within(&end(7, 1, 60)));
        assert!(!end(7, 2, 60).is_within(&end(7, 1, 60)), "the number was given to another");
        assert!(!end(8, 1, 60).is_within(&end(7, 1, 60)));
    }

    #[test]
    fn programs_that_back_up_or_replicate_are_no_application() {
        for name in ["pg_dump", "pg_basebackup", "PgBackRest [backup]", "mariabackup", "walreceiver", "repl_user"] {
            assert!(ApplicationName::parse(name).is_err(), "{name}");
        }
        for name in ["", " shop", "shop\n", "sh\u{1b}op", "обмен", &"x".repeat(81)] {
            assert!(ApplicationName::parse(name).is_err(), "{name:?}");
        }
        for name in ["shop", "PostgreSQL JDBC Driver", "app's \"own\"", "p_g"] {
            assert!(ApplicationName::parse(name).is_ok(), "{name}");
        }
    }

    #[test]
    fn a_stored_value_is_a_number_with_a_unit_and_nothing_else() {
        for text in ["0", "-1", "30000", "5min", "10s", "64MB"] {
            assert_eq!(StoredValue::parse(text).unwrap().as_str(), text);
        }
        for text in ["", "-", "s", "5 min", "5'", "1;x", "0x10", "1.5s", "on", "123456789012345678901"] {
            assert!(StoredValue::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn where_the_file_says_something_it_alone_counts() {
        let state = |value, stored: Option<&str>| SettingState {
            value,
            stored: stored.map(|text| StoredValue::parse(text).unwrap()),
        };
        assert!(state(1, Some("5s")).is_as(&state(2, Some("5s"))));
        assert!(!state(5000, Some("5s")).is_as(&state(5000, Some("5000"))));
        assert!(!state(1, None).is_as(&state(1, Some("1"))));
        assert!(state(1, None).is_as(&state(1, None)) && !state(1, None).is_as(&state(2, None)));
    }

    #[test]
    fn each_setting_has_one_name() {
        let names: std::collections::BTreeSet<&str> = Setting::ALL.iter().map(|setting| setting.as_str()).collect();
        assert_eq!(names.len(), Setting::ALL.len());
        assert!(Setting::ALL.iter().all(|setting| Setting::named(setting.as_str()) == Some(*setting)));
    }
}
