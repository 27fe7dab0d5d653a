//! `[grants.databases.LABEL]`: one database server, with the applications whose idle sessions may be ended and the settings that
//! may be changed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};
use theriac_model::database::{ApplicationName, Setting};
use theriac_model::id::Label;
use theriac_model::time::Span;

use super::WordError;
use super::lines::list;

verbs! {
    /// What can be done to a granted server.
    DatabasesVerb, "a verb of `databases`",
    /// Who is connected.
    Sessions = "sessions" reads,
    /// Sessions that wait for their client are ended.
    TerminateIdle = "terminate-idle" changes,
    /// The granted settings.
    Settings = "settings" reads,
    /// Another value of one of them.
    Set = "set" changes,
}

/// Where a server comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ServerSource {
    /// By the operator's name of it.
    Name(Label),
    /// The incident's target.
    Incident,
}

/// Whose sessions may be ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Applications {
    /// Those that the operator lists.
    Operator,
    /// These, as far as the operator lists them.
    Named(BTreeSet<ApplicationName>),
}

/// A server with what may be done to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DatabasesGrant {
    /// Which server.
    pub server: ServerSource,
    /// The verbs.
    pub verbs: BTreeSet<DatabasesVerb>,
    /// What `terminate-idle` may end; none without it.
    pub ending: Option<EndingBounds>,
    /// What `settings` may read and, where there is a range, `set` may set, both ends allowed.
    pub settings: BTreeMap<Setting, Option<(i64, i64)>>,
    /// Why.
    pub why: String,
}

/// What `terminate-idle` may end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EndingBounds {
    /// Sessions of these applications …
    pub applications: Applications,
    /// … that have waited at least this long …
    pub idle_for: Span,
    /// … and no more of them in one run.
    pub at_most: u32,
}

impl DatabasesGrant {
    /// What it permits, complete and in one sentence: the line a signer reads.
    pub(super) fn sentence(&self) -> String {
        let server = match &self.server {
            ServerSource::Name(name) => format!("database {name}"),
            ServerSource::Incident => "the incident's database".to_owned(),
        };
        let mut text = format!("{} of {server}", list(&self.verbs));
        if let Some(EndingBounds { applications, idle_for, at_most }) = &self.ending {
            let whose = match applications {
                Applications::Operator => "the operator's applications".to_owned(),
                // Quoted: a name may hold a comma.
                Applications::Named(names) => {
                    list(names.iter().map(|name| format!("\"{}\"", name.as_str().escape_default())))
                }
            };
            text.push_str(&format!("; ends at most {at_most} sessions of {whose} that have been idle for {idle_for}"));
        }
        for (setting, range) in &self.settings {
            match range {
                Some((min, max)) => text.push_str(&format!("; {setting} {min} to {max}")),
                None => text.push_str(&format!("; {setting} read only")),
            }
        }
        text
    }
}
