//! nftables by netlink, as far as elements of one set go: what the set is, what is in it, one more, one less.
//!
//! The runner starts no program, so it speaks the kernel's protocol itself. It has no message that makes, changes or removes
//! a table, a chain, a rule or a set.

mod message;
mod set;
mod socket;

pub(crate) use set::{Element, SetFacts, add, elements, facts, remove};

use std::io;

use theriac_model::denial::{Denial, DenialCause};
use theriac_model::firewall::SetId;
use theriac_model::id::Label;

/// Why a set could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NetfilterError {
    /// The kernel has no nf_tables, or the socket is closed to us.
    #[error("nftables can't be reached from here")]
    Unreachable(#[source] io::Error),
    /// Without CAP_NET_ADMIN.
    #[error("the kernel wants CAP_NET_ADMIN for its firewall")]
    NotPermitted,
    /// No such table or set.
    #[error("there is no set `{set}`")]
    Missing { set: SetId },
    /// It is there, and is no set for this.
    #[error("the set `{set}` {reason}")]
    Unfit { set: SetId, reason: &'static str },
    /// The kernel said no, and nothing was changed.
    #[error("the kernel refused it")]
    Refused(#[source] io::Error),
    /// It goes on changing while it is read.
    #[error("the set `{set}` changes faster than it can be read")]
    Restless { set: SetId },
    /// More than is ever read.
    #[error("the set `{set}` is larger than Theriac reads")]
    TooLarge { set: SetId },
    /// What came back is not what this protocol says.
    #[error("the kernel's answer can't be read: {0}")]
    Malformed(&'static str),
    /// No answer; what was asked for may have been done.
    #[error("the kernel did not answer")]
    Silent(#[source] io::Error),
}

impl NetfilterError {
    /// It is unknown whether the change was made: look before doing anything else.
    pub(crate) const fn may_have_happened(&self) -> bool {
        match self {
            Self::Malformed(_) | Self::Silent(_) => true,
            Self::Unreachable(_)
            | Self::NotPermitted
            | Self::Missing { .. }
            | Self::Unfit { .. }
            | Self::Refused(_)
            | Self::Restless { .. }
            | Self::TooLarge { .. } => false,
        }
    }

    /// As a remedy is told.
    pub(crate) fn denial(&self, label: &Label, attempted: impl std::fmt::Display) -> Denial {
        let (cause, rule) = match self {
            Self::Unreachable(_) | Self::NotPermitted => (DenialCause::Unavailable, "nftables"),
            Self::Missing { .. } => (DenialCause::Unavailable, "set"),
            Self::Unfit { .. } => (DenialCause::Unavailable, "set.type"),
            Self::TooLarge { .. } | Self::Restless { .. } => (DenialCause::Unavailable, "set.elements"),
            Self::Refused(_) | Self::Malformed(_) | Self::Silent(_) => (DenialCause::Failed, "nftables"),
        };
        Denial::new(cause, label, rule, format!("{attempted}: {}", crate::exchange::chain(self)))
    }
}
