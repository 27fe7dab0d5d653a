//! The runner as a process: opens what it keeps, raises its walls, goes on with what a crash left, then listens.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use theriac_authority::guardrail::FoldError;
use theriac_authority::host::{CertificateConfig, FirewallConfig, HostConfig, Uids};
use theriac_authority::key::{HostKey, KeyError};
use theriac_journal::guard_time::{GuardClock, Reading, Remembered};
use theriac_journal::journal::LedgerOptions;
use theriac_journal::undo::UndoStore;
use theriac_journal::{Durability, Journal, Options};
use theriac_model::certificate::CertificateReading;
use theriac_model::health::{HealthAnswer, HealthCheck};
use theriac_model::id::{KeyName, Label, UnitName};
use theriac_model::observation::SeriesId;
use theriac_model::record::{Entry, Record};
use theriac_model::time::{Span, Timestamp, millis};
use theriac_model::unit::Backend;
use theriac_protocol::layout::{Layout, ListenError, Socket};
use theriac_protocol::process::Identity;

use crate::acme::AcmeCourier;
use crate::additions::Additions;
use crate::agent_socket::AgentSocket;
use crate::backend::supervised::Supervised;
use crate::backend::systemd::Systemd;
use crate::backend::{Managers, systemd_runs};
use crate::book::{Book, StepError};
use crate::capability::certificates;
use crate::clock;
use crate::courier::NetCourier;
use crate::databases::DatabaseCourier;
use crate::docker::DockerCourier;
use crate::hands::{Acme, Databases, Hands, Tls};
use crate::netfilter;
use crate::observer::{Observer, Prober, Watched};
use crate::operator_socket::OperatorSocket;
use crate::parts::Parts;
use crate::releases::{self, Releases};
use crate::remedies::{Remedies, chain};
use crate::renewals::Renewals;
use crate::rules::{Rules, RulesError};
use crate::run::recovery;
use crate::server;
use crate::walls::{self, Netfilter, WallError};
use crate::worker::cache::Cache;
use crate::worker::{Worker, WorkerConfig, WorkerError};
use crate::world::{CheckError, Roots, Senses, World};
use crate::writer::{WriteError, Writer as _};

/// A gap in the journal longer than this is an outage that the first notification tells of.
const OUTAGE: Duration = Duration::from_secs(60);
/// How often the main thread looks whether all is well.
const TICK: Duration = Duration::from_millis(500);

/// What `theriac-runner` is told on its command line.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The two directories.
    pub layout: Layout,
    /// The worker binary.
    pub worker: PathBuf,
    /// Where runner.toml has no `[uids]`, the built-in ones hold.
    pub distinct_users: bool,
}

/// Why the runner did not start, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// A directory can't be made.
    #[error("can't make `{}`", path.display())]
    Directory {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// The configuration is refused.
    #[error("the configuration is refused")]
    Rules(#[from] RulesError),
    /// The journal can't be opened: malformed saved state means stop and ask.
    #[error("the journal can't be opened")]
    Journal(#[from] theriac_journal::journal::OpenError),
    /// Its records do not fit together.
    #[error("the journal's records do not fit together")]
    Fold(#[from] FoldError),
    /// The host key.
    #[error("the host key can't be used")]
    Key(#[from] KeyError),
    /// The undo store.
    #[error("the undo store can't be opened")]
    Undo(#[from] theriac_journal::undo::OpenError),
    /// The walls.
    #[error("the runner's walls can't be raised")]
    Walls(#[from] WallError),
    /// The worker.
    #[error("no worker can be started")]
    Worker(#[from] WorkerError),
    /// A socket.
    #[error("can't listen")]
    Listen(#[from] ListenError),
    /// The journal failed while running.
    #[error("the journal failed")]
    Write(#[from] WriteError),
    /// A run's state does not allow what is to be done.
    #[error("a run can't be taken back")]
    Step(#[from] StepError),
    /// The kernel refused something small.
    #[error("{what}")]
    System {
        what: &'static str,
        #[source]
        source: io::Error,
    },
}

fn system(what: &'static str) -> impl FnOnce(io::Error) -> DaemonError {
    move |source| DaemonError::System { what, source }
}

/// Runs until it is told to stop, or until the journal fails.
pub fn run(settings: &Settings) -> Result<(), DaemonError> {
    let layout = &settings.layout;
    make_directories(layout)?;
    let mut rules = Rules::read(layout)?;
    if settings.distinct_users {
        rules.host.uids.get_or_insert_with(Uids::built_in);
    }
    let (book, entries) = open_book(layout)?;
    tracing::info!(entries = entries.len(), configuration = %rules.digest, "the journal is open");
    let book = Arc::new(book);
    // From here on no inet socket can be made, by us or by anything we start.
    walls::raise(if rules.host.firewall.is_empty() { Netfilter::Closed } else { Netfilter::Open })?;
    note_start(&book, &entries, &rules)?;
    let parts = assemble(settings, rules, book, &entries)?;
    parts.load_remedies()?;
    let resumed = recovery::resume(&parts)?;
    let every = parts.rules().host.timing.sample_every.duration();
    parts.observer.start(every).map_err(system("starting the observer"))?;
    watch_releases(&parts, every)?;
    let events = follow_launcher(&parts).map_err(system("listening to the launcher"))?;
    // Before anybody can reach us: a request to stop must never find the default action, which leaves no last record.
    let signals = Signals::new([SIGTERM, SIGINT]).map_err(system("listening to signals"))?;
    listen(&parts)?;
    tracing::info!(epoch = parts.book.epoch(), resumed, mode = parts.rules().host.mode.as_str(), "the runner is ready");
    notify(&[sd_notify::NotifyState::Ready]);
    let ended = wait_for_the_end(&parts, signals);
    drop(events);
    parts.observer.stop();
    ended
}

/// What is in use now is known before anybody can ask; from then on every change is journaled as it is seen.
fn watch_releases(parts: &Arc<Parts>, every: Duration) -> Result<(), DaemonError> {
    let listed = parts.rules().host.releases.clone();
    if listed.is_empty() {
        return Ok(());
    }
    releases::look(&listed, &parts.world)?;
    let parts = Arc::clone(parts);
    let watch = move || {
        loop {
            std::thread::sleep(every);
            if let Err(error) = releases::look(&listed, &parts.world) {
                return tracing::error!(error = %chain(&error), "a release was not recorded");
            }
        }
    };
    std::thread::Builder::new().name("releases".into()).spawn(watch).map_err(system("watching releases"))?;
    Ok(())
}

fn make_directories(layout: &Layout) -> Result<(), DaemonError> {
    let make = |path: PathBuf, mode: u32| {
        let made = fs::DirBuilder::new().recursive(true).mode(mode).create(&path);
        made.and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(mode)))
            .map_err(|source| DaemonError::Directory { path, source })
    };
    make(layout.state.clone(), 0o755)?;
    make(layout.state.join("run"), 0o755)?;
    make(layout.runner(), 0o700)?;
    make(layout.runner().join("keys"), 0o700)
}

pub(crate) fn open_book(layout: &Layout) -> Result<(Book, Vec<Entry>), DaemonError> {
    let dir = layout.runner();
    let signer = crate::seal::HostSigner::new(HostKey::open_or_create(&dir.join("keys/ledger.key"), &ledger_name())?);
    let origin = signer.origin();
    let ledger = LedgerOptions::new(dir.join("ledger"), origin, Box::new(signer));
    let options = Options { ledger: Some(ledger), ..Options::default() };
    let opened = Journal::open(&dir.join("journal"), options)?;
    let mut remembered = Remembered::default();
    opened.entries.iter().for_each(|entry| remembered.see(entry));
    let now = Reading::now().map_err(system("reading the boot id"))?;
    let clock = GuardClock::resume(&remembered, &now);
    let book = Book::open(opened.journal, clock, &opened.entries)?;
    Ok((book, opened.entries))
}

/// The name of this host's ledger key: its host name, as far as a key name can hold it.
fn ledger_name() -> KeyName {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let host: String = host.chars().filter(|c| c.is_ascii_alphanumeric() || ".-_".contains(*c)).take(100).collect();
    let name = format!("{}/theriac-ledger", if host.is_empty() { "localhost" } else { &host });
    KeyName::parse(&name).unwrap_or_else(|_| crate::seal::fallback_name())
}

fn note_start(book: &Book, entries: &[Entry], rules: &Rules) -> Result<(), DaemonError> {
    let reading = Reading::now().map_err(system("reading the boot id"))?;
    let last = entries.last().map(|entry| entry.at);
    let outage = last.map(|last| clock::wall().since(last)).filter(|gap| *gap > OUTAGE && !ended_well(entries));
    let started = Record::Started {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        boot_id: reading.boot_id,
        boottime_ms: reading.boottime_ms,
        configuration: rules.digest,
        outage: outage.map(|gap| Span::from_millis(millis(gap))),
    };
    book.write(started, Durability::Synced)?;
    Ok(())
}

fn ended_well(entries: &[Entry]) -> bool {
    entries.last().is_some_and(|entry| matches!(entry.record, Record::Stopped))
}

fn assemble(settings: &Settings, rules: Rules, book: Arc<Book>, entries: &[Entry]) -> Result<Arc<Parts>, DaemonError> {
    let layout = &settings.layout;
    let mut disabled = Vec::new();
    let (managers, mut hands) = managers(layout, &rules.host, book.epoch(), &mut disabled)?;
    let net = courier(layout, &rules.host, book.epoch()).map(Arc::new);
    fill(&mut hands, (layout, &rules.host, book.epoch()), net.as_ref(), &mut disabled);
    let certificates = rules.host.certificates.clone();
    let courier = Arc::new(Courier { net, certificates, lost: AtomicBool::new(false) });
    let listeners = Arc::clone(&book);
    let tell = move |event| listeners.events().publish(&event);
    let observer =
        Observer::new(rules.host.catalog_targets(), managers.clone(), watched(&rules.host, &hands), courier, tell);
    let undo = UndoStore::open(&layout.runner().join("undo"), theriac_journal::undo::Options::default())?;
    let roots = Roots::default();
    roots.pin(rules.host.directories.iter().map(|directory| &directory.path));
    let world = World {
        systemd: managers.systemd,
        supervised: managers.supervised,
        backends: managers.backends,
        senses: Arc::new(Eyes(Arc::clone(&observer))),
        undo: std::sync::Mutex::new(undo),
        writer: Arc::clone(&book) as _,
        roots,
        releases: Releases::of(entries),
        additions: Additions::of(entries),
        renewals: Renewals::of(entries),
        hands,
    };
    let unfit = |listed: &FirewallConfig| {
        let error = netfilter::facts(&listed.set).err()?;
        Some(format!("the set `{}` of the firewall: {}", listed.label, chain(&error)))
    };
    disabled.extend(rules.host.firewall.iter().filter_map(unfit));
    let workers = WorkerConfig { program: settings.worker.clone(), identities: identities(rules.host.uids.as_ref()) };
    let first = Worker::start(&workers, 0)?;
    let engine = first.engine().to_owned();
    disabled.extend(first.walls().iter().filter(|wall| wall.starts_with("no ")).cloned());
    drop(first);
    let cache = match Cache::open(&layout.runner().join("cache")) {
        Ok(cache) => Some(cache),
        Err(error) => {
            disabled.push(format!("the cache of compiled remedies: {}", chain(&error)));
            None
        }
    };
    tracing::debug!(entries = entries.len(), targets = ?crate::observer::census(&rules.host.catalog_targets()), "assembled");
    Ok(Arc::new(Parts {
        layout: layout.clone(),
        book,
        world,
        observer,
        rules: RwLock::new(Arc::new(rules)),
        remedies: RwLock::new(Arc::new(Remedies::default())),
        workers,
        cache,
        engine,
        disabled,
        started: Instant::now(),
    }))
}

/// The hands that speak to couriers.
fn fill(
    hands: &mut Hands,
    (layout, host, epoch): (&Layout, &HostConfig, u64),
    net: Option<&Arc<NetCourier>>,
    disabled: &mut Vec<String>,
) {
    if let Some(engine) = engine(layout, host, epoch, disabled) {
        let engine = Arc::new(engine);
        (hands.containers, hands.images) = (Some(Arc::clone(&engine) as _), Some(engine as _));
    }
    hands.databases = databases(layout, host, epoch, disabled);
    hands.tls = net.cloned().map(|net| net as _);
    if host.endpoints.is_empty() {
        disabled.push("http: no [[endpoint]] is listed in runner.toml".to_owned());
    } else {
        hands.http = net.cloned().map(|net| net as _);
    }
    hands.acme = acme(layout, host, epoch);
    if hands.acme.is_none() {
        disabled.push("renewing certificates: no [[certificate]] of runner.toml may be renewed".to_owned());
    }
}

/// The service managers, and which of them is the hand for programs.
fn managers(
    layout: &Layout,
    host: &HostConfig,
    epoch: u64,
    disabled: &mut Vec<String>,
) -> Result<(Managers, Hands), DaemonError> {
    let (mut managers, mut hands) = (Managers::default(), Hands::default());
    managers.backends = host.units.iter().map(|(name, unit)| (name.clone(), unit.backend)).collect();
    let programs_by = host.programs_by(systemd_runs());
    if host.needs_systemd(systemd_runs()) {
        let bus = Systemd::at(host.systemd_address.as_deref(), Path::new("/sys/fs/cgroup"));
        let bus = Arc::new(bus.map_err(system("starting the D-Bus thread"))?);
        if programs_by == Some(Backend::Systemd) {
            hands.programs = Some(Arc::clone(&bus) as _);
        }
        managers.systemd = Some(bus);
    } else {
        disabled.push("systemd: no [[unit]] is listed in runner.toml".to_owned());
    }
    if host.needs_launcher(systemd_runs()) {
        let launcher = Arc::new(Supervised::new(&layout.socket(Socket::Launcher), epoch));
        if programs_by == Some(Backend::Supervised) {
            hands.programs = Some(Arc::clone(&launcher) as _);
        }
        managers.supervised = Some(launcher);
    } else {
        disabled.push("the launcher: no [[service]] is listed in runner.toml, and no [[program]] needs it".to_owned());
    }
    if programs_by.is_none() {
        disabled.push("programs: no [[program]] is listed in runner.toml".to_owned());
    }
    Ok((managers, hands))
}

fn courier(layout: &Layout, host: &HostConfig, epoch: u64) -> Option<NetCourier> {
    if !host.needs_courier_net() {
        return None;
    }
    let courier = NetCourier::new(&layout.socket(Socket::CourierNet), epoch);
    Some(match privileged_uids(host) {
        Some(uids) => courier.run_by(uids.courier_net),
        None => courier,
    })
}

fn acme(layout: &Layout, host: &HostConfig, epoch: u64) -> Option<Arc<dyn Acme>> {
    if !host.needs_courier_acme() {
        return None;
    }
    let courier = AcmeCourier::new(&layout.socket(Socket::CourierAcme), epoch);
    Some(match privileged_uids(host) {
        Some(uids) => Arc::new(courier.run_by(uids.courier_acme)),
        None => Arc::new(courier),
    })
}

/// The courier that holds the engine's socket.
fn engine(layout: &Layout, host: &HostConfig, epoch: u64, disabled: &mut Vec<String>) -> Option<DockerCourier> {
    if host.containers.is_empty() {
        disabled.push("containers: no [[container]] is listed in runner.toml".to_owned());
    }
    if !host.needs_courier_docker() {
        return None;
    }
    let courier = DockerCourier::new(&layout.socket(Socket::CourierDocker), epoch);
    Some(match privileged_uids(host) {
        Some(uids) => courier.run_by(uids.courier_docker),
        None => courier,
    })
}

/// The courier that is connected to the database servers.
fn databases(layout: &Layout, host: &HostConfig, epoch: u64, disabled: &mut Vec<String>) -> Option<Arc<dyn Databases>> {
    if !host.needs_courier_databases() {
        disabled.push("databases: no [[database]] is listed in runner.toml".to_owned());
        return None;
    }
    let courier = DatabaseCourier::new(&layout.socket(Socket::CourierDatabases), epoch);
    Some(match privileged_uids(host) {
        Some(uids) => Arc::new(courier.run_by(uids.courier_databases)),
        None => Arc::new(courier),
    })
}

/// What the observer looks at through couriers.
fn watched(host: &HostConfig, hands: &Hands) -> Watched {
    let selectors = host.containers.iter().map(|entry| (entry.label.clone(), entry.selector.clone()));
    Watched { hand: hands.containers.clone(), selectors: selectors.collect(), databases: hands.databases.clone() }
}

/// Distinct users can be had only by root.
fn privileged_uids(host: &HostConfig) -> Option<&Uids> {
    host.uids.as_ref().filter(|_| rustix::process::geteuid().is_root())
}

fn identities(uids: Option<&Uids>) -> Vec<Identity> {
    if !rustix::process::geteuid().is_root() {
        return Vec::new();
    }
    uids.map_or_else(Vec::new, |uids| uids.worker.iter().map(|uid| Identity { uid: *uid, gid: *uid }).collect())
}

fn follow_launcher(parts: &Arc<Parts>) -> io::Result<Option<crate::backend::supervised::Subscription>> {
    let rules = parts.rules();
    if !rules.host.needs_launcher(systemd_runs()) {
        return Ok(None);
    }
    let listed = |name: &UnitName| parts.world.backends.get(name) == Some(&Backend::Supervised);
    let names: Vec<UnitName> = parts.world.backends.keys().filter(|name| listed(name)).cloned().collect();
    let launcher = Supervised::new(&parts.layout.socket(Socket::Launcher), parts.book.epoch());
    let observer = Arc::clone(&parts.observer);
    launcher
        .subscribe(move |state| {
            if names.contains(&state.name) {
                observer.note_unit(&state);
            }
        })
        .map(Some)
}

fn listen(parts: &Arc<Parts>) -> Result<(), DaemonError> {
    let me = rustix::process::geteuid().as_raw();
    let rules = parts.rules();
    let agent = privileged_uids(&rules.host).map_or(me, |uids| uids.agent);
    let listener = parts.layout.listen(Socket::Runner, 0o660)?;
    if agent != me {
        let path = parts.layout.socket(Socket::Runner);
        std::os::unix::fs::chown(&path, None, Some(agent)).map_err(|source| ListenError::Io { path, source })?;
    }
    server::serve(listener, Arc::new(AgentSocket::new(Arc::clone(parts), agent)), "runner")
        .map_err(system("starting a thread"))?;
    let operator = OperatorSocket { parts: Arc::clone(parts), me, shared_user: agent == me };
    server::serve(parts.layout.listen(Socket::Operator, 0o600)?, Arc::new(operator), "operator")
        .map_err(system("starting a thread"))?;
    Ok(())
}

/// Until SIGTERM or SIGINT, or until the journal fails. Tells systemd's watchdog that the book still answers.
fn wait_for_the_end(parts: &Parts, mut signals: Signals) -> Result<(), DaemonError> {
    loop {
        if parts.book.is_broken() {
            return Err(DaemonError::Write(WriteError { source: io::Error::other("see the log above") }));
        }
        notify(&[sd_notify::NotifyState::Watchdog]);
        if let Some(error) = parts.book.with_journal(|journal| journal.top_up().err()) {
            tracing::warn!(error = %chain(&error), "no room to prepare journal segments ahead");
        }
        if signals.pending().next().is_some() {
            parts.book.write(Record::Stopped, Durability::Synced)?;
            if let Err(error) = parts.book.with_journal(Journal::seal) {
                tracing::warn!(error = %chain(&error), "the last checkpoint was not written");
            }
            tracing::info!("the runner stops");
            return Ok(());
        }
        std::thread::sleep(TICK);
    }
}

/// Without systemd there is nobody to tell.
fn notify(state: &[sd_notify::NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(%error, "systemd was not told");
    }
}

/// Health answers through the courier.
#[derive(Debug)]
struct Courier {
    net: Option<Arc<NetCourier>>,
    certificates: Vec<CertificateConfig>,
    /// It did not answer the last time: said once, not each second for each service.
    lost: AtomicBool,
}

impl Prober for Courier {
    fn certificate(&self, name: &Label) -> Option<CertificateReading> {
        let config = self.certificates.iter().find(|config| config.name == *name)?;
        let tls = self.net.as_deref().map(|net| net as &dyn Tls);
        Some(certificates::reading(config, tls, clock::wall()))
    }

    fn check(&self, check: &HealthCheck) -> Option<HealthAnswer> {
        match self.net.as_ref()?.check(check) {
            Ok(answer) => {
                if self.lost.swap(false, Ordering::Relaxed) {
                    tracing::info!("health checks are answered again");
                }
                Some(answer)
            }
            Err(error) => {
                // Not measured is not unhealthy: a dead courier must not look like forty dead services.
                if !self.lost.swap(true, Ordering::Relaxed) {
                    tracing::warn!(%error, "health checks can't be asked");
                }
                None
            }
        }
    }
}

/// What remedies may read of what the runner measures.
#[derive(Debug)]
struct Eyes(Arc<Observer>);

impl Senses for Eyes {
    fn now(&self) -> Timestamp {
        clock::wall()
    }

    fn readings(&self, series: &SeriesId, seconds: u32) -> Vec<(Timestamp, f64)> {
        self.0.range(series, seconds)
    }

    fn check(&self, check: &HealthCheck) -> Result<HealthAnswer, CheckError> {
        self.0.ask(check).ok_or_else(|| CheckError { reason: "the net courier did not answer".into() })
    }
}
