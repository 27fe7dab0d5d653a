//! `[grants.containers.LABEL]`: one container of the machine's engine.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};
use theriac_model::container::ContainerSelector;
use theriac_model::time::Span;

use super::WordError;
use super::lines::list;

verbs! {
    /// What can be done to a granted container. Running something in one, making one and touching an image are no verbs.
    ContainersVerb, "a verb of `containers`",
    /// How it does.
    Inspect = "inspect" reads,
    /// The last lines of its output.
    LogTail = "log-tail" reads,
    /// Started.
    Start = "start" changes,
    /// Stopped.
    Stop = "stop" changes,
    /// Restarted.
    Restart = "restart" changes,
}

/// Where a container comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ContainerSource {
    /// Named in the manifest.
    Selected(ContainerSelector),
    /// The incident's target.
    Incident,
}

/// A container with what may be done to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ContainersGrant {
    /// Which container.
    pub container: ContainerSource,
    /// The verbs.
    pub verbs: BTreeSet<ContainersVerb>,
    /// How long a change is waited for.
    pub job_timeout: Span,
    /// Why.
    pub why: String,
}

impl ContainersGrant {
    /// What it permits, complete and in one sentence: the line a signer reads.
    pub(super) fn sentence(&self) -> String {
        let which = match &self.container {
            ContainerSource::Selected(selector) => selector.to_string(),
            ContainerSource::Incident => "the incident's container".to_owned(),
        };
        let mut text = format!("{} of {which}", list(&self.verbs));
        if self.verbs.iter().any(|verb| verb.changes()) {
            text.push_str(&format!("; jobs at most {}", self.job_timeout));
        }
        text
    }
}
