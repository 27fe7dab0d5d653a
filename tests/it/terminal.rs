//! Theriac as a person has it in a terminal: `theriac up` by an ordinary user, and the commands beside it.
//!
//! All processes then share one user, so that a yes has to be signed. As root the tests become an ordinary user for what they start.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Instant;

use theriac_authority::key::{Passphrase, Signer};
use theriac_authority::trust::Class;
use theriac_model::id::KeyName;
use theriac_protocol::layout::{Layout, Socket};
use theriac_protocol::operator::{OperatorAnswer, OperatorRequest};

use crate::host::{self, PATIENCE, Service, approve, ask, binary, guest, is_root, pause};

/// Nobody's on any machine.
const ORDINARY: u32 = 61_990;
const PASSPHRASE: &str = "only a test";
const PROGRAMS: [&str; 7] = [
    "theriac",
    "theriac-agent",
    "theriac-courier",
    "theriac-launcher",
    "theriac-runner",
    "theriac-worker",
    "fixture-service",
];

/// A directory of the ordinary user's, with `theriac up` running on it.
struct Terminal {
    dir: tempfile::TempDir,
    layout: Layout,
    up: Option<Child>,
}

impl Terminal {
    /// One service that says a line and then serves, and a playbook that needs a person's yes.
    fn up(service: &Service) -> Self {
        let dir = host::Host::scratch();
        let layout = Layout { config: dir.path().join("c"), state: dir.path().join("s") };
        let mut terminal = Self { dir, layout, up: None };
        terminal.install();
        terminal.configure(service);
        if is_root() {
            give_away(terminal.dir.path());
        }
        let log = fs::File::create(terminal.path("up.log")).unwrap();
        let up = terminal.command(&["up"]).stdin(Stdio::null()).stderr(log).spawn().unwrap();
        terminal.up = Some(up);
        terminal.until("everything to be up", || terminal.log().contains("everything is up"));
        terminal
    }

    /// Where the workspace is built need not be a place that other users can reach.
    fn install(&self) {
        fs::create_dir_all(self.path("bin")).unwrap();
        for program in PROGRAMS {
            let to = self.path("bin").join(program);
            fs::hard_link(binary(program), &to).or_else(|_| fs::copy(binary(program), &to).map(drop)).unwrap();
        }
    }

    fn configure(&self, service: &Service) {
        for directory in ["c/remedies", "c/playbooks", "s"] {
            fs::create_dir_all(self.path(directory)).unwrap();
        }
        let port = service.port;
        let write = |name: &str, text: &str| fs::write(self.path("c").join(name), text).unwrap();
        write(
            "runner.toml",
            &format!(
                "mode = \"relaxed\"\ndeploy_locks = []\n[timing]\nsample_every = \"200ms\"\ncooldown = \"0ms\"\n\
                 [[service]]\nname = \"web\"\nverbs = [\"start\"]\ntraffic_share = 0.1\n\
                 health = [{{ http = \"http://127.0.0.1:{port}/health\", status = 200, timeout = \"500ms\" }}]\n"
            ),
        );
        let says = "echo 'bind() failed: Address already in use'";
        let fixture = self.path("bin/fixture-service");
        let command = ["/bin/sh", "-c", &format!("{says}; exec {} --port {port}", fixture.display())];
        write(
            "launcher.toml",
            &format!("[[service]]\nname = \"web\"\ncommand = {command:?}\nautostart = true\nrestart = \"never\"\n"),
        );
        let rung = "  - remedy: service-recover\n    params: { step: start }\n    level: 3\n    healed_within: 20s\n    stable_for: 1s\n";
        write("playbooks/crash.yaml", &host::playbook("crash", "service-crash", "unit:web", rung));
        let signer = Signer::generate(KeyName::parse("test/signer").unwrap()).unwrap();
        let operator = self.key("operator");
        self.key("stranger");
        write(
            "trust.toml",
            &format!(
                "[[signer]]\nname = \"test/signer\"\nkey = \"{}\"\nremedies = [\"*\"]\nclasses = {:?}\n\
                 [operators]\nkeys = [\"{}\"]\n",
                signer.public(),
                Class::ALL.map(Class::as_str),
                operator.public()
            ),
        );
        let bytes = guest("service-recover");
        fs::write(self.path("c/remedies/service-recover.wasm"), &bytes).unwrap();
        write("remedies/service-recover.approval", &approve(&bytes, &signer));
    }

    /// A sealed key of that name in the user's directory.
    fn key(&self, name: &str) -> Signer {
        let signer = Signer::generate(KeyName::parse(&format!("test/{name}")).unwrap()).unwrap();
        signer.write_sealed(&self.path(name), &Passphrase::new(PASSPHRASE.to_owned()).unwrap()).unwrap();
        let passphrase = self.path("passphrase");
        fs::write(&passphrase, PASSPHRASE).unwrap();
        fs::set_permissions(&passphrase, fs::Permissions::from_mode(0o600)).unwrap();
        signer
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(self.path("bin/theriac"));
        command.args(words).arg("--config").arg(&self.layout.config).arg("--state").arg(&self.layout.state);
        command.current_dir(self.dir.path());
        if is_root() {
            command.uid(ORDINARY).gid(ORDINARY);
        }
        command
    }

    fn run(&self, words: &[&str]) -> Output {
        self.command(words).stdin(Stdio::null()).output().unwrap()
    }

    fn incidents(&self) -> Vec<serde_json::Value> {
        let output = self.run(&["incidents", "--json"]);
        serde_json::from_slice(&output.stdout).unwrap_or_default()
    }

    fn consent(&self, incident: &str, key: &str) -> Output {
        let (key, passphrase) = (self.path(key), self.path("passphrase"));
        let (key, passphrase) = (key.display().to_string(), passphrase.display().to_string());
        self.run(&["consent", incident, "--key", &key, "--passphrase-file", &passphrase, "--yes"])
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path("up.log")).unwrap_or_default()
    }

    fn until(&self, what: &str, mut is_so: impl FnMut() -> bool) {
        let deadline = Instant::now() + PATIENCE * 2;
        while !is_so() {
            assert!(Instant::now() < deadline, "waited in vain for {what}\n{}", self.log());
            pause();
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if let Some(mut up) = self.up.take() {
            rustix::process::kill_process(rustix::process::Pid::from_child(&up), rustix::process::Signal::TERM).ok();
            up.wait().ok();
        }
    }
}

/// Everything below belongs to the ordinary user, programs excepted: they are the workspace's own.
fn give_away(path: &Path) {
    chown(path, Some(ORDINARY), Some(ORDINARY)).unwrap();
    for entry in fs::read_dir(path).unwrap() {
        let path = entry.unwrap().path();
        if path.ends_with("bin") {
            continue;
        }
        if path.is_dir() { give_away(&path) } else { chown(&path, Some(ORDINARY), Some(ORDINARY)).unwrap() }
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// From the crash to the yes, with the log as evidence on the way.
// RN06.
#[test]
fn an_ordinary_user_reads_why_and_lets_a_plan_run_with_a_signed_yes_and_with_nothing_less() {
    let web = Service::new("web");
    let terminal = Terminal::up(&web);
    host::Host::wait_for_status(&web, "200");
    kill_main(&terminal);
    terminal.until("the plan to wait", || {
        terminal.incidents().iter().any(|incident| incident["state"] == "awaiting-consent")
    });
    let id = terminal.incidents()[0]["id"].as_str().unwrap().to_owned();

    terminal.until("the log to be evidence", || {
        let shown = text(&terminal.run(&["incident", "show", &id]).stdout);
        shown.contains("bind() failed: Address already in use (told)") && shown.contains("rule port-taken")
    });

    let unsigned = terminal.run(&["consent", &id, "--yes"]);
    assert_eq!(unsigned.status.code(), Some(2), "{}", text(&unsigned.stderr));
    assert!(text(&unsigned.stderr).contains("the yes has to be signed"));
    let operator = terminal.layout.socket(Socket::Operator);
    let incident: theriac_model::id::IncidentId = id.parse().unwrap();
    let OperatorAnswer::Waiting(Some(shown)) =
        ask(&operator, &OperatorRequest::Waiting { incident: incident.clone() }).unwrap()
    else {
        panic!("no plan waits")
    };
    assert!(shown.needs_note);
    let bare = OperatorRequest::Consent { incident, plan: shown.hash, note: None };
    let bare: OperatorAnswer = ask(&operator, &bare).unwrap();
    assert!(matches!(&bare, OperatorAnswer::Refused(why) if why.contains("has to be signed")), "{bare:?}");
    let strangers = terminal.consent(&id, "stranger");
    assert_eq!(strangers.status.code(), Some(3), "{}", text(&strangers.stderr));
    assert!(
        text(&strangers.stderr).contains("no operator of the trust store signed this"),
        "{}",
        text(&strangers.stderr)
    );
    assert_eq!(terminal.incidents()[0]["state"], "awaiting-consent", "nothing but a signed yes lets it run");

    let signed = terminal.consent(&id, "operator");
    assert!(signed.status.success(), "{}", text(&signed.stderr));
    host::Host::wait_for_status(&web, "200");
    terminal.until("the incident to be closed", || terminal.incidents()[0]["state"] == "closed");
    let shown = text(&terminal.run(&["incident", "show", &id]).stdout);
    assert!(shown.contains("test/operator"), "who said yes is told: {shown}");
}

fn kill_main(terminal: &Terminal) {
    let output = terminal.path("bin/fixture-service");
    let is_main = |pid: &u32| fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|program| program == output);
    let processes = fs::read_dir("/proc").unwrap();
    let pids = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let main = pids.into_iter().find(is_main).expect("the service runs");
    let main = rustix::process::Pid::from_raw(main.cast_signed()).unwrap();
    rustix::process::kill_process(main, rustix::process::Signal::KILL).unwrap();
}
