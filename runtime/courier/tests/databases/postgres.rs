//! PostgreSQL with seven slots for ordinary users.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use theriac_model::database::{
    PoolState, Protected, SessionId, SessionState, Setting, SettingGoal, SettingState, StoredValue,
};
use theriac_protocol::database::{DatabaseAnswer, DatabaseNo, DatabaseRequest};

use super::courier::{Courier, is_refused, is_stale, main, of, of_applications};
use super::place::{Daemon, Kept, as_user, give, program, run, until};

const USER: &str = "postgres";
/// What the courier's user gets, as courier-databases.toml says, and nobody else has.
const ROLES: &str = "
    CREATE ROLE shop LOGIN PASSWORD 'shop'; CREATE ROLE mail LOGIN;
    CREATE ROLE theriac LOGIN PASSWORD 's3cret \\ ''quoted''';
    GRANT pg_read_all_stats, pg_read_all_settings, pg_signal_backend TO theriac;
    GRANT ALTER SYSTEM ON PARAMETER idle_in_transaction_session_timeout, statement_timeout TO theriac;
    GRANT SELECT ON pg_file_settings TO theriac;
    GRANT EXECUTE ON FUNCTION pg_show_all_file_settings(), pg_reload_conf() TO theriac;";
const TIMEOUT: Setting = Setting::IdleInTransactionSessionTimeout;

struct Server {
    process: Daemon,
    bin: PathBuf,
    dir: tempfile::TempDir,
    port: u16,
}

/// `None` where PostgreSQL is not installed.
fn server(more: &[&str]) -> Option<Server> {
    let bin =
        fs::read_dir("/usr/lib/postgresql").ok()?.filter_map(Result::ok).map(|entry| entry.path().join("bin")).max()?;
    program(&[bin.join("postgres").to_str()?])?;
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    give(dir.path(), USER);
    let data = dir.path().join("data");
    let made = run(as_user(USER, &bin.join("initdb"))
        .args(["--auth-local=trust", "--auth-host=scram-sha-256", "-U", "postgres", "--no-sync", "-D"])
        .arg(&data));
    made.unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let sockets = format!("unix_socket_directories={}", dir.path().display());
    let process = as_user(USER, &bin.join("postgres"))
        .arg("-D")
        .arg(&data)
        .args(["-p", &port.to_string(), "-c", "listen_addresses=127.0.0.1", "-c", &sockets, "-c", "fsync=off"])
        .args(["-c", "max_connections=10", "-c", "superuser_reserved_connections=3"])
        .args(more)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let server = Server { process: Daemon(process), bin, dir, port };
    until("PostgreSQL answers", || server.psql("SELECT 1").is_ok());
    server.psql(ROLES).unwrap();
    Some(server)
}

impl Server {
    fn client(&self, user: &str) -> Command {
        let mut command = Command::new(self.bin.join("psql"));
        command
            .arg("-h")
            .arg(self.dir.path())
            .args(["-p", &self.port.to_string(), "-U", user, "-d", "postgres", "-X", "-q", "-A", "-t"])
            .env("PGAPPNAME", user);
        command
    }

    /// As the administrator, who has slots of his own.
    fn psql(&self, statements: &str) -> Result<String, String> {
        run(self.client("postgres").args(["-v", "ON_ERROR_STOP=1", "-c", statements]))
    }

    /// A client that stays, after it has said this.
    fn stays(&self, user: &str, says: &str) -> Kept {
        let before = self.count(user);
        let come = || {
            let mut command = self.client(user);
            let child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            let mut client = Kept(child);
            client.say(says);
            client
        };
        let mut client = come();
        until("the client is in", || {
            // An administrator's session that is just ending still holds a slot.
            if client.has_ended() {
                client = come();
            }
            self.count(user) > before
        });
        client
    }

    fn count(&self, user: &str) -> u32 {
        let statement = format!("SELECT count(*) FROM pg_stat_activity WHERE usename = '{user}'");
        self.psql(&statement).unwrap().trim().parse().unwrap()
    }

    /// Whether one more gets in.
    fn lets_in(&self) -> Result<(), String> {
        run(self.client("shop").args(["-c", "SELECT 1"])).map(|_| ())
    }

    fn socket(&self) -> String {
        format!(
            "[[server]]\nname = \"main\"\nkind = \"postgres\"\nsocket = \"{}/.s.PGSQL.{}\"\nuser = \"theriac\"\n",
            self.dir.path().display(),
            self.port
        )
    }

    fn auto_conf(&self) -> String {
        fs::read_to_string(self.dir.path().join("data/postgresql.auto.conf")).unwrap()
    }
}

/// Six clients beside the courier: nobody else gets in.
fn crowd(server: &Server, courier: &mut Courier) -> Vec<Kept> {
    until("the courier is in", || courier.sessions().used == 1);
    let mut clients: Vec<Kept> = (0..3).map(|_| server.stays("shop", "")).collect();
    clients.push(server.stays("shop", "BEGIN;\nSELECT 1;\n"));
    clients.push(server.stays("shop", "SELECT pg_sleep(600);\n"));
    clients.push(server.stays("mail", ""));
    until("one works and one has a transaction", || {
        let seen = courier.sessions();
        of(&seen, "shop", SessionState::Active).len() == 1
            && of(&seen, "shop", SessionState::IdleInTransaction).len() == 1
    });
    clients
}

#[test]
fn an_exhausted_pool_is_answered_for_by_the_warm_connection_and_is_given_room() {
    let Some(server) = server(&[]) else { return println!("not possible here: no PostgreSQL") };
    let mut courier = Courier::start(&server.socket());
    let _clients = crowd(&server, &mut courier);
    let refused = server.lets_in().unwrap_err();
    assert!(refused.contains("reserved") || refused.contains("too many clients"), "{refused}");

    until("the administrator's last session has ended", || courier.sessions().used == 7);
    let seen = courier.sessions();
    assert_eq!((seen.max, seen.reserved, seen.used), (10, 3, 7));
    assert_eq!(courier.pool(), seen.pool());
    let idle: Vec<_> = of(&seen, "shop", SessionState::Idle).into_iter().cloned().collect();
    assert_eq!((idle.len(), of(&seen, "mail", SessionState::Idle).len()), (3, 1));
    let own = seen.sessions.iter().find(|session| session.application == "theriac").unwrap();
    assert_eq!(own.protected, Some(Protected::Own));

    for session in &idle[..2] {
        assert_eq!(courier.terminate(session, SessionState::Idle, 0), DatabaseAnswer::Terminated);
    }
    let left = courier.sessions();
    assert_eq!(of_applications(&left), 4, "those two and no other");
    let waiting: Vec<_> = of(&left, "shop", SessionState::Idle).iter().map(|left| left.id).collect();
    assert_eq!(waiting, [idle[2].id], "the third one waits as before");
    assert_eq!(of(&left, "shop", SessionState::Active).len(), 1);
    server.lets_in().unwrap();
}

#[test]
fn a_session_that_works_is_another_one_is_too_young_or_an_administrators_stays() {
    let Some(server) = server(&[]) else { return println!("not possible here: no PostgreSQL") };
    let mut courier = Courier::start(&server.socket());
    let _clients = crowd(&server, &mut courier);
    let _administrator = server.stays("postgres", "");
    until("the administrator is idle", || !of(&courier.sessions(), "postgres", SessionState::Idle).is_empty());
    let seen = courier.sessions();
    let before = of_applications(&seen);
    let idle = of(&seen, "shop", SessionState::Idle)[0].clone();
    let active = of(&seen, "shop", SessionState::Active)[0].clone();
    let administrator = of(&seen, "postgres", SessionState::Idle)[0].clone();
    assert_eq!(administrator.protected, Some(Protected::Administrator));

    assert!(is_refused(&courier.terminate(&active, SessionState::Active, 0)));
    assert!(is_stale(&courier.terminate(&active, SessionState::Idle, 0)));
    assert!(is_stale(&courier.terminate(&idle, SessionState::IdleInTransaction, 0)));
    assert!(is_stale(&courier.terminate(&idle, SessionState::Idle, 3600)));
    assert!(is_stale(&courier.terminate(&administrator, SessionState::Idle, 0)));
    let mut other = idle.clone();
    other.id = SessionId { born: idle.id.born + 1, ..idle.id };
    assert!(is_stale(&courier.terminate(&other, SessionState::Idle, 0)), "the number was given to another");
    other = idle.clone();
    other.application = "mail".into();
    assert!(is_stale(&courier.terminate(&other, SessionState::Idle, 0)));
    other.application = "shop' OR '1'='1".into();
    assert!(is_stale(&courier.terminate(&other, SessionState::Idle, 0)), "a name is data");
    assert_eq!(of_applications(&courier.sessions()), before, "nobody was ended");
    assert_eq!(courier.terminate(&idle, SessionState::Idle, 0), DatabaseAnswer::Terminated, "and this one is");
    assert!(is_stale(&courier.terminate(&idle, SessionState::Idle, 0)), "once");
}

#[test]
fn a_transaction_that_waits_is_ended_and_what_it_did_is_rolled_back() {
    let Some(server) = server(&[]) else { return println!("not possible here: no PostgreSQL") };
    server.psql("CREATE TABLE stock (n int); INSERT INTO stock VALUES (1); GRANT ALL ON stock TO shop").unwrap();
    let mut courier = Courier::start(&server.socket());
    let _client = server.stays("shop", "BEGIN;\nUPDATE stock SET n = 2;\n");
    until("it waits", || !of(&courier.sessions(), "shop", SessionState::IdleInTransaction).is_empty());
    let session = of(&courier.sessions(), "shop", SessionState::IdleInTransaction)[0].clone();
    assert_eq!(courier.terminate(&session, SessionState::IdleInTransaction, 0), DatabaseAnswer::Terminated);
    assert_eq!(server.psql("SELECT n FROM stock").unwrap().trim(), "1");
}

#[test]
fn a_setting_is_changed_and_put_back_to_the_letter() {
    let Some(server) = server(&[]) else { return println!("not possible here: no PostgreSQL") };
    let mut courier = Courier::start(&server.socket());
    let untouched = server.auto_conf();
    let before = courier.setting(TIMEOUT);
    assert_eq!(
        before,
        SettingState { value: 0, stored: None },
        "not the courier's own, which is never ended for waiting"
    );
    let DatabaseAnswer::Set(after) = courier.set(TIMEOUT, &before, SettingGoal::Value(30_000)) else { panic!() };
    assert_eq!(after, SettingState { value: 30_000, stored: Some(StoredValue::number(30_000)) });
    assert_eq!(
        server.psql("SHOW idle_in_transaction_session_timeout").unwrap().trim(),
        "30s",
        "it holds for new sessions"
    );
    assert!(is_stale(&courier.set(TIMEOUT, &before, SettingGoal::Value(40_000))), "it is another one by now");
    assert_eq!(courier.set(TIMEOUT, &after, SettingGoal::Back(before.clone())), DatabaseAnswer::Set(before));
    assert_eq!(server.auto_conf(), untouched);

    server.psql("ALTER SYSTEM SET idle_in_transaction_session_timeout = '5min'").unwrap();
    server.psql("SELECT pg_reload_conf()").unwrap();
    until("it holds", || courier.setting(TIMEOUT).value == 300_000);
    let (written, before) = (server.auto_conf(), courier.setting(TIMEOUT));
    assert_eq!(before.stored.as_ref().map(StoredValue::as_str), Some("5min"));
    let DatabaseAnswer::Set(after) = courier.set(TIMEOUT, &before, SettingGoal::Value(30_000)) else { panic!() };
    assert_eq!(courier.set(TIMEOUT, &after, SettingGoal::Back(before.clone())), DatabaseAnswer::Set(before));
    assert_eq!(server.auto_conf(), written, "5min, and not 300000");
}

#[test]
fn what_can_not_be_set_is_refused_and_leaves_no_trace() {
    let more = ["-c", "statement_timeout=77000"];
    let Some(server) = server(&more) else { return println!("not possible here: no PostgreSQL") };
    let mut courier = Courier::start(&server.socket());
    let untouched = server.auto_conf();
    let stronger = courier.setting(Setting::StatementTimeout);
    assert_eq!(stronger.value, 77_000);
    assert!(
        is_refused(&courier.set(Setting::StatementTimeout, &stronger, SettingGoal::Value(5))),
        "the command line wins"
    );
    let before = courier.setting(Setting::LockTimeout);
    assert!(is_refused(&courier.set(Setting::LockTimeout, &before, SettingGoal::Value(5))), "no right to");
    let before = courier.setting(TIMEOUT);
    assert!(is_refused(&courier.set(TIMEOUT, &before, SettingGoal::Value(i64::MAX))), "out of the server's own range");
    let mysql = Setting::MaxConnections;
    let asked = courier.ask(DatabaseRequest::Settings { database: main(), settings: vec![mysql] });
    assert_eq!(asked, DatabaseAnswer::Settings(Vec::new()), "a setting of another kind of server");
    assert_eq!(server.auto_conf(), untouched);
}

#[test]
fn it_gets_in_with_a_password_and_not_with_a_wrong_one() {
    let Some(server) = server(&[]) else { return println!("not possible here: no PostgreSQL") };
    let dir = tempfile::tempdir().unwrap();
    let password = dir.path().join("password");
    let config = format!(
        "[[server]]\nname = \"main\"\nkind = \"postgres\"\naddress = \"127.0.0.1:{}\"\ntls = \"off\"\nuser = \"theriac\"\npassword_file = {password:?}\n",
        server.port
    );
    let write = |text: &str| {
        fs::write(&password, text).unwrap();
        fs::set_permissions(&password, fs::Permissions::from_mode(0o600)).unwrap();
    };
    write("s3cret \\ 'quoted'\n");
    assert_eq!(Courier::start(&config).sessions().used, 1);
    write("wrong\n");
    let answer = Courier::start(&config).ask(DatabaseRequest::Sessions { database: main() });
    let DatabaseAnswer::No(DatabaseNo::Unavailable(reason)) = answer else { panic!("{answer:?}") };
    assert!(reason.contains("28P01"), "{reason}");
}

#[test]
fn a_courier_that_is_let_in_no_more_says_that_nobody_is() {
    let Some(server) = server(&[]) else { return println!("not possible here: no PostgreSQL") };
    let _clients: Vec<Kept> = (0..7).map(|_| server.stays("shop", "")).collect();
    let mut courier = Courier::start(&server.socket());
    until("all slots are taken", || courier.pool() == PoolState::Refusing);
    let answer = courier.ask(DatabaseRequest::Sessions { database: main() });
    let DatabaseAnswer::No(DatabaseNo::Unavailable(reason)) = answer else { panic!("{answer:?}") };
    assert!(reason.contains("53300"), "{reason}");
    server.psql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'shop'").unwrap();
    until("it is in again", || matches!(courier.pool(), PoolState::Counted { max: 10, reserved: 3, .. }));
}

#[test]
fn a_server_that_comes_back_is_reached_again() {
    let Some(mut server) = server(&[]) else { return println!("not possible here: no PostgreSQL") };
    let mut courier = Courier::start(&server.socket());
    assert_eq!(courier.sessions().used, 1);
    server.psql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'theriac'").unwrap();
    until("it is in again", || {
        matches!(courier.ask(DatabaseRequest::Sessions { database: main() }), DatabaseAnswer::Sessions(_))
    });
    server.process.end();
    let gone = courier.ask(DatabaseRequest::Sessions { database: main() });
    assert!(matches!(gone, DatabaseAnswer::No(DatabaseNo::Unavailable(_))), "{gone:?}");
    assert!(courier.is_alive());
}

#[test]
fn the_running_courier_is_sealed_and_another_user_and_still_gets_in() {
    let Some(server) = server(&[]) else { return println!("not possible here: no PostgreSQL") };
    let root = rustix::process::geteuid().is_root();
    let user: &[&str] = if root { &["--uid", "65532", "--gid", "65532"] } else { &[] };
    let mut courier = Courier::start_with(&server.socket(), user);
    assert_eq!(courier.sessions().used, 1);
    let status = fs::read_to_string(format!("/proc/{}/status", courier.pid())).unwrap();
    assert!(status.contains("Seccomp:\t2") && status.contains("NoNewPrivs:\t1"), "{status}");
    assert!(status.contains("Threads:\t1"), "a thread before the seal would not be sealed: {status}");
    if root {
        assert!(status.contains("Uid:\t65532\t65532\t65532\t65532") && status.contains("CapEff:\t0000000000000000"));
    }
    // Lost, it comes back without a file to read.
    server.psql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'theriac'").unwrap();
    until("it is in again", || {
        matches!(courier.ask(DatabaseRequest::Sessions { database: main() }), DatabaseAnswer::Sessions(_))
    });
}
