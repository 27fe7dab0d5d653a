//! A bound database server: which calls it admits.

use std::collections::{BTreeMap, BTreeSet};

use theriac_model::call::Interface;
use theriac_model::database::{
    ApplicationName, DatabaseCall, DatabaseEffect, DatabaseKind, DatabaseVerb, Setting, Termination,
};
use theriac_model::denial::{Denial, DenialCause};
use theriac_model::effect::UndoClass;
use theriac_model::id::Label;
use theriac_model::plan::PlannedEffect;
use theriac_model::target::Target;
use theriac_model::time::Span;
use theriac_model::units::Permille;

use super::missing::Missing;
use super::{suggest, unbound};
use crate::grant::{Applications, DatabasesGrant, DatabasesVerb, EndingBounds, ServerSource};
use crate::host::HostConfig;
use crate::manifest::{MAX_ENDED, MAX_IDLE, MIN_IDLE};

/// A server with what one run may do to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BoundDatabase {
    /// The label.
    pub label: Label,
    /// Which server, by the operator's name.
    pub database: Label,
    /// Which sort.
    pub kind: DatabaseKind,
    /// An ended session is no loss.
    pub reproducible: bool,
    /// Share of the traffic that depends on it.
    pub traffic_share: Option<Permille>,
    grant: DatabasesGrant,
    applications: BTreeSet<ApplicationName>,
    ranges: BTreeMap<Setting, (i64, i64)>,
}

fn range_line(min: i64, max: i64) -> String {
    format!("{{ min = {min}, max = {max} }}")
}

/// The smallest range that holds the old one and the value.
fn widened(range: Option<(i64, i64)>, value: i64) -> String {
    let (min, max) = range.map_or((value, value), |(min, max)| (min.min(value), max.max(value)));
    range_line(min, max)
}

fn holds(range: Option<(i64, i64)>, value: i64) -> bool {
    range.is_some_and(|(min, max)| (min..=max).contains(&value))
}

impl BoundDatabase {
    pub(super) fn bind(
        label: &Label,
        grant: &DatabasesGrant,
        host: &HostConfig,
        target: &Target,
    ) -> Result<Self, Denial> {
        let no = |rule| unbound(Interface::Databases, label, DenialCause::NotGranted, rule);
        let name = match (&grant.server, target) {
            (ServerSource::Name(name), _) | (ServerSource::Incident, Target::Pool(name)) => name,
            (
                ServerSource::Incident,
                Target::Unit(_) | Target::Mount(_) | Target::Certificate(_) | Target::Container(_) | Target::Host,
            ) => return Err(no("incident.database")),
        };
        let entry = host.databases.iter().find(|entry| entry.name == *name);
        let entry = entry.ok_or_else(|| no("runner.database").suggest(listing(name, grant)))?;
        Ok(Self {
            label: label.clone(),
            database: name.clone(),
            kind: entry.kind,
            reproducible: entry.reproducible,
            traffic_share: entry.traffic_share,
            grant: grant.clone(),
            applications: entry.applications.clone(),
            ranges: entry.settings.clone(),
        })
    }

    /// A call on the server, of which this run has ended so many sessions already.
    pub fn admits(&self, call: &DatabaseCall, ended: u32) -> Result<(), Denial> {
        match call {
            DatabaseCall::Sessions => {
                let mut missing = Missing::default();
                self.need_verb(DatabasesVerb::Sessions, &mut missing);
                missing.answer(&self.label, format_args!("sessions of {}", self.database))
            }
            DatabaseCall::Settings => self.admits_settings(),
            DatabaseCall::Set { setting, value } => self.admits_set(setting, *value),
            DatabaseCall::TerminateIdle { older_than_s, application, at_most } => {
                self.admits_ending(*older_than_s, application, *at_most, ended)
            }
        }
    }

    /// The settings that may be read.
    pub fn settings(&self) -> impl Iterator<Item = Setting> {
        self.grant.settings.keys().copied().filter(|setting| setting.kind() == self.kind)
    }

    fn manifest(&self, key: &str, value: impl std::fmt::Display) -> String {
        suggest::manifest(Interface::Databases, &self.label, key, value)
    }

    fn runner(&self, key: &str, value: impl std::fmt::Display) -> String {
        suggest::runner("database", ("name", self.database.as_str()), key, value)
    }

    fn need_verb(&self, verb: DatabasesVerb, missing: &mut Missing) -> bool {
        let granted = self.grant.verbs.contains(&verb);
        if !granted {
            let list = suggest::list_with(&self.grant.verbs, verb, DatabasesVerb::as_str);
            missing.add("verbs", self.manifest("verbs", list));
        }
        granted
    }

    fn admits_settings(&self) -> Result<(), Denial> {
        let mut missing = Missing::default();
        if !self.need_verb(DatabasesVerb::Settings, &mut missing) && self.grant.settings.is_empty() {
            // The parser wants one, once there is the verb.
            let any = Setting::of(self.kind).next();
            let line = any.map(|setting| self.manifest(&format!("settings.{setting}"), suggest::text("read")));
            missing.add("settings", line);
        }
        missing.answer(&self.label, format_args!("settings of {}", self.database))
    }

    fn admits_set(&self, name: &str, value: i64) -> Result<(), Denial> {
        let shown: String = name.chars().take(64).collect();
        let attempted = format!("set {} of {} to {value}", shown.escape_debug(), self.database);
        let Some(setting) = Setting::named(name) else {
            return Err(Denial::new(DenialCause::NotGranted, &self.label, "settings", attempted));
        };
        if setting.kind() != self.kind {
            return Err(Denial::new(DenialCause::Unavailable, &self.label, "kind", attempted));
        }
        let mut missing = Missing::default();
        self.need_verb(DatabasesVerb::Set, &mut missing);
        let (asked, left) = (self.grant.settings.get(&setting).copied().flatten(), self.ranges.get(&setting).copied());
        if !holds(asked, value) {
            let key = format!("settings.{setting}");
            missing.add("settings", self.manifest(&key, widened(asked, value)));
        }
        if !holds(left, value) {
            let key = format!("settings.{setting}");
            missing.add("runner.database.settings", self.runner(&key, widened(left, value)));
        }
        missing.answer(&self.label, attempted)
    }

    fn admits_ending(&self, older_than_s: u64, application: &str, at_most: u32, ended: u32) -> Result<(), Denial> {
        let shown: String = application.chars().take(80).collect();
        let attempted = format!(
            "end {at_most} sessions of `{}` at {}, idle for {older_than_s} s",
            shown.escape_debug(),
            self.database
        );
        let Ok(name) = ApplicationName::parse(application) else {
            return Err(Denial::new(DenialCause::NotGranted, &self.label, "applications", attempted));
        };
        let mut missing = Missing::default();
        self.need_verb(DatabasesVerb::TerminateIdle, &mut missing);
        let bounds = self.grant.ending.as_ref();
        self.need_application(bounds, &name, &mut missing);
        self.need_idle(bounds, older_than_s, &mut missing);
        let total = ended.saturating_add(at_most);
        if bounds.is_none_or(|bounds| total > bounds.at_most) {
            let possible = total <= MAX_ENDED;
            // The grant covers each of them, and not so many.
            let line = possible.then(|| self.manifest("at_most", total.max(1)));
            missing.add_as(DenialCause::OverBudget, "at_most", line);
        }
        missing.answer(&self.label, attempted)
    }

    fn need_application(&self, bounds: Option<&EndingBounds>, name: &ApplicationName, missing: &mut Missing) {
        let with = |names: &BTreeSet<ApplicationName>| {
            let names: BTreeSet<&str> = names.iter().chain([name]).map(ApplicationName::as_str).collect();
            suggest::list(names)
        };
        let none = BTreeSet::new();
        let asked = match bounds.map(|bounds| &bounds.applications) {
            Some(Applications::Operator) => None,
            Some(Applications::Named(names)) => Some(names),
            None => Some(&none),
        };
        if let Some(asked) = asked.filter(|names| !names.contains(name)) {
            missing.add("applications", self.manifest("applications", with(asked)));
        }
        if !self.applications.contains(name) {
            let line = self.runner("applications", with(&self.applications));
            missing.add("runner.database.applications", line);
        }
    }

    fn need_idle(&self, bounds: Option<&EndingBounds>, older_than_s: u64, missing: &mut Missing) {
        let idle = Span::from_secs(older_than_s.min(MAX_IDLE.duration().as_secs()));
        if bounds.is_none_or(|bounds| idle < bounds.idle_for) {
            let line = (idle >= MIN_IDLE).then(|| self.manifest("idle_for", suggest::text(&idle.to_string())));
            missing.add("idle_for", line);
        }
    }

    /// A planned effect still lies within the grant, whatever the plan says of itself; so many sessions are ended before it.
    pub(crate) fn admits_effect(
        &self,
        planned: &PlannedEffect,
        effect: &DatabaseEffect,
        ended: u32,
    ) -> Result<(), Denial> {
        let no = |cause, rule| Err(Denial::new(cause, &self.label, rule, &planned.effect));
        if effect.database != self.database {
            return no(DenialCause::StaleTarget, "identity");
        }
        match &effect.verb {
            DatabaseVerb::Set { setting, value } => self.admits_set(setting.as_str(), *value),
            DatabaseVerb::Terminate(Termination { state, .. }) if !state.waits() => {
                no(DenialCause::NotGranted, "state")
            }
            // A person's session does not come back because a plan says so.
            DatabaseVerb::Terminate(_) if !matches!(planned.undo, UndoClass::Irreversible { .. }) => {
                no(DenialCause::NotGranted, "undo")
            }
            DatabaseVerb::Terminate(_) if planned.reproducible && !self.reproducible => {
                no(DenialCause::NotGranted, "reproducible")
            }
            DatabaseVerb::Terminate(Termination { application, older_than_s, .. }) => {
                self.admits_ending(*older_than_s, application.as_str(), 1, ended)
            }
        }
    }

    /// What it comes to here, in words.
    pub(crate) fn words(&self) -> String {
        let left = |verb: &&DatabasesVerb| match verb {
            DatabasesVerb::Sessions | DatabasesVerb::Settings => true,
            DatabasesVerb::TerminateIdle => !self.applications.is_empty(),
            DatabasesVerb::Set => !self.ranges.is_empty(),
        };
        let verbs = self.grant.verbs.iter().filter(left).map(|verb| verb.as_str()).collect::<Vec<_>>().join(", ");
        let mut text = format!("{verbs} of {} ({})", self.database, self.kind);
        if let Some(bounds) = &self.grant.ending {
            let named = |name: &&ApplicationName| match &bounds.applications {
                Applications::Operator => true,
                Applications::Named(names) => names.contains(*name),
            };
            let names: Vec<&str> = self.applications.iter().filter(named).map(ApplicationName::as_str).collect();
            let names = if names.is_empty() { "no application".to_owned() } else { names.join(", ") };
            text.push_str(&format!(", ends at most {} sessions of {names}", bounds.at_most));
        }
        for (setting, asked) in &self.grant.settings {
            let both = asked.as_ref().zip(self.ranges.get(setting)).map(|(a, b)| (a.0.max(b.0), a.1.min(b.1)));
            if let Some((min, max)) = both.filter(|(min, max)| min <= max) {
                text.push_str(&format!(", {setting} {min} to {max}"));
            }
        }
        text
    }
}

/// The entry that would bind the server, with what the grant wants to change there.
fn listing(name: &Label, grant: &DatabasesGrant) -> String {
    let runner = |key: &str, value: String| suggest::runner("database", ("name", name.as_str()), key, value);
    let kind = grant.settings.keys().next().map_or(DatabaseKind::Postgres, |setting| setting.kind());
    let mut lines = vec![runner("kind", suggest::text(kind.as_str()))];
    if let Some(EndingBounds { applications: Applications::Named(names), .. }) = &grant.ending {
        lines.push(runner("applications", suggest::list(names.iter().map(ApplicationName::as_str))));
    }
    for (setting, range) in grant.settings.iter().filter(|(setting, _)| setting.kind() == kind) {
        if let Some((min, max)) = range {
            lines.push(runner(&format!("settings.{setting}"), range_line(*min, *max)));
        }
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests;
