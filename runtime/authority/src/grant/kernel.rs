//! `[grants.kernel.LABEL]`: one number of the kernel's configuration, with a range.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};
use theriac_model::kernel::KnobName;

use super::WordError;
use super::lines::list;

verbs! {
    /// What can be done to a granted number.
    KernelVerb, "a verb of `kernel`",
    /// The value.
    Get = "get" reads,
    /// Another value.
    Set = "set" changes,
}

/// A number with what it may be set to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KernelGrant {
    /// Which.
    pub knob: KnobName,
    /// The verbs.
    pub verbs: BTreeSet<KernelVerb>,
    /// What `set` may set, both ends allowed; none without `set`.
    pub range: Option<(i64, i64)>,
    /// Why.
    pub why: String,
}

impl KernelGrant {
    /// What it permits, complete and in one sentence: the line a signer reads.
    pub(super) fn sentence(&self) -> String {
        let mut text = format!("{} of {}", list(&self.verbs), self.knob);
        if let Some((min, max)) = self.range {
            text.push_str(&format!("; {min} to {max}"));
        }
        text
    }
}
