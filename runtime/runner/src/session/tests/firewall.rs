//! A real nftables in a network namespace of the test's own, with a client in another one that is really kept out. `nft` makes the
//! table and looks at the set with eyes of its own.

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use theriac_model::call::{Call, Interface, Reply};
use theriac_model::denial::DenialCause;
use theriac_model::effect::{Effect, Observed, UndoOutcome};
use theriac_model::firewall::{ElementInfo, FirewallCall, Network};
use theriac_model::record::Record;
use theriac_model::verdict::Verdict;

use super::world::*;
use crate::recover::{Happened, observe};
use crate::undo::Intent;

const GRANTS: &str = r#"
[grants.firewall.abusers]
set = { from = "operator" }
verbs = ["list", "add"]
prefix4 = 24
max_timeout = "1h"
max_elements = 3
why = "tests"

[grants.firewall.abusers6]
set = { from = "operator" }
verbs = ["list", "add"]
prefix6 = 64
max_timeout = "1h"
max_elements = 3
why = "tests"

[grants.firewall.single]
set = { from = "operator" }
verbs = ["list", "add"]
prefix4 = 24
max_timeout = "1h"
max_elements = 3
why = "tests"

[grants.firewall.forever]
set = { from = "operator" }
verbs = ["list"]
why = "tests"

[grants.firewall.gone]
set = { from = "operator" }
verbs = ["list"]
why = "tests"
"#;
const HOST: &str = r#"
[[firewall]]
label = "abusers"
family = "inet"
table = "heal"
set = "block4"
verbs = ["add"]
never = ["198.51.100.0/24"]
[[firewall]]
label = "abusers6"
family = "inet"
table = "heal"
set = "block6"
verbs = ["add"]
[[firewall]]
label = "single"
family = "inet"
table = "heal"
set = "single4"
verbs = ["add"]
per_hour = 2
[[firewall]]
label = "forever"
family = "inet"
table = "heal"
set = "forever4"
[[firewall]]
label = "gone"
family = "inet"
table = "heal"
set = "nowhere"
"#;
const RULES: &str = "
table inet heal {
    set block4 { type ipv4_addr; flags timeout,interval; }
    set block6 { type ipv6_addr; flags timeout,interval; }
    set single4 { type ipv4_addr; flags timeout; }
    set forever4 { type ipv4_addr; }
    chain input {
        type filter hook input priority 0;
        ip saddr @block4 drop
        ip saddr @single4 drop
    }
}";

/// The address that the machine under test has, and those of its neighbour.
const SERVER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
const CLIENT: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 9);
const ADMIN: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 77);
const PATIENCE: Duration = Duration::from_secs(20);

/// The tests' tools, where they are: the test says what is missing.
fn tools() -> bool {
    ["nft", "ip", "bash"].iter().all(|tool| {
        let found = Command::new(tool).arg("--version").stdin(Stdio::null()).output().is_ok();
        if !found {
            println!("not possible here: `{tool}` is not installed");
        }
        found
    })
}

fn run_tool(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().unwrap();
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn apart() -> Result<(), rustix::io::Errno> {
    #[expect(unsafe_code, reason = "the call is unsafe for processes that share descriptors; this shares none")]
    // SAFETY: only this thread's network namespace changes, and the thread ends with the test.
    unsafe {
        rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNET)
    }
}

/// A neighbour on the same link, in a namespace of its own: it does what it is told, one thing after the other.
struct Neighbour {
    tell: mpsc::Sender<Box<dyn FnOnce() + Send>>,
    tid: u32,
}

impl Neighbour {
    fn start() -> Self {
        let (tell, told) = mpsc::channel::<Box<dyn FnOnce() + Send>>();
        let (say, said) = mpsc::channel();
        std::thread::spawn(move || {
            apart().unwrap();
            say.send(rustix::thread::gettid().as_raw_nonzero().get().unsigned_abs()).unwrap();
            told.into_iter().for_each(|task| task());
        });
        Self { tell, tid: said.recv().unwrap() }
    }

    fn does<T: Send + 'static>(&self, task: impl FnOnce() -> T + Send + 'static) -> T {
        let (say, said) = mpsc::channel();
        self.tell.send(Box::new(move || say.send(task()).unwrap())).unwrap();
        said.recv().unwrap()
    }
}

/// The machine under test with its neighbour.
struct Machine {
    place: Place,
    neighbour: Neighbour,
    service: TcpListener,
}

impl Machine {
    fn start() -> Self {
        run_tool("ip", &["link", "set", "lo", "up"]);
        let neighbour = Neighbour::start();
        let netns = neighbour.tid.to_string();
        run_tool("ip", &["link", "add", "v0", "type", "veth", "peer", "name", "v1", "netns", &netns]);
        run_tool("ip", &["addr", "add", &format!("{SERVER}/24"), "dev", "v0"]);
        run_tool("ip", &["link", "set", "v0", "up"]);
        neighbour.does(|| {
            for address in [CLIENT, ADMIN] {
                run_tool("ip", &["addr", "add", &format!("{address}/24"), "dev", "v1"]);
            }
            run_tool("ip", &["link", "set", "v1", "up"]);
            run_tool("ip", &["link", "set", "lo", "up"]);
        });
        let mut nft = Command::new("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn().unwrap();
        nft.stdin.take().unwrap().write_all(RULES.as_bytes()).unwrap();
        assert!(nft.wait().unwrap().success());
        let service = TcpListener::bind((SERVER, 0)).unwrap();
        Self { place: place_granting(GRANTS, HOST), neighbour, service }
    }

    /// The neighbour gets a connection from its first address.
    fn is_reached(&self) -> bool {
        let address = self.service.local_addr().unwrap();
        self.neighbour.does(move || TcpStream::connect_timeout(&address, Duration::from_millis(300)).is_ok())
    }

    fn wait_until_reached(&self) {
        let deadline = Instant::now() + PATIENCE;
        while !self.is_reached() {
            assert!(Instant::now() < deadline, "still kept out: {}", elements("block4"));
        }
    }
}

/// In a namespace of its own, with the neighbour; nothing of the machine that runs the tests is touched.
fn on_a_machine(test: impl FnOnce(&Machine) + Send + 'static) {
    if !tools() {
        return;
    }
    let thread = std::thread::spawn(move || match apart() {
        Ok(()) => test(&Machine::start()),
        Err(errno) => println!("not possible here: a network namespace needs root ({errno})"),
    });
    thread.join().unwrap();
}

/// What `nft` says is in the set.
fn elements(set: &str) -> String {
    let shown = run_tool("nft", &["list", "set", "inet", "heal", set]);
    shown.split_once("elements = {").map_or_else(String::new, |(_, rest)| rest.trim().to_owned())
}

fn add(ask: Ask<'_>, label: &str, text: &str, seconds: u32) -> Reply {
    let network = Network::parse(text).unwrap();
    let handle = open(ask, Interface::Firewall, label);
    let verb = FirewallCall::Add { address: network.first(), prefix: network.prefix(), seconds };
    ask(Call::Firewall { handle, verb })
}

fn list(ask: Ask<'_>, label: &str) -> Vec<ElementInfo> {
    let handle = open(ask, Interface::Firewall, label);
    match ask(Call::Firewall { handle, verb: FirewallCall::List }) {
        Reply::Elements(elements) => elements,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_client_is_kept_out_until_the_undo_and_nobody_else_is() {
    on_a_machine(|machine| {
        assert!(machine.is_reached(), "before");
        let done = machine.place.both(|ask| assert_eq!(add(ask, "abusers", &CLIENT.to_string(), 600), Reply::Done));
        assert!(!done.must_undo(), "{done:?}");
        assert!(!machine.is_reached());
        let shown = elements("block4");
        assert!(shown.contains("203.0.113.9 timeout 10m") && shown.contains("comment \"theriac r-1/0\""), "{shown}");
        let address = machine.service.local_addr().unwrap();
        let other = machine.neighbour.does(move || from(ADMIN, address));
        assert!(other, "its neighbour still gets through");
        assert_eq!(machine.place.undo(), [UndoOutcome::Restored]);
        machine.wait_until_reached();
        assert_eq!(elements("block4"), "");
        assert_eq!(machine.place.undo(), [UndoOutcome::Restored], "twice is harmless");
    });
}

/// A connection from that address of the neighbour's.
fn from(source: Ipv4Addr, to: SocketAddr) -> bool {
    use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
    let made = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&made, &SocketAddr::from((source, 0))).unwrap();
    connect(&made, &to).is_ok()
}

#[test]
fn an_element_goes_by_itself_and_there_is_nothing_left_to_undo() {
    on_a_machine(|machine| {
        machine.place.both(|ask| assert_eq!(add(ask, "abusers", "203.0.113.9", 2), Reply::Done));
        assert!(!machine.is_reached());
        machine.wait_until_reached();
        assert!(matches!(machine.place.undo()[..], [UndoOutcome::NotNeeded { .. }]));
        assert!(machine.is_reached());
    });
}

#[test]
fn prefixes_of_both_families_are_put_there_as_nft_would() {
    on_a_machine(|machine| {
        let done = machine.place.both(|ask| {
            for network in ["192.0.2.0/24", "192.0.1.255", "223.255.255.0/24"] {
                assert_eq!(add(ask, "abusers", network, 600), Reply::Done, "{network}");
            }
            for network in ["2001:db8::/64", "2001:db8:0:1::", "2001:db8:ffff:ffff::/64"] {
                assert_eq!(add(ask, "abusers6", network, 600), Reply::Done, "{network}");
            }
            assert_eq!(add(ask, "single", "192.0.2.1", 600), Reply::Done);
        });
        assert!(!done.must_undo(), "{done:?}");
        let (v4, v6) = (elements("block4"), elements("block6"));
        for network in ["192.0.2.0/24 ", "192.0.1.255 ", "223.255.255.0/24 "] {
            assert!(v4.contains(network), "{network}: {v4}");
        }
        for network in ["2001:db8::/64 ", "2001:db8:0:1:: ", "2001:db8:ffff:ffff::/64 "] {
            assert!(v6.contains(network), "{network}: {v6}");
        }
        assert!(elements("single4").contains("192.0.2.1 "));
        assert_eq!(machine.place.undo().len(), 7);
        assert_eq!([elements("block4"), elements("block6"), elements("single4")], ["", "", ""]);
    });
}

#[test]
fn a_dry_run_puts_nothing_there_and_lists_what_it_assumes() {
    on_a_machine(|machine| {
        let network = Network::parse("203.0.113.9").unwrap();
        let plan = machine.place.plan(|ask| {
            assert_eq!(list(ask, "abusers"), []);
            assert_eq!(add(ask, "abusers", "203.0.113.9", 600), Reply::Done);
            assert_eq!(list(ask, "abusers"), [ElementInfo { network, expires_s: 600, assumed: true }]);
            assert_eq!(denied(add(ask, "abusers", "203.0.113.9", 600)).cause, DenialCause::Conflict);
            assert_eq!(denied(add(ask, "abusers", "203.0.113.0/28", 600)).rule, "needed");
        });
        assert_eq!((elements("block4"), machine.is_reached()), (String::new(), true));
        assert_eq!(plan.effects.len(), 1);
        assert_eq!(plan.effects[0].before, Observed::Element(None));
        assert_eq!(plan.effects[0].effect.to_string(), "add 203.0.113.9 to inet heal block4 for 10m");
        // The live run does no more than that: a longer time is off plan.
        let mut live = machine.place.live(&plan);
        let mut ask = |call| crate::session::Host::answer(&mut live, call);
        assert_eq!(denied(add(&mut ask, "abusers", "203.0.113.9", 601)).cause, DenialCause::OffPlan);
        assert_eq!(elements("block4"), "");
    });
}

#[test]
fn a_remedy_sees_what_theriac_put_there_and_not_what_others_did() {
    on_a_machine(|machine| {
        run_tool("nft", &["add", "element", "inet", "heal", "block4", "{ 192.0.2.0/24 timeout 1h, 192.0.3.1 }"]);
        machine.place.both(|ask| {
            assert_eq!(add(ask, "abusers", "203.0.113.9", 600), Reply::Done);
        });
        let mut seen = Vec::new();
        machine.place.plan(|ask| seen = list(ask, "abusers"));
        let [mine] = seen[..] else { panic!("{seen:?}") };
        assert_eq!((mine.network.to_string().as_str(), mine.assumed), ("203.0.113.9", false));
        assert!((590..=600).contains(&mine.expires_s), "{mine:?}");
        let reply = |text: &str| {
            let mut reply = None;
            machine.place.plan(|ask| reply = Some(denied(add(ask, "abusers", text, 60))));
            reply.unwrap()
        };
        for there in ["192.0.2.7", "192.0.2.0/25", "192.0.3.0/24"] {
            assert_eq!(reply(there).rule, "set.element", "{there}");
        }
    });
}

/// Each refusal beside its neighbour that is let through.
#[test]
fn addresses_that_the_operator_needs_are_refused_and_their_neighbours_are_not() {
    on_a_machine(|machine| {
        run_tool("ip", &["route", "add", "default", "via", "203.0.113.254"]);
        run_tool("ip", &["-6", "addr", "add", "2001:db8:5::1/64", "dev", "v0", "nodad"]);
        run_tool("ip", &["-6", "route", "add", "default", "via", "2001:db8:5::fe", "dev", "v0"]);
        machine.place.plan(|ask| {
            for (label, text, rule) in [
                ("abusers", "203.0.113.1", "needed"),
                ("abusers", "203.0.113.254", "needed"),
                ("abusers", "203.0.113.0/30", "needed"),
                ("abusers6", "2001:db8:5::1", "needed"),
                ("abusers6", "2001:db8:5::/64", "needed"),
                ("abusers6", "2001:db8:5::fe", "needed"),
                ("abusers", "127.0.0.1", "never"),
                ("abusers", "198.51.100.7", "runner.firewall.never"),
                ("abusers", "10.0.0.7", "runner.firewall.private"),
            ] {
                assert_eq!(denied(add(ask, label, text, 60)).rule, rule, "{text}");
            }
            for (label, text) in
                [("abusers", "203.0.113.253"), ("abusers6", "2001:db8:5::2"), ("abusers6", "2001:db8:6::/64")]
            {
                assert_eq!(add(ask, label, text, 60), Reply::Done, "{text}");
            }
        });
        assert_eq!(elements("block4"), "");
    });
}

/// A process with the name and the title that OpenSSH's have, connected to the neighbour.
fn sshd(title: &str, to: SocketAddr) -> Child {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("sshd");
    // The name of the link is the name of the process. A copy could still be open for writing in a child of another test.
    std::os::unix::fs::symlink("/bin/bash", &program).unwrap();
    let IpAddr::V4(address) = to.ip() else { panic!("{to}") };
    // It reads until its end closes; the title stands where sshd writes its own.
    let script = format!("exec 3<>/dev/tcp/{address}/{}; read -r _ <&3", to.port());
    let start = format!("exec -a '{title}' {} -c '{script}'", program.display());
    let child = Command::new("/bin/bash").args(["-c", &start]).stdin(Stdio::null()).spawn().unwrap();
    let path = format!("/proc/{}/comm", child.id());
    let deadline = Instant::now() + PATIENCE;
    while std::fs::read_to_string(&path).unwrap().trim() != "sshd" {
        assert!(Instant::now() < deadline, "it did not start");
        std::thread::yield_now();
    }
    child
}

#[test]
fn who_is_logged_in_by_ssh_is_never_kept_out_and_who_only_tries_is() {
    on_a_machine(|machine| {
        let mut held = Vec::new();
        for (title, address, wanted) in [
            ("sshd: alice@pts/0", ADMIN, Some("needed")),
            ("sshd: alice [priv]", CLIENT, None),
            ("sshd: unknown [preauth]", CLIENT, None),
        ] {
            let (listener, to) = machine.neighbour.does(move || {
                let listener = TcpListener::bind((address, 0)).unwrap();
                let to = listener.local_addr().unwrap();
                (listener, to)
            });
            let mut session = sshd(title, to);
            held.push(listener.accept().unwrap());
            let mut answer = None;
            machine.place.plan(|ask| answer = Some(add(ask, "abusers", &address.to_string(), 60)));
            match (answer.unwrap(), wanted) {
                (Reply::Denied(denial), Some(rule)) => {
                    assert_eq!(denial.rule, rule);
                    assert!(denial.attempted.contains("somebody is logged in from there"), "{}", denial.attempted);
                    assert_eq!(denial.suggestion, None);
                }
                (Reply::Done, None) => {}
                (other, _) => panic!("{title}: {other:?}"),
            }
            session.kill().unwrap();
            session.wait().unwrap();
        }
    });
}

#[test]
fn somebody_who_logs_in_between_plan_and_run_is_not_kept_out() {
    on_a_machine(|machine| {
        let plan = machine.place.plan(|ask| assert_eq!(add(ask, "abusers", &ADMIN.to_string(), 60), Reply::Done));
        let (listener, to) = machine.neighbour.does(|| {
            let listener = TcpListener::bind((ADMIN, 0)).unwrap();
            let to = listener.local_addr().unwrap();
            (listener, to)
        });
        let mut session = sshd("sshd: root@notty", to);
        let held = listener.accept().unwrap();
        let mut live = machine.place.live(&plan);
        let mut ask = |call| crate::session::Host::answer(&mut live, call);
        assert_eq!(denied(add(&mut ask, "abusers", &ADMIN.to_string(), 60)).rule, "needed");
        assert_eq!(elements("block4"), "");
        drop(held);
        session.kill().unwrap();
        session.wait().unwrap();
    });
}

#[test]
fn a_set_that_is_not_made_for_it_is_told_with_what_it_lacks() {
    on_a_machine(|machine| {
        machine.place.plan(|ask| {
            let handle = open(ask, Interface::Firewall, "forever");
            let denial = denied(ask(Call::Firewall { handle, verb: FirewallCall::List }));
            assert_eq!((denial.cause, denial.rule.as_str()), (DenialCause::Unavailable, "set.type"));
            assert!(denial.attempted.contains("flags timeout"), "{}", denial.attempted);
            let handle = open(ask, Interface::Firewall, "gone");
            assert_eq!(denied(ask(Call::Firewall { handle, verb: FirewallCall::List })).rule, "set");
            assert_eq!(denied(add(ask, "single", "192.0.2.0/24", 60)).rule, "set.flags");
            assert_eq!(denied(add(ask, "single", "2001:db8::1", 60)).rule, "set.type");
            assert_eq!(add(ask, "single", "192.0.2.1", 60), Reply::Done);
        });
    });
}

#[test]
fn a_run_and_an_hour_have_their_counts_and_a_restart_forgets_none() {
    on_a_machine(|machine| {
        machine.place.plan(|ask| {
            for last in 1..=3 {
                assert_eq!(add(ask, "abusers", &format!("192.0.2.{last}"), 60), Reply::Done);
            }
            assert_eq!(denied(add(ask, "abusers", "192.0.2.4", 60)).rule, "max_elements");
            for last in 1..=2 {
                assert_eq!(add(ask, "single", &format!("192.0.2.{last}"), 60), Reply::Done);
            }
            assert_eq!(denied(add(ask, "single", "192.0.2.3", 60)).rule, "runner.firewall.per_hour");
        });
        machine.place.both(|ask| {
            for last in 1..=2 {
                assert_eq!(add(ask, "single", &format!("192.0.2.{last}"), 60), Reply::Done);
            }
        });
        assert_eq!(machine.place.undo().len(), 2);
        let full = |machine: &Machine| {
            let mut reply = None;
            machine.place.plan(|ask| reply = Some(denied(add(ask, "single", "192.0.2.9", 60))));
            let denial = reply.unwrap();
            (denial.cause, denial.rule)
        };
        let wanted = (DenialCause::OverBudget, "runner.firewall.per_hour".to_owned());
        assert_eq!(full(machine), wanted, "what was taken back was put there all the same");
        let again = crate::additions::Additions::of(&machine.place.entries());
        let Effect::Firewall(effect) = firewall_effect(&machine.place) else { panic!() };
        assert_eq!(again.in_this_hour(&effect.set, theriac_model::time::GuardTime(0)), 2);
    });
}

fn firewall_effect(place: &Place) -> Effect {
    let intent = |record: Record| if let Record::Intent { effect, .. } = record { Some(effect) } else { None };
    place.entries().into_iter().find_map(|entry| intent(entry.record)).unwrap()
}

#[test]
fn what_somebody_else_put_there_since_is_left_alone() {
    on_a_machine(|machine| {
        machine.place.both(|ask| assert_eq!(add(ask, "abusers", "203.0.113.9", 600), Reply::Done));
        run_tool("nft", &["delete", "element", "inet", "heal", "block4", "{ 203.0.113.9 }"]);
        run_tool(
            "nft",
            &["add", "element", "inet", "heal", "block4", "{ 203.0.113.9 timeout 10m comment \"by hand\" }"],
        );
        assert!(matches!(machine.place.undo()[..], [UndoOutcome::ChangedSince { .. }]));
        assert!(elements("block4").contains("by hand"));
        assert!(!machine.is_reached());
    });
}

#[test]
fn after_a_crash_the_set_itself_says_whether_it_happened() {
    on_a_machine(|machine| {
        machine.place.both(|ask| assert_eq!(add(ask, "abusers", "203.0.113.9", 600), Reply::Done));
        let entries = machine.place.without_outcomes();
        let happened = || {
            let intent = entries.iter().find(|entry| matches!(entry.record, Record::Intent { .. })).unwrap();
            observe(&machine.place.world, &Intent::of(&intent.record).unwrap())
        };
        assert!(matches!(happened(), Happened::Yes(Observed::Element(Some(_)))));
        assert_eq!(machine.place.undo_with(&entries, Verdict::Unknown), [UndoOutcome::Restored]);
        assert_eq!(happened(), Happened::No);
        run_tool("nft", &["add", "element", "inet", "heal", "block4", "{ 203.0.113.9 timeout 1m }"]);
        assert!(matches!(happened(), Happened::Unknown { .. }));
    });
}

#[test]
fn a_firewall_that_was_unloaded_has_nothing_to_take_back() {
    on_a_machine(|machine| {
        machine.place.both(|ask| assert_eq!(add(ask, "abusers", "203.0.113.9", 600), Reply::Done));
        run_tool("nft", &["flush", "ruleset"]);
        assert!(matches!(machine.place.undo()[..], [UndoOutcome::NotNeeded { .. }]));
    });
}
