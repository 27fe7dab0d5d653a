//! Programs in the jail of a real bubblewrap: what they can see and do, how they end, and what is left of them.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    clippy::print_stdout,
    reason = "a test fails by panicking, and so do its helpers; what is not possible here is said on standard output"
)]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use theriac_model::program::{Jail, Network, ProgramEnding, ProgramOutput, ProgramSpec};
use theriac_model::target::MountPath;
use theriac_model::time::Span;
use theriac_model::units::Bytes;
use theriac_protocol::frame::{self, Frame};
use theriac_protocol::launcher::{LauncherAnswer, LauncherRequest};

/// Far above what anything here takes, so that a slow machine fails no test.
const PATIENCE: Duration = Duration::from_secs(60);
const NOBODY: u32 = 65_533;

const ANSIBLE: &str = "/usr/bin/ansible-playbook";
const LISTED: [&str; 4] = ["/bin/sh", "/bin/true", "/bin/cat", ANSIBLE];

/// A launcher that may run the shell and some more, and a directory of which every part is root's.
struct World {
    launcher: Child,
    dir: tempfile::TempDir,
}

impl World {
    fn start() -> Option<Self> {
        if !Path::new("/usr/bin/bwrap").exists() {
            println!("not possible here: bubblewrap is not installed");
            return None;
        }
        let root = rustix::process::geteuid().is_root();
        let dir = if root { tempfile::tempdir_in("/opt") } else { tempfile::tempdir() }.unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let listed = LISTED.map(|path| format!("[[program]]\npath = \"{path}\"\n")).concat();
        fs::write(dir.path().join("launcher.toml"), listed).unwrap();
        let launcher = Self::spawn(dir.path());
        let world = Self { launcher, dir };
        until("the socket", || UnixStream::connect(world.dir.path().join("run/launcher.sock")).ok());
        let first = world.ask(sh("exit 0"));
        if let LauncherAnswer::Refused(why) = &first
            && why.contains("was not started")
        {
            println!("not possible here: {why}");
            return None;
        }
        Some(world)
    }

    fn spawn(dir: &Path) -> Child {
        Command::new(env!("CARGO_BIN_EXE_theriac-launcher"))
            .args(["--config".as_ref(), dir, "--state".as_ref(), dir])
            .env("LD_PRELOAD_LIKE", "of the launcher")
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    }

    fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(self.dir.path().join("run/launcher.sock")).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    fn begin(&self, epoch: u64, program: ProgramSpec) -> UnixStream {
        let mut stream = self.connect();
        let hello = LauncherRequest::Hello { version: "t".to_owned() };
        for (id, message) in [(1, hello), (2, LauncherRequest::Run(program))] {
            frame::write(&mut stream, &Frame { epoch, id, message }).unwrap();
        }
        stream
    }

    fn ask(&self, program: ProgramSpec) -> LauncherAnswer {
        answer(self.begin(1, program))
    }

    fn run(&self, program: ProgramSpec) -> ProgramOutput {
        match self.ask(program) {
            LauncherAnswer::Ran(output) => output,
            other => panic!("{other:?}"),
        }
    }

    /// A directory that a jail may hold; the jail's user owns it.
    fn shared(&self, name: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::create_dir(&path).unwrap();
        let (uid, gid) = who();
        std::os::unix::fs::chown(&path, Some(uid), Some(gid)).unwrap();
        path
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.launcher);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        self.launcher.wait().unwrap();
    }
}

fn answer(mut stream: UnixStream) -> LauncherAnswer {
    loop {
        let answer: Frame<LauncherAnswer> = frame::read(&mut stream).unwrap();
        if answer.id == 2 {
            return answer.message;
        }
    }
}

fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Root gives programs another user; anybody else is only themselves.
fn who() -> (u32, u32) {
    let own = rustix::process::geteuid();
    if own.is_root() { (NOBODY, NOBODY) } else { (own.as_raw(), rustix::process::getegid().as_raw()) }
}

fn program(argv: &[&str]) -> ProgramSpec {
    let (uid, gid) = who();
    ProgramSpec {
        argv: argv.iter().map(ToString::to_string).collect(),
        jail: Jail { uid, gid, read: Vec::new(), write: Vec::new(), network: Network::None },
        timeout: Span::from_secs(50),
        output: Bytes(16 << 10),
    }
}

fn sh(script: &str) -> ProgramSpec {
    program(&["/bin/sh", "-c", script])
}

fn path(path: &Path) -> MountPath {
    MountPath::parse(path.to_str().unwrap()).unwrap()
}

fn text(bytes: &theriac_model::units::Blob) -> String {
    String::from_utf8_lossy(&bytes.0).into_owned()
}

fn refused(answer: LauncherAnswer) -> String {
    match answer {
        LauncherAnswer::Refused(why) => why,
        other => panic!("not refused: {other:?}"),
    }
}

/// Processes of the machine whose command line holds the text.
fn with_mark(mark: &str) -> Vec<String> {
    let entries = fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
    let lines = entries.filter_map(|path| fs::read(path.join("cmdline")).ok());
    lines.map(|line| String::from_utf8_lossy(&line).into_owned()).filter(|line| line.contains(mark)).collect()
}

#[test]
fn it_says_how_a_program_ended_and_what_it_said() {
    let Some(world) = World::start() else { return };
    let output = world.run(program(&["/bin/true"]));
    assert_eq!((output.ending, output.cut, output.assumed), (ProgramEnding::Exited { code: 0 }, false, false));
    let output = world.run(sh("echo out; echo err >&2; exit 3"));
    assert_eq!(output.ending, ProgramEnding::Exited { code: 3 });
    assert_eq!((text(&output.stdout), text(&output.stderr)), ("out\n".to_owned(), "err\n".to_owned()));
    // The init of a pid namespace passes a signal on as a status.
    assert_eq!(world.run(sh("kill -9 $$")).ending, ProgramEnding::Signalled { signal: 9 });
}

#[test]
fn what_is_not_listed_or_not_possible_is_refused_before_anything_runs() {
    let Some(world) = World::start() else { return };
    assert!(refused(world.ask(program(&["/bin/echo", "x"]))).contains("no [[program]] of launcher.toml"));
    assert!(refused(world.ask(program(&["sh", "-c", "true"]))).contains("no [[program]]"));
    assert!(refused(world.ask(program(&[]))).contains("no [[program]]"));
    let mut missing = sh("true");
    missing.jail.read = vec![path(Path::new("/opt/does-not-exist"))];
    assert!(refused(world.ask(missing)).contains("/opt/does-not-exist"));
    for own in ["/", "/proc", "/sys/kernel", "/dev"] {
        let mut wide = sh("true");
        wide.jail.write = vec![path(Path::new(own))];
        assert!(refused(world.ask(wide)).contains("can't be in a jail"), "{own}");
    }
    let mut long = sh("true");
    long.timeout = Span::from_secs(3600);
    assert!(refused(world.ask(long)).contains("is asked for"));
}

#[test]
fn a_link_is_not_followed_into_the_jail() {
    let Some(world) = World::start() else { return };
    let link = world.dir.path().join("link");
    std::os::unix::fs::symlink("/etc", &link).unwrap();
    let mut program = sh("cat LINK/hostname");
    program.jail.read = vec![path(&link)];
    assert!(refused(world.ask(program)).contains("a link"));
}

// EX03.
#[test]
fn the_environment_is_empty_and_the_directory_is_the_root() {
    let Some(world) = World::start() else { return };
    let output = world.run(program(&["/bin/cat", "/proc/self/environ"]));
    assert_eq!(text(&output.stdout), "PWD=/\0", "bubblewrap's own");
    assert_eq!(text(&world.run(sh("pwd")).stdout), "/\n");
}

// EX08, EX11.
#[test]
fn it_has_three_descriptors_no_terminal_and_nothing_to_read() {
    let Some(world) = World::start() else { return };
    // The shell expands the pattern with a fourth, its own.
    let output = world.run(sh("for fd in /proc/self/fd/*; do echo ${fd##*/}; done; cat; echo end; : < /dev/tty"));
    let said = text(&output.stdout);
    let numbers: Vec<&str> = said.lines().take_while(|line| *line != "end").collect();
    assert_eq!(numbers, ["0", "1", "2", "3"], "{output:?}");
    assert!(text(&output.stderr).contains("/dev/tty"), "{output:?}");
}

#[test]
fn it_sees_programs_and_libraries_and_what_was_named() {
    let Some(world) = World::start() else { return };
    let output = world.run(sh("cat /etc/shadow; cat /etc/passwd; ls /; ls /root /home /var /run"));
    assert!(!text(&output.stdout).contains("root:"), "{output:?}");
    for hidden in ["root", "home", "var", "run", "sys", "srv", "opt"] {
        assert!(!text(&output.stdout).lines().any(|name| name == hidden), "{hidden}: {output:?}");
    }
    let (named, other) = (world.shared("named"), world.shared("other"));
    fs::write(named.join("file"), "content").unwrap();
    fs::write(other.join("file"), "secret").unwrap();
    let script =
        format!("cat {0}/file; cat {1}/file; echo x > {0}/new || echo read-only", named.display(), other.display());
    let mut reads = sh(&script);
    reads.jail.read = vec![path(&named)];
    assert_eq!(text(&world.run(reads).stdout), "contentread-only\n");
    let mut writes = sh(&format!(
        "echo written > {}/new; true > /usr/x || echo read-only; true > /tmp/x && echo own",
        named.display()
    ));
    writes.jail.write = vec![path(&named)];
    assert_eq!(text(&world.run(writes).stdout), "read-only\nown\n");
    assert_eq!(fs::read_to_string(named.join("new")).unwrap(), "written\n");
    use std::os::unix::fs::MetadataExt as _;
    assert_eq!(fs::metadata(named.join("new")).unwrap().uid(), who().0, "as the jail's user");
    assert!(!Path::new("/tmp/x").exists());
}

#[test]
fn it_is_the_jails_user_without_capabilities_and_sees_only_its_own_processes() {
    let Some(world) = World::start() else { return };
    let output = world.run(sh("cat /proc/self/status; echo Processes: /proc/[0-9]*"));
    let status = text(&output.stdout);
    let (uid, gid) = who();
    for line in [
        format!("Uid:\t{uid}\t{uid}\t{uid}\t{uid}"),
        format!("Gid:\t{gid}\t{gid}\t{gid}\t{gid}"),
        "CapEff:\t0000000000000000".to_owned(),
        "CapBnd:\t0000000000000000".to_owned(),
        "NoNewPrivs:\t1".to_owned(),
        "Seccomp:\t2".to_owned(),
    ] {
        assert!(status.contains(&line), "{line}: {status}");
    }
    let processes = status.lines().find(|line| line.starts_with("Processes:")).unwrap();
    assert!(processes.split_whitespace().count() <= 5, "{processes}");
}

#[test]
fn another_user_is_refused_where_the_launcher_is_not_root() {
    let Some(world) = World::start() else { return };
    let mut program = program(&["/bin/true"]);
    program.jail.uid = 12_345;
    let answer = world.ask(program);
    if rustix::process::geteuid().is_root() {
        assert!(matches!(answer, LauncherAnswer::Ran(_)), "{answer:?}");
    } else {
        assert!(refused(answer).contains("only as"));
    }
}

#[test]
fn the_network_is_the_hosts_only_where_the_grant_says_so() {
    let Some(world) = World::start() else { return };
    let own = fs::read_to_string("/proc/self/net/dev").unwrap();
    let devices = |network| {
        let mut program = program(&["/bin/cat", "/proc/self/net/dev"]);
        program.jail.network = network;
        text(&world.run(program).stdout).lines().count()
    };
    // Two lines of heading, and the loopback.
    assert_eq!(devices(Network::None), 3);
    assert_eq!(devices(Network::Host), own.lines().count());
}

#[test]
fn no_namespace_no_trace_and_no_packet_socket() {
    let Some(world) = World::start() else { return };
    let output = world.run(sh("unshare --user true 2>&1; unshare --net true 2>&1; mount -t tmpfs x /tmp 2>&1; true"));
    let said = text(&output.stdout);
    assert_eq!(said.matches("Function not implemented").count(), 3, "{said}");
}

// EX09.
#[test]
fn a_gibibyte_of_output_is_cut_and_holds_nobody_up() {
    let Some(world) = World::start() else { return };
    let mut program = sh("head -c 1073741824 /dev/zero; echo done >&2");
    program.output = Bytes(1000);
    let output = world.run(program);
    assert_eq!((output.ending, output.stdout.0.len(), output.cut), (ProgramEnding::Exited { code: 0 }, 1000, true));
    assert_eq!(text(&output.stderr), "done\n");
    let closed = world.run(sh("exec >&- 2>&-; exit 4"));
    assert_eq!(closed.ending, ProgramEnding::Exited { code: 4 });
}

// EX09, EX10.
#[test]
fn at_its_deadline_everything_that_it_started_is_killed_whatever_it_ignores() {
    let Some(world) = World::start() else { return };
    let mark = format!("8{}", std::process::id());
    let script = format!(
        "trap '' TERM HUP INT; (setsid sh -c \"trap '' TERM; while :; do sleep {mark}; done\" &) ; echo up; while :; do sleep {mark}; done"
    );
    let mut program = sh(&script);
    program.timeout = Span::from_secs(2);
    let output = world.run(program);
    assert_eq!((output.ending, text(&output.stdout)), (ProgramEnding::TimedOut, "up\n".to_owned()));
    assert_eq!(with_mark(&mark), Vec::<String>::new());
}

// EX10.
#[test]
fn a_daemon_that_it_leaves_ends_with_it() {
    let Some(world) = World::start() else { return };
    let mark = format!("9{}", std::process::id());
    let output = world.run(sh(&format!("setsid sleep {mark} & exit 0")));
    assert_eq!(output.ending, ProgramEnding::Exited { code: 0 });
    assert_eq!(with_mark(&mark), Vec::<String>::new());
}

#[test]
fn a_program_ends_with_its_asker_with_a_later_runner_and_with_a_killed_launcher() {
    let Some(mut world) = World::start() else { return };
    let endless = |mark: &str| sh(&format!("while :; do sleep {mark}; done"));
    let running =
        |mark: &str| until("the program", || (!with_mark(&format!("sleep\0{mark}")).is_empty()).then_some(()));
    let gone = |mark: &str| until("its end", || with_mark(mark).is_empty().then_some(()));
    let marks: Vec<String> = (1..=3).map(|n| format!("7{}{n}", std::process::id())).collect();

    let asker = world.begin(1, endless(&marks[0]));
    running(&marks[0]);
    drop(asker);
    gone(&marks[0]);

    let old = world.begin(1, endless(&marks[1]));
    running(&marks[1]);
    let new = world.begin(2, sh("echo new"));
    assert!(matches!(answer(new), LauncherAnswer::Ran(_)));
    assert!(matches!(answer(old), LauncherAnswer::Ran(ProgramOutput { ending: ProgramEnding::Signalled { .. }, .. })));
    gone(&marks[1]);

    let _asker = world.begin(2, endless(&marks[2]));
    running(&marks[2]);
    world.launcher.kill().unwrap();
    world.launcher.wait().unwrap();
    gone(&marks[2]);
    // For the destructor.
    world.launcher = World::spawn(world.dir.path());
}

#[test]
fn programs_run_beside_each_other_up_to_a_number() {
    let Some(world) = World::start() else { return };
    let dir = world.shared("gate");
    let script = format!("while ! [ -e {}/open ]; do sleep 0.05; done; echo $0", dir.display());
    let waiting: Vec<UnixStream> = (0..8)
        .map(|_| {
            let mut program = sh(&script);
            program.jail.read = vec![path(&dir)];
            world.begin(1, program)
        })
        .collect();
    until("the ninth to be refused", || match world.ask(sh("exit 0")) {
        LauncherAnswer::Refused(why) => {
            assert!(why.contains("8 programs run already"), "{why}");
            Some(())
        }
        _ => None,
    });
    fs::write(dir.join("open"), "").unwrap();
    for stream in waiting {
        assert!(
            matches!(answer(stream), LauncherAnswer::Ran(output) if output.ending == ProgramEnding::Exited { code: 0 })
        );
    }
    assert!(matches!(world.ask(program(&["/bin/true"])), LauncherAnswer::Ran(_)));
}

#[test]
fn a_playbook_is_tried_and_played_on_localhost_and_changes_what_its_grant_names_and_nothing_else() {
    let Some(world) = World::start() else { return };
    if !Path::new(ANSIBLE).exists() {
        return println!("not possible here: ansible-core is not installed");
    }
    let (app, other) = (world.shared("app"), world.shared("other"));
    for dir in [&app, &other] {
        fs::write(dir.join("app.conf"), "workers=1\n").unwrap();
    }
    std::os::unix::fs::chown(app.join("app.conf"), Some(who().0), Some(who().1)).unwrap();
    let book = world.dir.path().join("book");
    fs::create_dir(&book).unwrap();
    let inventory = "localhost ansible_connection=local ansible_remote_tmp=/tmp/ansible ansible_python_interpreter=/usr/bin/python3\n";
    fs::write(book.join("inventory"), inventory).unwrap();
    let task = |dir: &Path| {
        format!(
            "    - name: workers\n      ansible.builtin.lineinfile:\n        path: {}/app.conf\n        regexp: ^workers=\n        line: workers=4\n        unsafe_writes: true\n",
            dir.display()
        )
    };
    let head = "- hosts: localhost\n  gather_facts: false\n  tasks:\n";
    fs::write(book.join("granted.yml"), head.to_owned() + &task(&app)).unwrap();
    fs::write(book.join("more.yml"), head.to_owned() + &task(&app) + &task(&other)).unwrap();
    let at = |name: &str| book.join(name).to_str().unwrap().to_owned();
    let play = |name: &str, mode: &[&str]| {
        let mut argv = vec![ANSIBLE.to_owned()];
        argv.extend(mode.iter().map(ToString::to_string));
        argv.extend(["-i".to_owned(), at("inventory"), at(name)]);
        let mut program = ProgramSpec { argv, ..program(&[]) };
        program.jail.read = vec![path(&book)];
        program.jail.write = vec![path(&app)];
        world.run(program)
    };
    let now = |dir: &Path| fs::read_to_string(dir.join("app.conf")).unwrap();

    let tried = play("granted.yml", &["--check", "--diff"]);
    assert_eq!(tried.ending, ProgramEnding::Exited { code: 0 }, "{}", text(&tried.stdout));
    assert!(text(&tried.stdout).contains("+workers=4") && text(&tried.stdout).contains("changed=1"));
    assert_eq!(now(&app), "workers=1\n", "a check changes nothing");

    let played = play("granted.yml", &[]);
    assert_eq!(played.ending, ProgramEnding::Exited { code: 0 }, "{}", text(&played.stdout));
    assert_eq!((now(&app), now(&other)), ("workers=4\n".to_owned(), "workers=1\n".to_owned()));

    let refused = play("more.yml", &[]);
    assert_eq!(refused.ending, ProgramEnding::Exited { code: 2 }, "{}", text(&refused.stdout));
    assert_eq!(now(&other), "workers=1\n", "it is not there for the playbook: {}", text(&refused.stdout));
}
