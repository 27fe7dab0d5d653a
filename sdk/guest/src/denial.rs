//! A denial in a remedy's hands: `?` hands it to the host, and these tell apart what a remedy can go on from.

use crate::{Denial, Refusal};

impl Denial {
    /// What exactly was refused.
    pub const fn refusal(&self) -> &Refusal {
        match self {
            Self::NotGranted(refusal)
            | Self::OffPlan(refusal)
            | Self::OverBudget(refusal)
            | Self::StaleTarget(refusal)
            | Self::Conflict(refusal)
            | Self::Unavailable(refusal)
            | Self::Failed(refusal) => refusal,
        }
    }

    /// This machine or its configuration can't do it: another way, or the next rung, may.
    pub const fn is_unavailable(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }

    /// The one thing at hand was changed, replaced or is held by somebody: leave it and go on to the next.
    pub const fn is_about_this_one(&self) -> bool {
        matches!(self, Self::StaleTarget(_) | Self::Conflict(_))
    }

    /// A limit of the grant or the run is used up: what was done so far stands.
    pub const fn is_over_budget(&self) -> bool {
        matches!(self, Self::OverBudget(_))
    }
}
