//! `[grants.firewall.LABEL]`: a set of addresses that the operator made, and how far it may be added to.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};
use theriac_model::time::Span;

use super::WordError;
use super::lines::list;

verbs! {
    /// What can be done with a granted set.
    FirewallVerb, "a verb of `firewall`",
    /// What Theriac put there.
    List = "list" reads,
    /// One more address, for a while.
    Add = "add" changes,
}

/// The operator's set of the grant's label, with what may be put there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FirewallGrant {
    /// The verbs.
    pub verbs: BTreeSet<FirewallVerb>,
    /// What `add` may add; none without `add`.
    pub bounds: Option<AddBounds>,
    /// Why.
    pub why: String,
}

/// What one run may put in a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct AddBounds {
    /// The shortest prefix of IPv4; 32 is one address.
    pub prefix4: u8,
    /// The shortest prefix of IPv6; 128 is one address.
    pub prefix6: u8,
    /// The longest time.
    pub max_timeout: Span,
    /// How many in one run.
    pub max_elements: u32,
}

impl FirewallGrant {
    /// What it permits, complete and in one sentence: the line a signer reads.
    pub(super) fn sentence(&self) -> String {
        let verbs = list(&self.verbs);
        let Some(bounds) = self.bounds else { return format!("{verbs} of the operator's set of this label") };
        let AddBounds { prefix4, prefix6, max_timeout, max_elements } = bounds;
        format!(
            "{verbs} of the operator's set of this label; at most {max_elements} elements, each for {max_timeout} at most, \
             prefixes of {prefix4} bits (IPv4) and {prefix6} bits (IPv6) at least"
        )
    }
}
