//! The unit of a scenario: a real process under a launcher of its own, with the `net` courier that asks its health.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use theriac_model::id::UnitName;
use theriac_model::unit::{ActiveState, UnitState};
use theriac_protocol::layout::{Layout, Socket};
use theriac_runner::backend::ServiceManager;
use theriac_runner::backend::supervised::Supervised;
use theriac_runner::courier::NetCourier;

use crate::error::ScenarioError;
use crate::programs::Programs;
use crate::scenario::{Load, Unit, UnitWord};

/// The fencing epoch of scenarios: each has its own launcher.
const EPOCH: u64 = 1;
/// Processes are up within milliseconds; on a machine that is busy compiling, within seconds.
const PATIENCE: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(5);
/// The unit's name.
pub(crate) const NAME: &str = "stand-in";

/// The unit and what it takes.
#[derive(Debug)]
pub(crate) struct Service {
    #[expect(dead_code, reason = "it is there to be ended with this value")]
    launcher: Daemon,
    courier: Option<Daemon>,
    pub(crate) name: UnitName,
    pub(crate) manager: Arc<Supervised>,
    pub(crate) net: Option<Arc<NetCourier>>,
    pub(crate) port: u16,
    health: bool,
}

/// A process that is ended when it is no longer needed.
#[derive(Debug)]
pub(crate) struct Daemon(Child);

impl Daemon {
    pub(crate) fn start(command: &mut Command) -> Result<Self, ScenarioError> {
        let doing = format!("starting {}", command.get_program().to_string_lossy());
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().map(Self).map_err(ScenarioError::io(doing))
    }
}

impl Drop for Daemon {
    /// Politely, so that a launcher takes its services along.
    fn drop(&mut self) {
        kill_process(Pid::from_child(&self.0), Signal::TERM).ok();
        self.0.wait().ok();
    }
}

impl Service {
    /// Starts everything and waits until the unit runs and answers. Its state is the next step: [`Service::bring_to`].
    pub(crate) fn start(programs: &Programs, layout: &Layout, unit: &Unit) -> Result<Self, ScenarioError> {
        let port = free_port()?;
        let name = UnitName::parse(NAME).map_err(ScenarioError::part("naming the unit"))?;
        configure(programs, layout, unit, port)?;
        let launcher =
            Daemon::start(in_layout(Command::new(programs.path("theriac-launcher")), layout).stdin(Stdio::null()))?;
        let courier = if unit.health {
            let mut command = Command::new(programs.path("theriac-courier"));
            command.arg("net").stdin(Stdio::null());
            Some(Daemon::start(&mut in_layout(command, layout))?)
        } else {
            None
        };
        let manager = Arc::new(Supervised::new(&layout.socket(Socket::Launcher), EPOCH));
        let net = unit.health.then(|| Arc::new(NetCourier::new(&layout.socket(Socket::CourierNet), EPOCH)));
        let service = Self { launcher, courier, name, manager, net, port, health: unit.health };
        service.wait_for("the unit to come up", |service| service.is_up() && service.listens())?;
        if service.courier.is_some() {
            service.wait_for("the courier to come up", |_| layout.socket(Socket::CourierNet).exists())?;
        }
        Ok(service)
    }

    /// Breaks it as the scenario says.
    pub(crate) fn bring_to(&self, word: UnitWord) -> Result<(), ScenarioError> {
        match word {
            UnitWord::Running => {}
            UnitWord::Crashed | UnitWord::GivenUp => {
                let pid = |state: &UnitState| state.main_pid;
                let mut killed = 0;
                // Where it is restarted by itself, it is killed until that is given up.
                self.wait_for("the unit to be down", |service| {
                    let Ok(state) = service.state() else { return false };
                    if state.is_up() && pid(&state) != killed {
                        killed = pid(&state);
                        service.signal(&state, Signal::KILL);
                    }
                    service.word(&state) == Some(word)
                })?;
            }
            UnitWord::Stopped => {
                self.manager.stop(&self.name, PATIENCE).map_err(ScenarioError::part("stopping the unit"))?;
            }
            UnitWord::Hung => {
                let state = self.state()?;
                self.signal(&state, Signal::STOP);
            }
        }
        self.wait_for("the unit to be as the scenario says", |service| service.is(word))
    }

    /// Whether it is so now.
    pub(crate) fn is(&self, word: UnitWord) -> bool {
        let Ok(state) = self.state() else { return false };
        match word {
            UnitWord::Running => state.is_up() && (!self.health || self.answers() == Some(true)),
            UnitWord::Hung => state.is_up() && self.answers() == Some(false),
            UnitWord::Crashed | UnitWord::GivenUp | UnitWord::Stopped => self.word(&state) == Some(word),
        }
    }

    /// Waits until it is so; a unit that was just started may need a moment until it answers.
    pub(crate) fn becomes(&self, word: UnitWord) -> bool {
        self.wait_for("that state", |service| service.is(word)).is_ok()
    }

    /// Its state as the launcher tells it.
    pub(crate) fn state(&self) -> Result<UnitState, ScenarioError> {
        self.manager.state(&self.name).map_err(ScenarioError::part("asking the launcher"))
    }

    pub(crate) fn is_up(&self) -> bool {
        self.state().is_ok_and(|state| state.is_up())
    }

    #[expect(clippy::unused_self, reason = "reads as a question to the service")]
    fn word(&self, state: &UnitState) -> Option<UnitWord> {
        match state.active {
            ActiveState::Failed if state.result == "start-limit-hit" => Some(UnitWord::GivenUp),
            ActiveState::Failed if !state.will_restart => Some(UnitWord::Crashed),
            ActiveState::Inactive if state.stopped_on_purpose => Some(UnitWord::Stopped),
            ActiveState::Failed
            | ActiveState::Inactive
            | ActiveState::Active
            | ActiveState::Activating
            | ActiveState::Deactivating
            | ActiveState::Reloading
            | ActiveState::Other => None,
        }
    }

    fn answers(&self) -> Option<bool> {
        let check = theriac_model::health::HealthCheck::Http {
            url: theriac_model::health::HealthUrl::parse(&self.url()).ok()?,
            status: 200,
            timeout: theriac_model::time::Span::from_millis(500),
        };
        self.net.as_ref()?.check(&check).ok().map(|answer| answer.ok)
    }

    /// What its health check asks.
    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}/", self.port)
    }

    fn listens(&self) -> bool {
        std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_ok()
    }

    #[expect(clippy::unused_self, reason = "reads as something done to the service")]
    fn signal(&self, state: &UnitState, signal: Signal) {
        let pid = i32::try_from(state.main_pid).ok().and_then(Pid::from_raw);
        // One that is gone already is what was wanted.
        pid.map(|pid| kill_process(pid, signal).ok());
    }

    fn wait_for(&self, what: &str, mut is_so: impl FnMut(&Self) -> bool) -> Result<(), ScenarioError> {
        let deadline = Instant::now() + PATIENCE;
        while !is_so(self) {
            if Instant::now() > deadline {
                let state = self.state().map_or_else(|error| error.to_string(), |state| format!("{state:?}"));
                return Err(ScenarioError::Part {
                    doing: "preparing the unit",
                    why: format!("waited in vain for {what}: {state}"),
                });
            }
            std::thread::sleep(POLL);
        }
        Ok(())
    }
}

impl Drop for Service {
    /// A stopped process takes no polite signal, and the launcher would wait for it.
    fn drop(&mut self) {
        if let Ok(state) = self.state() {
            self.signal(&state, Signal::CONT);
        }
    }
}

fn in_layout(mut command: Command, layout: &Layout) -> Command {
    command.arg("--config").arg(&layout.config).arg("--state").arg(&layout.state);
    command
}

fn configure(programs: &Programs, layout: &Layout, unit: &Unit, port: u16) -> Result<(), ScenarioError> {
    // Two starts, and the third is refused until somebody forgets the failures.
    let restart = match unit.state {
        UnitWord::GivenUp => {
            "restart = \"on-failure\"\nrestart_delay = \"10ms\"\nstart_limit_burst = 2\nstart_limit_interval = \"1h\""
        }
        UnitWord::Running | UnitWord::Crashed | UnitWord::Stopped | UnitWord::Hung => "restart = \"never\"",
    };
    let program = programs.path("scenario-stand-in");
    let load: Load = unit.load;
    let text = format!(
        "[[service]]\nname = \"{NAME}\"\ncommand = [{program:?}, \"serve\", \"--port\", \"{port}\", \"--load\", \"{load}\"]\n\
         stop_timeout = \"500ms\"\nreload_signal = \"HUP\"\n{restart}\n",
        load = load.as_str(),
    );
    write(&layout.config.join("launcher.toml"), &text)
}

fn write(path: &Path, text: &str) -> Result<(), ScenarioError> {
    fs::write(path, text).map_err(ScenarioError::io(format!("writing `{}`", path.display())))
}

/// A port that was free a moment ago.
fn free_port() -> Result<u16, ScenarioError> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(ScenarioError::io("finding a free port"))?;
    Ok(listener.local_addr().map_err(ScenarioError::io("finding a free port"))?.port())
}
