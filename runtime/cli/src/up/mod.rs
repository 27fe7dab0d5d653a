//! `theriac up`: everything in the foreground, for any user. It starts the same programs that a packaged installation starts
//! as services, in order, starts again what dies, and stops all in good order.

mod child;
mod relay;

use std::fs::{self, DirBuilder, File};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM};
use theriac_authority::host::{HostConfig, Uids};
use theriac_protocol::layout::{Layout, Socket};
use theriac_protocol::process::{keep_heap_small, may_become};
use theriac_runner::backend::systemd_runs;
use theriac_runner::rules::Rules;

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::{Failure, OrFail as _};
use child::{Child, Spec};
use relay::Log;

/// A cold start of the runner compiles every remedy once; a debug build takes a second for each.
const START: Duration = Duration::from_secs(120);
/// The launcher gives each service its own time to stop; everything else stops at once.
const STOP: Duration = Duration::from_secs(100);
/// It reads the journal and writes some numbers.
const PUT_BACK: Duration = Duration::from_secs(30);
/// Between two looks at a socket that is not there yet.
const LOOK: Duration = Duration::from_millis(20);

/// Runs until it is told to stop.
pub fn run(context: &Context) -> Result<Exit, Failure> {
    keep_heap_small();
    let layout = absolute(&context.layout)?;
    // Not the policies: the runner reads them, and they would stay in this process' memory for nothing.
    let host = Rules::read_host(&layout)
        .or_fail()
        .map_err(|failure| failure.hint("`theriac doctor` looks at the configuration"))?;
    let _lock = lock(&layout)?;
    nobody_listens(&layout)?;
    let users = users(&host)?;
    if let Some(users) = &users {
        reachable_by_others(&layout, users)?;
    }
    let (tell, hear) = mpsc::channel();
    listen_to_signals(tell)?;
    let log = Log::default();
    say_who(&log, users.as_ref());
    let mut family = Family { children: Vec::new(), hear, log };
    let ended = family.start(specs(&layout, &host, users.as_ref())?).and_then(|()| family.watch());
    family.stop();
    if ended.is_err()
        && let Err(failure) = put_back(&layout, &family.log)
    {
        family.log.say(&format!("what a run may have set in the kernel is not put back: {failure}"));
    }
    ended.map(|()| Exit::Ok)
}

/// What the main thread hears.
pub(super) enum Heard {
    /// SIGINT, SIGTERM or SIGHUP.
    Stop,
    /// Some child ended.
    Child,
}

fn listen_to_signals(tell: Sender<Heard>) -> Result<(), Failure> {
    let mut signals =
        signal_hook::iterator::Signals::new([SIGINT, SIGTERM, SIGHUP, SIGCHLD]).or_fail_at("listening to signals")?;
    let listen = move || {
        for signal in signals.forever() {
            let heard = if signal == SIGCHLD { Heard::Child } else { Heard::Stop };
            if tell.send(heard).is_err() {
                return;
            }
        }
    };
    std::thread::Builder::new().name("signals".into()).spawn(listen).or_fail_at("starting a thread")?;
    Ok(())
}

/// The processes compare directories by name, so both are made absolute, once.
fn absolute(layout: &Layout) -> Result<Layout, Failure> {
    let make = |path: &Path| {
        DirBuilder::new().recursive(true).mode(0o755).create(path).or_fail_at(format!("making `{}`", path.display()))
    };
    make(&layout.state)?;
    make(&layout.state.join("run"))?;
    let real = |path: &Path| fs::canonicalize(path).or_fail_at(format!("opening `{}`", path.display()));
    let config = real(&layout.config).map_err(|failure| failure.hint("`theriac init` writes a configuration"))?;
    Ok(Layout { config, state: real(&layout.state)? })
}

/// One `theriac up` per state directory.
fn lock(layout: &Layout) -> Result<File, Failure> {
    let path = layout.state.join("run/up.lock");
    let file = File::create(&path).or_fail_at(format!("opening `{}`", path.display()))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(running_already(layout)),
        Err(errno) => Err(Failure::failed(format!("locking `{}`: {errno}", path.display()))),
    }
}

/// Nor beside a packaged installation that uses the same directory.
fn nobody_listens(layout: &Layout) -> Result<(), Failure> {
    let sockets = [
        Socket::Launcher,
        Socket::CourierNet,
        Socket::CourierDocker,
        Socket::CourierAcme,
        Socket::CourierDatabases,
        Socket::Runner,
        Socket::Operator,
        Socket::Agent,
    ];
    let live = sockets.into_iter().any(|socket| UnixStream::connect(layout.socket(socket)).is_ok());
    if live { Err(running_already(layout)) } else { Ok(()) }
}

fn running_already(layout: &Layout) -> Failure {
    Failure::failed(format!("Theriac is running already with the state directory `{}`", layout.state.display()))
        .hint("stop it first, or give this one a --state directory of its own")
}

/// As root each process gets a user of its own; otherwise all share the caller's, and there is no wall between them.
fn users(host: &HostConfig) -> Result<Option<Uids>, Failure> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let users = host.uids.clone().unwrap_or_else(Uids::built_in);
    let strange = users.all().find(|uid| !may_become(*uid));
    match strange {
        None => Ok(Some(users)),
        Some(_) if host.uids.is_none() => Ok(None),
        Some(uid) => {
            Err(Failure::failed(format!("[uids] names {uid}, and this user namespace does not know that number"))
                .hint("leave [uids] out of runner.toml here: all processes then share one user"))
        }
    }
}

fn say_who(log: &Log, users: Option<&Uids>) {
    let uid = rustix::process::geteuid().as_raw();
    match users {
        Some(Uids { agent, courier_net, courier_docker, courier_databases, courier_acme, worker }) => {
            let couriers = format!(
                "{courier_net} (net), {courier_docker} (docker), {courier_databases} (databases) and {courier_acme} (acme)"
            );
            log.say(&format!("distinct users: agent {agent}, couriers {couriers}, workers {worker:?}"));
        }
        None => log.say(&format!(
            "all processes share uid {uid}: there is no wall between agent and runner, a yes has to be signed, and what needs root stays off"
        )),
    }
}

/// The agent finds the sockets by their path, as its own user.
fn reachable_by_others(layout: &Layout, users: &Uids) -> Result<(), Failure> {
    for path in layout.state.ancestors() {
        let mode = fs::metadata(path).or_fail_at(format!("looking at `{}`", path.display()))?.permissions().mode();
        if mode & 0o001 == 0 {
            let sentence = format!(
                "`{}` (mode {:o}) can't be passed by the agent's user {}",
                path.display(),
                mode & 0o7777,
                users.agent
            );
            return Err(Failure::failed(sentence)
                .hint(format!("run `chmod o+x {}`, or use another --state directory", path.display())));
        }
    }
    Ok(())
}

/// What is needed here, in the order in which it is started.
fn specs(layout: &Layout, host: &HostConfig, users: Option<&Uids>) -> Result<Vec<Spec>, Failure> {
    let programs = programs()?;
    let spec =
        |name, program: &str, socket, uid: Option<u32>| Spec::new(name, programs.join(program), layout, socket, uid);
    let mut specs = Vec::new();
    if host.needs_launcher(systemd_runs()) {
        specs.push(spec("launcher", "theriac-launcher", Socket::Launcher, None));
    }
    if host.needs_courier_net() {
        specs.push(
            spec("courier", "theriac-courier", Socket::CourierNet, users.map(|users| users.courier_net)).after("net"),
        );
    }
    if host.needs_courier_acme() {
        let uid = users.map(|users| users.courier_acme);
        specs.push(spec("acme-courier", "theriac-courier", Socket::CourierAcme, uid).after("acme"));
    }
    if host.needs_courier_docker() {
        let uid = users.map(|users| users.courier_docker);
        specs.push(spec("docker-courier", "theriac-courier", Socket::CourierDocker, uid).after("docker"));
    }
    if host.needs_courier_databases() {
        let uid = users.map(|users| users.courier_databases);
        specs.push(spec("databases-courier", "theriac-courier", Socket::CourierDatabases, uid).after("databases"));
    }
    let runner = spec("runner", "theriac-runner", Socket::Operator, None);
    specs.push(if users.is_some() { runner.with("--distinct-users") } else { runner });
    specs.push(spec("agent", "theriac-agent", Socket::Agent, users.map(|users| users.agent)));
    Ok(specs)
}

/// There will be no runner that takes back, or verifies, what a run has set in the kernel.
fn put_back(layout: &Layout, log: &Log) -> Result<(), Failure> {
    let runner = programs()?.join("theriac-runner");
    let mut child = Child::start(Spec::new("runner", runner, layout, Socket::Operator, None).with("--put-back"), log)?;
    let deadline = Instant::now() + PUT_BACK;
    while child.is_running() {
        if Instant::now() >= deadline {
            child.kill();
            return Err(Failure::failed(format!("it is not over after {} s", PUT_BACK.as_secs())));
        }
        std::thread::sleep(LOOK);
    }
    Ok(())
}

/// The directory of our own executable: all programs are installed together.
fn programs() -> Result<PathBuf, Failure> {
    let own = std::env::current_exe().or_fail_at("finding this program")?;
    own.parent().map(Path::to_owned).ok_or_else(|| Failure::failed("this program has no directory"))
}

/// The processes, in the order in which they were started.
struct Family {
    children: Vec<Child>,
    hear: Receiver<Heard>,
    log: Log,
}

impl Family {
    /// Starts one after another, each when the one before listens.
    fn start(&mut self, specs: Vec<Spec>) -> Result<(), Failure> {
        for spec in specs {
            let socket = spec.socket();
            let child = Child::start(spec, &self.log)?;
            let name = child.name();
            self.children.push(child);
            let deadline = Instant::now() + START;
            while UnixStream::connect(&socket).is_err() {
                if let Some(child) = self.children.last_mut()
                    && let Some(how) = child.ended()?
                {
                    return Err(child.explain(&format!("theriac-{name} did not start ({how})")));
                }
                if Instant::now() >= deadline {
                    return Err(Failure::failed(format!("theriac-{name} does not listen after {} s", START.as_secs())));
                }
                if let Ok(Heard::Stop) = self.hear.recv_timeout(LOOK) {
                    return Err(Failure::failed("stopped before everything was up"));
                }
            }
        }
        self.log.say("everything is up");
        Ok(())
    }

    /// Until a signal; starts again what dies, and gives up on what dies again and again.
    fn watch(&mut self) -> Result<(), Failure> {
        loop {
            for child in &mut self.children {
                child.tend(&self.log)?;
            }
            let next = self.children.iter().filter_map(Child::due).min();
            let heard = match next {
                Some(at) => self.hear.recv_timeout(at.saturating_duration_since(Instant::now())),
                None => self.hear.recv().map_err(|_closed| RecvTimeoutError::Disconnected),
            };
            match heard {
                Ok(Heard::Stop) => return Ok(()),
                Ok(Heard::Child) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err(Failure::failed("no signals can be heard any more")),
            }
        }
    }

    /// Newest first: the agent proposes nothing more, the runner ends its journal, then its hands go.
    fn stop(&mut self) {
        self.log.say("stopping");
        while let Some(mut child) = self.children.pop() {
            child.terminate();
            let deadline = Instant::now() + STOP;
            while child.is_running() {
                let impatient = matches!(self.hear.recv_timeout(LOOK), Ok(Heard::Stop));
                if impatient || Instant::now() >= deadline {
                    self.log.say(&format!("theriac-{} does not stop: killing it", child.name()));
                    child.kill();
                    break;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout() -> (tempfile::TempDir, Layout) {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("run")).unwrap();
        let layout = Layout { config: dir.path().to_owned(), state: dir.path().to_owned() };
        (dir, layout)
    }

    #[test]
    fn a_second_one_on_the_same_state_is_told_so_and_the_first_is_not() {
        let (_dir, layout) = layout();
        let first = lock(&layout).unwrap();
        let second = lock(&layout).unwrap_err();
        assert!(second.to_string().contains("running already"), "{second}");
        drop(first);
        lock(&layout).unwrap();
    }

    #[test]
    fn a_live_socket_of_another_installation_counts_and_a_stale_one_does_not() {
        let (_dir, layout) = layout();
        let live = std::os::unix::net::UnixListener::bind(layout.socket(Socket::Runner)).unwrap();
        assert!(nobody_listens(&layout).is_err());
        drop(live);
        nobody_listens(&layout).unwrap();
    }

    #[test]
    fn only_what_the_configuration_needs_is_started() {
        let (_dir, layout) = layout();
        let names = |text: &str| {
            let host = HostConfig::parse(text).unwrap();
            specs(&layout, &host, None).unwrap().iter().map(Spec::name).collect::<Vec<_>>()
        };
        assert_eq!(names(""), ["runner", "agent"]);
        let service = "[[service]]\nname = \"web\"\nhealth = [{ tcp = \"127.0.0.1:1\" }]\n";
        assert_eq!(names(service), ["launcher", "courier", "runner", "agent"]);
        let certificate = "[[certificate]]\nname = \"a\"\ncertificate = \"/etc/ssl/a/c.pem\"\nkey = \"/etc/ssl/a/k.pem\"\nnames = [\"a.test\"]\n";
        assert_eq!(names(certificate), ["runner", "agent"]);
        let renewed =
            format!("{certificate}verbs = [\"renew\"]\nwebroot = \"/srv/www\"\naddress = \"127.0.0.1:443\"\n");
        assert_eq!(names(&renewed), ["courier", "acme-courier", "runner", "agent"]);
        let container = "[[container]]\nlabel = \"api\"\nname = \"api\"\n";
        assert_eq!(names(container), ["docker-courier", "runner", "agent"]);
        let database = "[[database]]\nname = \"main\"\nkind = \"postgres\"\n";
        assert_eq!(names(database), ["databases-courier", "runner", "agent"]);
        let program = "[[program]]\npath = \"/bin/true\"\nuser = 998\n";
        let launcher = if systemd_runs() { None } else { Some("launcher") };
        assert_eq!(names(program), launcher.into_iter().chain(["runner", "agent"]).collect::<Vec<_>>());
    }
}
