//! The machine: the packaged tree installed as a package would be, and what can be asked of it from outside.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use theriac_authority::key::Signer;
use theriac_model::id::KeyName;
use theriac_model::incident::IncidentState;
use theriac_model::record::Record;
use theriac_protocol::agent::{AgentAnswer, AgentRequest};
use theriac_protocol::frame::{self, Frame};
use theriac_protocol::layout::{Layout, Socket};
use theriac_protocol::operator::{OperatorAnswer, OperatorRequest};
use theriac_tests::systemd_box::{SystemdBox, Up};

use crate::host::{approve, binary, pause};

/// A restart of a hung nginx alone takes systemd 10 s; the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(90);
const REMEDIES: [&str; 4] = ["cpu-calm", "disk-reclaim", "memory-relief", "service-recover"];

/// The times of production up to the repair, after it seconds in place of minutes.
const RUNNER: &str = r#"
mode = "relaxed"
deploy_locks = []

[timing]
cooldown = "0ms"

[[unit]]
name            = "nginx.service"
verbs           = ["start", "restart", "reset-failed", "kill"]
traffic_share   = 0.1
health          = [{ http = "http://127.0.0.1:80/", status = 200, timeout = "500ms" }]
health_failures = 3
"#;

/// A machine that Theriac was installed on and nginx runs on.
pub(super) struct Machine {
    inside: SystemdBox,
    layout: Layout,
}

/// An incident, as far as it matters here.
pub(super) struct Incident {
    pub(super) closed: bool,
}

/// `/proc/PID/status`.
pub(super) struct Status(String);

impl Status {
    pub(super) fn field(&self, name: &str) -> String {
        let line = self.0.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.unwrap_or_else(|| panic!("no {name} in {}", self.0)).trim().to_owned()
    }
}

impl Machine {
    /// Boots, installs, configures and starts; or says why that is not possible here.
    pub(super) fn up() -> Result<Self, String> {
        if !Path::new("/lib/systemd/system/nginx.service").exists() {
            return Err("nginx is not installed".to_owned());
        }
        let inside = match SystemdBox::up("packaged").unwrap() {
            Up::Ready(inside) => inside,
            Up::NotPossible(why) => return Err(why),
        };
        let layout = Layout { config: inside.root().join("etc/theriac"), state: inside.root().join("var/lib/theriac") };
        let machine = Self { inside, layout };
        machine.install();
        machine.configure();
        machine.nginx_drop_in("[Service]\nRestart=no\n");
        machine.run(&["systemctl", "start", "nginx"]);
        machine.run(&["systemctl", "start", "theriac.target"]);
        machine.until("the agent to hear the runner", || machine.hears());
        Ok(machine)
    }

    /// Just as packaging/README.md says.
    fn install(&self) {
        let tree = tempfile::tempdir().unwrap();
        let programs = binary("theriac").parent().unwrap().to_owned();
        let mut package = Command::new(binary("xtask"));
        package.arg("package").arg("--programs").arg(programs).arg("--out").arg(tree.path());
        let output = package.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let copied = Command::new("cp").arg("-a").arg(tree.path().join(".")).arg(self.inside.root()).status().unwrap();
        assert!(copied.success());
        self.run(&["systemd-sysusers", "theriac.conf"]);
        self.run(&["systemd-tmpfiles", "--create", "theriac.conf"]);
        self.run(&["systemctl", "daemon-reload"]);
        let enabled = self.inside.exec(&["systemctl", "is-enabled", "theriac.target"]).unwrap();
        assert_eq!(enabled.stdout.trim_ascii(), b"disabled", "nothing starts before an operator has looked");
    }

    fn configure(&self) {
        self.write("/etc/theriac/runner.toml", RUNNER);
        let signer = Signer::generate(KeyName::parse("test/operator").unwrap()).unwrap();
        let trust = format!(
            "[[signer]]\nname = \"test/operator\"\nkey = \"{}\"\nremedies = [\"*\"]\nclasses = [\"observe\", \"files-read\", \"files-change\", \"units-observe\", \"units-change\", \"processes-observe\", \"processes-change\"]\n",
            signer.public()
        );
        self.write("/etc/theriac/trust.toml", &trust);
        for name in REMEDIES {
            let bytes = fs::read(self.inside.root().join(format!("usr/lib/theriac/remedies/{name}.wasm"))).unwrap();
            fs::write(self.layout.config.join(format!("remedies/{name}.wasm")), &bytes).unwrap();
            self.write(&format!("/etc/theriac/remedies/{name}.approval"), &approve(&bytes, &signer));
        }
        for (kind, step) in
            [("service-crash", "start"), ("service-unhealthy", "restart"), ("start-limit-hit", "reset-and-start")]
        {
            let playbook = format!(
                "name: {kind}\nsummary: with a short wait\nhandles: [{kind}]\nrungs:\n  - remedy: service-recover\n    params: {{ step: {step} }}\n    level: 1\n    healed_within: 30s\n    stable_for: 2s\n"
            );
            self.write(&format!("/etc/theriac/playbooks/{kind}.yaml"), &playbook);
        }
    }

    fn write(&self, path: &str, text: &str) {
        self.inside.write(path, text).unwrap();
    }

    /// Runs a command inside; it must succeed.
    pub(super) fn run(&self, argv: &[&str]) -> String {
        self.inside.run(argv).unwrap_or_else(|error| panic!("{error:#}\n{}", self.journal()))
    }

    /// The last words of each unit, for a failure's message: one that repeats itself must not push the others out.
    fn journal(&self) -> String {
        let units = ["theriac-courier-net", "theriac-agent", "theriac-runner", "nginx"];
        let last_words = |unit: &str| {
            let unit = format!("--unit={unit}");
            let shown = ["journalctl", "--no-pager", "--lines=40", "--output=short-precise", &unit];
            let output = self.inside.exec(&shown);
            output.map_or_else(|error| error.to_string(), |output| String::from_utf8_lossy(&output.stdout).into_owned())
        };
        units.map(last_words).join("\n")
    }

    /// A bounded wait for the thing itself.
    pub(super) fn until(&self, what: &str, mut is_so: impl FnMut() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !is_so() {
            assert!(Instant::now() < deadline, "waited in vain for {what}\n{}", self.journal());
            pause();
        }
    }

    /// A property of a unit.
    pub(super) fn property(&self, unit: &str, name: &str) -> String {
        self.run(&["systemctl", "show", "--value", "--property", name, unit]).trim().to_owned()
    }

    fn proc(&self, unit: &str, file: &str) -> std::path::PathBuf {
        self.inside.root().join("proc").join(self.property(unit, "MainPID")).join(file)
    }

    /// What the kernel says of a unit's main process.
    pub(super) fn status_of(&self, unit: &str) -> Status {
        Status(fs::read_to_string(self.proc(unit, "status")).unwrap())
    }

    /// Open internet sockets of a unit's main process.
    pub(super) fn inet_sockets(&self, unit: &str) -> usize {
        let tables = ["net/tcp", "net/tcp6", "net/udp", "net/udp6", "net/raw", "net/raw6"];
        let text: String =
            tables.iter().map(|table| fs::read_to_string(self.proc(unit, table)).unwrap_or_default()).collect();
        let inodes: Vec<&str> = text.lines().filter_map(|line| line.split_ascii_whitespace().nth(9)).collect();
        let links =
            fs::read_dir(self.proc(unit, "fd")).unwrap().filter_map(|entry| fs::read_link(entry.unwrap().path()).ok());
        let is_inet = |link: &std::path::PathBuf| {
            let link = link.to_string_lossy();
            link.strip_prefix("socket:[")
                .and_then(|rest| rest.strip_suffix(']'))
                .is_some_and(|inode| inodes.contains(&inode))
        };
        links.filter(is_inet).count()
    }

    /// A signal to all of nginx, as a kernel or a bug would: not through Theriac.
    pub(super) fn kill_nginx(&self, signal: &str) {
        self.run(&["systemctl", "kill", &format!("--signal={signal}"), "--kill-who=all", "nginx"]);
    }

    /// More of nginx' unit, in force at once.
    pub(super) fn nginx_drop_in(&self, text: &str) {
        self.write("/etc/systemd/system/nginx.service.d/test.conf", text);
        self.run(&["systemctl", "daemon-reload"]);
    }

    /// systemd starts it no more, unless it has been reset since.
    pub(super) fn was_given_up(&self) -> bool {
        self.run(&["journalctl", "--no-pager", "--unit=nginx.service", "--output=cat"])
            .contains("Start request repeated too quickly")
    }

    /// A GET in the machine's own network is answered with 200.
    pub(super) fn nginx_answers(&self) -> bool {
        let network = File::open(format!("/proc/{}/ns/net", self.inside.leader())).unwrap();
        // A thread of its own: a thread that entered a network does not come back.
        let asked = thread::spawn(move || {
            let kind = Some(rustix::thread::LinkNameSpaceType::Network);
            rustix::thread::move_into_link_name_space(network.as_fd(), kind).unwrap();
            get().unwrap_or(false)
        });
        asked.join().unwrap()
    }

    fn hears(&self) -> bool {
        matches!(self.agent(&AgentRequest::Status), Ok(AgentAnswer::Status(status)) if status.runner_connected)
    }

    fn agent(&self, request: &AgentRequest) -> anyhow::Result<AgentAnswer> {
        ask(&self.layout.socket(Socket::Agent), request)
    }

    /// Every incident so far.
    pub(super) fn incidents(&self) -> Vec<Incident> {
        match self.agent(&AgentRequest::Incidents { limit: 100 }) {
            Ok(AgentAnswer::Incidents(all)) => {
                all.into_iter().map(|incident| Incident { closed: incident.state == IncidentState::Closed }).collect()
            }
            Ok(other) => panic!("not incidents: {other:?}"),
            Err(error) => panic!("{error:#}\n{}", self.journal()),
        }
    }

    /// The runner's whole journal.
    pub(super) fn records(&self) -> Vec<Record> {
        let mut records = Vec::new();
        loop {
            let from = records.len() as u64;
            match ask(&self.layout.socket(Socket::Operator), &OperatorRequest::Entries { from }) {
                Ok(OperatorAnswer::Entries { entries, more }) => {
                    records.extend(entries.into_iter().map(|entry| entry.record));
                    if !more {
                        return records;
                    }
                }
                Ok(other) => panic!("not entries: {other:?}"),
                Err(error) => panic!("{error:#}\n{}", self.journal()),
            }
        }
    }
}

fn get() -> std::io::Result<bool> {
    let mut stream = TcpStream::connect("127.0.0.1:80")?;
    stream.set_read_timeout(Some(Duration::from_millis(300)))?;
    stream.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
    let mut start = [0; 12];
    stream.read_exact(&mut start)?;
    Ok(start.ends_with(b" 200"))
}

fn ask<Q: serde::Serialize, A: serde::de::DeserializeOwned>(socket: &Path, request: &Q) -> anyhow::Result<A> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    frame::write(&mut stream, &Frame { epoch: 0, id: 1, message: request })?;
    Ok(frame::read::<A>(&mut stream)?.message)
}
