//! The machine: the packaged tree installed as a package would be, and what can be asked of it from outside.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use theriac_model::diagnosis::EvidenceSource;
use theriac_model::incident::{Incident, IncidentState};
use theriac_model::record::Record;
use theriac_protocol::agent::{AgentAnswer, AgentRequest};
use theriac_protocol::frame::{self, Frame};
use theriac_protocol::layout::{Layout, Socket};
use theriac_protocol::operator::{OperatorAnswer, OperatorRequest};
use theriac_tests::guest::Guest;
use theriac_tests::place::Place;
use theriac_tests::systemd_box::{SystemdBox, Up};

use super::{configuration, cpu, disk, memory, nginx};
use crate::host::binary;

/// A restart of a hung nginx alone takes systemd 10 s; the machine may be busy, and software that emulates one is slow.
const PATIENCE: Duration = Duration::from_secs(90);
const PATIENCE_EMULATED: Duration = Duration::from_secs(900);
/// Between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// Looking must not take the processor from what is looked at.
const LOOK_AGAIN_EMULATED: Duration = Duration::from_millis(300);
/// Where the program is that can be broken.
pub(super) const FIXTURE: &str = "/usr/local/bin/fixture-service";

/// A machine that Theriac was installed on and nginx runs on.
pub(super) struct Machine {
    place: Place,
    layout: Layout,
    patience: Duration,
    /// Ends with this; `None` where the machine is thrown away by whoever booted it.
    container: Option<SystemdBox>,
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
        let machine = match Guest::booted() {
            Some(guest) => {
                let machine = Self::at(Place::here(), None, PATIENCE_EMULATED);
                machine.install(&guest.tree);
                machine
            }
            None => match SystemdBox::up("packaged").unwrap() {
                Up::Ready(container) => {
                    let machine = Self::at(Place::clone(&container), Some(container), PATIENCE);
                    machine.install(lay_out().path());
                    machine
                }
                Up::NotPossible(why) => return Err(why),
            },
        };
        configuration::write(&machine.place, &machine.layout);
        // The patients first: a mount or a unit that is not there yet would be an incident.
        machine.place.install(&binary("fixture-service"), FIXTURE).unwrap();
        for install in [nginx::install, disk::install, cpu::install, memory::install] {
            install(&machine);
        }
        machine.run(&["systemctl", "start", "theriac.target"]);
        machine.until("the agent to hear the runner", || machine.hears());
        Ok(machine)
    }

    fn at(place: Place, container: Option<SystemdBox>, patience: Duration) -> Self {
        let layout = Layout { config: place.path("/etc/theriac"), state: place.path("/var/lib/theriac") };
        Self { place, layout, patience, container }
    }

    pub(super) const fn place(&self) -> &Place {
        &self.place
    }

    /// Just as packaging/README.md says.
    fn install(&self, tree: &Path) {
        let copied = Command::new("cp").arg("-a").arg(tree.join(".")).arg(self.place.root()).status().unwrap();
        assert!(copied.success());
        self.run(&["systemd-sysusers", "theriac.conf"]);
        self.run(&["systemd-tmpfiles", "--create", "theriac.conf"]);
        self.run(&["systemctl", "daemon-reload"]);
        let enabled = self.place.exec(&["systemctl", "is-enabled", "theriac.target"]).unwrap();
        assert_eq!(enabled.stdout.trim_ascii(), b"disabled", "nothing starts before an operator has looked");
    }

    pub(super) fn write(&self, path: &str, text: &str) {
        self.place.write(path, text).unwrap();
    }

    /// It is the virtual machine that we were booted in, with all that a kernel has.
    pub(super) const fn is_virtual(&self) -> bool {
        self.container.is_none()
    }

    /// Installs a unit with this service section and starts it.
    pub(super) fn start_service(&self, unit: &str, service: &str) {
        self.write(&format!("/etc/systemd/system/{unit}"), &format!("[Service]\n{service}\n"));
        self.run(&["systemctl", "daemon-reload"]);
        self.run(&["systemctl", "start", unit]);
    }

    /// Runs a command inside; it must succeed.
    pub(super) fn run(&self, argv: &[&str]) -> String {
        self.place.run(argv).unwrap_or_else(|error| panic!("{error:#}\n{}", self.journal()))
    }

    /// The last words of each unit, for a failure's message: one that repeats itself must not push the others out.
    fn journal(&self) -> String {
        let units = [
            "theriac-courier-net",
            "theriac-agent",
            "theriac-runner",
            "nginx",
            "shop",
            "mail",
            "hog",
            "drone",
            "leaky",
        ];
        let last_words = |unit: &str| {
            let unit = format!("--unit={unit}");
            let shown = ["journalctl", "--no-pager", "--lines=40", "--output=short-precise", &unit];
            let output = self.place.exec(&shown);
            output.map_or_else(|error| error.to_string(), |output| String::from_utf8_lossy(&output.stdout).into_owned())
        };
        units.map(last_words).join("\n")
    }

    /// A bounded wait for the thing itself.
    pub(super) fn until(&self, what: &str, mut is_so: impl FnMut() -> bool) {
        let deadline = Instant::now() + self.patience;
        while !is_so() {
            assert!(Instant::now() < deadline, "waited in vain for {what}\n{}", self.journal());
            // A bounded look at the world, not a guess at how long something takes.
            std::thread::sleep(if self.is_virtual() { LOOK_AGAIN_EMULATED } else { LOOK_AGAIN });
        }
    }

    /// A property of a unit.
    pub(super) fn property(&self, unit: &str, name: &str) -> String {
        self.run(&["systemctl", "show", "--value", "--property", name, unit]).trim().to_owned()
    }

    fn proc(&self, unit: &str, file: &str) -> std::path::PathBuf {
        self.place.root().join("proc").join(self.property(unit, "MainPID")).join(file)
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

    fn hears(&self) -> bool {
        matches!(self.agent(&AgentRequest::Status), Ok(AgentAnswer::Status(status)) if status.runner_connected)
    }

    fn agent(&self, request: &AgentRequest) -> anyhow::Result<AgentAnswer> {
        ask(&self.layout.socket(Socket::Agent), request)
    }

    /// Where each incident of the target is, so far.
    pub(super) fn incidents(&self, target: &str) -> Vec<IncidentState> {
        self.stories(target).into_iter().map(|one| one.state).collect()
    }

    /// Log lines that are evidence of a target's incidents.
    pub(super) fn log_evidence(&self, target: &str) -> Vec<String> {
        let pieces = self.stories(target).into_iter().flat_map(|incident| incident.evidence);
        pieces.filter(|piece| piece.source == EvidenceSource::Log).map(|piece| piece.summary).collect()
    }

    fn stories(&self, target: &str) -> Vec<Incident> {
        match self.agent(&AgentRequest::Incidents { limit: 100 }) {
            Ok(AgentAnswer::Incidents(all)) => all.into_iter().filter(|one| one.target.to_string() == target).collect(),
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

/// The packaged tree, laid out by the packager itself from the programs beside this test.
fn lay_out() -> tempfile::TempDir {
    let tree = tempfile::tempdir().unwrap();
    let programs = binary("theriac").parent().unwrap().to_owned();
    let mut package = Command::new(binary("xtask"));
    package.arg("package").arg("--programs").arg(programs).arg("--out").arg(tree.path());
    let output = package.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    tree
}

fn ask<Q: serde::Serialize, A: serde::de::DeserializeOwned>(socket: &Path, request: &Q) -> anyhow::Result<A> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    frame::write(&mut stream, &Frame { epoch: 0, id: 1, message: request })?;
    Ok(frame::read::<A>(&mut stream)?.message)
}
