//! MariaDB with ten slots for ordinary users, which is the least it takes.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use theriac_model::database::{Protected, SessionId, SessionState, Setting, SettingGoal, SettingState};
use theriac_protocol::database::{DatabaseAnswer, DatabaseNo, DatabaseRequest};

use super::courier::{Courier, is_refused, is_stale, main, of, of_applications};
use super::place::{Daemon, Kept, as_user, give, program, run, until};

const USER: &str = "mysql";
/// What the courier's user gets, as courier-databases.toml says.
const USERS: &str = "CREATE USER shop@localhost; CREATE USER mail@localhost; CREATE DATABASE store;
    GRANT ALL ON store.* TO shop@localhost; CREATE TABLE store.stock (n int) ENGINE=InnoDB; INSERT INTO store.stock VALUES (1);
    CREATE USER theriac@localhost; GRANT PROCESS, CONNECTION ADMIN ON *.* TO theriac@localhost;
    CREATE USER poor@localhost;
    CREATE USER theriac@'127.0.0.1' IDENTIFIED BY 's3cret';
    GRANT PROCESS, CONNECTION ADMIN ON *.* TO theriac@'127.0.0.1';";

struct Server {
    _process: Daemon,
    client: PathBuf,
    dir: tempfile::TempDir,
    port: u16,
}

/// `None` where MariaDB is not installed.
fn server() -> Option<Server> {
    let daemon = program(&["/usr/sbin/mariadbd", "/usr/libexec/mariadbd"])?;
    let client = program(&["/usr/bin/mariadb"])?;
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    give(dir.path(), USER);
    let data = format!("--datadir={}/data", dir.path().display());
    // One that starts removes every temporary table that lies about, those of its neighbours in /tmp too.
    let made = run(as_user(USER, Path::new("/usr/bin/mariadb-install-db"))
        .args(["--no-defaults", &data, "--auth-root-authentication-method=normal", "--skip-test-db"])
        .env("TMPDIR", dir.path()));
    made.unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let process = as_user(USER, &daemon)
        .args(["--no-defaults", &data, "--bind-address=127.0.0.1", "--skip-name-resolve", "--max-connections=10"])
        .args([&format!("--port={port}"), &format!("--socket={}/s", dir.path().display())])
        .args([&format!("--pid-file={}/pid", dir.path().display()), "--innodb-flush-log-at-trx-commit=0"])
        .env("TMPDIR", dir.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let server = Server { _process: Daemon(process), client, dir, port };
    until("MariaDB answers", || server.sql("SELECT 1").is_ok());
    server.sql(USERS).unwrap();
    Some(server)
}

impl Server {
    fn as_client(&self, user: &str) -> Command {
        let mut command = Command::new(&self.client);
        let socket = format!("--socket={}/s", self.dir.path().display());
        command.args(["--no-defaults", &socket, "--unbuffered", "--skip-column-names", &format!("--user={user}")]);
        command
    }

    /// As the administrator.
    fn sql(&self, statements: &str) -> Result<String, String> {
        run(self.as_client("root").args(["-e", statements]))
    }

    /// A client that stays, after it has said this.
    fn stays(&self, user: &str, says: &str) -> Kept {
        let child =
            self.as_client(user).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let mut client = Kept(child);
        client.say(says);
        client
    }

    fn lets_in(&self) -> Result<(), String> {
        run(self.as_client("shop").args(["-e", "SELECT 1"])).map(|_| ())
    }

    fn socket(&self) -> String {
        let path = self.dir.path().display();
        format!("[[server]]\nname = \"main\"\nkind = \"mysql\"\nsocket = \"{path}/s\"\nuser = \"theriac\"\n")
    }
}

/// Nine clients beside the courier: nobody else gets in.
fn crowd(server: &Server, courier: &mut Courier) -> Vec<Kept> {
    until("the courier is in", || courier.sessions().used == 1);
    let mut clients = Vec::new();
    let idle =
        ["shop", "shop", "shop", "mail", "mail", "mail", "mail"].map(|user| (user, "SELECT 1;\n", SessionState::Idle));
    let others = [
        ("shop", "USE store; BEGIN; UPDATE stock SET n = 2;\n", SessionState::IdleInTransaction),
        ("shop", "SELECT SLEEP(600);\n", SessionState::Active),
    ];
    for (user, says, state) in idle.into_iter().chain(others) {
        let before = of(&courier.sessions(), user, state).len();
        clients.push(server.stays(user, says));
        until("the client is in", || of(&courier.sessions(), user, state).len() > before);
    }
    clients
}

#[test]
fn an_exhausted_pool_is_answered_for_by_the_warm_connection_and_is_given_room() {
    let Some(server) = server() else { return println!("not possible here: no MariaDB") };
    let mut courier = Courier::start(&server.socket());
    let _clients = crowd(&server, &mut courier);
    let refused = server.lets_in().unwrap_err();
    assert!(refused.contains("Too many connections"), "{refused}");

    let seen = courier.sessions();
    assert_eq!((seen.max, seen.reserved, of_applications(&seen)), (11, 1, 9));
    assert!(courier.pool().used_share() >= 1000.0);
    let own = seen.sessions.iter().find(|session| session.application == "theriac").unwrap();
    assert_eq!(own.protected, Some(Protected::Own));
    let idle = of(&seen, "shop", SessionState::Idle);
    assert_eq!(idle.len(), 3);
    for session in &idle[..2] {
        assert_eq!(courier.terminate(session, SessionState::Idle, 0), DatabaseAnswer::Terminated);
    }
    let left = courier.sessions();
    assert_eq!(of_applications(&left), 7, "those two and no other");
    assert_eq!(of(&left, "shop", SessionState::Idle).iter().map(|left| left.id).collect::<Vec<_>>(), [idle[2].id]);
    assert_eq!(of(&left, "shop", SessionState::Active).len(), 1);
    server.lets_in().unwrap();
}

#[test]
fn a_session_that_works_is_another_one_is_too_young_or_an_administrators_stays() {
    let Some(server) = server() else { return println!("not possible here: no MariaDB") };
    let mut courier = Courier::start(&server.socket());
    let _clients = crowd(&server, &mut courier);
    let _administrator = server.stays("root", "SELECT 1;\n");
    until("the administrator is idle", || !of(&courier.sessions(), "root", SessionState::Idle).is_empty());
    let seen = courier.sessions();
    let idle = of(&seen, "shop", SessionState::Idle)[0].clone();
    let active = of(&seen, "shop", SessionState::Active)[0].clone();
    let administrator = of(&seen, "root", SessionState::Idle)[0].clone();
    assert_eq!(administrator.protected, Some(Protected::Administrator));

    assert!(is_stale(&courier.terminate(&active, SessionState::Active, 0)));
    assert!(is_stale(&courier.terminate(&active, SessionState::Idle, 0)));
    assert!(is_stale(&courier.terminate(&idle, SessionState::IdleInTransaction, 0)));
    assert!(is_stale(&courier.terminate(&idle, SessionState::Idle, 3600)));
    assert!(is_stale(&courier.terminate(&administrator, SessionState::Idle, 0)));
    let mut other = idle.clone();
    other.id = SessionId { born: idle.id.born - 100, ..idle.id };
    assert!(is_stale(&courier.terminate(&other, SessionState::Idle, 0)), "the server was started again since");
    other = idle.clone();
    other.application = "mail".into();
    assert!(is_stale(&courier.terminate(&other, SessionState::Idle, 0)));
    other.application = "shop' OR '1'='1".into();
    assert!(is_stale(&courier.terminate(&other, SessionState::Idle, 0)), "a name is data");
    assert_eq!(of_applications(&courier.sessions()), of_applications(&seen), "nobody was ended");
    assert_eq!(courier.terminate(&idle, SessionState::Idle, 0), DatabaseAnswer::Terminated, "and this one is");
    assert!(is_stale(&courier.terminate(&idle, SessionState::Idle, 0)), "once");
}

#[test]
fn a_transaction_that_waits_is_ended_and_what_it_did_is_rolled_back() {
    let Some(server) = server() else { return println!("not possible here: no MariaDB") };
    let mut courier = Courier::start(&server.socket());
    let _client = server.stays("shop", "USE store; BEGIN; UPDATE stock SET n = 2;\n");
    until("it waits", || !of(&courier.sessions(), "shop", SessionState::IdleInTransaction).is_empty());
    let session = of(&courier.sessions(), "shop", SessionState::IdleInTransaction)[0].clone();
    assert!(is_stale(&courier.terminate(&session, SessionState::Idle, 0)), "the plan was about one without");
    assert_eq!(courier.terminate(&session, SessionState::IdleInTransaction, 0), DatabaseAnswer::Terminated);
    assert_eq!(server.sql("SELECT n FROM store.stock").unwrap().trim(), "1");
}

#[test]
fn a_setting_is_changed_and_put_back() {
    let Some(server) = server() else { return println!("not possible here: no MariaDB") };
    let mut courier = Courier::start(&server.socket());
    let before = courier.setting(Setting::MaxConnections);
    assert_eq!(before, SettingState { value: 10, stored: None });
    let DatabaseAnswer::Set(after) = courier.set(Setting::MaxConnections, &before, SettingGoal::Value(12)) else {
        panic!()
    };
    assert_eq!(server.sql("SELECT @@GLOBAL.max_connections").unwrap().trim(), "12");
    assert!(
        is_stale(&courier.set(Setting::MaxConnections, &before, SettingGoal::Value(13))),
        "it is another one by now"
    );
    let back = courier.set(Setting::MaxConnections, &after, SettingGoal::Back(before.clone()));
    assert_eq!(back, DatabaseAnswer::Set(before.clone()));

    // The server takes ten at least, and says nothing of it.
    server.sql("SET GLOBAL max_connections = 15").unwrap();
    let before = courier.setting(Setting::MaxConnections);
    let odd = courier.set(Setting::MaxConnections, &before, SettingGoal::Value(3));
    assert!(is_refused(&odd), "{odd:?}");
    assert_eq!(server.sql("SELECT @@GLOBAL.max_connections").unwrap().trim(), "15", "and it is back");
    let postgres = Setting::StatementTimeout;
    let asked = courier.ask(DatabaseRequest::Settings { database: main(), settings: vec![postgres] });
    assert_eq!(asked, DatabaseAnswer::Settings(Vec::new()), "a setting of another kind of server");
}

#[test]
fn without_the_right_to_it_a_change_is_refused() {
    let Some(server) = server() else { return println!("not possible here: no MariaDB") };
    let mut courier = Courier::start(&server.socket().replace("\"theriac\"", "\"poor\""));
    let before = courier.setting(Setting::MaxConnections);
    let answer = courier.set(Setting::MaxConnections, &before, SettingGoal::Value(12));
    let DatabaseAnswer::No(DatabaseNo::Refused(reason)) = answer else { panic!("{answer:?}") };
    assert!(reason.contains("1227"), "{reason}");
}

#[test]
fn it_gets_in_with_a_password_and_not_with_a_wrong_one() {
    let Some(server) = server() else { return println!("not possible here: no MariaDB") };
    let dir = tempfile::tempdir().unwrap();
    let password = dir.path().join("password");
    let config = format!(
        "[[server]]\nname = \"main\"\nkind = \"mysql\"\naddress = \"127.0.0.1:{}\"\ntls = \"off\"\nuser = \"theriac\"\npassword_file = {password:?}\n",
        server.port
    );
    let write = |text: &str| {
        fs::write(&password, text).unwrap();
        fs::set_permissions(&password, fs::Permissions::from_mode(0o600)).unwrap();
    };
    write("s3cret\n");
    assert_eq!(Courier::start(&config).sessions().used, 1);
    write("wrong\n");
    let answer = Courier::start(&config).ask(DatabaseRequest::Sessions { database: main() });
    let DatabaseAnswer::No(DatabaseNo::Unavailable(reason)) = answer else { panic!("{answer:?}") };
    assert!(reason.contains("1045"), "{reason}");
}
