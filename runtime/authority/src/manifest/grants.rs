//! `[grants.INTERFACE.LABEL]`: one function per interface. A key that would change nothing is refused, and so is a verb
//! whose bounds are not written down.

use std::collections::{BTreeMap, BTreeSet};

use theriac_model::call::Interface;
use theriac_model::id::{Label, UnitName};
use theriac_model::observation::Metric;
use theriac_model::target::MountPath;
use theriac_model::time::Span;
use theriac_model::unit::Signal;
use theriac_model::units::Bytes;

mod certificate;
pub(crate) mod container;
pub(crate) mod database;
pub(crate) mod firewall;
mod http;
pub(crate) mod kernel;
pub(crate) mod program;
mod release;

use super::MAX_GRANTS;
use crate::document::{Field, Mistake, Table};
use crate::effective::Globs;
use crate::grant::{
    DirSource, FilesGrant, FromOperator, Grants, GroupSource, InUse, ProbesGrant, ProcessesGrant, ProcessesVerb,
    PropertyBounds, SeriesGrant, UnitSource, UnitsGrant, UnitsVerb, WordError, never,
};

/// Files one run may change: each is journaled with a sync, and 10,000 of them take a minute.
const MAX_FILES: u32 = 10_000;
/// Bytes one run may change: the volume of a small server.
const MAX_BYTES: Bytes = Bytes(1 << 40);
/// systemd's own stop takes 90 s by default, and a slow database some minutes.
const MAX_JOB: Span = Span::from_secs(600);
/// When nothing is written.
const DEFAULT_JOB: Span = Span::from_secs(30);
/// Globs of one grant: a reviewer reads them.
const MAX_GLOBS: usize = 32;

const WHY: &str = "`why = \"…\"`: one line for the people who approve it";

pub(super) fn parse(field: Field) -> Result<Grants, Mistake> {
    let too_many = field.mistake(format!("more than {MAX_GRANTS} grants"), "");
    let tables = Interface::ALL.map(Interface::grant_table);
    let mut table = field.table(&tables)?;
    let mut grants = Grants::default();
    for interface in Interface::ALL {
        let Some(field) = table.optional(interface.grant_table()) else { continue };
        match interface {
            Interface::Files => grants.files = labelled(field, files)?,
            Interface::Units => grants.units = labelled(field, units)?,
            Interface::Processes => grants.processes = labelled(field, processes)?,
            Interface::Series => grants.series = labelled(field, series)?,
            Interface::Probes => grants.probes = labelled(field, probes)?,
            Interface::Certificates => grants.certificates = labelled(field, certificate::parse)?,
            Interface::Programs => grants.programs = labelled(field, program::parse)?,
            Interface::Http => grants.http = labelled(field, http::parse)?,
            Interface::Kernel => grants.kernel = labelled(field, kernel::parse)?,
            Interface::Releases => grants.releases = labelled(field, release::parse)?,
            Interface::Containers => grants.containers = labelled(field, container::parse)?,
            Interface::Firewall => grants.firewall = labelled(field, firewall::parse)?,
            Interface::Databases => grants.databases = labelled(field, database::parse)?,
        }
    }
    if grants.iter().count() > MAX_GRANTS { Err(too_many) } else { Ok(grants) }
}

fn labelled<T>(field: Field, parse: fn(Field) -> Result<T, Mistake>) -> Result<BTreeMap<Label, T>, Mistake> {
    let mut grants = BTreeMap::new();
    for (label, field) in field.named()? {
        let label = Label::parse(&label).map_err(|error| field.mistake(error, ""))?;
        grants.insert(label, parse(field)?);
    }
    Ok(grants)
}

fn why(table: &mut Table) -> Result<String, Mistake> {
    table.required("why", WHY)?.sentence(200)
}

/// `{ from = "operator" }` and its like.
fn from(field: Field, word: &str) -> Result<(), Mistake> {
    let source = field.table(&["from"])?.required("from", &format!("\"{word}\""))?;
    if source.text()? == word {
        Ok(())
    } else {
        Err(source.mistake("there is no such source", format!("write \"{word}\"")))
    }
}

/// Refuses a key that would change nothing here.
fn idle(table: &mut Table, key: &str, without: &str) -> Result<(), Mistake> {
    match table.optional(key) {
        None => Ok(()),
        Some(field) => Err(field.mistake(format!("it changes nothing without {without}"), "leave it out")),
    }
}

const FILES_KEYS: &[&str] = &[
    "dir",
    "match",
    "match_deleted",
    "except",
    "verbs",
    "archive_to",
    "set_aside",
    "min_age",
    "max_bytes",
    "max_files",
    "keep_newest",
    "in_use",
    "why",
];

fn files(field: Field) -> Result<FilesGrant, Mistake> {
    let mut table = field.table(FILES_KEYS)?;
    let why = why(&mut table)?;
    let dir = dir(table.required("dir", "an absolute path or { from = \"operator\" }")?)?;
    let matching = globs(table.required("match", "a list of globs such as [\"**/*.gz\"]")?, true)?;
    let deleted = table.optional("match_deleted").map(|field| globs(field, true)).transpose()?;
    let except = table.optional("except").map_or_else(|| Ok(Vec::new()), |field| globs(field, false))?;
    let verbs = verbs(&mut table, crate::grant::FilesVerb::ALL.iter().map(|verb| verb.as_str()))?;
    let mut grant = FilesGrant {
        dir,
        match_deleted: deleted.unwrap_or_else(|| matching.clone()),
        matching,
        except,
        archive_to: None,
        set_aside: None,
        min_age: Span::from_millis(0),
        max_bytes: Bytes(0),
        max_files: 0,
        keep_newest: 0,
        in_use: InUse::Refuse,
        verbs,
        why,
    };
    places(&mut table, &mut grant)?;
    bounds_of_change(&mut table, &mut grant)?;
    Ok(grant)
}

fn dir(field: Field) -> Result<DirSource, Mistake> {
    if field.is_table() {
        return from(field, "operator").map(|()| DirSource::Operator);
    }
    let path = field.parse_with(MountPath::parse)?;
    match never::directory(&path) {
        Some(reason) => Err(field.mistake(format!("`{path}` can never be granted: {reason}"), "")),
        None => Ok(DirSource::Path(path)),
    }
}

fn globs(field: Field, needed: bool) -> Result<Vec<String>, Mistake> {
    let wrong = field.mistake(format!("1 to {MAX_GLOBS} globs are possible"), "");
    let items = field.list()?;
    if items.len() > MAX_GLOBS || needed && items.is_empty() {
        return Err(wrong);
    }
    items
        .iter()
        .map(|item| {
            let glob = item.text()?;
            Globs::one(glob).map_err(|error| item.mistake(error, ""))?;
            Ok(glob.to_owned())
        })
        .collect()
}

/// The verbs, each from its closed list, at least one.
fn verbs<'a, T>(table: &mut Table, valid: impl Iterator<Item = &'a str>) -> Result<BTreeSet<T>, Mistake>
where
    T: std::str::FromStr<Err = WordError> + Ord,
{
    let hint = format!("a list of {}", valid.collect::<Vec<_>>().join(", "));
    let field = table.required("verbs", &hint)?;
    let empty = field.mistake("a grant without verbs permits nothing", format!("write {hint}"));
    let verbs = field.set()?;
    if verbs.is_empty() { Err(empty) } else { Ok(verbs) }
}

fn places(table: &mut Table, grant: &mut FilesGrant) -> Result<(), Mistake> {
    let archives = grant.verbs.iter().any(|verb| verb.needs_archive());
    if archives {
        let hint = "`archive_to = { from = \"operator\" }`: `archive` and `copy-truncate` need it";
        from(table.required("archive_to", hint)?, "operator")?;
        grant.archive_to = Some(FromOperator);
    } else {
        idle(table, "archive_to", "the verb `archive` or `copy-truncate`")?;
    }
    if grant.verbs.contains(&crate::grant::FilesVerb::SetAside) {
        let hint = "`set_aside = { from = \"operator\" }`: `set-aside` needs it";
        from(table.required("set_aside", hint)?, "operator")?;
        grant.set_aside = Some(FromOperator);
    } else {
        idle(table, "set_aside", "the verb `set-aside`")?;
    }
    Ok(())
}

fn bounds_of_change(table: &mut Table, grant: &mut FilesGrant) -> Result<(), Mistake> {
    if !grant.verbs.iter().any(|verb| verb.changes()) {
        for key in ["min_age", "max_bytes", "max_files", "keep_newest", "in_use"] {
            idle(table, key, "a verb that changes files")?;
        }
        return Ok(());
    }
    let needed = "verbs that change files need it";
    grant.max_files = table.required("max_files", &format!("`max_files = 100`: {needed}"))?.integer(1, MAX_FILES)?;
    grant.max_bytes =
        table.required("max_bytes", &format!("`max_bytes = \"1GiB\"`: {needed}"))?.bytes(Bytes(1), MAX_BYTES)?;
    grant.min_age = table
        .required("min_age", &format!("`min_age = \"1d\"`, or \"0s\" on purpose: {needed}"))?
        .span(Span::from_millis(0), Span::from_secs(36_500 * 86_400))?;
    if grant.verbs.iter().any(|verb| verb.takes_away()) {
        if let Some(field) = table.optional("keep_newest") {
            grant.keep_newest = field.integer(0, MAX_FILES)?;
        }
    } else {
        idle(table, "keep_newest", "the verb `remove`, `archive` or `set-aside`")?;
    }
    if let Some(field) = table.optional("in_use") {
        grant.in_use = in_use(&field, grant)?;
    }
    Ok(())
}

fn in_use(field: &Field, grant: &FilesGrant) -> Result<InUse, Mistake> {
    match field.text()? {
        "refuse" => Ok(InUse::Refuse),
        "truncate" if grant.verbs.iter().any(|verb| verb.cuts()) => Ok(InUse::Truncate),
        "truncate" => {
            Err(field.mistake("it changes nothing without the verb `truncate` or `copy-truncate`", "leave it out"))
        }
        _ => Err(field.mistake("there is no such rule", "write \"refuse\" or \"truncate\"")),
    }
}

fn unit_name(field: &Field) -> Result<UnitName, Mistake> {
    let name = field.parse_with(UnitName::parse)?;
    match never::unit(&name) {
        Some(reason) => Err(field.mistake(format!("`{name}` can never be granted: {reason}"), "")),
        None => Ok(name),
    }
}

fn unit_source(table: &mut Table) -> Result<UnitSource, Mistake> {
    let unit = table.required("unit", "a full unit name or { from = \"incident\" }")?;
    if unit.is_table() {
        return from(unit, "incident").map(|()| UnitSource::Incident);
    }
    unit_name(&unit).map(UnitSource::Name)
}

const UNITS_KEYS: &[&str] =
    &["unit", "verbs", "job_timeout", "cpu_quota", "cpu_weight", "memory_high", "tasks_max", "signals", "why"];

fn units(field: Field) -> Result<UnitsGrant, Mistake> {
    let mut table = field.table(UNITS_KEYS)?;
    let why = why(&mut table)?;
    let unit = unit_source(&mut table)?;
    let verbs: BTreeSet<UnitsVerb> = verbs(&mut table, UnitsVerb::ALL.iter().map(|verb| verb.as_str()))?;
    let waits = verbs.iter().any(|verb| verb.waits_for_job());
    let job_timeout = job_timeout(&mut table, waits, "the verb `start`, `stop`, `restart` or `reload`")?;
    let bounds = property_bounds(&mut table, verbs.contains(&UnitsVerb::SetProperty))?;
    let signals = signals(&mut table, verbs.contains(&UnitsVerb::Kill), "kill")?;
    Ok(UnitsGrant { unit, verbs, job_timeout, bounds, signals, why })
}

/// How long a job is waited for, where a verb has one.
fn job_timeout(table: &mut Table, waits: bool, without: &str) -> Result<Span, Mistake> {
    if !waits {
        return idle(table, "job_timeout", without).map(|()| DEFAULT_JOB);
    }
    table.optional("job_timeout").map_or(Ok(DEFAULT_JOB), |field| field.span(Span::from_secs(1), MAX_JOB))
}

const PROPERTY_KEYS: [&str; 4] = ["cpu_quota", "cpu_weight", "memory_high", "tasks_max"];

fn property_bounds(table: &mut Table, granted: bool) -> Result<PropertyBounds, Mistake> {
    if !granted {
        for key in PROPERTY_KEYS {
            idle(table, key, "the verb `set-property`")?;
        }
        return Ok(PropertyBounds::default());
    }
    let mut number = |key: &str, parse: fn(&Field) -> Result<u64, Mistake>| {
        table.optional(key).map(|field| range(field, parse)).transpose()
    };
    let narrow = |range: Option<(u64, u64)>| {
        range.and_then(|(min, max)| Some((u32::try_from(min).ok()?, u32::try_from(max).ok()?)))
    };
    let bounds = PropertyBounds {
        cpu_quota: narrow(number("cpu_quota", percent)?),
        cpu_weight: narrow(number("cpu_weight", |field| field.integer(1, 10_000_u64))?),
        memory_high: number("memory_high", |field| Ok(field.bytes(Bytes(1 << 20), Bytes(1 << 50))?.0))?,
        tasks_max: number("tasks_max", |field| field.integer(1, 4_194_304_u64))?,
    };
    if bounds.is_empty() {
        let hint = "write at least one of cpu_quota, cpu_weight, memory_high, tasks_max, such as `cpu_quota = { min = \"5%\", max = \"100%\" }`";
        return Err(table.mistake("`set-property` needs the bounds of a property", hint));
    }
    Ok(bounds)
}

fn range<T: PartialOrd>(field: Field, parse: fn(&Field) -> Result<T, Mistake>) -> Result<(T, T), Mistake> {
    let mut table = field.table(&["min", "max"])?;
    let min = parse(&table.required("min", "the smallest value allowed")?)?;
    let max_field = table.required("max", "the largest value allowed")?;
    let max = parse(&max_field)?;
    if min <= max { Ok((min, max)) } else { Err(max_field.mistake("it is below `min`", "")) }
}

/// `50%` of one core, in thousandths; 1% is systemd's smallest quota, 1024 cores are more than any machine of ours has.
fn percent(field: &Field) -> Result<u64, Mistake> {
    let wrong =
        || field.mistake("it is not a share of one core", "write a whole number and `%`, from \"1%\" to \"102400%\"");
    let digits = field.text()?.strip_suffix('%').ok_or_else(wrong)?;
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(wrong());
    }
    match digits.parse::<u64>() {
        Ok(percent @ 1..=102_400) => Ok(percent * 10),
        Ok(_) | Err(_) => Err(wrong()),
    }
}

const SIGNALS: [Signal; 4] = [Signal::Term, Signal::Kill, Signal::Hup, Signal::Usr1];

fn signals(table: &mut Table, granted: bool, verb: &str) -> Result<BTreeSet<Signal>, Mistake> {
    if !granted {
        idle(table, "signals", &format!("the verb `{verb}`"))?;
        return Ok(BTreeSet::new());
    }
    let field = table.required("signals", &format!("a list of TERM, KILL, HUP, USR1: `{verb}` needs it"))?;
    let empty = field.mistake("without a signal the verb permits nothing", "write a list of TERM, KILL, HUP, USR1");
    let mut signals = BTreeSet::new();
    for item in field.list()? {
        let signal = item.parse_with(|word| {
            let known = SIGNALS.into_iter().find(|signal| signal.as_str() == word);
            known.ok_or_else(|| WordError::new("a signal", word, SIGNALS.iter().map(|signal| signal.as_str())))
        })?;
        signals.insert(signal);
    }
    if signals.is_empty() { Err(empty) } else { Ok(signals) }
}

fn processes(field: Field) -> Result<ProcessesGrant, Mistake> {
    let mut table = field.table(&["of", "verbs", "signals", "why"])?;
    let why = why(&mut table)?;
    let of = group(table.required("of", "{ from = \"incident\" }, { unit = … }, { user = UID } or { cgroup = … }")?)?;
    let verbs: BTreeSet<ProcessesVerb> = verbs(&mut table, ProcessesVerb::ALL.iter().map(|verb| verb.as_str()))?;
    let signals = signals(&mut table, verbs.contains(&ProcessesVerb::Signal), "signal")?;
    Ok(ProcessesGrant { of, verbs, signals, why })
}

fn group(field: Field) -> Result<GroupSource, Mistake> {
    let one = field.mistake("it names no group, or more than one", "write one of from, unit, user, cgroup");
    let whole = field.clone();
    let mut table = field.table(&["from", "unit", "user", "cgroup"])?;
    let found = (table.optional("from"), table.optional("unit"), table.optional("user"), table.optional("cgroup"));
    match found {
        (Some(_), None, None, None) => from(whole, "incident").map(|()| GroupSource::Incident),
        (None, Some(unit), None, None) => unit_name(&unit).map(GroupSource::Unit),
        (None, None, Some(user), None) => uid(&user).map(GroupSource::User),
        (None, None, None, Some(cgroup)) => self::cgroup(&cgroup).map(GroupSource::Cgroup),
        _ => Err(one),
    }
}

/// A user's uid; root's processes are never one group.
pub(crate) fn uid(field: &Field) -> Result<u32, Mistake> {
    field.integer(1, u32::MAX - 1)
}

/// A cgroup below the root, outside the service manager's own.
pub(crate) fn cgroup(field: &Field) -> Result<MountPath, Mistake> {
    let path = field.parse_with(MountPath::parse)?;
    let own = ["/", "/init.scope", "/system.slice", "/user.slice"].contains(&path.as_str())
        || path.as_str().split('/').any(|part| part.starts_with("theriac") || part.starts_with("systemd-"));
    if own {
        return Err(
            field.mistake(format!("`{path}` can never be granted: too much lives there"), "name a cgroup below it")
        );
    }
    Ok(path)
}

fn series(field: Field) -> Result<SeriesGrant, Mistake> {
    let mut table = field.table(&["metric", "of", "why"])?;
    let why = why(&mut table)?;
    from_incident(table.optional("of"))?;
    let metric = table.required("metric", "a metric such as \"disk_available\"")?.parse_with(|word| {
        let known = Metric::ALL.iter().copied().find(|metric| metric.as_str() == word);
        known.ok_or_else(|| WordError::new("a metric", word, Metric::ALL.iter().map(|metric| metric.as_str())))
    })?;
    Ok(SeriesGrant { metric, why })
}

fn probes(field: Field) -> Result<ProbesGrant, Mistake> {
    let mut table = field.table(&["check", "why"])?;
    let why = why(&mut table)?;
    from(table.required("check", "{ from = \"incident\" }")?, "incident")?;
    Ok(ProbesGrant { why })
}

/// A series is always of the incident's target (or of the machine, where the metric is one of the machine's); saying so is
/// allowed, saying anything else is not.
fn from_incident(field: Option<Field>) -> Result<(), Mistake> {
    field.map_or(Ok(()), |field| from(field, "incident"))
}
