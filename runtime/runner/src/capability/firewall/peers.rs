//! Addresses that nobody may be kept from: the machine's own, the way to the network, whoever is logged in, and what Theriac
//! itself speaks to. Looked up anew before each addition, because people log in.
//!
//! The runner has no socket that could be asked, so it reads what the kernel shows in /proc of the network namespace that the
//! firewall is in. What can't be read is an error: an address is never put in a set because nobody knew whose it was.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use theriac_model::firewall::Network;

/// The largest file: some 400,000 connections, which are there under the very flood that is to be treated.
const MAX_FILE: u64 = 64 << 20;
/// A command line's first word.
const MAX_TITLE: u64 = 4096;
/// `struct utmp` (`utmp(5)`): it begins with the type, and holds the address of the far end.
const UTMP_RECORD: usize = size_of::<libc::utmpx>();
const UTMP_ADDRESS: usize = std::mem::offset_of!(libc::utmpx, ut_addr_v6);
const USER_PROCESS: i16 = 7;
const UTMP: [&str; 2] = ["/run/utmp", "/var/run/utmp"];
/// What the resolver reads, and what systemd's own asks behind it.
const RESOLVERS: [&str; 2] = ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"];
/// `RTF_GATEWAY`.
const GATEWAY: u32 = 0x2;
/// `TCP_ESTABLISHED`.
const ESTABLISHED: &str = "01";

/// Why an address is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Need {
    /// It is one of the machine's.
    Own,
    /// It is the way to the network.
    Gateway,
    /// It answers names.
    Resolver,
    /// Somebody is logged in from there.
    Session,
    /// One of Theriac's processes is connected to it.
    Ours,
}

impl Need {
    pub(super) const fn sentence(self) -> &'static str {
        match self {
            Self::Own => "it is one of this machine's addresses",
            Self::Gateway => "it is a gateway of this machine's",
            Self::Resolver => "it is a name server of this machine's",
            Self::Session => "somebody is logged in from there",
            Self::Ours => "Theriac itself is connected to it",
        }
    }
}

/// Why it is not known whose an address is.
#[derive(Debug, thiserror::Error)]
#[error("`{path}` can't be read")]
pub(super) struct PeersError {
    path: String,
    #[source]
    source: io::Error,
}

/// Who needs an address of the network, if anybody does.
pub(super) fn need(network: &Network) -> Result<Option<(IpAddr, Need)>, PeersError> {
    let peers = Peers::now()?;
    let hit = |(address, _): &&(IpAddr, Need)| Network::host(*address).overlaps(network);
    Ok(peers.0.iter().find(hit).copied())
}

/// Every address that is needed, with the reason.
#[derive(Debug, Default)]
struct Peers(BTreeSet<(IpAddr, Need)>);

impl Peers {
    fn now() -> Result<Self, PeersError> {
        let mut peers = Self::default();
        let mut above = None;
        each("fib_trie", Missing::IsAnError, |line| peers.own_v4(line, &mut above))?;
        each("if_inet6", Missing::IsNothing, |line| peers.own_v6(line))?;
        each("route", Missing::IsAnError, |line| peers.gateway_v4(line))?;
        each("ipv6_route", Missing::IsNothing, |line| peers.gateway_v6(line))?;
        for path in RESOLVERS {
            lines(path, Missing::IsNothing, |line| peers.resolver(line))?;
        }
        let sockets = sockets()?;
        for (table, missing) in [("tcp", Missing::IsAnError), ("tcp6", Missing::IsNothing)] {
            each(table, missing, |line| peers.connection(line, &sockets))?;
        }
        peers.sessions()?;
        Ok(peers)
    }

    fn note(&mut self, address: IpAddr, need: Need) {
        // A server that listens on both families shows an IPv4 client as `::ffff:a.b.c.d`.
        self.0.insert((address.to_canonical(), need));
    }

    /// The table of routes as a tree: each `/32 host LOCAL` belongs to the address above it.
    fn own_v4(&mut self, line: &str, above: &mut Option<Ipv4Addr>) {
        let line = line.trim_start();
        if let Some(address) = line.strip_prefix("|-- ") {
            *above = address.trim().parse().ok();
        } else if line.starts_with("/32 host LOCAL") {
            above.iter().for_each(|address| self.note((*address).into(), Need::Own));
        }
    }

    fn own_v6(&mut self, line: &str) {
        let address = line.split_ascii_whitespace().next().and_then(hex_v6);
        address.into_iter().for_each(|address| self.note(address.into(), Need::Own));
    }

    /// Interface, destination, gateway, flags, …
    fn gateway_v4(&mut self, line: &str) {
        let mut fields = line.split_ascii_whitespace().skip(2);
        let (gateway, flags) = (fields.next().and_then(hex_v4), fields.next().and_then(hex));
        if let (Some(gateway), Some(flags)) = (gateway, flags)
            && flags & GATEWAY != 0
        {
            self.note(gateway.into(), Need::Gateway);
        }
    }

    /// Destination, its length, source, its length, next hop, metric, references, use, flags, interface.
    fn gateway_v6(&mut self, line: &str) {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let [_, _, _, _, hop, _, _, _, flags, ..] = fields.as_slice() else { return };
        if let (Some(hop), Some(flags)) = (hex_v6(hop), hex(flags))
            && flags & GATEWAY != 0
        {
            self.note(hop.into(), Need::Gateway);
        }
    }

    fn resolver(&mut self, line: &str) {
        let mut words = line.split_ascii_whitespace();
        if words.next() == Some("nameserver")
            && let Some(address) = words.next()
            // A zone says by which interface.
            && let Ok(address) = address.split('%').next().unwrap_or(address).parse()
        {
            self.note(address, Need::Resolver);
        }
    }

    /// Number, local, remote, state, queues, timer, retransmits, uid, timeout, inode, …
    fn connection(&mut self, line: &str, sockets: &Sockets) {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let [_, _, remote, state, _, _, _, _, _, inode, ..] = fields.as_slice() else { return };
        let Some(inode) = inode.parse().ok().filter(|_| *state == ESTABLISHED) else { return };
        let need = if sockets.sessions.contains(&inode) {
            Need::Session
        } else if sockets.ours.contains(&inode) {
            Need::Ours
        } else {
            return;
        };
        let address = remote.split(':').next().unwrap_or(remote);
        let address =
            if address.len() == 8 { hex_v4(address).map(IpAddr::V4) } else { socket_v6(address).map(IpAddr::V6) };
        address.into_iter().for_each(|address| self.note(address, need));
    }

    /// Those who logged in, by whatever way that keeps the old book.
    fn sessions(&mut self) -> Result<(), PeersError> {
        for path in UTMP {
            let mut bytes = Vec::new();
            match File::open(path).and_then(|file| file.take(MAX_FILE).read_to_end(&mut bytes)) {
                Ok(_) => self.utmp(&bytes),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(PeersError { path: path.to_owned(), source }),
            }
        }
        Ok(())
    }

    fn utmp(&mut self, bytes: &[u8]) {
        for record in bytes.chunks_exact(UTMP_RECORD) {
            let kind = record.first_chunk().map(|kind| i16::from_ne_bytes(*kind));
            let address: Option<[u8; 16]> = record.get(UTMP_ADDRESS..).and_then(|rest| rest.first_chunk().copied());
            let Some(address) = address.filter(|address| kind == Some(USER_PROCESS) && *address != [0; 16]) else {
                continue;
            };
            let [a, b, c, d, rest @ ..] = address;
            // An IPv4 address has the first word to itself.
            let address = if rest == [0; 12] {
                Ipv4Addr::from([a, b, c, d]).into()
            } else {
                IpAddr::from(Ipv6Addr::from(address))
            };
            self.note(address, Need::Session);
        }
    }
}

/// Sockets, by inode, of processes whose peers are needed.
#[derive(Debug, Default)]
struct Sockets {
    sessions: BTreeSet<u64>,
    ours: BTreeSet<u64>,
}

/// Looks through the processes. One that ends meanwhile has no peers any more.
fn sockets() -> Result<Sockets, PeersError> {
    let all = std::fs::read_dir("/proc").map_err(|source| PeersError { path: "/proc".to_owned(), source })?;
    let mut sockets = Sockets::default();
    for process in all.flatten() {
        if process.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit)
            && let Some(need) = kind_of(&process.path())
        {
            let into = if need == Need::Session { &mut sockets.sessions } else { &mut sockets.ours };
            into.extend(inodes(&process.path()));
        }
    }
    Ok(sockets)
}

/// Whether it is a session or one of ours. A name can be taken by anybody who is on the machine already; he then keeps his own
/// address out of a set, and nothing else.
fn kind_of(process: &Path) -> Option<Need> {
    let comm = text(&process.join("comm"), 64)?;
    if comm.starts_with("theriac") {
        return Some(Need::Ours);
    }
    let title = comm.starts_with("sshd").then(|| text(&process.join("cmdline"), MAX_TITLE)).flatten()?;
    is_session(title.split('\0').next().unwrap_or_default()).then_some(Need::Session)
}

/// What OpenSSH calls its process once somebody is in: `sshd: alice@pts/0`, `sshd-session: root@notty`. Before, and for the
/// process that only watches over it, the title ends with `[preauth]`, `[net]`, `[priv]` or `[accepted]`.
fn is_session(title: &str) -> bool {
    let title = title.trim_end();
    let user = title.strip_prefix("sshd: ").or_else(|| title.strip_prefix("sshd-session: "));
    user.is_some_and(|user| user.contains('@') && !user.ends_with(']'))
}

fn inodes(process: &Path) -> Vec<u64> {
    let Ok(descriptors) = std::fs::read_dir(process.join("fd")) else { return Vec::new() };
    let inode = |descriptor: std::fs::DirEntry| {
        let target = std::fs::read_link(descriptor.path()).ok()?;
        target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
    };
    descriptors.flatten().filter_map(inode).collect()
}

fn text(path: &Path, most: u64) -> Option<String> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(most).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// What a file that is not there means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Missing {
    /// There is none of that here: IPv6, systemd, a resolver.
    IsNothing,
    /// It has to be there.
    IsAnError,
}

/// Each line of a table of this thread's network namespace.
fn each(table: &str, missing: Missing, line: impl FnMut(&str)) -> Result<(), PeersError> {
    lines(&format!("/proc/thread-self/net/{table}"), missing, line)
}

fn lines(path: &str, missing: Missing, mut take: impl FnMut(&str)) -> Result<(), PeersError> {
    let wrong = |source| PeersError { path: path.to_owned(), source };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound && missing == Missing::IsNothing => return Ok(()),
        Err(error) => return Err(wrong(error)),
    };
    let mut reader = BufReader::new(file.take(MAX_FILE));
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line).map_err(wrong)? > 0 {
        take(String::from_utf8_lossy(&line).trim_end());
        line.clear();
    }
    if reader.get_ref().limit() == 0 { Err(wrong(io::ErrorKind::FileTooLarge.into())) } else { Ok(()) }
}

fn hex(text: &str) -> Option<u32> {
    u32::from_str_radix(text, 16).ok()
}

/// The kernel prints the word as the machine has it in memory.
fn hex_v4(text: &str) -> Option<Ipv4Addr> {
    (text.len() == 8).then(|| hex(text)).flatten().map(|word| Ipv4Addr::from(word.to_ne_bytes()))
}

/// 32 digits, in the order of the address.
fn hex_v6(text: &str) -> Option<Ipv6Addr> {
    (text.len() == 32).then(|| u128::from_str_radix(text, 16).ok()).flatten().map(Ipv6Addr::from_bits)
}

/// 32 digits in four words, each as the machine has it in memory.
fn socket_v6(text: &str) -> Option<Ipv6Addr> {
    let mut bytes = [0; 16];
    if text.len() != 32 {
        return None;
    }
    for (index, four) in bytes.chunks_exact_mut(4).enumerate() {
        let word = text.get(index * 8..index * 8 + 8).and_then(hex)?;
        four.copy_from_slice(&word.to_ne_bytes());
    }
    Some(Ipv6Addr::from(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn needed(take: impl FnOnce(&mut Peers)) -> Vec<String> {
        let mut peers = Peers::default();
        take(&mut peers);
        peers.0.iter().map(|(address, need)| format!("{address} {need:?}")).collect()
    }

    #[test]
    fn the_machines_addresses_are_those_that_are_local_and_no_network_or_broadcast() {
        let tree = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 0.0.0.0\n        /0 universe UNICAST\n     +-- 127.0.0.0/8 2 0 2\n        \
                    |-- 127.0.0.1\n           /32 host LOCAL\n     |-- 203.0.113.0\n        /24 link UNICAST\n        \
                    |-- 203.0.113.1\n           /32 host LOCAL\n     |-- 203.0.113.255\n        /32 link BROADCAST\n";
        let own = |peers: &mut Peers| {
            let mut above = None;
            tree.lines().for_each(|line| peers.own_v4(line, &mut above));
        };
        assert_eq!(needed(own), ["127.0.0.1 Own", "203.0.113.1 Own"]);
        let line = "20010db8000000000000000000000001 02 40 00 80     eth0";
        assert_eq!(needed(|peers| peers.own_v6(line)), ["2001:db8::1 Own"]);
    }

    #[cfg(target_endian = "little")]
    #[test]
    fn a_gateway_is_the_hop_of_a_route_that_has_one() {
        let lines = [
            "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT",
            "eth0\t00000000\tFE7100CB\t0003\t0\t0\t0\t00000000\t0\t0\t0",
            "eth0\t007100CB\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0",
        ];
        assert_eq!(needed(|peers| lines.iter().for_each(|line| peers.gateway_v4(line))), ["203.0.113.254 Gateway"]);
        let zero = "0".repeat(32);
        let hop = "20010db80000000000000000000000fe";
        let lines = [
            format!("{zero} 00 {zero} 00 {hop} 00000400 00000001 00000000 00000003 eth0"),
            format!("{hop} 40 {zero} 00 {zero} 00000100 00000001 00000000 00000001 eth0"),
        ];
        assert_eq!(needed(|peers| lines.iter().for_each(|line| peers.gateway_v6(line))), ["2001:db8::fe Gateway"]);
    }

    #[test]
    fn name_servers_are_those_that_the_resolver_asks() {
        let lines = [
            "# nameserver 192.0.2.1",
            "search example",
            "nameserver 192.0.2.53",
            "nameserver fe80::1%eth0",
            "nameserver",
        ];
        let found = needed(|peers| lines.iter().for_each(|line| peers.resolver(line)));
        assert_eq!(found, ["192.0.2.53 Resolver", "fe80::1 Resolver"]);
    }

    #[cfg(target_endian = "little")]
    #[test]
    fn a_connection_counts_when_it_stands_and_is_of_a_session_or_ours() {
        let line = |remote: &str, state: &str, inode: u32| {
            format!(
                "   0: 017100CB:0016 {remote}:D431 {state} 00000000:00000000 02:0009D2E1 00000000     0        0 {inode} 2 0 20"
            )
        };
        let sockets = Sockets { sessions: [7].into(), ours: [8].into() };
        let lines = [
            line("097100CB", "01", 7),
            line("0A7100CB", "01", 8),
            line("0B7100CB", "01", 9),
            line("0C7100CB", "03", 7),
            line("0000000000000000FFFF00000D7100CB", "01", 7),
            line("B80D0120000000000000000001000000", "01", 7),
        ];
        let found = needed(|peers| lines.iter().for_each(|line| peers.connection(line, &sockets)));
        assert_eq!(found, ["203.0.113.9 Session", "203.0.113.10 Ours", "203.0.113.13 Session", "2001:db8::1 Session"]);
    }

    #[test]
    fn a_session_has_begun_when_somebody_is_in_and_not_while_he_is_asked() {
        for title in ["sshd: alice@pts/0", "sshd: root@notty", "sshd-session: alice@pts/12", "sshd: alice@pts/0   "] {
            assert!(is_session(title), "{title}");
        }
        for title in [
            "sshd: alice [priv]",
            "sshd: unknown [preauth]",
            "sshd: a@b [net]",
            "sshd: [accepted]",
            "sshd: /usr/sbin/sshd -D [listener] 1 of 10-100 startups",
            "sshd-session: root [priv]",
            "/usr/sbin/sshd",
            "",
        ] {
            assert!(!is_session(title), "{title}");
        }
    }

    #[test]
    fn the_old_book_of_logins_is_read_by_its_layout() {
        let record = |kind: i16, address: &[u8]| {
            let mut record = [0; UTMP_RECORD];
            record[..2].copy_from_slice(&kind.to_ne_bytes());
            record[UTMP_ADDRESS..UTMP_ADDRESS + address.len()].copy_from_slice(address);
            record
        };
        let v6 = "2001:db8::9".parse::<Ipv6Addr>().unwrap().octets();
        let book =
            [record(7, &[203, 0, 113, 9]), record(8, &[203, 0, 113, 10]), record(7, &[]), record(7, &v6)].concat();
        assert_eq!(needed(|peers| peers.utmp(&book)), ["203.0.113.9 Session", "2001:db8::9 Session"]);
        assert_eq!(needed(|peers| peers.utmp(&book[..500])), ["203.0.113.9 Session"]);
    }

    #[test]
    fn this_machine_is_found_in_its_own_tables() {
        let peers = Peers::now().unwrap();
        assert!(peers.0.contains(&(Ipv4Addr::LOCALHOST.into(), Need::Own)), "{peers:?}");
    }
}
