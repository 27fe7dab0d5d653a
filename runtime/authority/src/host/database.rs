//! `[[database]]` of `runner.toml`: database servers that remedies may look at through the `databases` courier, and what they may
//! change there. How each is reached is the courier's to know.

use std::collections::{BTreeMap, BTreeSet};

use theriac_model::catalog::Thresholds;
use theriac_model::database::{ApplicationName, DatabaseKind, Setting};
use theriac_model::id::Label;
use theriac_model::units::Permille;

use crate::document::{Field, Mistake};
use crate::grant::WordError;
use crate::manifest::{database_applications, database_setting, knob_range};

/// One listed server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatabaseConfig {
    /// What courier and manifests call it.
    pub name: Label,
    /// Which sort.
    pub kind: DatabaseKind,
    /// Whose idle sessions remedies may end.
    pub applications: BTreeSet<ApplicationName>,
    /// How far remedies may change which setting, both ends allowed.
    pub settings: BTreeMap<Setting, (i64, i64)>,
    /// Share of the traffic that depends on it.
    pub traffic_share: Option<Permille>,
    /// Its applications connect again by themselves, so an ended session is no loss.
    pub reproducible: bool,
    /// What is abnormal for it.
    pub thresholds: Thresholds,
}

const KEYS: &[&str] =
    &["name", "kind", "applications", "settings", "traffic_share", "reproducible", "connections_used"];

pub(super) fn list(list: Option<Field>) -> Result<Vec<DatabaseConfig>, Mistake> {
    let mut databases: Vec<DatabaseConfig> = Vec::new();
    for field in list.map_or_else(|| Ok(Vec::new()), Field::list)? {
        let whole = field.clone();
        let new = parse(field)?;
        if databases.iter().any(|old| old.name == new.name) {
            return Err(whole.mistake("this database is listed twice", "leave one out"));
        }
        databases.push(new);
    }
    Ok(databases)
}

fn parse(field: Field) -> Result<DatabaseConfig, Mistake> {
    let mut table = field.table(KEYS)?;
    let name =
        table.required("name", "its name in courier-databases.toml, such as \"main\"")?.parse_with(Label::parse)?;
    let kind = kind(&table.required("kind", "\"postgres\" or \"mysql\"")?)?;
    let applications = table.optional("applications").map_or_else(|| Ok(BTreeSet::new()), database_applications)?;
    let mut settings = BTreeMap::new();
    for (name, field) in table.optional("settings").map_or_else(|| Ok(Vec::new()), Field::named)? {
        let setting = database_setting(&field, &name)?;
        if setting.kind() != kind {
            return Err(field.mistake(format!("`{setting}` is a setting of {}", setting.kind()), "leave it out"));
        }
        settings.insert(setting, knob_range(field)?);
    }
    let mut thresholds = Thresholds::default();
    if let Some(field) = table.optional("connections_used") {
        thresholds.connections_used = field.share()?;
    }
    Ok(DatabaseConfig {
        name,
        kind,
        applications,
        settings,
        traffic_share: table.optional("traffic_share").map(|field| field.share()).transpose()?,
        reproducible: table.optional("reproducible").map_or(Ok(false), |field| field.flag())?,
        thresholds,
    })
}

fn kind(field: &Field) -> Result<DatabaseKind, Mistake> {
    field.parse_with(|word| {
        let known = DatabaseKind::ALL.into_iter().find(|kind| kind.as_str() == word);
        known.ok_or_else(|| {
            WordError::new("a kind of database", word, DatabaseKind::ALL.iter().map(|kind| kind.as_str()))
        })
    })
}
