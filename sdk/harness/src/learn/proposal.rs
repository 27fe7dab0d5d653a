//! Manifests with everything granted, and with the smallest of it, as tables.

use std::collections::BTreeSet;
use std::fmt::Display;

use theriac_authority::effective::Globs;
use theriac_authority::grant::{FilesVerb, ProcessesVerb, UnitsVerb};
use theriac_authority::manifest::Manifest;
use theriac_authority::package;
use theriac_model::call::Interface;
use theriac_model::time::Span;
use theriac_model::unit::Property;
use toml::{Table, Value};

use super::observed::{Files, Observed, Processes, Units};
use super::oldest;
use crate::error::ScenarioError;
use crate::scenario::Scenario;

/// The label that a unit is usually opened by; where a remedy uses another, the first run shows it.
const UNIT_LABEL: &str = "target";
const WHY: &str = "learned from a scenario: say here why the remedy needs it";

/// How much more than what was touched is granted. The first with which the remedy does the same is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Width {
    /// Files that a verb was called on.
    Touched,
    /// Files that were listed, for a remedy that counts.
    Listed,
    /// And files that somebody has open may be cut.
    InUse,
}

impl Width {
    pub(super) const ALL: [Self; 3] = [Self::Touched, Self::Listed, Self::InUse];
}

/// The manifest without its grants, and its grants.
#[derive(Debug)]
pub(super) struct Base {
    rest: Table,
    grants: Table,
    manifest: Manifest,
}

impl Base {
    pub(super) fn parse(text: &str) -> Result<Self, ScenarioError> {
        let doing = "reading the manifest";
        let manifest = Manifest::parse(text).map_err(ScenarioError::part(doing))?;
        let mut rest: Table = text.parse().map_err(ScenarioError::part::<toml::de::Error>(doing))?;
        let grants = match rest.remove("grants") {
            Some(Value::Table(grants)) => grants,
            Some(_) | None => Table::new(),
        };
        Ok(Self { rest, grants, manifest })
    }

    /// The age that its grants ask for.
    pub(super) fn age(&self) -> Span {
        oldest(&self.manifest)
    }

    /// The manifest's text with other grants.
    pub(super) fn with(&self, grants: &Table) -> Result<String, ScenarioError> {
        let mut whole = self.rest.clone();
        whole.insert("grants".to_owned(), Value::Table(grants.clone()));
        toml::to_string(&whole).map_err(ScenarioError::part("writing the manifest"))
    }

    /// Everything that can be granted in the scenario's world, for each interface that the component imports.
    pub(super) fn everything(&self, scenario: &Scenario, component: &[u8]) -> Result<Table, ScenarioError> {
        let imports = package::imports(component).map_err(ScenarioError::part("reading the component"))?;
        let imports_it =
            |interface: &str| imports.iter().any(|name| name.starts_with(&format!("theriac:remedy/{interface}@")));
        let mut grants = Table::new();
        if imports_it("files") {
            for directory in &scenario.directory {
                add(&mut grants, Interface::Files, directory.label.as_str(), all_files());
            }
        }
        if imports_it("units") {
            add(&mut grants, Interface::Units, UNIT_LABEL, all_units());
        }
        if imports_it("processes") {
            add(&mut grants, Interface::Processes, UNIT_LABEL, all_processes());
        }
        for (interface, imported) in [
            (Interface::Series, "observe"),
            (Interface::Probes, "observe"),
            (Interface::Programs, "programs"),
            (Interface::Http, "http"),
            (Interface::Kernel, "kernel"),
            (Interface::Releases, "releases"),
            (Interface::Containers, "containers"),
            (Interface::Firewall, "firewall"),
            (Interface::Certificates, "certificates"),
            (Interface::Databases, "databases"),
        ] {
            if let Some(known) = self.grants.get(interface.grant_table()).filter(|_| imports_it(imported)) {
                grants.insert(interface.grant_table().to_owned(), known.clone());
            }
        }
        Ok(grants)
    }

    /// Grants one more label that was asked for. `Ok(false)`: it is granted already. The error is a sentence for the author.
    pub(super) fn grant(&self, grants: &mut Table, interface: Interface, label: &str) -> Result<bool, String> {
        let table = interface.grant_table();
        if find(grants, table, label).is_some() {
            return Ok(false);
        }
        let everything = match interface {
            Interface::Units => all_units(),
            Interface::Processes => all_processes(),
            Interface::Files => {
                return Err(format!("it opens files `{label}`, and the scenario has no [[directory]] of that label"));
            }
            Interface::Series
            | Interface::Probes
            | Interface::Programs
            | Interface::Http
            | Interface::Kernel
            | Interface::Releases
            | Interface::Containers
            | Interface::Certificates
            | Interface::Databases
            | Interface::Firewall => {
                return Err(format!("it opens {table} `{label}`: only you can write [grants.{table}.{label}]"));
            }
        };
        add(grants, interface, label, everything);
        Ok(true)
    }

    /// What was called, and no more.
    pub(super) fn smallest(&self, observed: &Observed, width: Width, age: Span) -> Table {
        let mut grants = Table::new();
        for (label, files) in observed.files.iter().filter(|(_, files)| !files.verbs.is_empty()) {
            add(
                &mut grants,
                Interface::Files,
                label,
                self.why(Interface::Files, label, smallest_files(files, width, age)),
            );
        }
        for (label, units) in observed.units.iter().filter(|(_, units)| !units.verbs.is_empty()) {
            add(&mut grants, Interface::Units, label, self.why(Interface::Units, label, smallest_units(units)));
        }
        for (label, processes) in observed.processes.iter().filter(|(_, processes)| !processes.verbs.is_empty()) {
            let table = self.why(Interface::Processes, label, smallest_processes(processes));
            add(&mut grants, Interface::Processes, label, table);
        }
        for (table, label) in &observed.others {
            if let (Some(known), Some(interface)) =
                (find(&self.grants, table, label), Interface::ALL.into_iter().find(|one| one.grant_table() == *table))
            {
                add(&mut grants, interface, label, known.clone());
            }
        }
        grants
    }

    /// Why, and what bounds nothing that was called, as the manifest has them.
    fn why(&self, interface: Interface, label: &str, mut table: Table) -> Table {
        let known = find(&self.grants, interface.grant_table(), label);
        let why = known.and_then(|known| known.get("why")).and_then(Value::as_str).unwrap_or(WHY);
        table.insert("why".to_owned(), why.into());
        table
    }
}

fn find<'a>(grants: &'a Table, interface: &str, label: &str) -> Option<&'a Table> {
    grants.get(interface)?.get(label)?.as_table()
}

fn add(grants: &mut Table, interface: Interface, label: &str, table: Table) {
    let of = grants.entry(interface.grant_table()).or_insert_with(|| Value::Table(Table::new()));
    if let Value::Table(of) = of {
        of.insert(label.to_owned(), Value::Table(table));
    }
}

/// The grants alone, as `remedy.toml` has them: one table each, and what is in it on lines of its own.
pub(super) fn text(grants: &Table) -> String {
    let mut text = String::new();
    for (interface, labels) in grants {
        for (label, grant) in labels.as_table().into_iter().flatten() {
            let lines = grant.as_table().into_iter().flatten().map(|(key, value)| format!("{key} = {value}\n"));
            text.push_str(&format!("[grants.{interface}.{label}]\n{}\n", lines.collect::<String>()));
        }
    }
    text.trim_end().to_owned() + "\n"
}

fn list<T: Display>(items: impl IntoIterator<Item = T>) -> Value {
    Value::Array(items.into_iter().map(|item| Value::String(item.to_string())).collect())
}

fn table<const N: usize>(pairs: [(&str, Value); N]) -> Table {
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

fn from(word: &str) -> Value {
    Value::Table(table([("from", word.into())]))
}

fn range(least: impl Into<Value>, most: impl Into<Value>) -> Value {
    Value::Table(table([("min", least.into()), ("max", most.into())]))
}

fn all_files() -> Table {
    table([
        ("dir", from("operator")),
        ("match", list(["**/*"])),
        ("verbs", list(FilesVerb::ALL)),
        ("archive_to", from("operator")),
        ("set_aside", from("operator")),
        ("min_age", "0s".into()),
        ("max_bytes", "1TiB".into()),
        ("max_files", 10_000.into()),
        ("in_use", "truncate".into()),
        ("why", WHY.into()),
    ])
}

fn all_units() -> Table {
    table([
        ("unit", from("incident")),
        ("verbs", list(UnitsVerb::ALL)),
        ("job_timeout", "60s".into()),
        ("cpu_quota", range("1%", "102400%")),
        ("cpu_weight", range(1, 10_000)),
        ("memory_high", range("1MiB", "1024TiB")),
        ("tasks_max", range(1, 4_194_304)),
        ("signals", list(["TERM", "KILL", "HUP", "USR1"])),
        ("why", WHY.into()),
    ])
}

fn all_processes() -> Table {
    table([
        ("of", from("incident")),
        ("verbs", list(ProcessesVerb::ALL)),
        ("signals", list(["TERM", "KILL", "HUP", "USR1"])),
        ("why", WHY.into()),
    ])
}

fn smallest_files(files: &Files, width: Width, age: Span) -> Table {
    let globs = |names: &BTreeSet<String>| list(names.iter().map(|name| Globs::literal(name)));
    let mut names = files.touched.clone();
    if width != Width::Touched {
        names.extend(files.listed.iter().cloned());
    }
    // A grant has at least one glob; one that lists nothing needs none that matches.
    let matching = if names.is_empty() { list(["nothing-was-touched"]) } else { globs(&names) };
    let mut grant = table([("dir", from("operator")), ("match", matching), ("verbs", list(&files.verbs))]);
    let mut set = |key: &str, value: Value| drop(grant.insert(key.to_owned(), value));
    if !files.deleted.is_empty() {
        set("match_deleted", globs(&files.deleted));
    }
    if files.verbs.iter().any(|verb| verb.needs_archive()) {
        set("archive_to", from("operator"));
    }
    if files.verbs.contains(&FilesVerb::SetAside) {
        set("set_aside", from("operator"));
    }
    if files.verbs.iter().any(|verb| verb.changes()) {
        set("min_age", age.to_string().into());
        set("max_files", i64::from(files.changes.max(1)).into());
        set("max_bytes", format!("{}B", files.bytes.max(1)).into());
        if width == Width::InUse && files.verbs.iter().any(|verb| verb.cuts()) {
            set("in_use", "truncate".into());
        }
    }
    grant
}

fn smallest_units(units: &Units) -> Table {
    let mut grant = table([("unit", from("incident")), ("verbs", list(&units.verbs))]);
    if !units.signals.is_empty() {
        grant.insert("signals".to_owned(), list(units.signals.iter().map(|signal| signal.as_str())));
    }
    let properties = &units.properties;
    let numbers = |pick: fn(&Property) -> Option<u64>| {
        let numbers: Vec<u64> = properties.iter().filter_map(pick).collect();
        numbers.iter().min().copied().zip(numbers.iter().max().copied())
    };
    let mut bound = |key: &str, found: Option<(u64, u64)>, shown: fn(u64, bool) -> Value| {
        if let Some((least, most)) = found {
            grant.insert(key.to_owned(), range(shown(least, false), shown(most, true)));
        }
    };
    bound("cpu_quota", numbers(cpu_quota), percent);
    bound("cpu_weight", numbers(cpu_weight), |number, _| whole(number));
    bound("memory_high", numbers(memory_high), |number, _| format!("{number}B").into());
    bound("tasks_max", numbers(tasks_max), |number, _| whole(number));
    grant
}

fn smallest_processes(processes: &Processes) -> Table {
    let mut grant = table([("of", from("incident")), ("verbs", list(&processes.verbs))]);
    if !processes.signals.is_empty() {
        grant.insert("signals".to_owned(), list(processes.signals.iter().map(|signal| signal.as_str())));
    }
    grant
}

/// Whole percents around thousandths of a core.
fn percent(permille: u64, up: bool) -> Value {
    let percent = if up { permille.div_ceil(10) } else { permille / 10 };
    format!("{}%", percent.max(1)).into()
}

fn whole(number: u64) -> Value {
    i64::try_from(number).unwrap_or(i64::MAX).into()
}

#[expect(clippy::wildcard_enum_match_arm, reason = "each picks one property")]
fn cpu_quota(property: &Property) -> Option<u64> {
    match property {
        Property::CpuQuota(quota) => quota.map(u64::from),
        _ => None,
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "each picks one property")]
fn cpu_weight(property: &Property) -> Option<u64> {
    match property {
        Property::CpuWeight(weight) => weight.map(u64::from),
        _ => None,
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "each picks one property")]
const fn memory_high(property: &Property) -> Option<u64> {
    match property {
        Property::MemoryHigh(bytes) => *bytes,
        _ => None,
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "each picks one property")]
const fn tasks_max(property: &Property) -> Option<u64> {
    match property {
        Property::TasksMax(tasks) => *tasks,
        _ => None,
    }
}
