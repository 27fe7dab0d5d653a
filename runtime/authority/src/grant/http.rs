//! `[grants.http.LABEL]`: one origin, a path prefix, methods, sizes.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use theriac_model::http::{HttpMethod, Origin};
use theriac_model::id::Label;
use theriac_model::time::Span;
use theriac_model::units::Bytes;

use super::lines::{exact, globs, list};

/// An endpoint with what may be sent to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HttpGrant {
    /// Where to.
    pub origin: Origin,
    /// Every path begins with it; it begins and ends with `/`.
    pub prefix: String,
    /// The methods.
    pub methods: BTreeSet<HttpMethod>,
    /// The query parameters with the values of each.
    pub query: BTreeMap<Label, Vec<String>>,
    /// Largest body of a request; 0 where no method has one.
    pub max_body: Bytes,
    /// How much of an answer is kept.
    pub max_answer: Bytes,
    /// From the look-up of the name to the last byte.
    pub timeout: Span,
    /// The request that takes a changing one back; none: it can't be taken back.
    pub undo: Option<InverseRequest>,
    /// Why.
    pub why: String,
}

/// A request that is written in the manifest, whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct InverseRequest {
    /// How.
    pub method: HttpMethod,
    /// Path below the prefix, and query.
    pub path: String,
    /// The body.
    pub body: String,
}

impl HttpGrant {
    /// What it permits, complete and in one sentence: the line a signer reads.
    pub(super) fn sentence(&self) -> String {
        let mut text = format!(
            "{} to {}{}, {} at most",
            list(self.methods.iter().map(|method| method.as_str())),
            self.origin,
            self.prefix,
            self.timeout
        );
        if self.max_body.0 > 0 {
            text.push_str(&format!("; bodies of at most {}", exact(self.max_body)));
        }
        for (name, values) in &self.query {
            text.push_str(&format!("; {name} of {}", globs(values)));
        }
        text.push_str(&format!("; {} of an answer", exact(self.max_answer)));
        if let Some(undo) = &self.undo {
            let body = undo.body.escape_default();
            text.push_str(&format!("; undone by {} {} \"{body}\"", undo.method.as_str(), undo.path.escape_default()));
        }
        text
    }
}
