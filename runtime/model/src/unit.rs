//! What can be known about a service-manager unit, whichever backend runs it.

use serde::{Deserialize, Serialize};

use crate::id::UnitName;

/// Which service manager runs a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Backend {
    /// systemd, over D-Bus.
    Systemd,
    /// The launcher, for machines and containers without systemd.
    Supervised,
}

/// systemd's ActiveState; the launcher uses the same words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ActiveState {
    /// Up.
    Active,
    /// On its way up, or waiting for an automatic restart.
    Activating,
    /// On its way down.
    Deactivating,
    /// Down without a failure.
    Inactive,
    /// Down because of a failure.
    Failed,
    /// Reloading its configuration.
    Reloading,
    /// The manager said something else (`maintenance`, or a word of a later version).
    Other,
}

/// One unit's state at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnitState {
    /// The canonical name (systemd's `Id`; aliases are resolved).
    pub name: UnitName,
    /// Up or down.
    pub active: ActiveState,
    /// systemd's SubState, such as `running`, `auto-restart` or `dead`.
    pub sub: String,
    /// systemd's Result, such as `success`, `exit-code`, `signal` or `start-limit-hit`.
    pub result: String,
    /// The InvocationID (32 hex digits): a new one for each start; empty when it never ran.
    pub invocation: String,
    /// Main process, 0 when there is none. For reading /proc only, never authority.
    pub main_pid: u32,
    /// The main process' start time in clock ticks since boot (field 22 of /proc/PID/stat), 0 when there is none.
    pub main_start: u64,
    /// Automatic restarts since the unit was last started by hand.
    pub restarts: u32,
    /// Milliseconds since it entered the present ActiveState.
    pub since_ms: u64,
    /// The manager is about to restart it by itself (`auto-restart` with budget left).
    pub will_restart: bool,
    /// A person or a package stopped it on purpose: it ended without a failure and no restart is due.
    pub stopped_on_purpose: bool,
    /// The unit file changed since the manager loaded it.
    pub needs_reload: bool,
    /// Where its processes are in the cgroup tree, as in /proc/PID/cgroup; empty when unknown.
    pub cgroup: String,
    /// Processes of the unit where the backend, not a cgroup, knows them (supervised services).
    pub pids: Vec<u32>,
}

impl UnitState {
    /// A unit that runs, and of which nothing else is known: where a state is put together by hand.
    pub fn running(name: UnitName) -> Self {
        Self {
            name,
            active: ActiveState::Active,
            sub: "running".to_owned(),
            result: "success".to_owned(),
            invocation: String::new(),
            main_pid: 0,
            main_start: 0,
            restarts: 0,
            since_ms: 0,
            will_restart: false,
            stopped_on_purpose: false,
            needs_reload: false,
            cgroup: String::new(),
            pids: Vec::new(),
        }
    }

    /// Up, or reloading (which serves as before).
    pub const fn is_up(&self) -> bool {
        matches!(self.active, ActiveState::Active | ActiveState::Reloading)
    }
}

/// A resource-control property that can be set at run time and put back exactly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Property {
    /// CPU time per second of wall time, in thousandths of one core; `None` is no limit.
    CpuQuota(Option<u32>),
    /// Relative CPU weight, 1 to 10000; `None` is the default.
    CpuWeight(Option<u32>),
    /// Throttling threshold in bytes (cgroup v2 only); `None` is no limit.
    MemoryHigh(Option<u64>),
    /// Most tasks; `None` is no limit.
    TasksMax(Option<u64>),
}

impl Property {
    /// systemd's name for it, without the `=`.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::CpuQuota(_) => "CPUQuota",
            Self::CpuWeight(_) => "CPUWeight",
            Self::MemoryHigh(_) => "MemoryHigh",
            Self::TasksMax(_) => "TasksMax",
        }
    }
}

/// A signal that a grant can name. There is no number: STOP, ABRT (a core dump) and real-time signals can't be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Signal {
    /// SIGTERM.
    Term,
    /// SIGKILL.
    Kill,
    /// SIGHUP, "read your configuration again" by custom.
    Hup,
    /// SIGUSR1, "reopen your log" by custom.
    Usr1,
}

impl Signal {
    /// The name without `SIG`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Term => "TERM",
            Self::Kill => "KILL",
            Self::Hup => "HUP",
            Self::Usr1 => "USR1",
        }
    }
}

/// Which of a unit's processes a signal goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KillWhom {
    /// The main process.
    Main,
    /// Every process of the unit.
    All,
}

/// One process, so that a reused PID is never taken for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProcessId {
    /// The PID in the runner's namespace.
    pub pid: u32,
    /// Start time in clock ticks since boot.
    pub start: u64,
}
