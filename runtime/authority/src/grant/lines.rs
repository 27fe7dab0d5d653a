//! The grant lines of an approval: one per grant, complete and deterministic.
//!
//! A signer reads them, and an approval is compared with them byte for byte: two manifests that may do different things
//! must never give the same lines. `why` is left out on purpose, it permits nothing.

use std::fmt::Display;

use theriac_model::call::Interface;
use theriac_model::remedy::Wasi;
use theriac_model::units::Bytes;

use super::{
    DirSource, FilesGrant, GrantKind, GroupSource, InUse, ProbesGrant, ProcessesGrant, PropertyBounds, SeriesGrant,
    UnitSource, UnitsGrant, UnitsVerb,
};
use crate::manifest::Manifest;

/// The `grant …` lines of an approval: what it treats, each grant by interface and label, its limits.
pub fn lines(manifest: &Manifest) -> Vec<String> {
    let grant = |grant: super::GrantRef<'_>| {
        let table = grant.grant.interface().grant_table();
        format!("grant {table} {}: {}", grant.label, sentence(grant.grant))
    };
    let ambiguous = manifest.on_ambiguous.as_str();
    let mut lines = vec![format!("grant faults: {}; on an unknown result {ambiguous}", list(&manifest.handles))];
    lines.extend(manifest.grants.iter().map(grant));
    lines.extend(wasi(manifest.wasi).map(|sentence| format!("grant wasi: {sentence}")));
    let limits = &manifest.limits;
    lines.push(format!(
        "grant limits: {} memory, {} time, {} host calls, {} handles, {} of log",
        exact(limits.memory),
        limits.time,
        limits.host_calls,
        limits.handles,
        exact(limits.log_bytes)
    ));
    lines
}

/// What is linked beside the grants; nothing where there is no WASI.
pub(crate) const fn wasi(wasi: Wasi) -> Option<&'static str> {
    match wasi {
        Wasi::None => None,
        Wasi::Sealed => Some("sealed; it prints to the log, its clock and random numbers are the same in each run"),
    }
}

/// What one grant permits, in one sentence.
pub(crate) fn sentence(grant: GrantKind<'_>) -> String {
    match grant {
        GrantKind::Files(grant) => files(grant),
        GrantKind::Units(grant) => units(grant),
        GrantKind::Processes(grant) => processes(grant),
        GrantKind::Series(SeriesGrant { metric, .. }) => format!("read {} of the incident's target", metric.as_str()),
        GrantKind::Probes(ProbesGrant { .. }) => "run the health checks of the incident's target".to_owned(),
        GrantKind::Certificates(grant) => grant.sentence(),
        GrantKind::Programs(grant) => grant.sentence(),
        GrantKind::Http(grant) => grant.sentence(),
        GrantKind::Kernel(grant) => grant.sentence(),
        GrantKind::Releases(grant) => grant.sentence(),
        GrantKind::Containers(grant) => grant.sentence(),
        GrantKind::Firewall(grant) => grant.sentence(),
        GrantKind::Databases(grant) => grant.sentence(),
    }
}

pub(super) fn list<T: Display>(items: impl IntoIterator<Item = T>) -> String {
    items.into_iter().map(|item| item.to_string()).collect::<Vec<_>>().join(", ")
}

/// A size without rounding: `Bytes` shows one decimal, which would make two different limits look alike.
pub(super) fn exact(bytes: Bytes) -> String {
    let shown = bytes.to_string();
    if shown.contains('.') { format!("{} B", bytes.0) } else { shown }
}

/// A glob as it stands, quoted where it could be taken for more than one.
pub(super) fn globs(patterns: &[String]) -> String {
    let plain = |pattern: &String| pattern.bytes().all(|b| b.is_ascii_graphic() && !b",;\"".contains(&b));
    list(patterns.iter().map(|p| if plain(p) { p.clone() } else { format!("\"{}\"", p.escape_default()) }))
}

fn files(grant: &FilesGrant) -> String {
    let dir = match &grant.dir {
        DirSource::Path(path) => path.to_string().escape_default().to_string(),
        DirSource::Operator => "the operator's directory of this label".to_owned(),
    };
    let mut text = format!("{} in {dir} matching {}", list(&grant.verbs), globs(&grant.matching));
    if grant.match_deleted != grant.matching {
        text.push_str(&format!(", or deleted and still open and matching {},", globs(&grant.match_deleted)));
    }
    if !grant.except.is_empty() {
        text.push_str(&format!(" except {}", globs(&grant.except)));
    }
    if grant.verbs.iter().any(|verb| verb.changes()) {
        text.push_str(&format!("; at most {} files, {}", grant.max_files, exact(grant.max_bytes)));
        text.push_str(&format!(", older than {}", age(grant)));
        if grant.keep_newest > 0 {
            text.push_str(&format!(", never the newest {}", grant.keep_newest));
        }
        text.push_str(match grant.in_use {
            InUse::Refuse => "; no open files",
            InUse::Truncate => "; open files are only cut, and only where every writer appends",
        });
    }
    if grant.archive_to.is_some() {
        text.push_str("; archive at the operator's place");
    }
    if grant.set_aside.is_some() {
        text.push_str("; set aside at the operator's place");
    }
    text
}

/// `7 days` reads better than `7d`, and says the same.
fn age(grant: &FilesGrant) -> String {
    let shown = grant.min_age.to_string();
    match shown.strip_suffix('d') {
        Some("1") => "1 day".to_owned(),
        Some(days) => format!("{days} days"),
        None => shown,
    }
}

fn units(grant: &UnitsGrant) -> String {
    let unit = match &grant.unit {
        UnitSource::Name(name) => name.to_string(),
        UnitSource::Incident => "the incident's unit".to_owned(),
    };
    let mut text = format!("{} of {unit}", list(&grant.verbs));
    if grant.verbs.iter().any(|verb| verb.waits_for_job()) {
        text.push_str(&format!("; jobs at most {}", grant.job_timeout));
    }
    if grant.verbs.contains(&UnitsVerb::SetProperty) {
        text.push_str(&format!("; {}", bounds(&grant.bounds)));
    }
    if !grant.signals.is_empty() {
        text.push_str(&format!("; signals {}", list(grant.signals.iter().map(|signal| signal.as_str()))));
    }
    text
}

/// The bounds of the properties.
fn bounds(bounds: &PropertyBounds) -> String {
    let percent = |permille: u32| {
        let (whole, tenth) = (permille / 10, permille % 10);
        if tenth == 0 { format!("{whole}%") } else { format!("{whole}.{tenth}%") }
    };
    let mut parts = Vec::new();
    if let Some((min, max)) = bounds.cpu_quota {
        parts.push(format!("CPUQuota {} to {}", percent(min), percent(max)));
    }
    if let Some((min, max)) = bounds.cpu_weight {
        parts.push(format!("CPUWeight {min} to {max}"));
    }
    if let Some((min, max)) = bounds.memory_high {
        parts.push(format!("MemoryHigh {} to {}", exact(Bytes(min)), exact(Bytes(max))));
    }
    if let Some((min, max)) = bounds.tasks_max {
        parts.push(format!("TasksMax {min} to {max}"));
    }
    parts.join(", ")
}

fn processes(grant: &ProcessesGrant) -> String {
    let whose = match &grant.of {
        GroupSource::Incident => "the incident's unit".to_owned(),
        GroupSource::Unit(unit) => unit.to_string(),
        GroupSource::User(uid) => format!("uid {uid}"),
        GroupSource::Cgroup(path) => format!("cgroup {}", path.to_string().escape_default()),
    };
    let mut text = format!("{} of the processes of {whose}", list(&grant.verbs));
    if !grant.signals.is_empty() {
        text.push_str(&format!("; signals {}", list(grant.signals.iter().map(|signal| signal.as_str()))));
    }
    text
}

/// The interface's word in a sentence for people.
pub(crate) const fn called(interface: Interface) -> &'static str {
    match interface {
        Interface::Files => "files",
        Interface::Units => "units",
        Interface::Processes => "processes",
        Interface::Series => "measurements",
        Interface::Probes => "health checks",
        Interface::Certificates => "certificates",
        Interface::Programs => "programs",
        Interface::Http => "HTTP endpoints",
        Interface::Kernel => "numbers of the kernel's",
        Interface::Releases => "releases",
        Interface::Containers => "containers",
        Interface::Firewall => "sets of the firewall",
        Interface::Databases => "databases",
    }
}
