//! Reads `[grants.certificates.LABEL]`.

use theriac_model::id::Label;

use super::{from, verbs, why};
use crate::document::{Field, Mistake};
use crate::grant::{CertificateSource, CertificatesGrant, CertificatesVerb};

pub(super) fn parse(field: Field) -> Result<CertificatesGrant, Mistake> {
    let mut table = field.table(&["certificate", "verbs", "why"])?;
    let why = why(&mut table)?;
    let which = table.required("certificate", "the operator's name for it, or { from = \"incident\" }")?;
    let certificate = if which.is_table() {
        from(which, "incident").map(|()| CertificateSource::Incident)?
    } else {
        CertificateSource::Name(which.parse_with(Label::parse)?)
    };
    let verbs = verbs(&mut table, CertificatesVerb::ALL.iter().map(|verb| verb.as_str()))?;
    Ok(CertificatesGrant { certificate, verbs, why })
}
