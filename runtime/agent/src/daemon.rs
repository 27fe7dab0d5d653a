//! The agent as a process: what it opens with the rights it was started with, and what it runs after giving them up.

use std::io;
use std::net::TcpListener;
use std::os::unix::fs::{DirBuilderExt as _, chown};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use theriac_analysis::alert::{Mapping, MappingError};
use theriac_analysis::detect::{RuleError, RuleSet};
use theriac_analysis::diagnose::{Causes, CausesError};
use theriac_journal::segment::OpenError;
use theriac_protocol::layout::{Layout, ListenError, Socket};
use theriac_protocol::process::Identity;
use theriac_trusted::{self as trusted, TrustedError};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::agent_socket;
use crate::clock::wall;
use crate::config::{AgentConfig, ConfigError, Token};
use crate::engine::{Engine, Parts};
use crate::heartbeat::{self, tell_systemd};
use crate::http::{self, Site};
use crate::inbox::{Inbox, Reopened};
use crate::incidents::Incidents;
use crate::notify::{self, ClientError, Notifier, Outage};
use crate::question;
use crate::runner_link::{self, RunnerLink};
use crate::senses::Senses;

/// The longest configuration file.
const MAX_FILE: u64 = 1 << 20;
/// An id is a day and a number.
const SECONDS_OF_A_DAY: u64 = 86_400;
/// `run/agent.sock` is for our user and root.
const SOCKET_MODE: u32 = 0o600;

/// What `theriac-agent` is told on its command line.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The two directories.
    pub layout: Layout,
    /// The user it becomes.
    pub identity: Option<Identity>,
}

/// What was opened with the rights the process was started with.
#[derive(Debug)]
pub struct Prepared {
    layout: Layout,
    config: AgentConfig,
    token: Option<Token>,
    rules: RuleSet,
    cli: UnixListener,
    http: Option<TcpListener>,
}

/// Why the agent did not start.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// A file that others may write, or that can't be read.
    #[error("the configuration is refused")]
    File(#[from] TrustedError),
    /// agent.toml or the token.
    #[error("the configuration is refused")]
    Config(#[from] ConfigError),
    /// A file of rules.
    #[error("`{}` is refused", path.display())]
    Rules {
        path: PathBuf,
        #[source]
        source: RuleError,
    },
    /// The shipped rules.
    #[error("the built-in causes are broken")]
    Causes(#[from] CausesError),
    /// The shipped mapping.
    #[error("the built-in meaning of alerts is broken")]
    Mapping(#[from] MappingError),
    /// The inbox: malformed saved state means stop and ask.
    #[error("the inbox can't be opened")]
    Inbox(#[from] OpenError),
    /// A socket.
    #[error("can't listen")]
    Listen(#[from] ListenError),
    /// The notifications' client.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The kernel refused something small.
    #[error("{what}")]
    System {
        what: String,
        #[source]
        source: io::Error,
    },
}

fn system(what: impl Into<String>) -> impl FnOnce(io::Error) -> DaemonError {
    let what = what.into();
    move |source| DaemonError::System { what, source }
}

/// Reads the configuration and opens the sockets, with the rights the process was started with.
pub fn prepare(settings: &Settings) -> Result<Prepared, DaemonError> {
    let layout = settings.layout.clone();
    let config = match trusted::read_if_there(&layout.config.join("agent.toml"), MAX_FILE)? {
        Some(text) => AgentConfig::parse(&text)?,
        None => AgentConfig::default(),
    };
    let token = config.listen.as_ref().and_then(|listen| listen.token_file.as_deref()).map(read_token).transpose()?;
    let rules = read_rules(&config.rules)?;
    make_directory(&layout.state.join("run"), 0o755, None)?;
    make_directory(&layout.agent(), 0o700, settings.identity)?;
    let cli = layout.listen(Socket::Agent, SOCKET_MODE)?;
    if let Some(Identity { uid, gid }) = settings.identity {
        chown(layout.socket(Socket::Agent), Some(uid), Some(gid))
            .map_err(system("can't give `agent.sock` to the agent's user"))?;
    }
    let http = config.listen.as_ref().map(|listen| {
        let bound = TcpListener::bind(listen.address).and_then(|socket| socket.set_nonblocking(true).map(|()| socket));
        bound.map_err(system(format!("can't listen on {}", listen.address)))
    });
    Ok(Prepared { http: http.transpose()?, layout, config, token, rules, cli })
}

fn read_token(path: &Path) -> Result<Token, DaemonError> {
    Ok(Token::parse(path, &trusted::read(path, MAX_FILE)?)?)
}

fn read_rules(paths: &[PathBuf]) -> Result<RuleSet, DaemonError> {
    let built_in = RuleSet::defaults().map_err(|source| DaemonError::Rules { path: "(built in)".into(), source })?;
    paths.iter().try_fold(built_in, |rules, path| {
        let refused = |source| DaemonError::Rules { path: path.clone(), source };
        rules.with(RuleSet::parse(&trusted::read(path, MAX_FILE)?).map_err(refused)?).map_err(refused)
    })
}

/// Makes the directory where it is missing, and gives it to the user; one that is there is left as it is.
fn make_directory(path: &Path, mode: u32, owner: Option<Identity>) -> Result<(), DaemonError> {
    if path.is_dir() {
        return Ok(());
    }
    let failed = || system(format!("can't make `{}`", path.display()));
    std::fs::DirBuilder::new().recursive(true).mode(mode).create(path).map_err(failed())?;
    match owner {
        Some(Identity { uid, gid }) => chown(path, Some(uid), Some(gid)).map_err(failed()),
        None => Ok(()),
    }
}

/// Runs until it is told to stop.
pub fn run(prepared: Prepared) -> Result<(), DaemonError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(system("can't start the runtime"))?;
    let tasks = tokio::task::LocalSet::new();
    tasks.block_on(&runtime, async {
        let engine = assemble(prepared)?;
        tell_systemd(sd_notify::NotifyState::Ready);
        let mut term = signal(SignalKind::terminate()).map_err(system("can't wait for SIGTERM"))?;
        let mut int = signal(SignalKind::interrupt()).map_err(system("can't wait for SIGINT"))?;
        engine
            .run(async move {
                tokio::select! {
                    _ = term.recv() => {}
                    _ = int.recv() => {}
                }
            })
            .await;
        Ok(())
    })
}

/// Puts the parts together and starts the servers, inside the runtime.
pub(crate) fn assemble(prepared: Prepared) -> Result<Engine, DaemonError> {
    let Prepared { layout, config, token, rules, cli, http } = prepared;
    let Reopened { inbox, open, unreported, next, last } = Inbox::open(&layout.agent().join("inbox"))?;
    let now = wall();
    // Also where the inbox was lost or could not be written: an id that the runner knows from before would get its old runs.
    let next = next.max(now.0 / 1_000 % SECONDS_OF_A_DAY);
    let boot = boot_id();
    let outage = Outage::between(last, now, &boot);
    if let Some(outage) = &outage {
        tracing::warn!(seconds = outage.seconds, "{}", outage.sentence);
    }
    let senses = Senses::new(rules);
    for reason in senses.disarmed() {
        tracing::warn!(reason, "a rule is off");
    }
    tracing::info!(armed = senses.armed(), open = open.len(), "the agent starts");
    let client = match (config.notify.is_empty(), &config.heartbeat) {
        (true, None) => None,
        (false, _) | (_, Some(_)) => Some(notify::client()?),
    };
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let socket = layout.socket(Socket::Runner);
    let (asker, questions) = mpsc::channel(question::BACKLOG);
    let mut names = vec![host.clone()];
    let mut listen = None;
    let mut servers = JoinSet::new();
    if let (Some(of), Some(http)) = (&config.listen, http) {
        names.extend(of.names.iter().cloned());
        names.extend(Some(of.address.ip()).filter(|ip| !ip.is_unspecified()).map(|ip| ip.to_string()));
        let http = tokio::net::TcpListener::from_std(http).map_err(system("can't listen"))?;
        let address = http.local_addr().map_err(system("can't listen"))?;
        listen = Some(address.to_string());
        let site = Site::new(asker.clone(), RunnerLink::new(socket.clone()), token, (address, names.clone()));
        servers.spawn(http::serve(http, Arc::new(site)));
    }
    if let (Some(beat), Some(client)) = (config.heartbeat, &client) {
        servers.spawn(heartbeat::beat(client.clone(), beat, asker.clone()));
    }
    servers.spawn(async move {
        if let Err(error) = agent_socket::serve(cli, asker).await {
            tracing::error!(%error, "agent.sock can't be served");
        }
    });
    Ok(Engine::new(Parts {
        senses,
        incidents: Incidents::resume(Causes::defaults()?, open, next, now),
        inbox,
        notifier: Notifier::start(&config.notify, client.as_ref(), host, outage),
        link: Arc::new(RunnerLink::new(socket.clone())),
        heard: runner_link::listen(socket),
        questions,
        mapping: Mapping::defaults()?,
        names,
        boot,
        listen,
        unreported,
        servers,
    }))
}

/// The kernel's id of this boot; empty where it is hidden.
fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|id| id.trim().to_owned()).unwrap_or_default()
}
