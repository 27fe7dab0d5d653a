//! A whole Theriac in a scratch directory: `theriac up` with supervised services, remedies signed by a throw-away key, and the
//! times of a packaged installation unless a bench says otherwise.

use std::fmt::Write as _;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use theriac_authority::approval::{Approval, Validity};
use theriac_authority::key::Signer;
use theriac_authority::note::Note;
use theriac_authority::package;
use theriac_authority::trust::Class;
use theriac_model::id::KeyName;
use theriac_model::time::Timestamp;
use theriac_protocol::agent::{AgentAnswer, AgentRequest, AgentStatus};
use theriac_protocol::frame::{self, Frame};
use theriac_protocol::layout::{Layout, Socket};

use crate::guest::packed;
use crate::place::program;
use crate::processes;

/// The longest anything is waited for.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at something that is not there yet.
const LOOK_AGAIN: Duration = Duration::from_millis(2);
/// The program that is watched and broken; the kernel shows 15 characters.
pub const PATIENT: &str = "fixture-service";

/// What is watched.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// Supervised services, each with a health check over HTTP.
    pub services: usize,
    /// Mounts that are watched.
    pub mounts: Vec<&'static str>,
    /// The shipped remedies that are signed and loaded.
    pub remedies: Vec<&'static str>,
    /// More lines at the top of runner.toml.
    pub rules: String,
    /// Playbooks by file name.
    pub playbooks: Vec<(&'static str, String)>,
}

/// A running Theriac; its processes end with it.
#[derive(Debug)]
pub struct Stack {
    dir: tempfile::TempDir,
    layout: Layout,
    up: Child,
    ports: Vec<u16>,
}

impl Stack {
    /// Starts it and waits until every service answers and the agent hears the runner.
    pub fn start(plan: &Plan) -> anyhow::Result<Self> {
        let theriac = program("theriac").map_err(anyhow::Error::msg)?;
        let patient = program(PATIENT).map_err(anyhow::Error::msg)?;
        let dir = tempfile::Builder::new().prefix("th-").tempdir_in("/tmp")?;
        // Users of the agent and the courier have to get through.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755))?;
        let layout = Layout { config: dir.path().join("config"), state: dir.path().join("state") };
        for name in ["remedies", "playbooks"] {
            fs::create_dir_all(layout.config.join(name))?;
        }
        let ports = free_ports(plan.services)?;
        configure(&layout, plan, &ports, &patient)?;
        sign(&layout, &plan.remedies)?;
        let log = fs::File::create(dir.path().join("up.log"))?;
        let mut command = Command::new(theriac);
        command.arg("up").arg("--config").arg(&layout.config).arg("--state").arg(&layout.state);
        let up = command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("starting `theriac up`")?;
        let mut stack = Self { dir, layout, up, ports };
        stack.wait_until_ready()?;
        Ok(stack)
    }

    fn wait_until_ready(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.up.try_wait()? {
                bail!("`theriac up` ended with {status}:\n{}", self.log());
            }
            let heard = self.status().is_ok_and(|status| status.runner_connected);
            if heard && self.ports.iter().all(|port| answers(*port)) {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "it did not get ready:\n{}", self.log());
            thread::sleep(LOOK_AGAIN);
        }
    }

    /// The pid of `theriac up`.
    pub fn pid(&self) -> u32 {
        self.up.id()
    }

    /// Where the services listen.
    pub fn ports(&self) -> &[u16] {
        &self.ports
    }

    /// What everybody logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("up.log")).unwrap_or_else(|error| error.to_string())
    }

    /// The agent's word.
    pub fn status(&self) -> anyhow::Result<AgentStatus> {
        match self.ask(&AgentRequest::Status)? {
            AgentAnswer::Status(status) => Ok(status),
            other @ (AgentAnswer::Incidents(_) | AgentAnswer::Incident(_) | AgentAnswer::Refused(_)) => {
                bail!("not a status: {other:?}")
            }
        }
    }

    fn ask(&self, request: &AgentRequest) -> anyhow::Result<AgentAnswer> {
        let mut stream = UnixStream::connect(self.layout.socket(Socket::Agent))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        frame::write(&mut stream, &Frame { epoch: 0, id: 1, message: request })?;
        Ok(frame::read(&mut stream)?.message)
    }

    /// The incidents that were ever opened, at most 1000.
    pub fn incidents(&self) -> anyhow::Result<usize> {
        match self.ask(&AgentRequest::Incidents { limit: 1000 })? {
            AgentAnswer::Incidents(incidents) => Ok(incidents.len()),
            other @ (AgentAnswer::Status(_) | AgentAnswer::Incident(_) | AgentAnswer::Refused(_)) => {
                bail!("not incidents: {other:?}")
            }
        }
    }

    /// The main process of the service on that port.
    pub fn patient(&self, port: u16) -> anyhow::Result<Pid> {
        let wanted = port.to_string();
        let is_it = |pid: &u32| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.split(|byte| *byte == 0).any(|word| word == wanted.as_bytes())
        };
        let found = processes::tree(self.pid())
            .into_iter()
            .filter(|(_, usage)| usage.name == PATIENT)
            .map(|(pid, _)| pid)
            .find(is_it);
        let pid = found.with_context(|| format!("nothing runs for port {port}"))?;
        Pid::from_raw(i32::try_from(pid)?).context("a pid")
    }

    /// Waits until the service answers 200; how long that took from the moment.
    pub fn healed(&self, port: u16, since: Instant) -> anyhow::Result<Duration> {
        while !answers(port) {
            ensure!(since.elapsed() < PATIENCE, "port {port} did not come back:\n{}", self.log());
            thread::sleep(LOOK_AGAIN);
        }
        Ok(since.elapsed())
    }

    /// Waits until that many incidents were opened and all of them are closed.
    pub fn quiet(&self, incidents: usize) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while self.incidents()? < incidents || self.status()?.open_incidents > 0 {
            ensure!(Instant::now() < deadline, "an incident stays open:\n{}", self.log());
            thread::sleep(LOOK_AGAIN * 10);
        }
        Ok(())
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // It stops what it started. An error means that it is gone already.
        kill_process(Pid::from_child(&self.up), Signal::TERM).ok();
        self.up.wait().ok();
    }
}

/// Held until all are known, so that no two are the same.
fn free_ports(count: usize) -> anyhow::Result<Vec<u16>> {
    let listeners = (0..count).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<Result<Vec<_>, _>>()?;
    listeners.iter().map(|listener| Ok(listener.local_addr()?.port())).collect()
}

/// A plain GET of the health page; a service that hangs answers nothing in time.
fn answers(port: u16) -> bool {
    let ask = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(Duration::from_millis(200)))?;
        stream.write_all(b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n")?;
        let mut start = [0; 12];
        stream.read_exact(&mut start)?;
        Ok(start.ends_with(b" 200"))
    };
    ask().unwrap_or(false)
}

fn configure(layout: &Layout, plan: &Plan, ports: &[u16], patient: &Path) -> anyhow::Result<()> {
    let mut runner = format!("mode = \"relaxed\"\ndeploy_locks = []\n{}", plan.rules);
    let mut launcher = String::new();
    for (number, port) in ports.iter().enumerate() {
        write!(
            runner,
            "\n[[service]]\nname = \"service-{number}\"\nverbs = [\"start\", \"restart\", \"reset-failed\", \"kill\"]\ntraffic_share = 0.1\n\
             health = [{{ http = \"http://127.0.0.1:{port}/health\", status = 200, timeout = \"500ms\" }}]\n"
        )?;
        write!(
            launcher,
            "[[service]]\nname = \"service-{number}\"\ncommand = [\"{}\", \"--port\", \"{port}\"]\nautostart = true\nrestart = \"never\"\nstart_limit_burst = 1000\n\n",
            patient.display()
        )?;
    }
    for mount in &plan.mounts {
        write!(runner, "\n[[mount]]\npath = \"{mount}\"\ntraffic_share = 0.1\n")?;
    }
    fs::write(layout.config.join("runner.toml"), runner)?;
    fs::write(layout.config.join("launcher.toml"), launcher)?;
    for (name, text) in &plan.playbooks {
        fs::write(layout.config.join("playbooks").join(name), text)?;
    }
    Ok(())
}

fn sign(layout: &Layout, remedies: &[&str]) -> anyhow::Result<()> {
    let signer = Signer::generate(KeyName::parse("bench/signer")?)?;
    let trust = format!(
        "[[signer]]\nname = \"bench/signer\"\nkey = \"{}\"\nremedies = [\"*\"]\nclasses = {:?}\n",
        signer.public(),
        Class::ALL.map(Class::as_str)
    );
    fs::write(layout.config.join("trust.toml"), trust)?;
    for name in remedies {
        let bytes = packed(name)?;
        let path: PathBuf = layout.config.join("remedies").join(format!("{name}.wasm"));
        fs::write(&path, &bytes)?;
        fs::write(path.with_extension("approval"), approve(&bytes, &signer)?)?;
    }
    Ok(())
}

fn approve(bytes: &[u8], signer: &Signer) -> anyhow::Result<String> {
    let package = package::open(bytes.to_vec())?;
    let day = 86_400;
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let valid = Validity { from: Timestamp((now - day) * 1000), until: Timestamp((now + 30 * day) * 1000) };
    let approval = Approval::of(&package.manifest, package.digest, valid)?;
    let mut note = Note::unsigned(&approval.to_string())?;
    note.sign(signer)?;
    Ok(note.to_string())
}
