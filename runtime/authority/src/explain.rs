//! What a remedy may do, in words: `theriac remedy inspect` and `theriac remedy diff`.
//!
//! It shows what [`crate::grant`] and [`crate::effective`] say and decides nothing. Each answer is data first, so that `--json`
//! and the printed page can't differ.

use std::fmt;

use serde::Serialize;
use theriac_model::id::Digest;
use theriac_model::target::Target;

use crate::effective::{
    self, BoundCertificate, BoundContainer, BoundDatabase, BoundEndpoint, BoundKnob, BoundProgram, BoundRelease,
    BoundSet, Effective,
};
use crate::grant::{self, GrantRef, called, sentence};
use crate::host::HostConfig;
use crate::manifest::Manifest;

mod diff;
pub use diff::{Change, Difference, diff};

/// What holds for every remedy, whatever its manifest says.
const NEVER: [&str; 6] = [
    "it makes no system call: no files, sockets, environment, clock or random numbers of its own",
    "it names nothing: it opens the labels below and holds handles to what the runner bound before it started",
    "what it changes goes through the runner, which journals, and undoes what does not help",
    "its live run may do only what its dry run planned, in that order and not more",
    "it starts no program and speaks to no network: what a grant below names, other processes start in a jail or ask for it",
    "files with several names, links, devices, database files and Theriac's own state are out of reach",
];

/// One remedy, explained.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Inspection {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its serial.
    pub serial: u64,
    /// SHA-256 of the whole file.
    pub component: Digest,
    /// What it does.
    pub summary: String,
    /// The fault kinds it treats.
    pub handles: Vec<String>,
    /// What happens when a result is unknown.
    pub on_ambiguous: String,
    /// Its parameters: name and what it takes.
    pub params: Vec<(String, String)>,
    /// Its grants.
    pub grants: Vec<GrantInspection>,
    /// What its WASI can do; `None` where it has none.
    pub wasi: Option<String>,
    /// Its limits.
    pub limits: String,
    /// What the component imports; empty where it was not looked at.
    pub imports: Vec<String>,
    /// Who approved it, one line each.
    pub approvals: Vec<String>,
    /// What it can never do.
    pub never: Vec<String>,
}

/// One grant, explained.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GrantInspection {
    /// `files`, `units`, ….
    pub interface: String,
    /// Its label.
    pub label: String,
    /// What the manifest asks for.
    pub asks: String,
    /// Why.
    pub why: String,
    /// One of its verbs changes something.
    pub changes: bool,
    /// What it comes to on this host; `None` where no host was given.
    pub here: Option<Vec<Here>>,
}

/// What a grant comes to on this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Here {
    /// For incidents at these targets; empty: for every incident.
    pub targets: Vec<String>,
    /// What is allowed; `None`: nothing.
    pub allowed: Option<String>,
    /// The rule that narrows it to nothing.
    pub rule: Option<String>,
    /// The lines that would allow it.
    pub add: Vec<String>,
}

/// Explains one remedy. `imports` and `approvals` come from whoever looked at the file and the signatures.
pub fn inspection(
    manifest: &Manifest,
    component: Digest,
    imports: Vec<String>,
    approvals: Vec<String>,
    host: Option<&HostConfig>,
) -> Inspection {
    let here = host.map(|host| bound(manifest, host));
    let explained = |grant: GrantRef<'_>| GrantInspection {
        interface: grant.grant.interface().grant_table().to_owned(),
        label: grant.label.to_string(),
        asks: sentence(grant.grant),
        why: grant.grant.why().to_owned(),
        changes: grant.grant.changes(),
        here: here.as_ref().map(|bound| narrowed(grant, bound)),
    };
    let limits = &manifest.limits;
    Inspection {
        name: manifest.name.to_string(),
        version: manifest.version.clone(),
        serial: manifest.serial,
        component,
        summary: manifest.summary.clone(),
        handles: manifest.handles.iter().map(ToString::to_string).collect(),
        on_ambiguous: manifest.on_ambiguous.to_string(),
        params: manifest.params.iter().map(|(name, spec)| (name.to_string(), spec.to_string())).collect(),
        grants: manifest.grants.iter().map(explained).collect(),
        wasi: grant::wasi(manifest.wasi).map(str::to_owned),
        limits: format!(
            "{} of memory, {} of time, {} host calls, {} handles, {} of log lines",
            limits.memory, limits.time, limits.host_calls, limits.handles, limits.log_bytes
        ),
        imports,
        approvals,
        never: NEVER.map(str::to_owned).to_vec(),
    }
}

/// The same as text.
pub fn inspect(
    manifest: &Manifest,
    component: Digest,
    imports: Vec<String>,
    approvals: Vec<String>,
    host: Option<&HostConfig>,
) -> String {
    inspection(manifest, component, imports, approvals, host).to_string()
}

fn bound(manifest: &Manifest, host: &HostConfig) -> Vec<(Target, Effective)> {
    let bind = |target: Target| {
        let effective = effective::bind(manifest, host, &target);
        (target, effective)
    };
    host.catalog_targets().into_iter().map(|spec| bind(spec.target)).collect()
}

/// Where the grant comes to something, what, for which targets; where it comes to nothing anywhere, why.
fn narrowed(grant: GrantRef<'_>, bound: &[(Target, Effective)]) -> Vec<Here> {
    let mut found: Vec<Here> = Vec::new();
    for (target, effective) in bound {
        let Some(allowed) = allowed(grant, effective) else { continue };
        match found.iter_mut().find(|here| here.allowed.as_ref() == Some(&allowed)) {
            Some(here) => here.targets.push(target.to_string()),
            None => found.push(Here {
                targets: vec![target.to_string()],
                allowed: Some(allowed),
                rule: None,
                add: Vec::new(),
            }),
        }
    }
    for here in &mut found {
        if here.targets.len() == bound.len() {
            here.targets.clear();
        }
    }
    if found.is_empty() { vec![nothing(grant, bound)] } else { found }
}

/// The denial that says most: one with a line to add, if there is one.
fn nothing(grant: GrantRef<'_>, bound: &[(Target, Effective)]) -> Here {
    let key = (grant.grant.interface(), grant.label.clone());
    let denials = || bound.iter().filter_map(|(_, effective)| effective.unbound.get(&key));
    let denial = denials().find(|denial| denial.suggestion.is_some()).or_else(|| denials().next());
    Here {
        targets: Vec::new(),
        allowed: None,
        rule: denial.map(|denial| denial.rule.clone()),
        add: denial
            .and_then(|denial| denial.suggestion.as_deref())
            .map_or_else(Vec::new, |text| text.lines().map(str::to_owned).collect()),
    }
}

fn words<T: fmt::Display>(verbs: impl IntoIterator<Item = T>) -> String {
    let words: Vec<String> = verbs.into_iter().map(|verb| verb.to_string()).collect();
    if words.is_empty() { "nothing".to_owned() } else { words.join(", ") }
}

fn allowed(grant: GrantRef<'_>, effective: &Effective) -> Option<String> {
    use crate::grant::GrantKind;
    match grant.grant {
        GrantKind::Files(_) => effective.files.get(grant.label).map(|dir| {
            let mut text = format!("{} in {}", words(&dir.verbs), dir.dir);
            if let Some(at) = &dir.archive_to {
                text.push_str(&format!(", archive in {at}"));
            }
            if let Some(at) = &dir.set_aside {
                text.push_str(&format!(", set aside in {at}"));
            }
            text
        }),
        GrantKind::Units(_) => {
            effective.units.get(grant.label).map(|unit| format!("{} of {}", words(&unit.verbs), unit.unit))
        }
        GrantKind::Processes(_) => {
            effective.processes.get(grant.label).map(|group| format!("{} of {}", words(&group.verbs), group.group))
        }
        GrantKind::Series(_) => effective
            .series
            .get(grant.label)
            .map(|series| format!("{} of {}", series.series.metric.as_str(), series.series.target)),
        GrantKind::Probes(_) => effective.probes.get(grant.label).map(|probe| words(&probe.checks)),
        GrantKind::Certificates(_) => effective.certificates.get(grant.label).map(BoundCertificate::words),
        GrantKind::Programs(_) => effective.programs.get(grant.label).map(BoundProgram::words),
        GrantKind::Http(_) => effective.http.get(grant.label).map(BoundEndpoint::words),
        GrantKind::Kernel(_) => effective.kernel.get(grant.label).map(BoundKnob::words),
        GrantKind::Releases(_) => effective.releases.get(grant.label).map(BoundRelease::words),
        GrantKind::Containers(_) => effective.containers.get(grant.label).map(BoundContainer::words),
        GrantKind::Firewall(_) => effective.firewall.get(grant.label).map(BoundSet::words),
        GrantKind::Databases(_) => effective.databases.get(grant.label).map(BoundDatabase::words),
    }
}

impl fmt::Display for Inspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} {} (serial {})", self.name, self.version, self.serial)?;
        writeln!(f, "{}", self.component)?;
        writeln!(f, "{}", self.summary)?;
        writeln!(f, "\nTreats {}. On an unknown result: {}.", self.handles.join(", "), self.on_ambiguous)?;
        if self.approvals.is_empty() {
            writeln!(f, "Nobody has approved it: it can only be dry-run, under your own uid.")?;
        }
        for approval in &self.approvals {
            writeln!(f, "{approval}")?;
        }
        if !self.params.is_empty() {
            writeln!(f, "\nParameters")?;
            for (name, takes) in &self.params {
                writeln!(f, "  {name}: {takes}")?;
            }
        }
        writeln!(f, "\nIt may")?;
        if self.grants.is_empty() {
            writeln!(f, "  do nothing: it asks for no grant")?;
        }
        for grant in &self.grants {
            write!(f, "{grant}")?;
        }
        if let Some(wasi) = &self.wasi {
            writeln!(f, "  be written in another language: its WASI is {wasi}")?;
        }
        writeln!(f, "  use at most {}", self.limits)?;
        if !self.imports.is_empty() {
            writeln!(f, "\nIt imports {}", self.imports.join(", "))?;
        }
        writeln!(f, "\nWhatever its manifest says")?;
        self.never.iter().try_for_each(|line| writeln!(f, "  {line}"))
    }
}

impl fmt::Display for GrantInspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = if self.changes { "change" } else { "read" };
        writeln!(f, "  {mark} {} `{}`: {}", self.interface, self.label, self.asks)?;
        writeln!(f, "    why: {}", self.why)?;
        for here in self.here.iter().flatten() {
            match (&here.allowed, here.targets.as_slice()) {
                (Some(allowed), []) => writeln!(f, "    here: {allowed}")?,
                (Some(allowed), targets) => writeln!(f, "    here, for {}: {allowed}", targets.join(", "))?,
                (None, _) => {
                    writeln!(f, "    here: nothing ({})", here.rule.as_deref().unwrap_or("no target is listed"))?
                }
            }
            for line in &here.add {
                writeln!(f, "      to allow it, {line}")?;
            }
        }
        Ok(())
    }
}

/// The interface in words, for the diff.
fn kind(grant: GrantRef<'_>) -> String {
    format!("{} `{}`", called(grant.grant.interface()), grant.label)
}

#[cfg(test)]
mod tests;
