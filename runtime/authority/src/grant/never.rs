//! What no manifest and no configuration can grant, whoever signs it.
//!
//! Each entry is here because a mistake with it takes the machine, the way in, or Theriac's own evidence.

use theriac_model::container::ContainerSelector;
use theriac_model::firewall::Network;
use theriac_model::id::UnitName;
use theriac_model::kernel::KnobName;
use theriac_model::target::MountPath;

/// Directories that are refused with everything below them.
const TREES: &[(&str, &str)] = &[
    ("/etc", "configuration, security configuration among it, is always a person's"),
    ("/proc", "it is the kernel, not files"),
    ("/sys", "it is the kernel, not files"),
    ("/dev", "it holds devices, not files"),
    ("/boot", "a mistake there is found at the next boot"),
    ("/efi", "a mistake there is found at the next boot"),
    ("/usr", "the package manager owns it"),
    ("/bin", "the package manager owns it"),
    ("/sbin", "the package manager owns it"),
    ("/lib", "the package manager owns it"),
    ("/lib32", "the package manager owns it"),
    ("/lib64", "the package manager owns it"),
    ("/root", "it holds the way in (keys, shell start files)"),
    ("/var/lib/dpkg", "the package manager owns it"),
    ("/var/lib/rpm", "the package manager owns it"),
    ("/var/lib/theriac", "Theriac's own state and evidence"),
    ("/run/systemd", "the service manager owns it"),
];

/// Directories that are too much as a whole; what lies below them can be granted.
const TOO_WIDE: &[&str] = &["/", "/home", "/media", "/mnt", "/opt", "/run", "/srv", "/var", "/var/lib", "/var/spool"];

/// Why this directory can't be granted; `None` when it can.
pub(crate) fn directory(path: &MountPath) -> Option<&'static str> {
    let below = |root: &str| path.as_str() == root || lies_below(path.as_str(), root);
    if let Some((_, why)) = TREES.iter().find(|(root, _)| below(root)) {
        return Some(why);
    }
    TOO_WIDE.contains(&path.as_str()).then_some("it is too much: name a directory below it")
}

/// `path` is strictly below `root`; both are in normal form.
pub(crate) fn lies_below(path: &str, root: &str) -> bool {
    if root == "/" {
        return path.len() > 1;
    }
    path.strip_prefix(root).is_some_and(|rest| rest.starts_with('/'))
}

/// Equal, or one below the other.
pub(crate) fn overlap(a: &MountPath, b: &MountPath) -> bool {
    a == b || lies_below(a.as_str(), b.as_str()) || lies_below(b.as_str(), a.as_str())
}

/// Below `/etc`, where certificates lie, and yet nothing that serves one to a network.
const NO_CERTIFICATES: &[&str] = &[
    "/etc/apparmor.d",
    "/etc/pam.d",
    "/etc/polkit-1",
    "/etc/security",
    "/etc/selinux",
    "/etc/ssh",
    "/etc/sudoers.d",
    "/etc/systemd",
    "/etc/theriac",
];

/// Why this file can't be a certificate or its key; `None` when it can.
pub(crate) fn certificate_file(path: &MountPath) -> Option<&'static str> {
    let below = |root: &str| lies_below(path.as_str(), root);
    let parent = path.as_str().rsplit_once('/').map_or("", |(parent, _)| parent);
    if NO_CERTIFICATES.iter().any(|root| below(root)) || matches!(parent, "" | "/etc") {
        return Some(
            "it lies where the system keeps its own configuration: give certificates a directory of their own",
        );
    }
    if below("/etc") { None } else { directory(path) }
}

const UNITS: &[(&str, &str)] = &[
    ("dbus.service", "everything that could undo the mistake talks through it"),
    ("dbus.socket", "everything that could undo the mistake talks through it"),
    ("dbus-broker.service", "everything that could undo the mistake talks through it"),
    ("init.scope", "it is the service manager itself"),
];

/// Types of unit whose stop takes other things along: a target pulls down a boot stage, a mount its files, a slice a tree of
/// services.
const TYPES: &[&str] = &[".target", ".mount", ".automount", ".swap", ".slice", ".scope", ".device"];

/// Why this unit can't be granted; `None` when it can.
pub(crate) fn unit(name: &UnitName) -> Option<&'static str> {
    let name = name.as_str();
    if let Some((_, why)) = UNITS.iter().find(|(unit, _)| *unit == name) {
        return Some(why);
    }
    if name.starts_with("systemd-") {
        return Some("it is a part of the service manager");
    }
    if name.starts_with("theriac") {
        return Some("it is a part of Theriac: a healer that can stop itself hides its own traces");
    }
    if name.starts_with("user@") || name.starts_with("user-runtime-dir@") {
        return Some("it holds a person's sessions");
    }
    TYPES.iter().any(|kind| name.ends_with(kind)).then_some("a unit of this type takes other things along")
}

/// Why this container can't be granted by its name; `None` when it can. One that Theriac runs in under another name is known when
/// it is looked at.
pub(crate) fn container(selector: &ContainerSelector) -> Option<&'static str> {
    match selector {
        ContainerSelector::Name(name) if name.as_str().to_ascii_lowercase().starts_with("theriac") => {
            Some("it is a part of Theriac: a healer that can stop itself hides its own traces")
        }
        ContainerSelector::Name(_) | ContainerSelector::Label(_) => None,
    }
}

/// Trees of the kernel's numbers that can be granted; the rest is security, hardware or debugging.
const KNOBS: &[&str] =
    &["vm.", "net.", "fs.inotify.", "fs.aio-", "fs.file-", "fs.nr_", "kernel.pid_max", "kernel.threads-max"];

/// Numbers within those trees that are not settings, or that decide who may reach what. Compared with the last part.
const KNOB_NAMES: &[(&str, &str)] = &[
    ("drop_caches", "it is a command, and frees nothing that the kernel would not free by itself"),
    ("compact_memory", "it is a command"),
    ("stat_refresh", "it is a command"),
    ("flush", "it is a command"),
    ("mmap_min_addr", "it protects the kernel from programs"),
    ("panic_on_oom", "it turns a full memory into a reboot"),
    ("unprivileged_userfaultfd", "it protects the kernel from programs"),
    ("bpf_jit_enable", "it protects the kernel from programs"),
    ("bpf_jit_harden", "it protects the kernel from programs"),
    ("bpf_jit_kallsyms", "it protects the kernel from programs"),
    ("ip_forward", "it decides who may reach what"),
    ("forwarding", "it decides who may reach what"),
    ("rp_filter", "it decides who may reach what"),
    ("accept_redirects", "it decides who may reach what"),
    ("secure_redirects", "it decides who may reach what"),
    ("send_redirects", "it decides who may reach what"),
    ("accept_source_route", "it decides who may reach what"),
    ("accept_local", "it decides who may reach what"),
    ("route_localnet", "it decides who may reach what"),
    ("ip_unprivileged_port_start", "it decides who may listen where"),
    ("disable_ipv6", "it can cut off the way in"),
];

/// Why this number can't be granted; `None` when it can.
pub(crate) fn knob(name: &KnobName) -> Option<&'static str> {
    let name = name.as_str();
    let last = name.rsplit('.').next().unwrap_or(name);
    if let Some((_, why)) = KNOB_NAMES.iter().find(|(known, _)| *known == last) {
        return Some(why);
    }
    let known = KNOBS.iter().any(|tree| name == *tree || (tree.ends_with(['.', '-', '_']) && name.starts_with(tree)));
    (!known).then_some(
        "only `vm.`, `net.`, the limits of `fs.` and the process limits of `kernel.` are numbers to heal with",
    )
}

/// Addresses that no set gets, whoever lists them: kept out, they take the machine from itself or nobody at all.
const NETWORKS: &[(&str, &str)] = &[
    ("0.0.0.0/8", "it is nobody's address"),
    ("127.0.0.0/8", "it is this machine"),
    ("169.254.0.0/16", "it is this link, with the metadata service of a cloud"),
    ("224.0.0.0/4", "it is a group, not a client"),
    ("240.0.0.0/4", "it is nobody's address"),
    ("::/128", "it is nobody's address"),
    ("::1", "it is this machine"),
    ("::ffff:0:0/96", "it is an IPv4 address: write it as one"),
    ("fe80::/10", "it is this link, with its routers"),
    ("ff00::/8", "it is a group, not a client"),
];

/// Why this network can't be put in any set; `None` when it can.
pub(crate) fn network(network: &Network) -> Option<&'static str> {
    let hit = |text: &str| Network::parse(text).is_ok_and(|never| never.overlaps(network));
    NETWORKS.iter().find(|(text, _)| hit(text)).map(|(_, why)| *why)
}

/// Ranges that stand for the operator's own machines until he says otherwise.
const PRIVATE: &[&str] = &["10.0.0.0/8", "100.64.0.0/10", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"];

/// The private range that the network has an address of.
pub(crate) fn private_range(network: &Network) -> Option<Network> {
    PRIVATE.iter().filter_map(|text| Network::parse(text).ok()).find(|range| range.overlaps(network))
}

/// Names of files and directories that no glob lets through. They look like logs and are databases, or they are the way in;
/// compared with each part of the path.
pub(crate) const FILE_NAMES: &[(&str, &str)] = &[
    ("pg_wal", "PostgreSQL's write-ahead log is the database"),
    ("pg_xlog", "PostgreSQL's write-ahead log is the database"),
    ("pg_xact", "PostgreSQL's commit log is the database"),
    ("pg_clog", "PostgreSQL's commit log is the database"),
    ("pg_logical", "PostgreSQL's replication state is the database"),
    ("ibdata*", "InnoDB's system tablespace is the database"),
    ("*.ibd", "an InnoDB tablespace is the database"),
    ("ib_logfile*", "InnoDB's redo log is the database"),
    ("#ib_redo*", "InnoDB's redo log is the database"),
    ("#innodb_redo", "InnoDB's redo log is the database"),
    ("undo_00*", "InnoDB's undo log is the database"),
    ("binlog.*", "MySQL's binary log is needed for replication and recovery"),
    ("*-bin.[0-9]*", "MySQL's binary log is needed for replication and recovery"),
    ("*-bin.index", "MySQL's binary log is needed for replication and recovery"),
    ("relay-log.*", "MySQL's relay log is needed for replication"),
    ("*.sqlite", "it is a database"),
    ("*.sqlite3", "it is a database"),
    ("*.db-wal", "SQLite's write-ahead log is the database"),
    ("*-wal", "SQLite's write-ahead log is the database"),
    ("*-journal", "SQLite's rollback journal is the database"),
    ("WiredTiger*", "it is MongoDB's database"),
    ("appendonly.aof*", "it is Redis' database"),
    ("dump.rdb", "it is Redis' database"),
    (".ssh", "it holds the way in"),
    (".gnupg", "it holds keys"),
    ("authorized_keys*", "it holds the way in"),
    ("wtmp*", "it says who was logged in"),
    ("btmp*", "it says who tried to log in"),
    ("lastlog", "it says who was logged in"),
    ("audit.log*", "it is evidence, and security configuration is always a person's"),
];

#[cfg(test)]
mod tests {
    use theriac_model::container::ContainerName;

    use super::*;

    // SV07, SV08.
    #[test]
    fn critical_units_are_refused_and_their_neighbours_are_not() {
        for name in [
            "dbus.service",
            "init.scope",
            "systemd-journald.service",
            "poweroff.target",
            "user@0.service",
            "home.mount",
            "system.slice",
            "theriac-runner.service",
        ] {
            assert!(unit(&UnitName::parse(name).unwrap()).is_some(), "{name}");
        }
        for name in ["nginx.service", "my-dbus.service", "web", "apt-daily.timer", "getty@tty1.service"] {
            assert!(unit(&UnitName::parse(name).unwrap()).is_none(), "{name}");
        }
    }

    // SV08.
    #[test]
    fn critical_directories_are_refused_and_their_neighbours_are_not() {
        for path in ["/", "/etc", "/etc/nginx", "/proc/1", "/var", "/usr/local/log", "/var/lib/theriac/undo", "/root"] {
            assert!(directory(&MountPath::parse(path).unwrap()).is_some(), "{path}");
        }
        for path in ["/var/log", "/var/lib/app", "/srv/www", "/etcetera", "/home/app/logs", "/tmp/x"] {
            assert!(directory(&MountPath::parse(path).unwrap()).is_none(), "{path}");
        }
    }

    #[test]
    fn numbers_that_decide_who_may_reach_what_are_refused_and_their_neighbours_are_not() {
        for name in [
            "kernel.core_pattern",
            "kernel.modules_disabled",
            "kernel.pid_max.x",
            "vm.drop_caches",
            "net.ipv4.ip_forward",
            "net.ipv4.conf.all.rp_filter",
            "net.core.bpf_jit_harden",
            "fs.protected_symlinks",
            "user.max_user_namespaces",
            "dev.cdrom.autoeject",
        ] {
            assert!(knob(&KnobName::parse(name).unwrap()).is_some(), "{name}");
        }
        for name in
            ["vm.swappiness", "net.core.somaxconn", "net.netfilter.nf_conntrack_max", "kernel.pid_max", "fs.file-max"]
        {
            assert!(knob(&KnobName::parse(name).unwrap()).is_none(), "{name}");
        }
    }

    #[test]
    fn a_container_of_theriacs_is_refused_and_its_neighbours_are_not() {
        let named = |name| container(&ContainerSelector::Name(ContainerName::parse(name).unwrap()));
        assert!(named("theriac").is_some() && named("Theriac-runner-1").is_some());
        assert!(named("api").is_none() && named("my-theriac").is_none());
    }
    #[test]
    fn this_machine_its_links_and_groups_are_never_kept_out_and_their_neighbours_may_be() {
        let network = |text| Network::parse(text).unwrap();
        assert!(
            NETWORKS
                .iter()
                .map(|(text, _)| *text)
                .chain(PRIVATE.iter().copied())
                .all(|text| Network::parse(text).is_ok())
        );
        for text in [
            "127.0.0.1",
            "0.0.0.0",
            "169.254.169.254",
            "224.0.0.1",
            "255.255.255.255",
            "::1",
            "::",
            "fe80::1",
            "ff02::1",
            "::ffff:203.0.113.7",
            "0.0.0.0/0",
            "::/0",
            "128.0.0.0/1",
        ] {
            assert!(super::network(&network(text)).is_some(), "{text}");
        }
        for text in
            ["126.255.255.255", "128.0.0.1", "169.253.255.255", "223.255.255.255", "::2", "2001:db8::1", "10.0.0.1"]
        {
            assert!(super::network(&network(text)).is_none(), "{text}");
        }
        for (text, range) in
            [("10.1.0.0/16", "10.0.0.0/8"), ("172.31.255.255", "172.16.0.0/12"), ("fd00::1", "fc00::/7")]
        {
            assert_eq!(private_range(&network(text)), Some(network(range)), "{text}");
        }
        for text in ["11.0.0.1", "172.32.0.1", "192.167.255.255", "100.63.0.1", "2001:db8::1"] {
            assert_eq!(private_range(&network(text)), None, "{text}");
        }
    }

    #[test]
    fn overlap_is_by_whole_parts() {
        let path = |text| MountPath::parse(text).unwrap();
        assert!(
            overlap(&path("/a/b"), &path("/a"))
                && overlap(&path("/a"), &path("/a/b"))
                && overlap(&path("/"), &path("/x"))
        );
        assert!(!overlap(&path("/a/bc"), &path("/a/b")));
    }
}
