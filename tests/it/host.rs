//! One Theriac host in a scratch directory: real runner, launcher, courier and workers; the test plays the agent.

use std::fs;
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use theriac_authority::approval::{Approval, Validity};
use theriac_authority::key::Signer;
use theriac_authority::note::Note;
use theriac_authority::package;
use theriac_authority::trust::Class;
use theriac_model::id::KeyName;
use theriac_model::record::{Entry, Proposal, Record};
use theriac_model::run::RunState;
use theriac_model::target::Target;
use theriac_model::time::Timestamp;
use theriac_protocol::frame::{self, Frame};
use theriac_protocol::layout::{Layout, Socket};
use theriac_protocol::operator::{OperatorAnswer, OperatorRequest};
use theriac_protocol::runner::{RunSummary, RunnerAnswer, RunnerRequest};

/// The longest anything here is waited for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A supervised service of the host.
#[derive(Debug, Clone)]
pub(crate) struct Service {
    pub(crate) name: &'static str,
    pub(crate) port: u16,
    /// More arguments of the fixture program.
    pub(crate) args: Vec<String>,
    /// More lines of its table in runner.toml.
    pub(crate) rules: String,
    /// What the launcher does when it fails: lines of its table in launcher.toml.
    pub(crate) restart: &'static str,
}

/// What is to be set up.
#[derive(Debug, Default)]
pub(crate) struct Setup {
    pub(crate) services: Vec<Service>,
    /// Folders below `plugins` and `tests/guests`.
    pub(crate) remedies: Vec<&'static str>,
    /// Remedies that no folder holds, by file name.
    pub(crate) packages: Vec<(&'static str, Vec<u8>)>,
    /// More of runner.toml.
    pub(crate) rules: String,
    /// Playbooks by file name.
    pub(crate) playbooks: Vec<(&'static str, String)>,
    /// More of launcher.toml.
    pub(crate) launcher: String,
    /// courier-acme.toml; with it the `acme` courier is started.
    pub(crate) acme: Option<String>,
    pub(crate) mode: Option<&'static str>,
    /// More arguments of the first runner.
    pub(crate) runner_args: Vec<String>,
}

/// A host that runs; its processes end with it.
#[derive(Debug)]
pub(crate) struct Host {
    dir: tempfile::TempDir,
    pub(crate) layout: Layout,
    others: Vec<Child>,
    runner: Option<Child>,
}

/// As root each zone has a user of its own, as when it is installed.
const COURIER: &str = "61802";
const COURIER_ACME: &str = "61805";
const UIDS: &str = "\n[uids]\nagent = 61801\ncourier_net = 61802\ncourier_acme = 61805\nworker = [61803, 61804]\n";

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A port that was free a moment ago.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Service {
    pub(crate) fn new(name: &'static str) -> Self {
        Self { name, port: free_port(), args: Vec::new(), rules: String::new(), restart: "restart = \"never\"" }
    }
}

impl Host {
    /// A scratch directory that a test can put files into before it starts the host.
    pub(crate) fn scratch() -> tempfile::TempDir {
        tempfile::Builder::new().prefix("th-").tempdir_in("/tmp").unwrap()
    }

    pub(crate) fn start(setup: &Setup) -> Self {
        Self::start_in(Self::scratch(), setup)
    }

    pub(crate) fn start_in(dir: tempfile::TempDir, setup: &Setup) -> Self {
        let layout = Layout { config: dir.path().join("config"), state: dir.path().join("state") };
        fs::create_dir_all(layout.config.join("remedies")).unwrap();
        fs::create_dir_all(layout.config.join("playbooks")).unwrap();
        fs::create_dir_all(layout.state.join("run")).unwrap();
        write_configuration(&layout, setup);
        sign(&layout, setup);
        let mut host = Self { dir, layout, others: Vec::new(), runner: None };
        if !setup.services.is_empty() || !setup.launcher.is_empty() {
            let launcher = host.spawn::<&str>("theriac-launcher", &[]);
            let courier = host.spawn(
                "theriac-courier",
                if is_root() { &["net", "--uid", COURIER, "--gid", COURIER][..] } else { &["net"] },
            );
            host.others.extend([launcher, courier]);
            host.wait_for_socket(Socket::Launcher);
            host.wait_for_socket(Socket::CourierNet);
        }
        if setup.acme.is_some() {
            let own = ["acme", "--uid", COURIER_ACME, "--gid", COURIER_ACME];
            let courier = host.spawn("theriac-courier", if is_root() { &own[..] } else { &own[..1] });
            host.others.push(courier);
            host.wait_for_socket(Socket::CourierAcme);
        }
        host.start_runner(&setup.runner_args);
        host
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    fn spawn<A: AsRef<std::ffi::OsStr>>(&self, program: &str, args: &[A]) -> Child {
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.dir.path().join(format!("{program}.log")))
            .unwrap();
        Command::new(binary(program))
            .args(args)
            .arg("--config")
            .arg(&self.layout.config)
            .arg("--state")
            .arg(&self.layout.state)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap()
    }

    /// Starts the runner and waits until it answers, or until it is gone.
    pub(crate) fn start_runner(&mut self, args: &[String]) {
        self.runner = Some(self.spawn("theriac-runner", args));
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            let listens = |socket| UnixStream::connect(self.layout.socket(socket)).is_ok();
            // The operator's socket is the last that it opens.
            if (listens(Socket::Runner) && listens(Socket::Operator)) || self.runner_is_gone() {
                return;
            }
            pause();
        }
        panic!("the runner did not listen:\n{}", self.log("theriac-runner"));
    }

    /// What whoever gave up on the runner starts.
    pub(crate) fn put_back(&self) -> std::process::ExitStatus {
        self.spawn("theriac-runner", &["--put-back"]).wait().unwrap()
    }

    fn wait_for_socket(&self, socket: Socket) {
        let deadline = Instant::now() + PATIENCE;
        while UnixStream::connect(self.layout.socket(socket)).is_err() {
            assert!(Instant::now() < deadline, "nobody listens on {}", socket.file_name());
            pause();
        }
    }

    pub(crate) fn runner_is_gone(&mut self) -> bool {
        self.runner.as_mut().is_none_or(|runner| !matches!(runner.try_wait(), Ok(None)))
    }

    pub(crate) fn runner_pid(&self) -> u32 {
        self.runner.as_ref().expect("a runner").id()
    }

    /// What the runner exited with, once it is gone.
    pub(crate) fn runner_status(&mut self) -> Option<std::process::ExitStatus> {
        self.runner.as_mut()?.try_wait().unwrap()
    }

    /// Another mode, for the next runner.
    pub(crate) fn change_mode(&self, from: &str, to: &str) {
        let path = self.layout.config.join("runner.toml");
        let text = fs::read_to_string(&path).unwrap();
        let (old, new) = (format!("mode = \"{from}\"\n"), format!("mode = \"{to}\"\n"));
        assert!(text.starts_with(&old));
        fs::write(&path, text.replacen(&old, &new, 1)).unwrap();
    }

    /// SIGKILL, as a power cut would end it.
    pub(crate) fn kill_runner(&mut self) {
        if let Some(mut runner) = self.runner.take() {
            runner.kill().unwrap();
            runner.wait().unwrap();
        }
    }

    /// SIGTERM, and what it exits with.
    pub(crate) fn stop_runner(&mut self) -> std::process::ExitStatus {
        let mut runner = self.runner.take().expect("a runner");
        rustix::process::kill_process(rustix::process::Pid::from_child(&runner), rustix::process::Signal::TERM)
            .unwrap();
        runner.wait().unwrap()
    }

    pub(crate) fn log(&self, program: &str) -> String {
        fs::read_to_string(self.dir.path().join(format!("{program}.log"))).unwrap_or_default()
    }

    /// Asks as the agent.
    pub(crate) fn ask(&self, request: &RunnerRequest) -> RunnerAnswer {
        ask(&self.layout.socket(Socket::Runner), request)
            .unwrap_or_else(|error| panic!("{error}\n{}", self.log("theriac-runner")))
    }

    /// Asks as a person.
    pub(crate) fn operator(&self, request: &OperatorRequest) -> OperatorAnswer {
        ask(&self.layout.socket(Socket::Operator), request)
            .unwrap_or_else(|error| panic!("{error}\n{}", self.log("theriac-runner")))
    }

    /// Asks a runner that may die of it as a person.
    pub(crate) fn try_operator(&self, request: &OperatorRequest) -> anyhow::Result<OperatorAnswer> {
        ask(&self.layout.socket(Socket::Operator), request)
    }

    /// Proposes the rung and returns the answer.
    pub(crate) fn propose(&self, proposal: &Proposal) -> RunnerAnswer {
        self.ask(&RunnerRequest::Propose(Box::new(proposal.clone())))
    }

    /// Proposes to a runner that may die of it.
    pub(crate) fn try_propose(&self, proposal: &Proposal) -> anyhow::Result<RunnerAnswer> {
        ask(&self.layout.socket(Socket::Runner), &RunnerRequest::Propose(Box::new(proposal.clone())))
    }

    /// Where the proposal's run is, if there is one and the runner answers.
    pub(crate) fn try_state(&self, proposal: &Proposal) -> Option<RunState> {
        let request = RunnerRequest::Runs { incident: proposal.incident.clone() };
        match ask(&self.layout.socket(Socket::Runner), &request) {
            Ok(RunnerAnswer::Runs(runs)) => runs.first().map(|run| run.state),
            Ok(_) | Err(_) => None,
        }
    }

    /// Waits until no run is open.
    pub(crate) fn wait_until_idle(&self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let OperatorAnswer::Status(status) = self.operator(&OperatorRequest::Status) else { panic!("no status") };
            if status.open_runs.is_empty() {
                return;
            }
            assert!(Instant::now() < deadline, "{:?}", status.open_runs);
            pause();
        }
    }

    /// The auditor's view of what the runner wrote.
    pub(crate) fn verify_ledger(&self) {
        let runner = self.layout.runner();
        let key = theriac_authority::key::HostKey::open(&runner.join("keys/ledger.key")).unwrap();
        let key = theriac_journal::ledger::VerifierKey::parse(&key.signer().public().to_string()).unwrap();
        let report = theriac_journal::ledger::audit::verify(
            &runner.join("journal"),
            &runner.join("ledger"),
            &key,
            theriac_journal::ledger::audit::Options::default(),
        );
        assert!(report.finding.is_none(), "{:?}", report.finding);
        assert!(report.records > 0);
    }

    /// Proposes, and waits until the run is over.
    pub(crate) fn heal(&self, proposal: &Proposal) -> RunSummary {
        match self.propose(proposal) {
            RunnerAnswer::Accepted { .. } => self.wait_for(proposal, RunState::is_terminal),
            other => panic!("not accepted: {other:?}\n{}", self.log("theriac-runner")),
        }
    }

    /// A person looks at the plan and says yes to it; what it says of each effect.
    pub(crate) fn consent(&self, proposal: &Proposal) -> Vec<String> {
        self.propose(proposal);
        let asked = self.wait_for(proposal, |state| state == RunState::AwaitingConsent || state.is_terminal());
        assert_eq!(asked.state, RunState::AwaitingConsent, "{asked:?}");
        let incident = proposal.incident.clone();
        let waiting = self.operator(&OperatorRequest::Waiting { incident: incident.clone() });
        let OperatorAnswer::Waiting(Some(plan)) = waiting else { panic!("{waiting:?}") };
        self.operator(&OperatorRequest::Consent { incident, plan: plan.hash, note: None });
        plan.plan.effects.iter().map(|planned| planned.effect.to_string()).collect()
    }

    /// The newest run of the proposal's incident, once its state is as wanted.
    pub(crate) fn wait_for(&self, proposal: &Proposal, wanted: impl Fn(RunState) -> bool) -> RunSummary {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let RunnerAnswer::Runs(runs) = self.ask(&RunnerRequest::Runs { incident: proposal.incident.clone() })
            else {
                panic!("no runs")
            };
            let newest = runs.into_iter().find(|run| run.rung == proposal.rung);
            if let Some(run) = newest.as_ref().filter(|run| wanted(run.state)) {
                return run.clone();
            }
            assert!(
                Instant::now() < deadline,
                "the run is {newest:?}\n{:#?}\n{}",
                self.records(),
                self.log("theriac-runner")
            );
            pause();
        }
    }

    /// The whole journal.
    pub(crate) fn entries(&self) -> Vec<Entry> {
        let mut all: Vec<Entry> = Vec::new();
        loop {
            let from = all.last().map_or(0, |last| last.seq + 1);
            match self.operator(&OperatorRequest::Entries { from }) {
                OperatorAnswer::Entries { entries, more } => {
                    all.extend(entries);
                    if !more {
                        return all;
                    }
                }
                other => panic!("{other:?}"),
            }
        }
    }

    pub(crate) fn records(&self) -> Vec<Record> {
        self.entries().into_iter().map(|entry| entry.record).collect()
    }

    /// The main process of a supervised service.
    /// Waits until so many records are of that kind.
    pub(crate) fn wait_for_records(&self, what: &str, count: usize, wanted: impl Fn(&Record) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while self.records().iter().filter(|record| wanted(record)).count() < count {
            assert!(Instant::now() < deadline, "waited for {what}\n{}", self.log("theriac-runner"));
            pause();
        }
    }

    pub(crate) fn main_pid(&self, service: &str) -> rustix::process::Pid {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let RunnerAnswer::Units(units) = self.ask(&RunnerRequest::Units)
                && let Some(unit) =
                    units.iter().find(|unit| unit.name.as_str() == service && unit.is_up() && unit.main_pid != 0)
            {
                return rustix::process::Pid::from_raw(i32::try_from(unit.main_pid).unwrap()).unwrap();
            }
            assert!(Instant::now() < deadline, "`{service}` is not up\n{}", self.log("theriac-launcher"));
            pause();
        }
    }

    pub(crate) fn signal(&self, service: &str, signal: rustix::process::Signal) {
        rustix::process::kill_process(self.main_pid(service), signal).unwrap();
    }

    /// Waits until the runner's view of a supervised service is as wanted.
    pub(crate) fn wait_for_unit(&self, service: &str, wanted: impl Fn(&theriac_model::unit::UnitState) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let RunnerAnswer::Units(units) = self.ask(&RunnerRequest::Units) else { panic!("no units") };
            let unit = units.into_iter().find(|unit| unit.name.as_str() == service);
            if unit.as_ref().is_some_and(&wanted) {
                return;
            }
            assert!(Instant::now() < deadline, "`{service}` is {unit:?}\n{}", self.log("theriac-launcher"));
            pause();
        }
    }

    /// Waits until a plain GET of the service's health page answers with the status.
    pub(crate) fn wait_for_status(service: &Service, wanted: &str) {
        let deadline = Instant::now() + PATIENCE;
        while status_of(service.port).as_deref() != Some(wanted) {
            assert!(Instant::now() < deadline, "`{}` does not answer {wanted}", service.name);
            pause();
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.kill_runner();
        for child in &mut self.others {
            // The launcher stops its services when it is asked to end.
            rustix::process::kill_process(rustix::process::Pid::from_child(child), rustix::process::Signal::TERM).ok();
        }
        for child in &mut self.others {
            child.wait().ok();
        }
    }
}

/// A proposal as the agent would make it.
pub(crate) fn proposal(incident: &str, kind: &str, target: &str, playbook: &str, remedy: &str) -> Proposal {
    let target: Target = target.parse().unwrap();
    Proposal {
        incident: incident.parse().unwrap(),
        kind: kind.parse().unwrap(),
        target,
        playbook: playbook.parse().unwrap(),
        rung: 0,
        remedy: remedy.parse().unwrap(),
        params: theriac_model::remedy::Params::new(),
        onset: Timestamp(0),
        detected: Timestamp(0),
        evidence: Vec::new(),
    }
}

/// A playbook of one rung.
pub(crate) fn playbook(name: &str, kind: &str, target: &str, rung: &str) -> String {
    format!("name: {name}\nsummary: a test's playbook\nhandles: [{kind}]\ntargets: [\"{target}\"]\nrungs:\n{rung}")
}

fn status_of(port: u16) -> Option<String> {
    use std::io::{Read as _, Write as _};
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_millis(500))).ok()?;
    stream.write_all(b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.split_whitespace().nth(1).map(str::to_owned)
}

/// A bounded look at the world, not a guess at how long something takes.
pub(crate) fn pause() {
    std::thread::sleep(Duration::from_millis(20));
}

pub(crate) fn ask<Q: serde::Serialize, A: serde::de::DeserializeOwned>(
    socket: &Path,
    request: &Q,
) -> anyhow::Result<A> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    frame::write(&mut stream, &Frame { epoch: 0, id: 1, message: request })?;
    Ok(frame::read::<A>(&mut stream)?.message)
}

/// Programs of the workspace lie beside this test's own directory, built by the same `cargo test --workspace`.
pub(crate) fn binary(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let path = test.parent().and_then(Path::parent).unwrap().join(name);
    assert!(path.exists(), "{} is not built: test with --workspace", path.display());
    path
}

/// The root of the checkout.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// A guest with its manifest in it. Both guest workspaces are built once per test run.
pub(crate) fn guest(name: &str) -> Vec<u8> {
    embedded(name, |manifest| manifest)
}

/// The same with another line in its manifest.
pub(crate) fn guest_with_line(name: &str, from: &str, to: &str) -> Vec<u8> {
    embedded(name, |manifest| {
        assert!(manifest.contains(from), "{manifest}");
        manifest.replace(from, to)
    })
}

fn embedded(name: &str, change: impl Fn(String) -> String) -> Vec<u8> {
    static BUILT: OnceLock<()> = OnceLock::new();
    BUILT.get_or_init(|| {
        for workspace in ["plugins", "tests/guests"] {
            let status = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
                .current_dir(root().join(workspace))
                .args(["build", "--release", "--quiet", "--target", "wasm32-wasip2"])
                .env_remove("CARGO_TARGET_DIR")
                .status()
                .unwrap();
            assert!(status.success(), "building {workspace}");
        }
    });
    let found = ["plugins", "tests/guests"]
        .into_iter()
        .map(|workspace| root().join(workspace))
        .find(|workspace| workspace.join(name).is_dir());
    let workspace = found.unwrap_or_else(|| panic!("no guest `{name}`"));
    // Two manifests of one component: what differs is one line.
    let component = if name == "sealed" { "wasi" } else { name };
    let component = if workspace.join(name).join("remedy.c").exists() {
        from_c(name)
    } else {
        workspace.join("target/wasm32-wasip2/release").join(format!("{}.wasm", component.replace('-', "_")))
    };
    let manifest = fs::read_to_string(workspace.join(name).join("remedy.toml")).unwrap();
    package::embed(&fs::read(component).unwrap(), &change(manifest)).unwrap()
}

/// The remedy in C: a program of the guests' workspace has clang make it, once per test run.
pub(crate) fn from_c(name: &str) -> PathBuf {
    static MADE: OnceLock<()> = OnceLock::new();
    let workspace = root().join("tests/guests");
    let out = workspace.join("target/from-c").join(name);
    MADE.get_or_init(|| {
        let status = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
            .current_dir(&workspace)
            .args(["run", "--quiet", "--package", "from-c", "--"])
            .args([&workspace.join(name).join("remedy.c"), &root().join("wit"), &out])
            .env_remove("CARGO_TARGET_DIR")
            .status()
            .unwrap();
        assert!(status.success(), "making `{name}`");
    });
    out.join("component.wasm")
}

fn write_configuration(layout: &Layout, setup: &Setup) {
    let mut runner = format!(
        "mode = \"{}\"\ndeploy_locks = []\n[timing]\nsample_every = \"200ms\"\nhealed_within = \"10s\"\nstable_for = \"500ms\"\ncooldown = \"0ms\"\n{}",
        setup.mode.unwrap_or("relaxed"),
        setup.rules
    );
    if is_root() {
        runner += UIDS;
    }
    let mut launcher = setup.launcher.clone();
    for service in &setup.services {
        let Service { name, port, args, rules, restart } = service;
        let mut command = vec![binary("fixture-service").display().to_string(), "--port".into(), port.to_string()];
        command.extend(args.iter().cloned());
        launcher += &format!(
            "[[service]]\nname = \"{name}\"\ncommand = {command:?}\nautostart = true\n{restart}\nstop_timeout = \"2s\"\n"
        );
        runner += &format!(
            "\n[[service]]\nname = \"{name}\"\nverbs = [\"start\", \"stop\", \"restart\", \"reset-failed\", \"set-property\", \"kill\"]\ntraffic_share = 0.1\n\
             health = [{{ http = \"http://127.0.0.1:{port}/health\", status = 200, timeout = \"300ms\" }}]\nhealth_failures = 2\n{rules}\n"
        );
    }
    fs::write(layout.config.join("runner.toml"), runner).unwrap();
    fs::write(layout.config.join("launcher.toml"), launcher).unwrap();
    if let Some(acme) = &setup.acme {
        fs::write(layout.config.join("courier-acme.toml"), acme).unwrap();
    }
    for (name, text) in &setup.playbooks {
        fs::write(layout.config.join("playbooks").join(name), text).unwrap();
    }
}

/// One throw-away signer who may approve everything.
fn sign(layout: &Layout, setup: &Setup) {
    let signer = Signer::generate(KeyName::parse("test/signer").unwrap()).unwrap();
    let trust = format!(
        "[[signer]]\nname = \"test/signer\"\nkey = \"{}\"\nremedies = [\"*\"]\nclasses = {:?}\n",
        signer.public(),
        Class::ALL.map(Class::as_str)
    );
    fs::write(layout.config.join("trust.toml"), trust).unwrap();
    let built = setup.remedies.iter().map(|name| (*name, guest(name)));
    for (name, bytes) in built.chain(setup.packages.iter().cloned()) {
        fs::write(layout.config.join("remedies").join(format!("{name}.wasm")), &bytes).unwrap();
        let note = approve(&bytes, &signer);
        fs::write(layout.config.join("remedies").join(format!("{name}.approval")), note).unwrap();
    }
}

/// A signed approval of exactly these bytes, valid from yesterday for a month.
pub(crate) fn approve(bytes: &[u8], signer: &Signer) -> String {
    let package = package::open(bytes.to_vec()).unwrap();
    let day = 86_400_000;
    let now =
        u64::try_from(std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis()).unwrap();
    let seconds = |at: u64| Timestamp(at / 1000 * 1000);
    let valid = Validity { from: seconds(now - day), until: seconds(now + 30 * day) };
    let approval = Approval::of(&package.manifest, package.digest, valid).unwrap();
    let mut note = Note::unsigned(&approval.to_string()).unwrap();
    note.sign(signer).unwrap();
    note.to_string()
}
