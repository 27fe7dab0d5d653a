//! `runner.toml`: what the operator lets Theriac watch and heal on this machine. Root's configuration, read once, to types.
//!
//! The commented default in `runner.default.toml` is the reference; a test reads it, with its examples and without. Empty
//! lists mean: observe.

use std::collections::{BTreeMap, BTreeSet};

use theriac_model::catalog::{Mode, TargetSpec, Thresholds};
use theriac_model::health::HealthCheck;
use theriac_model::id::{Label, UnitName};
use theriac_model::release::ReleasePlace;
use theriac_model::target::{MountPath, Target};
use theriac_model::time::Span;
use theriac_model::unit::Backend;
use theriac_model::units::Permille;

use crate::document::{self, Field, Mistake};
use crate::effective::Globs;
use crate::grant::{CertificatesVerb, FilesVerb, ProcessesVerb, UnitsVerb, WordError, never};

mod certificate;
mod container;
mod database;
mod firewall;
mod http;
mod kernel;
mod program;
mod release;
mod targets;
mod window;
pub use certificate::CertificateConfig;
pub use container::ContainerConfig;
pub use database::DatabaseConfig;
pub use firewall::FirewallConfig;
pub use http::EndpointConfig;
pub use kernel::KnobConfig;
pub use program::ProgramConfig;
pub use release::ReleaseConfig;
pub use window::{Weekday, Window};

/// Why `runner.toml` is refused: the line, what is wrong there, what to write instead.
pub type HostError = Mistake;

/// The commented default, which is the reference and what holds where there is no file.
pub const DEFAULT: &str = include_str!("runner.default.toml");

/// Everything `runner.toml` says.
#[derive(Debug, Clone, PartialEq)]
pub struct HostConfig {
    /// How much is done without a person.
    pub mode: Mode,
    /// How long things may take.
    pub timing: Timing,
    /// How often things may happen.
    pub limits: RunLimits,
    /// No healing inside.
    pub windows: Vec<Window>,
    /// No healing while one of these files exists.
    pub deploy_locks: Vec<MountPath>,
    /// `[[unit]]` and `[[service]]`, by name.
    pub units: BTreeMap<UnitName, UnitConfig>,
    /// `[[mount]]`, by path.
    pub mounts: BTreeMap<MountPath, MountConfig>,
    /// `[[directory]]`.
    pub directories: Vec<DirectoryConfig>,
    /// `[[group]]`.
    pub groups: Vec<GroupConfig>,
    /// `[[certificate]]`.
    pub certificates: Vec<CertificateConfig>,
    /// `[[program]]`.
    pub programs: Vec<ProgramConfig>,
    /// `[[endpoint]]`.
    pub endpoints: Vec<EndpointConfig>,
    /// `[[knob]]`.
    pub knobs: Vec<KnobConfig>,
    /// `[[release]]`.
    pub releases: Vec<ReleaseConfig>,
    /// `[[container]]`.
    pub containers: Vec<ContainerConfig>,
    /// `[[firewall]]`.
    pub firewall: Vec<FirewallConfig>,
    /// `[[database]]`.
    pub databases: Vec<DatabaseConfig>,
    /// `[uids]`; `None` where the processes share one user.
    pub uids: Option<Uids>,
    /// The D-Bus address to use in place of the system bus.
    pub systemd_address: Option<String>,
    own: Vec<MountPath>,
}

/// How long things may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// How often probes are read.
    pub sample_every: Span,
    /// Not improved that long after a run: undone.
    pub healed_within: Span,
    /// It has to stay well that long.
    pub stable_for: Span,
    /// A target is left alone that long.
    pub cooldown: Span,
    /// A consent holds that long.
    pub consent_valid: Span,
}

/// How often things may happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunLimits {
    /// Runs that change something at the same time.
    pub concurrent_runs: u32,
    /// Runs for the same fault within the window that trip the breaker.
    pub breaker_runs: u32,
    /// The window.
    pub breaker_window: Span,
    /// Undone runs that trip it.
    pub breaker_undos: u32,
}

/// One listed unit.
#[derive(Debug, Clone, PartialEq)]
pub struct UnitConfig {
    /// Which service manager runs it.
    pub backend: Backend,
    /// What remedies may change.
    pub verbs: BTreeSet<UnitsVerb>,
    /// What remedies may change about its processes.
    pub processes: BTreeSet<ProcessesVerb>,
    /// Share of the traffic that depends on it.
    pub traffic_share: Option<Permille>,
    /// What to ask it; all must pass.
    pub health: Vec<HealthCheck>,
    /// What is abnormal for it.
    pub thresholds: Thresholds,
}

/// One listed mount.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MountConfig {
    /// Share of the traffic that depends on it.
    pub traffic_share: Option<Permille>,
    /// What is abnormal for it.
    pub thresholds: Thresholds,
}

/// One listed directory.
#[derive(Debug, Clone, PartialEq)]
pub struct DirectoryConfig {
    /// Where.
    pub path: MountPath,
    /// What manifests call it.
    pub label: Label,
    /// What remedies may change.
    pub verbs: BTreeSet<FilesVerb>,
    /// Where archives go.
    pub archive_to: Option<MountPath>,
    /// Where files are set aside.
    pub set_aside: Option<MountPath>,
    /// What may be lost for good without asking.
    pub reproducible: Globs,
}

/// One listed group of processes that is no unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupConfig {
    /// Whose processes.
    pub of: theriac_model::effect::GroupId,
    /// What remedies may change.
    pub verbs: BTreeSet<ProcessesVerb>,
}

/// Distinct users of the processes; each one's group has the same number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uids {
    /// Of the agent.
    pub agent: u32,
    /// Of the `net` courier.
    pub courier_net: u32,
    /// Of the `docker` courier.
    pub courier_docker: u32,
    /// Of the `acme` courier.
    pub courier_acme: u32,
    /// Of the `databases` courier.
    pub courier_databases: u32,
    /// Of the workers, one for each run at the same time.
    pub worker: Vec<u32>,
}

/// When `[uids]` does not say: files from before there was a `docker` courier don't.
const BUILT_IN_COURIER_DOCKER: u32 = 61_108;
/// The same of the `acme` courier.
const BUILT_IN_COURIER_ACME: u32 = 61_109;
/// When `[uids]` does not say: files from before there was a `databases` courier don't.
const BUILT_IN_COURIER_DATABASES: u32 = 61_107;

impl Uids {
    /// For `theriac up` as root without `[uids]`: numbers that systemd and the distributions leave to nobody (60706 to 61183).
    pub fn built_in() -> Self {
        Self {
            agent: 61_101,
            courier_net: 61_102,
            courier_docker: BUILT_IN_COURIER_DOCKER,
            courier_acme: BUILT_IN_COURIER_ACME,
            courier_databases: BUILT_IN_COURIER_DATABASES,
            worker: vec![61_103, 61_104, 61_105, 61_106],
        }
    }

    /// Every one of them.
    pub fn all(&self) -> impl Iterator<Item = u32> {
        let couriers = [self.courier_net, self.courier_docker, self.courier_databases, self.courier_acme];
        [self.agent].into_iter().chain(couriers).chain(self.worker.iter().copied())
    }
}

const TOP_KEYS: &[&str] = &[
    "mode",
    "deploy_locks",
    "timing",
    "limits",
    "window",
    "unit",
    "service",
    "mount",
    "directory",
    "group",
    "certificate",
    "program",
    "endpoint",
    "knob",
    "release",
    "container",
    "firewall",
    "database",
    "uids",
    "systemd",
];

impl Default for HostConfig {
    fn default() -> Self {
        Self {
            mode: Mode::Observe,
            timing: Timing {
                sample_every: Span::from_secs(1),
                healed_within: Span::from_secs(300),
                stable_for: Span::from_secs(300),
                cooldown: Span::from_secs(300),
                consent_valid: Span::from_secs(86_400),
            },
            limits: RunLimits {
                concurrent_runs: 2,
                breaker_runs: 3,
                breaker_window: Span::from_secs(86_400),
                breaker_undos: 2,
            },
            windows: Vec::new(),
            deploy_locks: MountPath::parse("/run/theriac-deploy.lock").into_iter().collect(),
            units: BTreeMap::new(),
            mounts: BTreeMap::new(),
            directories: Vec::new(),
            groups: Vec::new(),
            certificates: Vec::new(),
            programs: Vec::new(),
            endpoints: Vec::new(),
            knobs: Vec::new(),
            releases: Vec::new(),
            containers: Vec::new(),
            firewall: Vec::new(),
            databases: Vec::new(),
            uids: None,
            systemd_address: None,
            own: Vec::new(),
        }
    }
}

impl HostConfig {
    /// Reads `runner.toml`.
    pub fn parse(text: &str) -> Result<Self, HostError> {
        let mut top = document::toml(text)?.table(TOP_KEYS)?;
        let mut config = Self::default();
        if let Some(field) = top.optional("mode") {
            config.mode = mode(&field)?;
        }
        if let Some(field) = top.optional("deploy_locks") {
            config.deploy_locks =
                field.list()?.iter().map(|item| item.parse_with(MountPath::parse)).collect::<Result<_, _>>()?;
        }
        if let Some(field) = top.optional("timing") {
            timing(field, &mut config.timing)?;
        }
        if let Some(field) = top.optional("limits") {
            limits(field, &mut config.limits)?;
        }
        config.windows = each(top.optional("window"), window::parse)?;
        targets::units(top.optional("unit"), Backend::Systemd, &mut config.units)?;
        targets::units(top.optional("service"), Backend::Supervised, &mut config.units)?;
        targets::mounts(top.optional("mount"), &mut config.mounts)?;
        targets::directories(top.optional("directory"), &mut config)?;
        config.groups = each(top.optional("group"), targets::group)?;
        config.certificates = certificate::list(top.optional("certificate"))?;
        config.programs = each(top.optional("program"), program::parse)?;
        config.endpoints = each(top.optional("endpoint"), http::parse)?;
        config.knobs = each(top.optional("knob"), kernel::parse)?;
        config.releases = each(top.optional("release"), release::parse)?;
        config.containers = container::list(top.optional("container"))?;
        config.firewall = firewall::all(top.optional("firewall"))?;
        config.databases = database::list(top.optional("database"))?;
        config.uids = top.optional("uids").map(uids).transpose()?;
        if let Some(field) = top.optional("systemd") {
            config.systemd_address = Some(systemd(field)?);
        }
        Ok(config)
    }

    /// The same with Theriac's own directories (`--config`, `--state`), which no grant may overlap, whatever is configured.
    #[must_use]
    pub fn protecting(mut self, own: impl IntoIterator<Item = MountPath>) -> Self {
        self.own.extend(own);
        self
    }

    /// The directory overlaps one of Theriac's own.
    pub(crate) fn is_own(&self, path: &MountPath) -> bool {
        self.own.iter().any(|own| never::overlap(own, path))
    }

    /// The listed targets with what is normal for them, and the machine itself.
    pub fn catalog_targets(&self) -> Vec<TargetSpec> {
        let units = self.units.iter().map(|(name, unit)| TargetSpec {
            target: Target::Unit(name.clone()),
            traffic_share: unit.traffic_share,
            health: unit.health.clone(),
            thresholds: unit.thresholds,
            backend: Some(unit.backend),
        });
        let mounts = self.mounts.iter().map(|(path, mount)| TargetSpec {
            target: Target::Mount(path.clone()),
            traffic_share: mount.traffic_share,
            health: Vec::new(),
            thresholds: mount.thresholds,
            backend: None,
        });
        let certificates = self.certificates.iter().map(|certificate| TargetSpec {
            target: Target::Certificate(certificate.name.clone()),
            traffic_share: certificate.unit.as_ref().and_then(|unit| self.units.get(unit)?.traffic_share),
            health: Vec::new(),
            thresholds: certificate.thresholds,
            backend: None,
        });
        let pools = self.databases.iter().map(|database| TargetSpec {
            target: Target::Pool(database.name.clone()),
            traffic_share: database.traffic_share,
            health: Vec::new(),
            thresholds: database.thresholds,
            backend: None,
        });
        let machine = TargetSpec {
            target: Target::Host,
            traffic_share: None,
            health: Vec::new(),
            thresholds: Thresholds::default(),
            backend: None,
        };
        let containers = self.containers.iter().map(|container| TargetSpec {
            target: Target::Container(container.label.clone()),
            traffic_share: container.traffic_share,
            health: Vec::new(),
            thresholds: container.thresholds,
            backend: None,
        });
        units.chain(mounts).chain(certificates).chain(containers).chain(pools).chain([machine]).collect()
    }

    /// The configuration of one target; `None` where it is not listed.
    pub fn target(&self, target: &Target) -> Option<TargetSpec> {
        self.catalog_targets().into_iter().find(|spec| spec.target == *target)
    }

    /// A unit of systemd is listed, or it is what runs the listed programs, so its bus is needed.
    pub fn needs_systemd(&self, systemd_runs: bool) -> bool {
        self.lists(Backend::Systemd) || self.programs_by(systemd_runs) == Some(Backend::Systemd)
    }

    /// A supervised service is listed, or the launcher is what runs the listed programs.
    pub fn needs_launcher(&self, systemd_runs: bool) -> bool {
        self.lists(Backend::Supervised) || self.programs_by(systemd_runs) == Some(Backend::Supervised)
    }

    /// Who runs the listed programs: systemd where it is used or `systemd_runs` for this user, else the launcher. `None`: none is
    /// listed.
    pub fn programs_by(&self, systemd_runs: bool) -> Option<Backend> {
        let systemd = systemd_runs || self.systemd_address.is_some() || self.lists(Backend::Systemd);
        let by = if systemd { Backend::Systemd } else { Backend::Supervised };
        (!self.programs.is_empty()).then_some(by)
    }

    fn lists(&self, backend: Backend) -> bool {
        self.units.values().any(|unit| unit.backend == backend)
    }

    /// A health check, an endpoint or an address that serves a certificate is listed, so the `net` courier is needed.
    pub fn needs_courier_net(&self) -> bool {
        !self.endpoints.is_empty()
            || self.units.values().any(|unit| !unit.health.is_empty())
            || self.certificates.iter().any(|certificate| certificate.address.is_some())
    }

    /// The listed certificate of that name.
    pub fn certificate(&self, name: &Label) -> Option<&CertificateConfig> {
        self.certificates.iter().find(|certificate| certificate.name == *name)
    }

    /// A certificate may be renewed, so the `acme` courier is needed.
    pub fn needs_courier_acme(&self) -> bool {
        self.certificates.iter().any(|certificate| certificate.verbs.contains(&CertificatesVerb::Renew))
    }

    /// A container or a release that is an image is listed, so the `docker` courier is needed.
    pub fn needs_courier_docker(&self) -> bool {
        let images = self.releases.iter().any(|entry| matches!(entry.place, ReleasePlace::Image(_)));
        images || !self.containers.is_empty()
    }

    /// A database is listed, so the `databases` courier is needed.
    pub fn needs_courier_databases(&self) -> bool {
        !self.databases.is_empty()
    }

    /// The listed mount a path lies on: the longest one that it is below. `None` where none is listed.
    pub fn mount_of(&self, path: &MountPath) -> Option<&MountPath> {
        let holds = |mount: &&MountPath| *mount == path || never::lies_below(path.as_str(), mount.as_str());
        self.mounts.keys().filter(holds).max_by_key(|mount| mount.as_str().len())
    }
}

/// Parses each table of a `[[name]]` list.
fn each<T>(field: Option<Field>, parse: fn(Field) -> Result<T, Mistake>) -> Result<Vec<T>, Mistake> {
    field.map_or_else(|| Ok(Vec::new()), |field| field.list()?.into_iter().map(parse).collect())
}

fn mode(field: &Field) -> Result<Mode, Mistake> {
    const MODES: [Mode; 3] = [Mode::Observe, Mode::Strict, Mode::Relaxed];
    if field.text()? == "disabled" {
        return Err(field.mistake(
            "there is no mode without guardrails",
            "write \"observe\" to change nothing, or `theriac hold` to stop healing for a while",
        ));
    }
    field.parse_with(|word| {
        let known = MODES.into_iter().find(|mode| mode.as_str() == word);
        known.ok_or_else(|| WordError::new("a mode", word, MODES.iter().map(|mode| mode.as_str())))
    })
}

fn timing(field: Field, timing: &mut Timing) -> Result<(), Mistake> {
    let mut table = field.table(&["sample_every", "healed_within", "stable_for", "cooldown", "consent_valid"])?;
    let day = Span::from_secs(86_400);
    let mut take = |key: &str, min: Span, max: Span, into: &mut Span| -> Result<(), Mistake> {
        if let Some(field) = table.optional(key) {
            *into = field.span(min, max)?;
        }
        Ok(())
    };
    // Below 100 ms sampling costs more than it shows; above 1 min a crash can't be healed in time.
    take("sample_every", Span::from_millis(100), Span::from_secs(60), &mut timing.sample_every)?;
    take("healed_within", Span::from_millis(500), day, &mut timing.healed_within)?;
    take("stable_for", Span::from_millis(0), day, &mut timing.stable_for)?;
    take("cooldown", Span::from_millis(0), day, &mut timing.cooldown)?;
    take("consent_valid", Span::from_secs(60), Span::from_secs(30 * 86_400), &mut timing.consent_valid)
}

fn limits(field: Field, limits: &mut RunLimits) -> Result<(), Mistake> {
    let mut table = field.table(&["concurrent_runs", "breaker_runs", "breaker_window", "breaker_undos"])?;
    if let Some(field) = table.optional("concurrent_runs") {
        limits.concurrent_runs = field.integer(1, 16)?;
    }
    if let Some(field) = table.optional("breaker_runs") {
        limits.breaker_runs = field.integer(1, 1000)?;
    }
    if let Some(field) = table.optional("breaker_window") {
        limits.breaker_window = field.span(Span::from_secs(60), Span::from_secs(30 * 86_400))?;
    }
    if let Some(field) = table.optional("breaker_undos") {
        limits.breaker_undos = field.integer(1, 1000)?;
    }
    Ok(())
}

fn uids(field: Field) -> Result<Uids, Mistake> {
    let whole = field.clone();
    let mut table =
        field.table(&["agent", "courier_net", "courier_docker", "courier_databases", "courier_acme", "worker"])?;
    // 65534 is `nobody`, which NFS and half the machine share: no wall there.
    let uid = |field: &Field| field.integer(1_u32, 65_533);
    let uids = Uids {
        agent: uid(&table.required("agent", "a uid")?)?,
        courier_net: uid(&table.required("courier_net", "a uid")?)?,
        courier_docker: table.optional("courier_docker").map_or(Ok(BUILT_IN_COURIER_DOCKER), |field| uid(&field))?,
        courier_acme: table.optional("courier_acme").map_or(Ok(BUILT_IN_COURIER_ACME), |field| uid(&field))?,
        courier_databases: table
            .optional("courier_databases")
            .map_or(Ok(BUILT_IN_COURIER_DATABASES), |field| uid(&field))?,
        worker: table.required("worker", "a list of uids")?.list()?.iter().map(uid).collect::<Result<_, _>>()?,
    };
    if uids.worker.is_empty() {
        return Err(whole.mistake("no worker could start", "list one uid for each run at the same time"));
    }
    let distinct: BTreeSet<u32> = uids.all().collect();
    if distinct.len() != uids.all().count() {
        return Err(
            whole.mistake("one uid is written twice", "give each process a user of its own: shared ones have no wall")
        );
    }
    Ok(uids)
}

fn systemd(field: Field) -> Result<String, Mistake> {
    let address = field.table(&["address"])?.required("address", "a D-Bus address such as \"unix:path=/run/bus\"")?;
    let text = address.sentence(255)?;
    // The runner has no inet socket; an address of another kind would only fail later.
    if text.starts_with("unix:") {
        Ok(text)
    } else {
        Err(address.mistake("it is not the address of a Unix socket", "write \"unix:path=/run/bus\""))
    }
}

#[cfg(test)]
mod tests;
