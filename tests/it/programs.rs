//! Programs as transient units of a real systemd: a real `nginx -t`, what the jail holds, how it ends and what is left.

use std::sync::Arc;

use theriac_model::program::{Jail, Network, ProgramEnding, ProgramOutput, ProgramSpec};
use theriac_model::target::MountPath;
use theriac_model::time::Span;
use theriac_model::units::{Blob, Bytes};
use theriac_runner::backend::systemd::Systemd;
use theriac_runner::hands::{HandError, Programs};
use theriac_tests::systemd_box::{SystemdBox, Up};

/// The distribution's web server's user.
const WWW: u32 = 33;

struct World {
    machine: SystemdBox,
    systemd: Arc<Systemd>,
}

/// One boot for all of them.
// EX01, EX02, EX03, EX08, EX09, EX10, EX11.
#[test]
fn systemd_runs_programs_in_a_jail_and_leaves_nothing_over() {
    let machine = match SystemdBox::up("programs").unwrap() {
        Up::Ready(machine) => machine,
        Up::NotPossible(why) => return println!("not possible here: {why}"),
    };
    let systemd = Arc::new(Systemd::at(Some(&machine.bus_address()), &machine.cgroups()).unwrap());
    let world = World { machine, systemd };
    an_earlier_runners_program_is_killed_first(&world);
    it_says_how_a_program_ended_and_what_it_said(&world);
    nginx_is_asked_about_its_configuration(&world);
    the_environment_is_empty_and_there_are_three_descriptors(&world);
    it_sees_programs_and_libraries_and_what_was_named(&world);
    it_has_no_capability_and_no_network_unless_granted(&world);
    output_is_cut_and_holds_nobody_up(&world);
    at_its_deadline_everything_is_killed(&world);
    a_daemon_that_it_leaves_ends_with_it(&world);
    what_systemd_can_not_start_never_ran(&world);
    programs_run_beside_each_other(&world);
    assert_eq!(world.units(), "", "nothing is left over");
}

impl World {
    fn run(&self, program: &ProgramSpec) -> ProgramOutput {
        self.systemd.run(program).unwrap_or_else(|error| {
            let journal = self.machine.run(&["journalctl", "--no-pager", "-n", "40", "-u", "theriac-program-*"]);
            panic!("{error}\n{journal:?}")
        })
    }

    /// Every unit of a program that systemd still knows.
    fn units(&self) -> String {
        let list = ["systemctl", "list-units", "--all", "--plain", "--no-legend", "theriac-program-*"];
        self.machine.run(&list).unwrap()
    }
}

fn program(argv: &[&str]) -> ProgramSpec {
    ProgramSpec {
        argv: argv.iter().map(ToString::to_string).collect(),
        jail: Jail { uid: WWW, gid: WWW, read: Vec::new(), write: Vec::new(), network: Network::None },
        timeout: Span::from_secs(50),
        output: Bytes(16 << 10),
    }
}

fn sh(script: &str) -> ProgramSpec {
    program(&["/bin/sh", "-c", script])
}

fn text(bytes: &Blob) -> String {
    String::from_utf8_lossy(&bytes.0).into_owned()
}

fn paths(paths: &[&str]) -> Vec<MountPath> {
    paths.iter().map(|path| MountPath::parse(path).unwrap()).collect()
}

fn an_earlier_runners_program_is_killed_first(world: &World) {
    let unit = "theriac-program-1-0.service";
    world.machine.run(&["systemd-run", "--collect", &format!("--unit={unit}"), "/bin/sleep", "infinity"]).unwrap();
    assert!(world.units().contains(unit));
    assert_eq!(world.run(&program(&["/bin/true"])).ending, ProgramEnding::Exited { code: 0 });
    assert_eq!(world.units(), "");
}

fn it_says_how_a_program_ended_and_what_it_said(world: &World) {
    let output = world.run(&sh("echo out; echo err >&2; exit 3"));
    assert_eq!(output.ending, ProgramEnding::Exited { code: 3 });
    assert_eq!((text(&output.stdout), text(&output.stderr)), ("out\n".to_owned(), "err\n".to_owned()));
    assert!(!output.cut && !output.assumed);
    assert_eq!(world.run(&sh("kill -9 $$")).ending, ProgramEnding::Signalled { signal: 9 });
    // EX01, EX02: an argument stays one argument, and no shell and no specifier of systemd's touches it.
    let output = world.run(&program(&["/bin/echo", "$(id)", "a b", "%n", "${HOME}", ";", "$HOME"]));
    assert_eq!(text(&output.stdout), "$(id) a b %n ${HOME} ; $HOME\n");
}

fn nginx_is_asked_about_its_configuration(world: &World) {
    if !world.machine.root().join("usr/sbin/nginx").exists() {
        return println!("not possible here: nginx is not installed");
    }
    let nginx = |name: &str, directive: &str| {
        let main = format!(
            "pid /tmp/nginx.pid;\nerror_log stderr;\nevents {{}}\nhttp {{\naccess_log off;\n\
             client_body_temp_path /tmp/body;\nproxy_temp_path /tmp/proxy;\nfastcgi_temp_path /tmp/fastcgi;\n\
             uwsgi_temp_path /tmp/uwsgi;\nscgi_temp_path /tmp/scgi;\n\
             include /etc/nginx/mime.types;\n{directive}\n}}\n"
        );
        world.machine.write(&format!("/etc/nginx/{name}"), &main).unwrap();
        let mut program = program(&["/usr/sbin/nginx", "-t", "-c", &format!("/etc/nginx/{name}")]);
        program.jail.read = paths(&["/etc/nginx"]);
        // It opens its sockets even to look.
        program.jail.network = Network::Host;
        world.run(&program)
    };
    let good = nginx("good.conf", "server { listen 8080; }");
    assert!(text(&good.stderr).contains("test is successful"), "{good:?} {}", text(&good.stderr));
    assert_eq!(good.ending, ProgramEnding::Exited { code: 0 });
    let bad = nginx("bad.conf", "server { lissten 8080; }");
    assert_eq!(bad.ending, ProgramEnding::Exited { code: 1 });
    assert!(text(&bad.stderr).contains("unknown directive \"lissten\""), "{}", text(&bad.stderr));
}

// EX03, EX08, EX11.
fn the_environment_is_empty_and_there_are_three_descriptors(world: &World) {
    assert_eq!(text(&world.run(&program(&["/bin/cat", "/proc/self/environ"])).stdout), "");
    let script = "for fd in /proc/self/fd/*; do echo ${fd##*/}; done; cat; pwd; true < /dev/tty";
    let output = world.run(&sh(script));
    // The shell expands the pattern with a fourth, its own.
    assert_eq!(text(&output.stdout), "0\n1\n2\n3\n/\n", "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("/dev/tty"));
}

fn it_sees_programs_and_libraries_and_what_was_named(world: &World) {
    let seen = text(&world.run(&sh("cat /etc/shadow /etc/passwd; ls / /root /home /var")).stdout);
    for hidden in ["root:", "srv\n", "boot\n", "opt\n", "log\n"] {
        assert!(!seen.contains(hidden), "{hidden}: {seen}");
    }
    for dir in ["named", "other"] {
        world.machine.write(&format!("/opt/{dir}/file"), "content\n").unwrap();
        world.machine.run(&["chown", "-R", "33:33", &format!("/opt/{dir}")]).unwrap();
    }
    let script = "cat /opt/named/file; cat /opt/other/file; true > /opt/named/new && echo wrote; true > /usr/x || true > /x || echo read-only; true > /tmp/x && echo own";
    let mut program = sh(script);
    program.jail.read = paths(&["/opt/named"]);
    assert_eq!(text(&world.run(&program).stdout), "content\nread-only\nown\n");
    program.jail = Jail { read: Vec::new(), write: paths(&["/opt/named"]), ..program.jail };
    assert_eq!(text(&world.run(&program).stdout), "content\nwrote\nread-only\nown\n");
    assert!(world.machine.root().join("opt/named/new").exists() && !world.machine.root().join("tmp/x").exists());
}

fn it_has_no_capability_and_no_network_unless_granted(world: &World) {
    // As root, too: it is root without any of root's powers.
    let mut program = sh("cat /proc/self/status; unshare --user true; mount -t tmpfs x /tmp; cat /proc/self/net/dev");
    program.jail.uid = 0;
    program.jail.gid = 0;
    let output = world.run(&program);
    let said = text(&output.stdout);
    for line in
        ["Uid:\t0\t0", "CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"]
    {
        assert!(said.contains(line), "{line}: {said}");
    }
    assert!(
        text(&output.stderr).contains("unshare") && text(&output.stderr).contains("mount"),
        "{}",
        text(&output.stderr)
    );
    // A socket of the family is refused without the grant, and made with it.
    let perl =
        ["/usr/bin/perl", "-MSocket", "-e", "socket(S, PF_INET, SOCK_STREAM, 0) or die \"$!\\n\"; print \"made\\n\""];
    if world.machine.root().join("usr/bin/perl").exists() {
        let mut program = self::program(&perl);
        assert!(text(&world.run(&program).stderr).contains("Address family not supported"));
        program.jail.network = Network::Host;
        assert_eq!(text(&world.run(&program).stdout), "made\n");
    }
}

// EX09.
fn output_is_cut_and_holds_nobody_up(world: &World) {
    let mut program = sh("head -c 268435456 /dev/zero; echo done >&2");
    program.output = Bytes(1000);
    let output = world.run(&program);
    assert_eq!((output.ending, output.stdout.0.len(), output.cut), (ProgramEnding::Exited { code: 0 }, 1000, true));
    assert_eq!(text(&output.stderr), "done\n");
}

// EX09, EX10.
fn at_its_deadline_everything_is_killed(world: &World) {
    let mut program = sh(
        "trap '' TERM HUP INT; (setsid sh -c \"trap '' TERM; while :; do sleep 87654; done\" &) ; echo up; while :; do sleep 87654; done",
    );
    program.timeout = Span::from_secs(2);
    let output = world.run(&program);
    assert_eq!((output.ending, text(&output.stdout)), (ProgramEnding::TimedOut, "up\n".to_owned()));
    assert!(world.machine.run(&["pgrep", "-f", "sleep 87654"]).is_err(), "nothing that it started is left");
}

// EX10.
fn a_daemon_that_it_leaves_ends_with_it(world: &World) {
    let output = world.run(&sh("setsid sleep 76543 & exit 0"));
    assert_eq!(output.ending, ProgramEnding::Exited { code: 0 });
    assert!(world.machine.run(&["pgrep", "-f", "sleep 76543"]).is_err());
}

fn what_systemd_can_not_start_never_ran(world: &World) {
    let mut missing = sh("true");
    missing.jail.read = paths(&["/opt/does-not-exist"]);
    for program in [missing, program(&["/usr/bin/does-not-exist"])] {
        let error = world.systemd.run(&program).unwrap_err();
        assert!(matches!(error, HandError::Refused { .. }) && !error.may_have_happened(), "{error}");
    }
}

fn programs_run_beside_each_other(world: &World) {
    let threads: Vec<_> = (0..4)
        .map(|n| {
            let systemd = Arc::clone(&world.systemd);
            std::thread::spawn(move || systemd.run(&sh(&format!("sleep 0.2; echo {n}"))).unwrap())
        })
        .collect();
    for (n, thread) in threads.into_iter().enumerate() {
        assert_eq!(text(&thread.join().unwrap().stdout), format!("{n}\n"));
    }
}
