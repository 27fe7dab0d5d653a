//! `[grants.releases.LABEL]`: the releases of one service.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::lines::list;
use super::{UnitSource, WordError};

verbs! {
    /// What can be done to a service's releases.
    ReleasesVerb, "a verb of `releases`",
    /// The one in use.
    Current = "current" reads,
    /// The one before it.
    Previous = "previous" reads,
    /// Back to the one before it.
    SwitchBack = "switch-back" changes,
}

/// The releases of a service with what may be done to them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ReleasesGrant {
    /// Of which service.
    pub unit: UnitSource,
    /// The verbs.
    pub verbs: BTreeSet<ReleasesVerb>,
    /// Why.
    pub why: String,
}

impl ReleasesGrant {
    /// What it permits, complete and in one sentence: the line a signer reads.
    pub(super) fn sentence(&self) -> String {
        let whose = match &self.unit {
            UnitSource::Name(name) => name.to_string(),
            UnitSource::Incident => "the incident's unit".to_owned(),
        };
        format!("{} of the releases of {whose}", list(&self.verbs))
    }
}
