//! Observations: measured facts, and the names of the series they belong to.

use serde::{Deserialize, Serialize};

use crate::target::Target;
use crate::time::Timestamp;

macro_rules! metrics {
    ($($(#[$doc:meta])* $variant:ident = $text:literal, $unit:literal;)*) => {
        /// What the local probes measure. The text is the name used in rules, in playbooks and in `observe` grants.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum Metric { $($(#[$doc])* #[serde(rename = $text)] $variant,)* }

        impl Metric {
            /// Every metric.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The name used in rules.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            /// The unit of its values.
            pub const fn unit(self) -> &'static str {
                match self { $(Self::$variant => $unit,)* }
            }
        }
    };
}

metrics! {
    /// Share of blocks an ordinary user can still write, of a mount.
    DiskAvailable = "disk_available", "permille";
    /// The same in bytes.
    DiskAvailableBytes = "disk_available_bytes", "bytes";
    /// Share of inodes still free, of a mount.
    InodesAvailable = "inodes_available", "permille";
    /// CPU of a unit, in thousandths of one core.
    UnitCpu = "unit_cpu", "millicores";
    /// CPU of a unit as a share of the machine.
    UnitCpuShare = "unit_cpu_share", "permille";
    /// Anonymous memory of a unit.
    UnitMemory = "unit_memory", "bytes";
    /// Processes of a unit.
    UnitProcesses = "unit_processes", "count";
    /// OOM kills in a unit's cgroup since the probe started.
    UnitOomKills = "unit_oom_kills", "count";
    /// 1 while the unit is up, 0 otherwise.
    UnitUp = "unit_up", "bool";
    /// 1 while the unit is failed.
    UnitFailed = "unit_failed", "bool";
    /// 1 while the unit is failed with start-limit-hit.
    UnitStartLimit = "unit_start_limit", "bool";
    /// 1 while the manager is about to restart the unit by itself.
    UnitWillRestart = "unit_will_restart", "bool";
    /// 1 when the unit's health check passed, 0 when it failed.
    UnitHealthy = "unit_healthy", "bool";
    /// Until a certificate expires, by its file or by what is served, whichever is sooner; negative afterwards.
    CertificateLeft = "certificate_left", "seconds";
    /// 1 while a container's first process is there, 0 otherwise.
    ContainerUp = "container_up", "bool";
    /// 1 while a container is down, nobody stopped it, and its engine does not start it again.
    ContainerFailed = "container_failed", "bool";
    /// 1 while the container's own health check passes, 0 while it fails.
    ContainerHealthy = "container_healthy", "bool";
    /// Starts by the engine itself since the last one by hand.
    ContainerRestarts = "container_restarts", "count";
    /// The same within the target's `loop_within`.
    ContainerRecentRestarts = "container_recent_restarts", "count";
    /// Used share of the connections that ordinary clients of a database server can get.
    PoolUsed = "pool_used", "permille";
    /// CPU use of the machine.
    HostCpu = "host_cpu", "permille";
    /// CPU stolen by the hypervisor.
    HostSteal = "host_steal", "permille";
    /// Load over one minute.
    HostLoad1 = "host_load1", "load";
    /// MemAvailable.
    HostMemoryAvailable = "host_memory_available", "bytes";
    /// Share of memory available.
    HostMemoryAvailableShare = "host_memory_available_share", "permille";
    /// Pages swapped in and out per second.
    HostSwapPages = "host_swap_pages", "per-second";
    /// PSI, some, 10 s, CPU.
    HostCpuPressure = "host_cpu_pressure", "percent";
    /// PSI, full, 10 s, memory.
    HostMemoryPressure = "host_memory_pressure", "percent";
    /// PSI, full, 10 s, I/O.
    HostIoPressure = "host_io_pressure", "percent";
}

/// Names one series: a metric of a target.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SeriesId {
    /// Of what.
    pub target: Target,
    /// What.
    pub metric: Metric,
}

/// One reading of one metric.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sample {
    /// Which series.
    pub series: SeriesId,
    /// When, by the wall clock.
    pub at: Timestamp,
    /// Finite.
    pub value: f64,
}
