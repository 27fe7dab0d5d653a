//! A remedy for databases in the real worker: with a scenario's pool, and on a host with the real courier and an exhausted PostgreSQL.
//! What each statement does to which session is tried in the courier's own tests.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use theriac_harness::{Programs, test};
use theriac_model::run::RunState;
use theriac_protocol::layout::{Layout, Socket};
use theriac_protocol::runner::RunSummary;

use crate::host::{Host, PATIENCE, Setup, guest, is_root, playbook, proposal, root};

/// The one that the runner takes by itself.
const COURIER: u32 = 61_107;
const ROLES: &str = "CREATE ROLE shop LOGIN; CREATE ROLE mail LOGIN; CREATE ROLE theriac LOGIN;
    GRANT pg_read_all_stats, pg_read_all_settings, pg_signal_backend TO theriac;
    GRANT ALTER SYSTEM ON PARAMETER idle_in_transaction_session_timeout TO theriac;
    GRANT SELECT ON pg_file_settings TO theriac;
    GRANT EXECUTE ON FUNCTION pg_show_all_file_settings(), pg_reload_conf() TO theriac;";

#[test]
fn the_remedys_scenarios_pass() {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), guest("pool-relief")).unwrap();
    let scenarios = root().join("tests/guests/pool-relief/scenarios");
    let summary = test(&Programs::beside_this_one().unwrap(), file.path(), &scenarios, "").unwrap();
    assert!(summary.passed(), "{summary}");
}

pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "not in time: {what}");
        crate::host::pause();
    }
}

/// Ends with the test.
pub(crate) struct Kept(Child);

impl Drop for Kept {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// A PostgreSQL with seven slots for those who are no administrators.
pub(crate) struct Postgres {
    _process: Kept,
    bin: PathBuf,
    dir: tempfile::TempDir,
}

impl Postgres {
    /// `None` where it is not installed.
    pub(crate) fn start() -> Option<Self> {
        let bin =
            fs::read_dir("/usr/lib/postgresql").ok()?.filter_map(Result::ok).map(|e| e.path().join("bin")).max()?;
        let dir = tempfile::tempdir().unwrap();
        let id = |which| {
            let output = Command::new("id").args([which, "postgres"]).output().unwrap();
            String::from_utf8(output.stdout).unwrap().trim().parse::<u32>().unwrap()
        };
        let (uid, gid) = (id("-u"), id("-g"));
        chown(dir.path(), Some(uid), Some(gid)).unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let data = dir.path().join("data");
        let as_postgres = |program: &str| {
            let mut command = Command::new(bin.join(program));
            command
                .uid(uid)
                .gid(gid)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .arg("-D")
                .arg(&data);
            command
        };
        let made = as_postgres("initdb").args(["--auth=trust", "-U", "postgres", "--no-sync"]).status().unwrap();
        assert!(made.success());
        let process = as_postgres("postgres")
            .args(["-c", "listen_addresses=", "-c", "fsync=off", "-c", "max_connections=10"])
            .args(["-c", "superuser_reserved_connections=3", "-k"])
            .arg(dir.path())
            .spawn()
            .unwrap();
        let server = Self { _process: Kept(process), bin, dir };
        until("PostgreSQL answers", || server.says("SELECT 1").ok());
        server.says(ROLES).unwrap();
        Some(server)
    }

    fn client(&self, user: &str) -> Command {
        let mut command = Command::new(self.bin.join("psql"));
        command.arg("-h").arg(self.dir.path()).args(["-U", user, "-d", "postgres", "-XqAt"]).env("PGAPPNAME", user);
        command
    }

    pub(crate) fn as_user(&self, user: &str, statement: &str) -> Result<String, String> {
        let output = self.client(user).args(["-c", statement]).stdin(Stdio::null()).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }

    pub(crate) fn says(&self, statement: &str) -> Result<String, String> {
        self.as_user("postgres", statement)
    }

    /// The sessions of a user that wait, longest silent first.
    pub(crate) fn silent(&self, user: &str) -> Vec<String> {
        let list = format!(
            "SELECT pid FROM pg_stat_activity WHERE usename = '{user}' AND state = 'idle' ORDER BY state_change"
        );
        self.says(&list).unwrap().lines().map(str::to_owned).collect()
    }

    /// Until everybody who waits has done so for that long.
    pub(crate) fn wait_until_silent(&self, seconds: u32) {
        let young = format!(
            "SELECT count(*) FROM pg_stat_activity WHERE usename IN ('shop', 'mail') \
             AND state_change > now() - interval '{seconds} s'"
        );
        until("all have been silent for long", || (self.says(&young).as_deref() == Ok("0")).then_some(()));
    }

    pub(crate) fn sessions_of(&self, user: &str) -> u32 {
        let count = format!("SELECT count(*) FROM pg_stat_activity WHERE usename = '{user}' AND state = 'idle'");
        self.says(&count).unwrap().parse().unwrap()
    }

    /// A client that does nothing.
    pub(crate) fn forgets(&self, user: &str) -> Kept {
        let before = self.sessions_of(user);
        let mut command = self.client(user);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut client = Kept(command.spawn().unwrap());
        until("the client is in", || {
            // An administrator's session that is just ending still holds a slot.
            if client.0.try_wait().unwrap().is_some() {
                client = Kept(command.spawn().unwrap());
            }
            (self.sessions_of(user) > before).then_some(())
        });
        client
    }
}

pub(crate) fn courier(layout: &Layout, server: &Postgres) -> Kept {
    fs::create_dir_all(&layout.config).unwrap();
    let socket = server.dir.path().join(".s.PGSQL.5432");
    let listed = format!("[[server]]\nname = \"main\"\nkind = \"postgres\"\nsocket = {socket:?}\nuser = \"theriac\"\n");
    fs::write(layout.config.join("courier-databases.toml"), listed).unwrap();
    let child = Command::new(crate::host::binary("theriac-courier"))
        .arg("databases")
        .arg("--config")
        .arg(&layout.config)
        .arg("--state")
        .arg(&layout.state)
        .args(["--uid", &COURIER.to_string(), "--gid", &COURIER.to_string()])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    until("the courier listens", || UnixStream::connect(layout.socket(Socket::CourierDatabases)).ok());
    until("its connection is warm", || (server.sessions_of("theriac") == 1).then_some(()));
    Kept(child)
}

/// Its applications connect again by themselves, so nobody is asked.
pub(crate) const LISTED: &str = "\n[[database]]\nname = \"main\"\nkind = \"postgres\"\napplications = [\"shop\"]\n\
    traffic_share = 0.1\nreproducible = true\n\
    settings.idle_in_transaction_session_timeout = { min = 10000, max = 60000 }\n";
const KIND: &str = "db-connections-exhausted";

/// A host beside the server, and the clients of it, longest silent first.
struct Scene {
    host: Host,
    _courier: Kept,
    _clients: Vec<Kept>,
    server: Postgres,
}

impl Scene {
    /// `None` where this machine can't.
    fn set(clients: &[&str], listed: String) -> Option<Self> {
        if !is_root() {
            println!("not possible here: PostgreSQL and the courier run as users of their own");
            return None;
        }
        let Some(server) = Postgres::start() else {
            println!("not possible here: no PostgreSQL");
            return None;
        };
        let dir = Host::scratch();
        let layout = Layout { config: dir.path().join("config"), state: dir.path().join("state") };
        let courier = courier(&layout, &server);
        let clients = clients.iter().map(|user| server.forgets(user)).collect();
        let rung = "  - remedy: pool-relief\n    level: 1\n    healed_within: 5s\n    stable_for: 300ms\n";
        let setup = Setup {
            remedies: vec!["pool-relief"],
            rules: listed,
            playbooks: vec![("test.yaml", playbook("test", KIND, "pool:main", rung))],
            ..Setup::default()
        };
        let host = Host::start_in(dir, &setup);
        server.wait_until_silent(2);
        Some(Self { host, _courier: courier, _clients: clients, server })
    }

    fn heal(&self) -> RunSummary {
        let run = self.host.heal(&proposal("i-1", KIND, "pool:main", "test", "pool-relief"));
        self.host.verify_ledger();
        run
    }
}

const EXHAUSTED: [&str; 6] = ["shop", "mail", "shop", "shop", "mail", "shop"];

#[test]
fn an_exhausted_pool_is_relieved_of_what_one_application_forgot_and_others_keep_theirs() {
    let Some(scene) = Scene::set(&EXHAUSTED, LISTED.into()) else { return };
    let server = &scene.server;
    until("nobody gets in", || server.as_user("mail", "SELECT 1").is_err().then_some(()));
    let (shop, mail) = (server.silent("shop"), server.silent("mail"));
    let run = scene.heal();
    assert_eq!(run.state, RunState::Committed, "{run:?}");
    assert_eq!(server.silent("shop"), shop[2..], "the two that were silent longest are gone");
    assert_eq!(server.silent("mail"), mail);
    assert_eq!(server.sessions_of("theriac"), 1, "the courier is still in");
    server.as_user("mail", "SELECT 1").unwrap();
    let timeout = "SELECT setting FROM pg_settings WHERE name = 'idle_in_transaction_session_timeout'";
    assert_eq!(server.says(timeout).as_deref(), Ok("30000"));
}

#[test]
fn a_pool_with_room_is_not_treated() {
    let Some(scene) = Scene::set(&EXHAUSTED[..5], LISTED.into()) else { return };
    let before = scene.server.silent("shop");
    let run = scene.heal();
    assert_eq!(run.state, RunState::Superseded, "{run:?}");
    assert!(run.reason.contains("85.7 % of its connections are used"), "{run:?}");
    assert_eq!(scene.server.silent("shop"), before);
}

#[test]
fn an_exhausted_pool_of_an_application_that_is_not_listed_keeps_its_sessions() {
    let listed = LISTED.replace("[\"shop\"]", "[\"other\"]");
    let Some(scene) = Scene::set(&EXHAUSTED, listed) else { return };
    let before = (scene.server.silent("shop"), scene.server.silent("mail"));
    let run = scene.heal();
    assert_eq!(run.state, RunState::Refused, "{run:?}");
    assert_eq!((scene.server.silent("shop"), scene.server.silent("mail")), before);
}
