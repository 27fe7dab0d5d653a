//! Runs that change what each network namespace has for itself: a number of the kernel's, a set of its firewall. Each is played
//! in a namespace of its own, so that nothing of the machine that runs the tests is touched.

use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};

use super::own::sick;
use super::stage::Stage;
use crate::host::Host;

const KNOB: &str = "/proc/sys/net/ipv4/tcp_fin_timeout";
const KNOB_RULES: &str = "\n[[knob]]\nname = \"net.ipv4.tcp_fin_timeout\"\nrange = { min = 10, max = 120 }\n";
const FIREWALL_RULES: &str =
    "\n[[firewall]]\nlabel = \"abusers\"\nfamily = \"inet\"\ntable = \"heal\"\nset = \"block4\"\nverbs = [\"add\"]\n";
const TABLE: &str = "table inet heal {
    set block4 { type ipv4_addr; flags timeout,interval; }
    chain input { type filter hook input priority 0; ip saddr @block4 drop; }
}";

/// What sets a namespace up and looks at it.
pub(super) fn missing() -> Option<&'static str> {
    let there = |tool| Command::new(tool).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    (!there("ip") || !there("nft")).then_some("`ip` or `nft` is not installed")
}

/// This thread, and whatever it starts from now on, is in a namespace with nothing but a loopback.
fn apart() {
    #[expect(unsafe_code, reason = "the call is unsafe for processes that share descriptors; this shares none")]
    // SAFETY: only this thread's network namespace changes.
    unsafe {
        rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNET).unwrap();
    }
    assert!(Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap().success());
}

pub(super) fn sets_a_number() -> Stage {
    apart();
    sick(Host::scratch(), KNOB_RULES.to_owned(), |_| {
        let before = fs::read_to_string(KNOB).unwrap();
        Box::new(move |_, state| assert_eq!(fs::read_to_string(KNOB).unwrap(), before, "{state}"))
    })
}

pub(super) fn keeps_an_address_out() -> Stage {
    apart();
    let mut nft = Command::new("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    nft.stdin.take().unwrap().write_all(TABLE.as_bytes()).unwrap();
    assert!(nft.wait().unwrap().success());
    sick(Host::scratch(), FIREWALL_RULES.to_owned(), |_| {
        Box::new(move |_, state| {
            let set = Command::new("nft").args(["list", "set", "inet", "heal", "block4"]).output().unwrap();
            let set = String::from_utf8(set.stdout).unwrap();
            assert!(set.contains("set block4") && !set.contains("elements"), "{state}: {set}");
        })
    })
}
