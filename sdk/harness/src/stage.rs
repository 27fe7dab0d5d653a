//! The small world of a scenario: directories, files, processes that have them open, the unit, and the gate's [`World`].

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tempfile::TempDir;
use theriac_authority::grant::{Applications, DatabasesGrant, FilesGrant};
use theriac_authority::host::HostConfig;
use theriac_authority::manifest::Manifest;
use theriac_journal::undo::{Options, UndoStore};
use theriac_model::health::{HealthAnswer, HealthCheck};
use theriac_model::id::Label;
use theriac_model::observation::SeriesId;
use theriac_model::release::LinkPlace;
use theriac_model::target::{MountPath, Target};
use theriac_model::time::{Timestamp, millis};
use theriac_model::unit::Backend;
use theriac_protocol::layout::Layout;
use theriac_runner::backend::ServiceManager;
use theriac_runner::clock;
use theriac_runner::courier::NetCourier;
use theriac_runner::hands::Databases;
use theriac_runner::world::{CheckError, Roots, Senses, World};
use theriac_runner::writer::Writer;

use crate::certificates::{self, Certificates};
use crate::database::{self, Database};
use crate::error::{ScenarioError, chain};
use crate::namespace;
use crate::notes::{BreakOff, Notes};
use crate::programs::Programs;
use crate::releases::Releases;
use crate::scenario::{self, Archive, Directory, File, Filling, Open, Scenario};
use crate::service::{self, Daemon, Service};
use crate::snapshot::{Snapshot, cpus_of};

/// Room for archives.
const ARCHIVE: u64 = 256 << 20;

/// What every stage of a scenario has in common.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Props<'a> {
    pub(crate) programs: &'a Programs,
    pub(crate) scenario: &'a Scenario,
    pub(crate) manifest: &'a Manifest,
    /// Why no filesystem can be mounted, if none can.
    pub(crate) no_mounts: Option<&'a str>,
}

/// One world, as the scenario has it at first.
pub(crate) struct Stage {
    pub(crate) world: World,
    pub(crate) notes: Arc<Notes>,
    pub(crate) host: HostConfig,
    pub(crate) target: Target,
    pub(crate) service: Option<Service>,
    pub(crate) database: Option<Arc<Database>>,
    dirs: BTreeMap<Label, PathBuf>,
    releases: Option<Releases>,
    certificates: Option<Certificates>,
    mounts: Vec<PathBuf>,
    holders: Vec<Daemon>,
    /// Last, so that it is removed when nobody uses it any more.
    scratch: TempDir,
}

impl Stage {
    pub(crate) fn set(props: Props<'_>, break_off: Option<BreakOff>) -> Result<Self, ScenarioError> {
        let scratch = tempfile::Builder::new()
            .prefix("theriac-")
            .tempdir()
            .map_err(ScenarioError::io("making a scratch directory"))?;
        let root = scratch.path().canonicalize().map_err(ScenarioError::io("finding the scratch directory"))?;
        let layout = Layout { config: root.join("config"), state: root.join("state") };
        for dir in [&layout.config, &layout.state.join("run"), &layout.launcher()] {
            make(dir)?;
        }
        let mut building = Building {
            props,
            root,
            mounts: Vec::new(),
            holders: Vec::new(),
            dirs: BTreeMap::new(),
            releases: None,
            certificates: None,
            config: String::from("mode = \"relaxed\"\n"),
        };
        for directory in &props.scenario.directory {
            building.directory(directory)?;
        }
        let service =
            props.scenario.unit.as_ref().map(|unit| Service::start(props.programs, &layout, unit)).transpose()?;
        if let (Some(service), Some(unit)) = (&service, &props.scenario.unit) {
            building.unit(service, unit.verbs.as_deref());
            building.releases()?;
            building.certificate()?;
            service.bring_to(unit.state)?;
        }
        let database = props.scenario.database.as_ref().map(|asked| building.database(asked));
        let target = building.target(service.as_ref())?;
        let host =
            HostConfig::parse(&building.config).map_err(ScenarioError::part("writing the host's configuration"))?;
        let notes = Arc::new(Notes::new(break_off));
        let mut world = world(&layout, &host, service.as_ref(), Arc::clone(&notes), ahead(props))?;
        let Building { dirs, releases, certificates, mounts, holders, .. } = building;
        if let Some(certificates) = &certificates {
            certificates.lend(&mut world.hands)?;
        }
        world.hands.databases = database.clone().map(|hand| hand as Arc<dyn Databases>);
        if let Some(releases) = &releases {
            releases.note(&world);
        }
        Ok(Self {
            world,
            notes,
            host,
            target,
            service,
            database,
            dirs,
            releases,
            certificates,
            mounts,
            holders,
            scratch,
        })
    }

    /// As it is now.
    pub(crate) fn snapshot(&self) -> Result<Snapshot, ScenarioError> {
        let dirs = self.dirs.iter().map(|(label, path)| (label, path.as_path()));
        let files = Snapshot::files(dirs).map_err(ScenarioError::io("looking at the files"))?;
        let state = self.service.as_ref().map(Service::state).transpose()?;
        let up = state.as_ref().map(theriac_model::unit::UnitState::is_up);
        let cpus = state.filter(|state| state.main_pid != 0).and_then(|state| cpus_of(state.main_pid));
        let release = self.releases.as_ref().and_then(Releases::in_use);
        let certificate = self.certificates.as_ref().and_then(Certificates::state);
        let settings = self.database.as_deref().map(Database::settings).unwrap_or_default();
        Ok(Snapshot { files, up, cpus, release, certificate, settings })
    }
}

impl std::fmt::Debug for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stage").field("scratch", &self.scratch.path()).finish_non_exhaustive()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.holders.clear();
        for mount in self.mounts.iter().rev() {
            namespace::detach(mount);
        }
    }
}

/// Ages are counted from a clock that is ahead: a file's change time is the kernel's, and nobody can set it back.
fn ahead(props: Props<'_>) -> Duration {
    let asked = props.manifest.grants.files.values().map(|grant| grant.min_age.duration()).max().unwrap_or_default();
    props.scenario.age.map_or(asked, |age| age.duration()) + Duration::from_secs(1)
}

fn make(dir: &Path) -> Result<(), ScenarioError> {
    fs::create_dir_all(dir).map_err(ScenarioError::io(format!("making `{}`", dir.display())))
}

/// What the gate reaches the world through.
fn world(
    layout: &Layout,
    host: &HostConfig,
    service: Option<&Service>,
    notes: Arc<Notes>,
    ahead: Duration,
) -> Result<World, ScenarioError> {
    let options = Options { quota: 1 << 30, arena: 1 << 20 };
    let undo =
        UndoStore::open(&layout.state.join("undo"), options).map_err(ScenarioError::part("opening the undo store"))?;
    let roots = Roots::default();
    roots.pin(host.directories.iter().map(|directory| &directory.path));
    Ok(World {
        systemd: None,
        supervised: service.map(|service| Arc::clone(&service.manager) as Arc<dyn ServiceManager>),
        backends: service.map(|service| (service.name.clone(), Backend::Supervised)).into_iter().collect(),
        senses: Arc::new(Ears { net: service.and_then(|service| service.net.clone()), ahead }),
        undo: Mutex::new(undo),
        writer: notes as Arc<dyn Writer>,
        roots,
        releases: theriac_runner::releases::Releases::default(),
        additions: theriac_runner::additions::Additions::default(),
        renewals: theriac_runner::renewals::Renewals::default(),
        hands: theriac_runner::hands::Hands::default(),
    })
}

/// A clock that is ahead, and the courier. Series are not sampled: a scenario gives its numbers itself.
#[derive(Debug)]
struct Ears {
    net: Option<Arc<NetCourier>>,
    ahead: Duration,
}

impl Senses for Ears {
    fn now(&self) -> Timestamp {
        Timestamp(clock::wall().0.saturating_add(millis(self.ahead)))
    }

    fn readings(&self, _series: &SeriesId, _seconds: u32) -> Vec<(Timestamp, f64)> {
        Vec::new()
    }

    fn check(&self, check: &HealthCheck) -> Result<HealthAnswer, CheckError> {
        let net = self.net.as_ref().ok_or_else(|| CheckError { reason: "the unit has no health check".to_owned() })?;
        net.check(check).map_err(|error| CheckError { reason: chain(&error) })
    }
}

/// A stage on its way.
struct Building<'a> {
    props: Props<'a>,
    root: PathBuf,
    mounts: Vec<PathBuf>,
    holders: Vec<Daemon>,
    dirs: BTreeMap<Label, PathBuf>,
    releases: Option<Releases>,
    certificates: Option<Certificates>,
    config: String,
}

impl Building<'_> {
    fn directory(&mut self, directory: &Directory) -> Result<(), ScenarioError> {
        let label = &directory.label;
        let grant = self.props.manifest.grants.files.get(label).ok_or_else(|| ScenarioError::Scenario {
            problem: format!("the manifest has no [grants.files.{label}]"),
        })?;
        let path = self.root.join("dirs").join(label.as_str());
        make(&path)?;
        let wrong = |problem| ScenarioError::Scenario { problem };
        if let Some(bytes) = directory.bytes().map_err(wrong)? {
            self.mount(&path, bytes)?;
        }
        let archive = self.root.join("archives").join(label.as_str());
        if directory.archive == Archive::OtherDevice {
            make(&archive)?;
            self.mount(&archive, ARCHIVE)?;
        }
        let mut last = (0, 0);
        for file in &directory.file {
            last = self.file(&path, file, last)?;
        }
        self.say_directory(directory, grant, &path, &archive);
        self.dirs.insert(label.clone(), path);
        Ok(())
    }

    fn say_directory(&mut self, directory: &Directory, grant: &FilesGrant, path: &Path, archive: &Path) {
        let all = || grant.verbs.iter().filter(|verb| verb.changes()).map(ToString::to_string).collect();
        let verbs: Vec<String> = directory.verbs.clone().unwrap_or_else(all);
        let reproducible = &directory.reproducible;
        // Writing to a `String` can't fail. Rust's and TOML's strings are written alike, for what stands here.
        let _infallible = writeln!(
            self.config,
            "[[mount]]\npath = {path:?}\n[[directory]]\npath = {path:?}\nlabel = {:?}\nverbs = {verbs:?}\nreproducible = {reproducible:?}",
            directory.label.as_str(),
        );
        if directory.archive == Archive::OtherDevice {
            let _infallible = writeln!(self.config, "archive_to = {archive:?}");
        }
    }

    fn mount(&mut self, at: &Path, bytes: u64) -> Result<(), ScenarioError> {
        if let Some(reason) = self.props.no_mounts {
            return Err(ScenarioError::NotPossible { reason: reason.to_owned() });
        }
        namespace::tmpfs(at, bytes)
            .map_err(|error| ScenarioError::NotPossible { reason: format!("a filesystem of its own: {error}") })?;
        self.mounts.push(at.to_owned());
        Ok(())
    }

    /// Makes one file that is younger than the last one; its time.
    fn file(&mut self, dir: &Path, file: &File, last: (i64, i64)) -> Result<(i64, i64), ScenarioError> {
        let path = dir.join(&file.path);
        let failed = || ScenarioError::io(format!("making `{}`", path.display()));
        if let Some(parent) = path.parent() {
            make(parent)?;
        }
        let bytes = match file.filling().map_err(|problem| ScenarioError::Scenario { problem })? {
            Filling::Text(text) => text.as_bytes().to_vec(),
            Filling::Bytes(size) => noise(&file.path, size),
        };
        fs::write(&path, bytes).map_err(failed())?;
        for number in 1..file.links {
            let mut second = path.clone().into_os_string();
            second.push(format!(".name-{}", number + 1));
            fs::hard_link(&path, second).map_err(failed())?;
        }
        let mut touched = last;
        // The kernel's clock for files ticks every few milliseconds.
        while touched <= last {
            fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).map_err(failed())?;
            let meta = fs::metadata(&path).map_err(failed())?;
            touched = (meta.ctime(), meta.ctime_nsec());
        }
        let held = match file.open {
            Open::No => None,
            Open::Appending => Some(OpenOptions::new().append(true).open(&path).map_err(failed())?),
            Open::Writing => Some(OpenOptions::new().write(true).open(&path).map_err(failed())?),
        };
        if let Some(held) = held {
            let mut command = Command::new(self.props.programs.path("scenario-stand-in"));
            self.holders.push(Daemon::start(command.arg("hold").stdin(held))?);
        }
        if file.deleted {
            fs::remove_file(&path).map_err(failed())?;
        }
        Ok(touched)
    }

    fn unit(&mut self, service: &Service, verbs: Option<&[String]>) {
        let grants = &self.props.manifest.grants;
        let units = grants.units.values().flat_map(|grant| &grant.verbs).filter(|verb| verb.changes());
        let units: std::collections::BTreeSet<String> = units.map(ToString::to_string).collect();
        let processes = grants.processes.values().flat_map(|grant| &grant.verbs).filter(|verb| verb.changes());
        let processes: std::collections::BTreeSet<String> = processes.map(ToString::to_string).collect();
        let listed: Vec<String> = verbs.map_or_else(|| units.iter().cloned().collect(), <[String]>::to_vec);
        let processes: Vec<String> = processes.into_iter().collect();
        let health = if service.net.is_some() {
            format!("health = [{{ http = {:?}, timeout = \"500ms\" }}]\n", service.url())
        } else {
            String::new()
        };
        let _infallible = write!(
            self.config,
            "[[service]]\nname = {:?}\nverbs = {listed:?}\nprocesses = {processes:?}\ntraffic_share = 0.1\n{health}",
            service::NAME,
        );
    }

    fn releases(&mut self) -> Result<(), ScenarioError> {
        let Some(asked) = &self.props.scenario.releases else { return Ok(()) };
        let releases = Releases::make(&self.root.join("app"), asked)?;
        let grants = self.props.manifest.grants.releases.values().flat_map(|grant| &grant.verbs);
        let all = || grants.filter(|verb| verb.changes()).map(ToString::to_string).collect();
        let verbs: Vec<String> = asked.verbs.clone().unwrap_or_else(all);
        let LinkPlace { link, releases: dir } = &releases.place;
        let _infallible = write!(
            self.config,
            "[[release]]\nunit = {:?}\nlink = {:?}\nreleases = {:?}\nverbs = {verbs:?}\n",
            service::NAME,
            link.as_str(),
            dir.as_str(),
        );
        self.releases = Some(releases);
        Ok(())
    }

    fn certificate(&mut self) -> Result<(), ScenarioError> {
        let Some(asked) = &self.props.scenario.certificate else { return Ok(()) };
        let made = Certificates::make(&self.root.join("certificate"), asked)?;
        let grants = self.props.manifest.grants.certificates.values().flat_map(|grant| &grant.verbs);
        let all = || grants.filter(|verb| verb.changes()).map(ToString::to_string).collect();
        let verbs: Vec<String> = asked.verbs.clone().unwrap_or_else(all);
        let dir = &made.dir;
        let _infallible = write!(
            self.config,
            "[[certificate]]\nname = {:?}\ncertificate = {:?}\nkey = {:?}\nnames = [{:?}]\nunit = {:?}\nverbs = {verbs:?}\n",
            certificates::NAME,
            dir.join("cert.pem"),
            dir.join("key.pem"),
            certificates::HOST,
            service::NAME,
        );
        if !verbs.is_empty() {
            let _infallible = writeln!(self.config, "webroot = {:?}", dir.join("www"));
        }
        if made.is_served() {
            // Nobody connects there: the server of a scenario is asked in another way.
            let _infallible = writeln!(self.config, "address = \"127.0.0.1:443\"");
        }
        self.certificates = Some(made);
        Ok(())
    }

    fn database(&mut self, asked: &scenario::Database) -> Arc<Database> {
        let grants = || self.props.manifest.grants.databases.values();
        let named = |grant: &DatabasesGrant| match grant.ending.as_ref().map(|ending| &ending.applications) {
            Some(Applications::Named(names)) => names.iter().map(ToString::to_string).collect(),
            Some(Applications::Operator) | None => Vec::new(),
        };
        let applications = asked.applications.clone().unwrap_or_else(|| grants().flat_map(named).collect());
        let _infallible = writeln!(
            self.config,
            "[[database]]\nname = {:?}\nkind = {:?}\nreproducible = {}\ntraffic_share = 0.1",
            database::NAME,
            asked.kind.as_str(),
            asked.reproducible,
        );
        if !applications.is_empty() {
            let _infallible = writeln!(self.config, "applications = {applications:?}");
        }
        for (setting, range) in grants().flat_map(|grant| &grant.settings) {
            if let Some((min, max)) = range.filter(|_| setting.kind() == asked.kind) {
                let _infallible = writeln!(self.config, "settings.{setting} = {{ min = {min}, max = {max} }}");
            }
        }
        Arc::new(Database::make(asked))
    }

    fn target(&self, service: Option<&Service>) -> Result<Target, ScenarioError> {
        if self.certificates.is_some() {
            return Label::parse(certificates::NAME)
                .map(Target::Certificate)
                .map_err(ScenarioError::part("naming the certificate"));
        }
        if let Some(service) = service {
            return Ok(Target::Unit(service.name.clone()));
        }
        if self.props.scenario.database.is_some() {
            return Label::parse(database::NAME).map(Target::Pool).map_err(ScenarioError::part("naming the database"));
        }
        let first = self.props.scenario.directory.first().and_then(|directory| self.dirs.get(&directory.label));
        let Some(path) = first else { return Ok(Target::Host) };
        MountPath::parse(&path.to_string_lossy()).map(Target::Mount).map_err(ScenarioError::part("naming the mount"))
    }
}

/// Text that looks different in each file and does not compress to nothing.
fn noise(seed: &str, size: u64) -> Vec<u8> {
    let mut state = seed
        .bytes()
        .fold(0x9e37_79b9_7f4a_7c15_u64, |state, byte| (state ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
        | 1;
    let size = usize::try_from(size).unwrap_or(usize::MAX);
    let mut text = Vec::with_capacity(size.saturating_add(17));
    while text.len() < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        // Writing to a vector can't fail.
        let _infallible = writeln!(text, "{state:016x}");
    }
    text.truncate(size);
    text
}
