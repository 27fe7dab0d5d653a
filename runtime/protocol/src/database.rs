//! What the runner asks the `databases` courier on `run/courier-databases.sock`: sessions and settings of servers that both know by
//! the operator's name. There is no query in here, only questions that the courier knows by heart.

use serde::{Deserialize, Serialize};

use theriac_model::database::{PoolState, Sessions, Setting, SettingChange, SettingState, Termination};
use theriac_model::id::Label;

/// A request to the `databases` courier.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum DatabaseRequest {
    /// First message of a connection, which brings the epoch in: see [`crate::fence`].
    Hello { version: String },
    /// Who is connected.
    Sessions { database: Label },
    /// How full it is.
    Pool { database: Label },
    /// How these settings are.
    Settings { database: Label, settings: Vec<Setting> },
    /// End that session, if it is still as it was seen.
    Terminate { database: Label, termination: Termination },
    /// Change that setting, if it is still as it was seen.
    Set { database: Label, change: SettingChange },
}

/// The courier's answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum DatabaseAnswer {
    /// To `Hello`.
    Hello { version: String },
    /// To `Sessions`.
    Sessions(Sessions),
    /// To `Pool`.
    Pool(PoolState),
    /// To `Settings`; those the server does not have are left out.
    Settings(Vec<(Setting, SettingState)>),
    /// To `Terminate`: it is gone.
    Terminated,
    /// To `Set`: how it is now.
    Set(SettingState),
    /// It was not done, and nothing was changed.
    No(DatabaseNo),
    /// It was begun, and its end is not known.
    Unknown(String),
}

/// Why nothing was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum DatabaseNo {
    /// The courier does not know the server, can't reach it, or the server can't do it.
    Unavailable(String),
    /// The session or setting is another one by now.
    Stale(String),
    /// The server, or the courier, said no.
    Refused(String),
}
