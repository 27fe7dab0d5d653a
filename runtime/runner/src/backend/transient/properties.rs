//! The jail as systemd's properties: an empty root with the system's programs and what the grant names, and the walls around it.

use theriac_model::program::{Network, ProgramSpec};
use zbus::wire::Variant;

/// Enough for a tool, too little to push a service out of memory.
const MEMORY_MAX: u64 = 512 << 20;
const TASKS_MAX: u64 = 64;
/// Recursive, as mount(2) has it.
const MS_REC: u64 = 0x4000;
/// Programs and libraries, under each name they have at the root; what is missing is left out.
const SYSTEM: [&str; 9] =
    ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc/ld.so.cache", "/etc/alternatives"];
/// systemd adds these to every service.
const ENVIRONMENT: [&str; 13] = [
    "PATH",
    "LANG",
    "USER",
    "LOGNAME",
    "HOME",
    "SHELL",
    "INVOCATION_ID",
    "JOURNAL_STREAM",
    "SYSTEMD_EXEC_PID",
    "MEMORY_PRESSURE_WATCH",
    "MEMORY_PRESSURE_WRITE",
    "TERM",
    "LISTEN_PID",
];

/// All but where its output goes.
pub(super) fn of(program: &ProgramSpec) -> Vec<(&'static str, Variant<'static>)> {
    let mut properties = process(program);
    properties.extend(root(program));
    properties.extend(walls(program.jail.network));
    properties
}

/// What is run, as whom, how long.
fn process(program: &ProgramSpec) -> Vec<(&'static str, Variant<'static>)> {
    let path = program.argv.first().cloned().unwrap_or_default();
    let micros = u64::try_from(program.timeout.duration().as_micros()).unwrap_or(u64::MAX);
    vec![
        ("Description", Variant::from(format!("Theriac runs {path}"))),
        // Its job is done when the program was executed: what fails before that never ran.
        ("Type", Variant::from("exec")),
        // A dollar in an argument is a dollar.
        ("ExecStartEx", Variant::from(vec![(path, program.argv.clone(), vec!["no-env-expand".to_owned()])])),
        ("User", Variant::from(program.jail.uid.to_string())),
        ("Group", Variant::from(program.jail.gid.to_string())),
        ("WorkingDirectory", Variant::from("/")),
        ("UMask", Variant::from(0o077_u32)),
        ("UnsetEnvironment", Variant::from(ENVIRONMENT.map(str::to_owned).to_vec())),
        ("StandardInput", Variant::from("null")),
        ("RuntimeMaxUSec", Variant::from(micros)),
        ("KillMode", Variant::from("control-group")),
        ("KillSignal", Variant::from(libc::SIGKILL)),
        ("TimeoutStopUSec", Variant::from(5_000_000_u64)),
        ("MemoryMax", Variant::from(MEMORY_MAX)),
        ("TasksMax", Variant::from(TASKS_MAX)),
        ("LimitCORE", Variant::from(0_u64)),
        // Ours until we have read how it ended; then, and when the runner dies, nothing keeps it.
        ("AddRef", Variant::from(true)),
        ("CollectMode", Variant::from("inactive-or-failed")),
    ]
}

/// An empty root with the system's programs and what the grant names.
fn root(program: &ProgramSpec) -> Vec<(&'static str, Variant<'static>)> {
    let bind = |path: &str, may_be_missing: bool| (path.to_owned(), path.to_owned(), may_be_missing, MS_REC);
    let own = program.argv.first().filter(|path| !SYSTEM.iter().any(|system| path.starts_with(&format!("{system}/"))));
    let read: Vec<_> = SYSTEM
        .iter()
        .map(|path| bind(path, true))
        .chain(own.map(|path| bind(path, false)))
        .chain(program.jail.read.iter().map(|path| bind(path.as_str(), false)))
        .collect();
    let write: Vec<_> = program.jail.write.iter().map(|path| bind(path.as_str(), false)).collect();
    let mut properties = vec![
        // The whole of the machine is covered, so there is nothing for ProtectSystem= to protect; systemd 252 would even take
        // that, which has the same path, in place of this.
        ("TemporaryFileSystem", Variant::from(vec![("/".to_owned(), "ro".to_owned())])),
        ("MountAPIVFS", Variant::from(true)),
        ("BindReadOnlyPaths", Variant::from(read)),
        ("ProtectHome", Variant::from("yes")),
        ("PrivateTmp", Variant::from(true)),
        ("PrivateDevices", Variant::from(true)),
        ("ProtectProc", Variant::from("invisible")),
        ("ProcSubset", Variant::from("pid")),
    ];
    if !write.is_empty() {
        properties.push(("BindPaths", Variant::from(write)));
    }
    properties
}

/// What it may ask of the kernel.
fn walls(network: Network) -> Vec<(&'static str, Variant<'static>)> {
    let allow = |words: &[&str]| Variant::from((true, words.iter().map(ToString::to_string).collect::<Vec<_>>()));
    let mut properties = vec![
        ("CapabilityBoundingSet", Variant::from(0_u64)),
        ("AmbientCapabilities", Variant::from(0_u64)),
        ("SystemCallFilter", allow(&["@system-service"])),
        ("SystemCallErrorNumber", Variant::from(libc::EPERM)),
        ("SystemCallArchitectures", Variant::from(vec!["native".to_owned()])),
        // None of them.
        ("RestrictNamespaces", Variant::from(0_u64)),
        ("KeyringMode", Variant::from("private")),
    ];
    properties.extend(
        [
            "NoNewPrivileges",
            "PrivateIPC",
            "ProtectControlGroups",
            "ProtectKernelTunables",
            "ProtectKernelModules",
            "ProtectKernelLogs",
            "ProtectClock",
            "ProtectHostname",
            "LockPersonality",
            "RestrictRealtime",
            "RestrictSUIDSGID",
        ]
        .map(|name| (name, Variant::from(true))),
    );
    match network {
        Network::None => properties
            .extend([("PrivateNetwork", Variant::from(true)), ("RestrictAddressFamilies", allow(&["AF_UNIX"]))]),
        Network::Host => {
            properties.push(("RestrictAddressFamilies", allow(&["AF_UNIX", "AF_INET", "AF_INET6", "AF_NETLINK"])))
        }
    }
    properties
}
