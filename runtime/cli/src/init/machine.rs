//! What is on this machine: filesystems and listening sockets from /proc, and the services that are there to stay from systemd.
//!
//! Where systemd can't be asked, units are found by the cgroups of running processes. Whose socket it is can be seen only with
//! the right to look into the process; an ordinary user finds units and mounts.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::Duration;

use super::certificates;
use theriac_authority::grant::never_unit;
use theriac_authority::host::DEFAULT;
use theriac_model::database::DatabaseKind;
use theriac_model::id::UnitName;
use theriac_model::target::MountPath;
use theriac_probe::systemd::Systemd;

/// State of a listening socket in /proc/net/tcp.
const LISTEN: &str = "0A";
/// systemd answers at once; a machine whose bus is stuck is looked at without it.
const ASKED: Duration = Duration::from_secs(10);
/// What lies on a disk and fills up.
const FILESYSTEMS: [&str; 8] = ["ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "bcachefs"];

/// Where engines of containers listen.
const ENGINES: [&str; 2] = ["/run/docker.sock", "/run/podman/podman.sock"];
/// How many users nftables has in the kernel.
const NFTABLES: &str = "/sys/module/nf_tables/refcnt";
/// Where the packages of the distributions let databases listen: what it is called, its kind, its socket.
const DATABASES: [(&str, DatabaseKind, &str); 4] = [
    ("postgres", DatabaseKind::Postgres, "/run/postgresql/.s.PGSQL.5432"),
    ("postgres", DatabaseKind::Postgres, "/tmp/.s.PGSQL.5432"),
    ("mysql", DatabaseKind::Mysql, "/run/mysqld/mysqld.sock"),
    ("mysql", DatabaseKind::Mysql, "/var/lib/mysql/mysql.sock"),
];

/// What was found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Machine {
    /// Filesystems that can fill up.
    mounts: BTreeSet<MountPath>,
    /// Running units of systemd, each with where it listens.
    units: BTreeMap<UnitName, BTreeSet<SocketAddrV4>>,
    /// What nginx serves.
    certificates: Vec<certificates::Served>,
    /// Database servers by their socket; of one kind the first.
    databases: BTreeMap<&'static str, (DatabaseKind, &'static str)>,
    /// systemd itself named the units: they are services that are there to stay.
    vouched: bool,
    /// The socket of an engine of containers.
    engine: Option<&'static str>,
    /// nftables has rules here.
    nftables: bool,
}

impl Machine {
    /// Looks at the running machine.
    pub(super) fn look() -> Self {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let mut sockets = BTreeMap::new();
        for (table, is_v6) in [("/proc/net/tcp", false), ("/proc/net/tcp6", true)] {
            sockets.extend(listening(&fs::read_to_string(table).unwrap_or_default(), is_v6));
        }
        let mut units: BTreeMap<UnitName, BTreeSet<SocketAddrV4>> = BTreeMap::new();
        for pid in theriac_probe::proc::pids(std::path::Path::new("/proc")) {
            let cgroup = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
            if let Some(unit) = unit_of(&cgroup) {
                units.entry(unit).or_default().extend(addresses(pid, &sockets));
            }
        }
        let engine = ENGINES.into_iter().find(|path| is_socket(path));
        let nftables = fs::read_to_string(NFTABLES).is_ok_and(|users| users.trim() != "0");
        Self {
            mounts: filesystems(&mounts),
            certificates: certificates::look(),
            databases: databases(is_socket),
            engine,
            nftables,
            ..Self::with_units(units, lasting_services())
        }
    }

    /// The units that systemd names, or those that were found running; never one that nobody can be granted.
    fn with_units(mut found: BTreeMap<UnitName, BTreeSet<SocketAddrV4>>, named: Option<Vec<UnitName>>) -> Self {
        let vouched = named.is_some();
        if let Some(named) = named {
            found = named.into_iter().map(|name| (name.clone(), found.remove(&name).unwrap_or_default())).collect();
        }
        found.retain(|name, _| never_unit(name).is_none() && !is_login(name));
        Self { units: found, vouched, ..Self::default() }
    }

    /// The reference, then what was found: listed, and nothing in it may be changed.
    pub(super) fn runner_toml(&self) -> String {
        let mut text = format!(
            "{DEFAULT}\n# ---- What `theriac init` found on this machine. Nothing may be changed yet: add verbs, then change `mode`.\n"
        );
        for mount in &self.mounts {
            let path = toml_text(mount.as_str());
            let _infallible = write!(text, "\n[[mount]]\npath = {path}\n#traffic_share = 1.0\n");
        }
        for (unit, listens) in &self.units {
            let name = toml_text(unit.as_str());
            let verbs = "verbs = [\"start\", \"restart\", \"reset-failed\"]";
            if listens.is_empty() && self.vouched {
                let _infallible = write!(text, "\n[[unit]]\nname = {name}\n#{verbs}\n#traffic_share = 0.5\n");
            } else if listens.is_empty() {
                let _infallible = write!(text, "\n#[[unit]]\n#name  = {name}\n#{verbs}\n");
            } else {
                let checks: Vec<String> =
                    listens.iter().map(|at| format!("{{ tcp = \"{at}\", timeout = \"2s\" }}")).collect();
                let _infallible = write!(
                    text,
                    "\n[[unit]]\nname = {name}\nhealth = [{}]\n#{verbs}\n#traffic_share = 0.5\n",
                    checks.join(", ")
                );
            }
        }
        text.push_str(&certificates::lines(&self.certificates));
        for (name, (kind, _)) in &self.databases {
            let _infallible = write!(
                text,
                "\n#[[database]]\n#name = \"{name}\"\n#kind = \"{kind}\"\n#applications = [\"…\"]\n#traffic_share = 0.5\n"
            );
        }
        text
    }

    /// The courier's reference, then how the servers that were found are reached; none where there is none.
    pub(super) fn courier_databases_toml(&self) -> Option<String> {
        let mut text = include_str!("../../../courier/src/databases/courier-databases.toml").to_owned();
        for (name, (kind, socket)) in &self.databases {
            let _infallible = write!(
                text,
                "\n#[[server]]\n#name = \"{name}\"\n#kind = \"{kind}\"\n#socket = \"{socket}\"\n#user = \"theriac\"\n"
            );
        }
        (!self.databases.is_empty()).then_some(text)
    }

    /// What a person has to add.
    pub(super) fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        notes.extend(self.databases.values().map(|(kind, socket)| {
            format!("{kind} listens on {socket}: make a user for the courier, then take the # away in courier-databases.toml and runner.toml")
        }));
        let found = match self.certificates.len() {
            0 => {
                "no certificates of nginx were found: list those of others as [[certificate]] in runner.toml".to_owned()
            }
            found => format!("{found} certificates of nginx are in runner.toml, each behind a `#`"),
        };
        notes.push(found);
        if !rustix::process::geteuid().is_root() {
            notes.push("not root: which unit listens where could not be seen".to_owned());
        }
        if !self.vouched && !self.units.is_empty() {
            notes.push("systemd could not be asked: units are those in whose cgroups something ran".to_owned());
        }
        if let Some(socket) = self.engine {
            notes.push(format!(
                "containers: an engine listens on `{socket}`; list them as [[container]] in runner.toml, name the socket in courier-docker.toml, and let the docker courier run"
            ));
        }
        if self.nftables {
            notes.push("firewall: nftables is in use; list a set of yours in which remedies may put addresses as [[firewall]] in runner.toml".to_owned());
        }
        if self.units.is_empty() {
            notes.push(
                "no units of systemd run here: list services in launcher.toml and as [[service]] in runner.toml"
                    .to_owned(),
            );
        }
        notes
    }
}

fn is_socket(path: &str) -> bool {
    use std::os::unix::fs::FileTypeExt as _;
    fs::metadata(path).is_ok_and(|meta| meta.file_type().is_socket())
}

fn databases(there: impl Fn(&str) -> bool) -> BTreeMap<&'static str, (DatabaseKind, &'static str)> {
    let found = DATABASES.into_iter().rev().filter(|(_, _, socket)| there(socket));
    found.map(|(name, kind, socket)| (name, (kind, socket))).collect()
}

/// What systemd says; `None` where there is none, or it does not answer.
fn lasting_services() -> Option<Vec<UnitName>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
    runtime.block_on(async {
        let asked = async { Systemd::connect(None).await.ok()?.lasting_services().await.ok() };
        tokio::time::timeout(ASKED, asked).await.ok()?
    })
}

/// A terminal that waits for a person is no service that can fail them.
fn is_login(name: &UnitName) -> bool {
    let name = name.as_str();
    ["getty@", "serial-getty@", "container-getty@", "console-getty."].iter().any(|getty| name.starts_with(getty))
}

/// A basic TOML string: JSON's escapes are among TOML's.
fn toml_text(text: &str) -> String {
    serde_json::to_string(text).unwrap_or_default()
}

/// Writable filesystems on a device, each once: of several mounts of one device the first, which is the one of the whole.
fn filesystems(mountinfo: &str) -> BTreeSet<MountPath> {
    let mut devices = BTreeSet::new();
    let mount = |line: &str| {
        let (place, source) = line.split_once(" - ")?;
        let mut place = place.split(' ').skip(2);
        let (device, _root, path, options) = (place.next()?, place.next()?, place.next()?, place.next()?);
        let kind = source.split(' ').next()?;
        let fills = FILESYSTEMS.contains(&kind) || path == "/";
        let writable = options.split(',').any(|option| option == "rw");
        // The kernel writes spaces and the like as `\040`: such a mount point is listed by hand.
        let plain = !path.contains('\\') && !std::path::Path::new(path).is_file();
        (fills && writable && plain).then(|| (device.to_owned(), MountPath::parse(path).ok()))
    };
    let found = mountinfo.lines().filter_map(mount);
    found.filter_map(|(device, path)| path.filter(|_| devices.insert(device))).collect()
}

/// Where somebody listens, by the socket's inode.
fn listening(table: &str, is_v6: bool) -> BTreeMap<u64, SocketAddrV4> {
    let socket = |line: &str| {
        let mut fields = line.split_ascii_whitespace();
        let (local, state) = (fields.nth(1)?, fields.nth(1)?);
        let inode: u64 = fields.nth(5)?.parse().ok()?;
        let (address, port) = local.split_once(':')?;
        let address = if is_v6 { from_v6(address)? } else { from_v4(address)? };
        (state == LISTEN).then(|| (inode, SocketAddrV4::new(address, u16::from_str_radix(port, 16).unwrap_or(0))))
    };
    table.lines().skip(1).filter_map(socket).collect()
}

/// "Any address" is asked at loopback.
fn from_v4(hex: &str) -> Option<Ipv4Addr> {
    let address = Ipv4Addr::from(u32::from_str_radix(hex, 16).ok()?.swap_bytes());
    Some(if address.is_unspecified() { Ipv4Addr::LOCALHOST } else { address })
}

/// A socket for any IPv6 address answers on IPv4, too; others are left to a person.
fn from_v6(hex: &str) -> Option<Ipv4Addr> {
    hex.bytes().all(|digit| digit == b'0').then_some(Ipv4Addr::LOCALHOST)
}

/// The service in which a process runs: the first below slices, such as `…/system.slice/nginx.service`, on either cgroup version.
/// A person's own services, which another manager keeps, lie below `user.slice`.
fn unit_of(cgroup: &str) -> Option<UnitName> {
    let service = |line: &str| {
        let path = line.splitn(3, ':').nth(2)?;
        let mut parts = path.split('/').skip_while(|part| !part.ends_with(".slice"));
        let first = parts.clone().next()?;
        let name = parts.find(|part| !part.ends_with(".slice")).filter(|part| part.ends_with(".service"))?;
        if first == "user.slice" { None } else { UnitName::parse(name).ok() }
    };
    cgroup.lines().find_map(service)
}

fn addresses(pid: u32, sockets: &BTreeMap<u64, SocketAddrV4>) -> BTreeSet<SocketAddrV4> {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else { return BTreeSet::new() };
    let inode = |entry: fs::DirEntry| {
        let link = fs::read_link(entry.path()).ok()?;
        link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse::<u64>().ok()
    };
    let found = entries.filter_map(Result::ok).filter_map(inode).filter_map(|inode| sockets.get(&inode).copied());
    found.filter(|at| SocketAddr::from(*at).port() != 0).collect()
}

#[cfg(test)]
mod tests {
    use theriac_authority::host::HostConfig;
    use theriac_model::catalog::Mode;

    use super::*;

    #[test]
    fn filesystems_on_disks_are_found_once_and_pseudo_ones_are_not() {
        let mountinfo = "\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
23 22 0:5 / /proc rw - proc proc rw
24 22 8:2 / /var rw - xfs /dev/sda2 rw
25 22 8:2 /lib/docker /mnt/bind rw - xfs /dev/sda2 rw
26 22 8:3 / /ro ro - ext4 /dev/sdb1 ro
27 22 8:4 / /with\\040space rw - ext4 /dev/sdc1 rw
";
        let found: Vec<String> = filesystems(mountinfo).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["/", "/var"]);
    }

    #[test]
    fn listening_sockets_are_read_in_the_kernels_byte_order() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
            0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  0 0 4242 1 0 100 0 0 10 0\n   \
            1: 0100007F:1F91 0100007F:9999 01 00000000:00000000 00:00000000 00000000  0 0 4243 1 0 100 0 0 10 0\n";
        let found = listening(table, false);
        assert_eq!(found.into_iter().collect::<Vec<_>>(), [(4242, "127.0.0.1:8080".parse().unwrap())]);
    }

    #[test]
    fn a_process_belongs_to_its_service_on_either_cgroup_version() {
        let name = |text| unit_of(text).map(|unit| unit.to_string());
        assert_eq!(name("0::/system.slice/nginx.service\n").as_deref(), Some("nginx.service"));
        assert_eq!(
            name("4:memory:/system.slice/nginx.service/worker\n1:name=systemd:/x\n").as_deref(),
            Some("nginx.service")
        );
        assert_eq!(name("0::/apps.slice/apps-web.slice/worker.service\n").as_deref(), Some("worker.service"));
        assert_eq!(name("0::/user.slice/user-1000.slice/session-1.scope\n"), None);
        assert_eq!(name("0::/user.slice/user-1000.slice/user@1000.service/app.slice/mine.service\n"), None);
        assert_eq!(name("0::/init.scope\n"), None);
    }

    #[test]
    fn systemds_word_on_what_is_a_service_wins_and_nobody_is_offered_what_can_not_be_granted() {
        let unit = |name| UnitName::parse(name).unwrap();
        let at = BTreeSet::from(["127.0.0.1:80".parse().unwrap()]);
        let found = || BTreeMap::from([(unit("nginx.service"), at.clone()), (unit("passing.service"), at.clone())]);
        let named = ["cron.service", "nginx.service", "dbus.service", "systemd-journald.service", "getty@tty1.service"];
        let machine = Machine::with_units(found(), Some(named.map(unit).to_vec()));
        assert_eq!(
            machine.units,
            BTreeMap::from([(unit("cron.service"), BTreeSet::new()), (unit("nginx.service"), at.clone())])
        );
        let host = HostConfig::parse(&machine.runner_toml()).unwrap();
        let watched: Vec<_> = host.units.iter().map(|(name, unit)| (name.as_str(), unit.health.len())).collect();
        assert_eq!(watched, [("cron.service", 0), ("nginx.service", 1)], "what lasts is watched, checked or not");
        assert!(host.units.values().all(|unit| unit.verbs.is_empty()));
        let machine = Machine::with_units(found(), None);
        assert_eq!(machine.units.len(), 2, "without systemd's word, what runs is taken");
        assert!(machine.notes().iter().any(|note| note.starts_with("systemd could not be asked")));
    }

    #[test]
    fn an_engine_of_containers_is_named_with_what_to_add() {
        let with = |engine| Machine { engine, ..Machine::default() }.notes();
        let named = |notes: Vec<String>| {
            notes.iter().any(|note| note.contains("`/run/docker.sock`") && note.contains("[[container]]"))
        };
        assert!(named(with(ENGINES.first().copied())) && !named(with(None)));
    }

    #[test]
    fn a_firewall_that_is_in_use_is_named_with_what_to_add() {
        let named = |nftables| {
            let notes = Machine { nftables, ..Machine::default() }.notes();
            notes.iter().any(|note| note.contains("[[firewall]]"))
        };
        assert!(named(true) && !named(false));
    }

    #[test]
    fn a_database_is_found_by_its_socket_and_named_in_both_files_as_a_comment() {
        let machine = Machine { databases: databases(|socket| socket.contains("mysqld")), ..Machine::default() };
        let (runner, courier) = (machine.runner_toml(), machine.courier_databases_toml().unwrap());
        assert!(runner.contains("#name = \"mysql\"") && courier.contains("#socket = \"/run/mysqld/mysqld.sock\""));
        assert!(HostConfig::parse(&runner).unwrap().databases.is_empty(), "a person takes the # away");
        assert!(machine.notes().iter().any(|note| note.starts_with("mysql listens on")));
        assert!(Machine::default().courier_databases_toml().is_none());
    }

    #[test]
    fn what_is_written_is_taken_by_the_runner_observes_and_lets_nothing_be_changed() {
        let mut machine =
            Machine { mounts: filesystems("22 1 8:1 / / rw - ext4 /dev/sda1 rw\n"), ..Machine::default() };
        machine.units.insert(UnitName::parse("nginx.service").unwrap(), ["127.0.0.1:80".parse().unwrap()].into());
        machine.units.insert(UnitName::parse("cron.service").unwrap(), BTreeSet::new());
        let host = HostConfig::parse(&machine.runner_toml()).unwrap();
        assert_eq!(host.mode, Mode::Observe);
        assert_eq!((host.mounts.len(), host.units.len()), (1, 1));
        assert!(host.units.values().all(|unit| unit.verbs.is_empty() && unit.health.len() == 1));
    }
}
