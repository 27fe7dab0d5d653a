//! `[grants.certificates.LABEL]`: one certificate that the operator lists.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};
use theriac_model::id::Label;

use super::WordError;
use super::lines::list;

verbs! {
    /// What can be done with a certificate.
    CertificatesVerb, "a verb of `certificates`",
    /// What its file says.
    Inspect = "inspect" reads,
    /// What its address serves.
    Served = "served" reads,
    /// A new key and a new certificate.
    Renew = "renew" changes,
}

/// A certificate with what may be done with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CertificatesGrant {
    /// Which certificate.
    pub certificate: CertificateSource,
    /// The verbs.
    pub verbs: BTreeSet<CertificatesVerb>,
    /// Why.
    pub why: String,
}

/// Where a certificate comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CertificateSource {
    /// The operator's `[[certificate]]` of that name.
    Name(Label),
    /// The incident's target.
    Incident,
}

impl CertificatesGrant {
    /// What it permits, complete and in one sentence: the line a signer reads.
    pub(super) fn sentence(&self) -> String {
        let whose = match &self.certificate {
            CertificateSource::Name(name) => format!("the operator's certificate `{name}`"),
            CertificateSource::Incident => "the incident's certificate".to_owned(),
        };
        format!("{} of {whose}", list(&self.verbs))
    }
}
