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

fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
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
struct Kept(Child);

impl Drop for Kept {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// A PostgreSQL with seven slots for those who are no administrators.
struct Postgres {
    _process: Kept,
    bin: PathBuf,
    dir: tempfile::TempDir,
}

impl Postgres {
    /// `None` where it is not installed.
    fn start() -> Option<Self> {
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

    fn as_user(&self, user: &str, statement: &str) -> Result<String, String> {
        let output = self.client(user).args(["-c", statement]).stdin(Stdio::null()).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }

    fn says(&self, statement: &str) -> Result<String, String> {
        self.as_user("postgres", statement)
    }

    fn sessions_of(&self, user: &str) -> u32 {
        let count = format!("SELECT count(*) FROM pg_stat_activity WHERE usename = '{user}' AND state = 'idle'");
        self.says(&count).unwrap().parse().unwrap()
    }

    /// A client that does nothing.
    fn forgets(&self, user: &str) -> Kept {
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

fn courier(layout: &Layout, server: &Postgres) -> Kept {
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

const LISTED: &str = "\n[[database]]\nname = \"main\"\nkind = \"postgres\"\napplications = [\"shop\"]\ntraffic_share = 0.1\n\
    settings.idle_in_transaction_session_timeout = { min = 10000, max = 60000 }\n";

#[test]
fn an_exhausted_pool_that_the_runner_can_not_measure_is_left_to_a_person() {
    if !is_root() {
        println!("not possible here: PostgreSQL and the courier run as users of their own");
        return;
    }
    let Some(server) = Postgres::start() else { return println!("not possible here: no PostgreSQL") };
    let dir = Host::scratch();
    let layout = Layout { config: dir.path().join("config"), state: dir.path().join("state") };
    let _courier = courier(&layout, &server);
    let _clients: Vec<Kept> = ["shop", "shop", "shop", "shop", "mail", "mail"].map(|user| server.forgets(user)).into();
    until("nobody gets in", || server.as_user("mail", "SELECT 1").is_err().then_some(()));

    let rung = "  - remedy: pool-relief\n    level: 1\n    healed_within: 5s\n    stable_for: 300ms\n";
    let setup = Setup {
        remedies: vec!["pool-relief"],
        rules: LISTED.into(),
        playbooks: vec![("test.yaml", playbook("test", "db-connections-exhausted", "pool:main", rung))],
        ..Setup::default()
    };
    let host = Host::start_in(dir, &setup);
    let run = host.heal(&proposal("i-1", "db-connections-exhausted", "pool:main", "test", "pool-relief"));
    assert_eq!(run.state, RunState::Refused, "{run:?}");
    assert!(run.reason.contains("a person is needed"), "{run:?}");
    assert_eq!((server.sessions_of("shop"), server.sessions_of("mail")), (4, 2), "nobody's session was ended");
    host.verify_ledger();
}
