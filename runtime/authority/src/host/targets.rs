//! `[[unit]]`, `[[service]]`, `[[mount]]`, `[[directory]]`, `[[group]]`: what may be healed.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use theriac_model::catalog::Thresholds;
use theriac_model::effect::GroupId;
use theriac_model::health::{HealthCheck, HealthUrl};
use theriac_model::id::{Label, UnitName};
use theriac_model::target::MountPath;
use theriac_model::time::Span;
use theriac_model::unit::Backend;
use theriac_model::units::Bytes;

use super::{DirectoryConfig, GroupConfig, HostConfig, MountConfig, UnitConfig};
use crate::document::{Field, Mistake, Table};
use crate::effective::Globs;
use crate::grant::never;

const UNIT_KEYS: &[&str] = &[
    "name",
    "verbs",
    "processes",
    "traffic_share",
    "health",
    "health_failures",
    "cpu_share",
    "cpu_for",
    "memory_limit",
];

/// Checks of one unit: each is asked every second.
const MAX_CHECKS: usize = 8;
/// When a check does not say.
const DEFAULT_CHECK_TIMEOUT: Span = Span::from_secs(2);

pub(super) fn units(
    list: Option<Field>,
    backend: Backend,
    units: &mut BTreeMap<UnitName, UnitConfig>,
) -> Result<(), Mistake> {
    for field in list.map_or_else(|| Ok(Vec::new()), Field::list)? {
        let mut table = field.table(UNIT_KEYS)?;
        let name = table.required("name", "a full unit name such as \"nginx.service\"")?;
        let unit = unit_name(&name, backend)?;
        let config = self::unit(&mut table, backend)?;
        if units.insert(unit, config).is_some() {
            return Err(name.mistake("this unit is listed twice", "leave one out"));
        }
    }
    Ok(())
}

fn unit_name(field: &Field, backend: Backend) -> Result<UnitName, Mistake> {
    let name = field.parse_with(UnitName::parse)?;
    if let Some(reason) = never::unit(&name) {
        return Err(field.mistake(format!("`{name}` can never be healed: {reason}"), "leave it out"));
    }
    // A supervised service with a dot would look like a unit of systemd in every record.
    match (backend, name.as_str().contains('.')) {
        (Backend::Systemd, true) | (Backend::Supervised, false) => Ok(name),
        (Backend::Systemd, false) => {
            Err(field.mistake(format!("`{name}` is not a full unit name"), format!("write \"{name}.service\"")))
        }
        (Backend::Supervised, true) => {
            Err(field.mistake("the name of a supervised service has no dot", "write its name as in launcher.toml"))
        }
    }
}

fn unit(table: &mut Table, backend: Backend) -> Result<UnitConfig, Mistake> {
    let mut thresholds = Thresholds::default();
    if let Some(field) = table.optional("health_failures") {
        thresholds.health_failures = field.integer(1, 100)?;
    }
    if let Some(field) = table.optional("cpu_share") {
        thresholds.cpu_share = field.share()?;
    }
    if let Some(field) = table.optional("cpu_for") {
        thresholds.cpu_for = field.span(Span::from_secs(1), Span::from_secs(3600))?;
    }
    if let Some(field) = table.optional("memory_limit") {
        thresholds.memory = Some(field.bytes(Bytes(1 << 20), Bytes(1 << 50))?);
    }
    Ok(UnitConfig {
        backend,
        verbs: table.optional("verbs").map(Field::set).transpose()?.unwrap_or_default(),
        processes: table.optional("processes").map(Field::set).transpose()?.unwrap_or_default(),
        traffic_share: table.optional("traffic_share").map(|field| field.share()).transpose()?,
        health: table.optional("health").map(checks).transpose()?.unwrap_or_default(),
        thresholds,
    })
}

fn checks(field: Field) -> Result<Vec<HealthCheck>, Mistake> {
    let too_many = field.mistake(format!("more than {MAX_CHECKS} checks"), "");
    let checks = field.list()?.into_iter().map(check).collect::<Result<Vec<_>, _>>()?;
    if checks.len() > MAX_CHECKS { Err(too_many) } else { Ok(checks) }
}

fn check(field: Field) -> Result<HealthCheck, Mistake> {
    let one = field.mistake(
        "it is neither an HTTP nor a TCP check",
        "write { http = \"http://127.0.0.1:80/\" } or { tcp = \"127.0.0.1:80\" }",
    );
    let mut table = field.table(&["http", "tcp", "status", "timeout"])?;
    let timeout = table
        .optional("timeout")
        .map_or(Ok(DEFAULT_CHECK_TIMEOUT), |field| field.span(Span::from_millis(10), Span::from_secs(30)))?;
    match (table.optional("http"), table.optional("tcp"), table.optional("status")) {
        (Some(url), None, status) => Ok(HealthCheck::Http {
            url: url.parse_with(HealthUrl::parse)?,
            status: status.map_or(Ok(200), |field| field.integer(100_u16, 599))?,
            timeout,
        }),
        (None, Some(address), None) => {
            let wrong = address.mistake("it is not an address with a port", "write \"127.0.0.1:80\" or \"[::1]:80\"");
            match address.text()?.parse::<SocketAddr>() {
                Ok(parsed) if parsed.port() != 0 => Ok(HealthCheck::Tcp { address: parsed, timeout }),
                Ok(_) | Err(_) => Err(wrong),
            }
        }
        (None, Some(_), Some(status)) => Err(status.mistake("a TCP check has no status", "leave it out")),
        (Some(_), Some(_), _) | (None, None, _) => Err(one),
    }
}

pub(super) fn mounts(list: Option<Field>, mounts: &mut BTreeMap<MountPath, MountConfig>) -> Result<(), Mistake> {
    for field in list.map_or_else(|| Ok(Vec::new()), Field::list)? {
        let mut table = field.table(&["path", "traffic_share", "disk_full", "disk_filling", "inodes"])?;
        let path = table.required("path", "the path of the mount point")?;
        let mut thresholds = Thresholds::default();
        if let Some(field) = table.optional("disk_full") {
            thresholds.disk_full = field.share()?;
        }
        if let Some(field) = table.optional("disk_filling") {
            thresholds.disk_filling = field.share()?;
        }
        if let Some(field) = table.optional("inodes") {
            thresholds.inodes = field.share()?;
        }
        let traffic_share = table.optional("traffic_share").map(|field| field.share()).transpose()?;
        if mounts.insert(path.parse_with(MountPath::parse)?, MountConfig { traffic_share, thresholds }).is_some() {
            return Err(path.mistake("this mount is listed twice", "leave one out"));
        }
    }
    Ok(())
}

const DIRECTORY_KEYS: &[&str] = &["path", "label", "verbs", "archive_to", "set_aside", "reproducible"];

pub(super) fn directories(list: Option<Field>, config: &mut HostConfig) -> Result<(), Mistake> {
    for field in list.map_or_else(|| Ok(Vec::new()), Field::list)? {
        let whole = field.clone();
        let new = directory(field)?;
        for old in &config.directories {
            // One directory, one entry: with nested ones, leaving out the stricter would widen what is allowed.
            if never::overlap(&old.path, &new.path) {
                return Err(
                    whole.mistake(format!("`{}` and `{}` lie in one another", new.path, old.path), "list one of them")
                );
            }
            let one_mount = config.mount_of(&old.path) == config.mount_of(&new.path);
            if old.label == new.label && one_mount {
                let problem = format!("`{}` has the label `{}` on the same mount too", old.path, new.label);
                return Err(whole.mistake(problem, "give each its own label, or list their mounts as [[mount]]"));
            }
        }
        config.directories.push(new);
    }
    Ok(())
}

fn directory(field: Field) -> Result<DirectoryConfig, Mistake> {
    let mut table = field.table(DIRECTORY_KEYS)?;
    let path = place(&table.required("path", "an absolute path")?)?;
    let label: Label = table.required("label", "the label that manifests use, such as \"logs\"")?.parse()?;
    let verbs: BTreeSet<_> = table.optional("verbs").map(Field::set).transpose()?.unwrap_or_default();
    let mut outside = |key: &str| -> Result<Option<MountPath>, Mistake> {
        let Some(field) = table.optional(key) else { return Ok(None) };
        let at = place(&field)?;
        if never::overlap(&at, &path) {
            return Err(field.mistake(format!("`{at}` and `{path}` lie in one another"), "name a directory outside"));
        }
        Ok(Some(at))
    };
    let (archive_to, set_aside) = (outside("archive_to")?, outside("set_aside")?);
    let reproducible = match table.optional("reproducible") {
        None => Globs::none(),
        Some(field) => {
            let items = field.list()?;
            let texts = items.iter().map(|item| {
                let text = item.text()?;
                Globs::one(text).map_err(|error| item.mistake(error, ""))?;
                Ok(text.to_owned())
            });
            let texts = texts.collect::<Result<Vec<_>, Mistake>>()?;
            Globs::new(&texts).map_err(|error| Mistake {
                line: items.first().map_or(1, Field::line),
                key: "reproducible".to_owned(),
                problem: error.to_string(),
                hint: String::new(),
            })?
        }
    };
    Ok(DirectoryConfig { path, label, verbs, archive_to, set_aside, reproducible })
}

pub(super) fn place(field: &Field) -> Result<MountPath, Mistake> {
    let path = field.parse_with(MountPath::parse)?;
    match never::directory(&path) {
        Some(reason) => Err(field.mistake(format!("`{path}` can never be granted: {reason}"), "")),
        None => Ok(path),
    }
}

pub(super) fn group(field: Field) -> Result<GroupConfig, Mistake> {
    use crate::manifest::{cgroup, uid};
    let one = field.mistake("it names no group, or two", "write one of user, cgroup");
    let mut table = field.table(&["user", "cgroup", "verbs"])?;
    let of = match (table.optional("user"), table.optional("cgroup")) {
        (Some(user), None) => GroupId::User(uid(&user)?),
        (None, Some(path)) => GroupId::Cgroup(cgroup(&path)?.into()),
        (Some(_), Some(_)) | (None, None) => return Err(one),
    };
    Ok(GroupConfig { of, verbs: table.optional("verbs").map(Field::set).transpose()?.unwrap_or_default() })
}
