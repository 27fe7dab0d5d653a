//! Effective rights: manifest ∩ signers' scopes ∩ host configuration ∩ this incident's target.
//!
//! [`bind`] turns labels into the things they stand for, once, before a run. A label that stands for nothing here is kept with
//! the reason and the line to add, so that opening it is denied with a sentence instead of being not found. The plan, the
//! last factor of the product, is the gate's.

use std::collections::BTreeMap;

use theriac_model::call::Interface;
use theriac_model::denial::{Denial, DenialCause};
use theriac_model::id::Label;
use theriac_model::target::{MountPath, Target};

use crate::grant::{DirSource, FilesGrant, GrantKind, GrantRef};
use crate::host::{DirectoryConfig, HostConfig};
use crate::manifest::{Limits, Manifest, OnAmbiguous};

mod certificate;
mod container;
mod database;
mod dir;
mod firewall;
mod globs;
mod group;
mod http;
mod kernel;
mod missing;
mod observed;
mod program;
mod release;
mod suggest;
pub(crate) mod template;
mod unit;

pub use certificate::BoundCertificate;
pub use container::BoundContainer;
pub use database::BoundDatabase;
pub use dir::{BoundDir, Spent, Use};
pub use firewall::BoundSet;
pub use globs::{GlobError, Globs};
pub use group::BoundGroup;
pub use http::BoundEndpoint;
pub(crate) use http::is_path_below;
pub use kernel::BoundKnob;
pub use observed::{BoundProbe, BoundSeries};
pub use program::{BoundProgram, Filled};
pub use release::BoundRelease;
pub use unit::BoundUnit;

/// What one remedy may do on this host for one incident.
#[derive(Debug, Clone)]
pub struct Effective {
    /// Directories, by label.
    pub files: BTreeMap<Label, BoundDir>,
    /// Units, by label.
    pub units: BTreeMap<Label, BoundUnit>,
    /// Groups of processes, by label.
    pub processes: BTreeMap<Label, BoundGroup>,
    /// Series, by label.
    pub series: BTreeMap<Label, BoundSeries>,
    /// Probes, by label.
    pub probes: BTreeMap<Label, BoundProbe>,
    /// Certificates, by label.
    pub certificates: BTreeMap<Label, BoundCertificate>,
    /// Programs, by label.
    pub programs: BTreeMap<Label, BoundProgram>,
    /// Endpoints, by label.
    pub http: BTreeMap<Label, BoundEndpoint>,
    /// Numbers of the kernel's, by label.
    pub kernel: BTreeMap<Label, BoundKnob>,
    /// Releases of services, by label.
    pub releases: BTreeMap<Label, BoundRelease>,
    /// Containers, by label.
    pub containers: BTreeMap<Label, BoundContainer>,
    /// Sets of the firewall, by label.
    pub firewall: BTreeMap<Label, BoundSet>,
    /// Database servers, by label.
    pub databases: BTreeMap<Label, BoundDatabase>,
    /// What one run may use.
    pub limits: Limits,
    /// What happens when a result is unknown.
    pub on_ambiguous: OnAmbiguous,
    /// Labels that stand for nothing here, each with the reason and the line to add.
    pub unbound: BTreeMap<(Interface, Label), Denial>,
}

/// Binds every grant for one incident.
pub fn bind(manifest: &Manifest, host: &HostConfig, target: &Target) -> Effective {
    bind_within(manifest, host, target, &|_| true)
}

/// The same, leaving out the grants that the filter refuses (signers' scopes).
pub fn bind_within(
    manifest: &Manifest,
    host: &HostConfig,
    target: &Target,
    scope: &dyn Fn(&GrantRef<'_>) -> bool,
) -> Effective {
    let mut effective = Effective {
        files: BTreeMap::new(),
        units: BTreeMap::new(),
        processes: BTreeMap::new(),
        series: BTreeMap::new(),
        probes: BTreeMap::new(),
        certificates: BTreeMap::new(),
        programs: BTreeMap::new(),
        http: BTreeMap::new(),
        kernel: BTreeMap::new(),
        releases: BTreeMap::new(),
        containers: BTreeMap::new(),
        firewall: BTreeMap::new(),
        databases: BTreeMap::new(),
        limits: manifest.limits,
        on_ambiguous: manifest.on_ambiguous,
        unbound: BTreeMap::new(),
    };
    for grant in manifest.grants.iter() {
        let interface = grant.grant.interface();
        let bound = if scope(&grant) { effective.bind_one(grant, host, target) } else { Err(out_of_scope(grant)) };
        if let Err(denial) = bound {
            effective.unbound.insert((interface, grant.label.clone()), denial);
        }
    }
    effective
}

impl Effective {
    fn bind_one(&mut self, grant: GrantRef<'_>, host: &HostConfig, target: &Target) -> Result<(), Denial> {
        let label = grant.label.clone();
        match grant.grant {
            GrantKind::Files(files) => {
                let bound = bind_dir(grant.label, files, host, target)?;
                self.files.insert(label, bound);
            }
            GrantKind::Units(units) => {
                let bound = BoundUnit::bind(grant.label, units, host, target)?;
                self.units.insert(label, bound);
            }
            GrantKind::Processes(processes) => {
                let bound = BoundGroup::bind(grant.label, processes, host, target)?;
                self.processes.insert(label, bound);
            }
            GrantKind::Series(series) => {
                let bound = BoundSeries::bind(grant.label, series, target)?;
                self.series.insert(label, bound);
            }
            GrantKind::Probes(_) => {
                let bound = BoundProbe::bind(grant.label, host, target)?;
                self.probes.insert(label, bound);
            }
            GrantKind::Certificates(asked) => {
                let bound = BoundCertificate::bind(grant.label, asked, host, target)?;
                self.certificates.insert(label, bound);
            }
            GrantKind::Programs(asked) => {
                let bound = BoundProgram::bind(grant.label, asked, host)?;
                self.programs.insert(label, bound);
            }
            GrantKind::Http(asked) => {
                let bound = BoundEndpoint::bind(grant.label, asked, host)?;
                self.http.insert(label, bound);
            }
            GrantKind::Kernel(asked) => {
                let bound = BoundKnob::bind(grant.label, asked, host)?;
                self.kernel.insert(label, bound);
            }
            GrantKind::Releases(asked) => {
                let bound = BoundRelease::bind(grant.label, asked, host, target)?;
                self.releases.insert(label, bound);
            }
            GrantKind::Containers(asked) => {
                let bound = BoundContainer::bind(grant.label, asked, host, target)?;
                self.containers.insert(label, bound);
            }
            GrantKind::Firewall(asked) => {
                let bound = BoundSet::bind(grant.label, asked, host)?;
                self.firewall.insert(label, bound);
            }
            GrantKind::Databases(asked) => {
                let bound = BoundDatabase::bind(grant.label, asked, host, target)?;
                self.databases.insert(label, bound);
            }
        }
        Ok(())
    }

    /// The directory of a label.
    pub fn dir(&self, label: &str) -> Result<&BoundDir, Denial> {
        self.find(&self.files, Interface::Files, label)
    }

    /// The unit of a label.
    pub fn unit(&self, label: &str) -> Result<&BoundUnit, Denial> {
        self.find(&self.units, Interface::Units, label)
    }

    /// The group of a label.
    pub fn group(&self, label: &str) -> Result<&BoundGroup, Denial> {
        self.find(&self.processes, Interface::Processes, label)
    }

    /// The series of a label.
    pub fn series(&self, label: &str) -> Result<&BoundSeries, Denial> {
        self.find(&self.series, Interface::Series, label)
    }

    /// The probe of a label.
    pub fn probe(&self, label: &str) -> Result<&BoundProbe, Denial> {
        self.find(&self.probes, Interface::Probes, label)
    }

    /// The certificate of a label.
    pub fn certificate(&self, label: &str) -> Result<&BoundCertificate, Denial> {
        self.find(&self.certificates, Interface::Certificates, label)
    }

    /// The program of a label.
    pub fn program(&self, label: &str) -> Result<&BoundProgram, Denial> {
        self.find(&self.programs, Interface::Programs, label)
    }

    /// The endpoint of a label.
    pub fn endpoint(&self, label: &str) -> Result<&BoundEndpoint, Denial> {
        self.find(&self.http, Interface::Http, label)
    }

    /// The number of the kernel's of a label.
    pub fn knob(&self, label: &str) -> Result<&BoundKnob, Denial> {
        self.find(&self.kernel, Interface::Kernel, label)
    }

    /// The releases of a label.
    pub fn release(&self, label: &str) -> Result<&BoundRelease, Denial> {
        self.find(&self.releases, Interface::Releases, label)
    }

    /// The container of a label.
    pub fn container(&self, label: &str) -> Result<&BoundContainer, Denial> {
        self.find(&self.containers, Interface::Containers, label)
    }
    /// The set of a label.
    pub fn set(&self, label: &str) -> Result<&BoundSet, Denial> {
        self.find(&self.firewall, Interface::Firewall, label)
    }

    /// The database server of a label.
    pub fn server(&self, label: &str) -> Result<&BoundDatabase, Denial> {
        self.find(&self.databases, Interface::Databases, label)
    }

    fn find<'a, T>(&self, bound: &'a BTreeMap<Label, T>, interface: Interface, label: &str) -> Result<&'a T, Denial> {
        let Ok(name) = Label::parse(label) else { return Err(not_granted(interface, label)) };
        if let Some(found) = bound.get(&name) {
            return Ok(found);
        }
        Err(self
            .unbound
            .get(&(interface, name.clone()))
            .cloned()
            .unwrap_or_else(|| not_granted(interface, label).suggest(suggest::new_grant(interface, &name))))
    }
}

fn attempted(interface: Interface, label: &dyn std::fmt::Display) -> String {
    format!("open {} `{label}`", interface.grant_table())
}

fn not_granted(interface: Interface, label: &str) -> Denial {
    let shown: String = label.chars().take(80).collect();
    Denial::new(DenialCause::NotGranted, &shown, "grants", attempted(interface, &shown.escape_debug()))
}

fn unbound(interface: Interface, label: &Label, cause: DenialCause, rule: &str) -> Denial {
    Denial::new(cause, label, rule, attempted(interface, label))
}

fn out_of_scope(grant: GrantRef<'_>) -> Denial {
    unbound(grant.grant.interface(), grant.label, DenialCause::NotGranted, "signers' scope")
}

/// `dir` must be a listed directory or lie below one; with a mount as the target it must lie on that mount, because space
/// freed elsewhere heals nothing there.
fn bind_dir(label: &Label, grant: &FilesGrant, host: &HostConfig, target: &Target) -> Result<BoundDir, Denial> {
    let (dir, entry) = match &grant.dir {
        DirSource::Path(path) => (path.clone(), listed(label, path, grant, host)?),
        DirSource::Operator => {
            let entry = labelled(label, grant, host, target)?;
            (entry.path.clone(), entry)
        }
    };
    if let Target::Mount(mount) = target
        && host.mount_of(&dir) != Some(mount)
    {
        return Err(unbound(Interface::Files, label, DenialCause::NotGranted, "incident.mount"));
    }
    if host.is_own(&dir) || [&entry.archive_to, &entry.set_aside].into_iter().flatten().any(|at| host.is_own(at)) {
        return Err(unbound(Interface::Files, label, DenialCause::NotGranted, "runner.own-state"));
    }
    Ok(BoundDir::new(label, dir, grant, entry))
}

fn listed<'a>(
    label: &Label,
    path: &MountPath,
    grant: &FilesGrant,
    host: &'a HostConfig,
) -> Result<&'a DirectoryConfig, Denial> {
    let holds = |entry: &&DirectoryConfig| {
        entry.path == *path || crate::grant::never::lies_below(path.as_str(), entry.path.as_str())
    };
    host.directories.iter().find(holds).ok_or_else(|| {
        unbound(Interface::Files, label, DenialCause::NotGranted, "runner.directory")
            .suggest(suggest::directory(label, path, grant))
    })
}

fn labelled<'a>(
    label: &Label,
    grant: &FilesGrant,
    host: &'a HostConfig,
    target: &Target,
) -> Result<&'a DirectoryConfig, Denial> {
    let mount = match target {
        Target::Mount(mount) => Some(mount),
        Target::Unit(_) | Target::Certificate(_) | Target::Pool(_) | Target::Container(_) | Target::Host => None,
    };
    let there = |entry: &&DirectoryConfig| {
        entry.label == *label && mount.is_none_or(|mount| host.mount_of(&entry.path) == Some(mount))
    };
    let mut found = host.directories.iter().filter(there);
    match (found.next(), found.next()) {
        (Some(entry), None) => Ok(entry),
        // Which of them is meant, only the mount at fault could say.
        (Some(_), Some(_)) => {
            Err(unbound(Interface::Files, label, DenialCause::NotGranted, "runner.directory.ambiguous"))
        }
        (None, _) => {
            let denial = unbound(Interface::Files, label, DenialCause::NotGranted, "runner.directory");
            let example = mount.map(|mount| suggest::below(mount, label));
            Err(match example {
                Some(Some(path)) => denial.suggest(suggest::directory(label, &path, grant)),
                Some(None) | None => denial.suggest(suggest::directory(label, &suggest::example(label), grant)),
            })
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
