//! The closed list of fault kinds, and severities.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::id::NameError;

macro_rules! fault_kinds {
    ($($(#[$doc:meta])* $variant:ident = $text:literal,)*) => {
        /// The class of trouble an incident is about.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub enum FaultKind { $($(#[$doc])* $variant,)* }

        impl FaultKind {
            /// Every kind, in the order of the table.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The word used in files and on the command line.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }
    };
}

fault_kinds! {
    /// A filesystem has too few free blocks.
    DiskFull = "disk-full",
    /// A filesystem will be full soon.
    DiskFilling = "disk-filling",
    /// A filesystem has too few free inodes.
    InodeExhaustion = "inode-exhaustion",
    /// A unit takes more CPU than it is meant to, for long enough to matter.
    CpuSaturation = "cpu-saturation",
    /// A unit's anonymous memory grows without bound.
    MemoryLeak = "memory-leak",
    /// The kernel killed a process for memory.
    OomKill = "oom-kill",
    /// The machine moves pages in and out of swap instead of working.
    SwapThrash = "swap-thrash",
    /// A unit ended without being asked to.
    ServiceCrash = "service-crash",
    /// A unit runs and does not answer its health check.
    ServiceUnhealthy = "service-unhealthy",
    /// The service manager has given up restarting a unit.
    StartLimitHit = "start-limit-hit",
    /// A certificate has expired or will soon.
    CertificateExpiry = "certificate-expiry",
    /// A database accepts no more connections.
    DbConnectionsExhausted = "db-connections-exhausted",
    /// A container's own health check fails, it ended without being asked to, or its engine starts it again and again.
    ContainerUnhealthy = "container-unhealthy",
    /// A log grows far faster than usual.
    LogExplosion = "log-explosion",
    /// Far more traffic arrives than usual.
    TrafficFlood = "traffic-flood",
    /// A new release is worse than the one before it.
    BadRelease = "bad-release",
    /// Something is wrong that no rule names: always a person.
    Unknown = "unknown",
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for FaultKind {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::ALL.iter().copied().find(|kind| kind.as_str() == text).ok_or_else(|| {
            NameError::new(
                "fault kind",
                text,
                "see `theriac help faults` for the list, such as `disk-full` or `service-crash`",
            )
        })
    }
}

impl TryFrom<String> for FaultKind {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<FaultKind> for String {
    fn from(kind: FaultKind) -> String {
        kind.as_str().to_owned()
    }
}

/// How bad a signal is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// Will hurt if nothing is done.
    Warning,
    /// Hurts now.
    Critical,
}

impl Severity {
    /// The word used in files and on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_reads_back() {
        for kind in FaultKind::ALL {
            assert_eq!(kind.as_str().parse::<FaultKind>().unwrap(), *kind);
        }
        assert!("disk-Full".parse::<FaultKind>().is_err());
    }
}
