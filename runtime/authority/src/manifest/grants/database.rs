//! Reads `[grants.databases.LABEL]`.

use std::collections::{BTreeMap, BTreeSet};

use theriac_model::database::{ApplicationName, Setting};
use theriac_model::id::Label;
use theriac_model::time::Span;

use super::{from, idle, verbs, why};
use crate::document::{Field, Mistake, Table};
use crate::grant::{Applications, DatabasesGrant, DatabasesVerb, EndingBounds, ServerSource, WordError};

/// Sessions one run may end: each is journaled with a sync, and a pool with more idle ones needs another size, not a healer.
pub(crate) const MAX_ENDED: u32 = 1000;
/// A client that has thought for less than a second is not idle.
pub(crate) const MIN_IDLE: Span = Span::from_secs(1);
pub(crate) const MAX_IDLE: Span = Span::from_secs(30 * 86_400);
/// Applications of one list: a reviewer reads them.
const MAX_APPLICATIONS: usize = 64;

const ENDING_KEYS: [&str; 3] = ["applications", "idle_for", "at_most"];

pub(super) fn parse(field: Field) -> Result<DatabasesGrant, Mistake> {
    let mut table = field.table(&["server", "verbs", "applications", "idle_for", "at_most", "settings", "why"])?;
    let why = why(&mut table)?;
    let server = server(table.required("server", "the operator's name of it or { from = \"incident\" }")?)?;
    let verbs: BTreeSet<DatabasesVerb> = verbs(&mut table, DatabasesVerb::ALL.iter().map(|verb| verb.as_str()))?;
    let ending = if verbs.contains(&DatabasesVerb::TerminateIdle) {
        Some(ending(&mut table)?)
    } else {
        for key in ENDING_KEYS {
            idle(&mut table, key, "the verb `terminate-idle`")?;
        }
        None
    };
    let settings = settings(&mut table, &verbs)?;
    Ok(DatabasesGrant { server, verbs, ending, settings, why })
}

fn server(field: Field) -> Result<ServerSource, Mistake> {
    if field.is_table() {
        return from(field, "incident").map(|()| ServerSource::Incident);
    }
    field.parse_with(Label::parse).map(ServerSource::Name)
}

fn ending(table: &mut Table) -> Result<EndingBounds, Mistake> {
    let needed = "`terminate-idle` needs it";
    let hint = format!("a list of names or {{ from = \"operator\" }}: {needed}");
    let field = table.required("applications", &hint)?;
    let applications = if field.is_table() {
        from(field, "operator").map(|()| Applications::Operator)?
    } else {
        Applications::Named(applications(field)?)
    };
    Ok(EndingBounds {
        applications,
        idle_for: table.required("idle_for", &format!("`idle_for = \"5m\"`: {needed}"))?.span(MIN_IDLE, MAX_IDLE)?,
        at_most: table.required("at_most", &format!("`at_most = 20`: {needed}"))?.integer(1, MAX_ENDED)?,
    })
}

/// `["shop", "reports"]`, at least one.
pub(crate) fn applications(field: Field) -> Result<BTreeSet<ApplicationName>, Mistake> {
    let wrong = field.mistake(format!("1 to {MAX_APPLICATIONS} applications are possible"), "");
    let names: BTreeSet<ApplicationName> =
        field.list()?.iter().map(|item| item.parse_with(ApplicationName::parse)).collect::<Result<_, _>>()?;
    if names.is_empty() || names.len() > MAX_APPLICATIONS { Err(wrong) } else { Ok(names) }
}

/// Each setting with its range, or `"read"`.
fn settings(
    table: &mut Table,
    verbs: &BTreeSet<DatabasesVerb>,
) -> Result<BTreeMap<Setting, Option<(i64, i64)>>, Mistake> {
    let sets = verbs.contains(&DatabasesVerb::Set);
    if !sets && !verbs.contains(&DatabasesVerb::Settings) {
        idle(table, "settings", "the verb `settings` or `set`")?;
        return Ok(BTreeMap::new());
    }
    let hint = "`settings.wait_timeout = { min = 60, max = 600 }`, or `= \"read\"`: `settings` and `set` need it";
    let field = table.required("settings", hint)?;
    let empty = field.mistake("without a setting the verb permits nothing", hint);
    let mut settings = BTreeMap::new();
    for (name, field) in field.named()? {
        let setting = setting(&field, &name)?;
        let range = match field.is_table() {
            true if sets => Some(super::kernel::range(field)?),
            true => return Err(field.mistake("a range changes nothing without the verb `set`", "write \"read\"")),
            false if field.text()? == "read" => None,
            false => return Err(field.mistake("it is neither a range nor \"read\"", hint)),
        };
        settings.insert(setting, range);
    }
    let nothing = settings.is_empty() || sets && settings.values().all(Option::is_none);
    if nothing { Err(empty) } else { Ok(settings) }
}

/// A setting of the closed list.
pub(crate) fn setting(field: &Field, name: &str) -> Result<Setting, Mistake> {
    let known = Setting::ALL.iter().map(|setting| setting.as_str());
    Setting::named(name).ok_or_else(|| field.mistake(WordError::new("a setting", name, known), ""))
}
