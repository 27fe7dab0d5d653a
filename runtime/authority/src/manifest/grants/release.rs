//! Reads `[grants.releases.LABEL]`.

use super::{unit_source, verbs, why};
use crate::document::{Field, Mistake};
use crate::grant::{ReleasesGrant, ReleasesVerb};

pub(super) fn parse(field: Field) -> Result<ReleasesGrant, Mistake> {
    let mut table = field.table(&["unit", "verbs", "why"])?;
    let why = why(&mut table)?;
    let unit = unit_source(&mut table)?;
    let verbs = verbs(&mut table, ReleasesVerb::ALL.iter().map(|verb| verb.as_str()))?;
    Ok(ReleasesGrant { unit, verbs, why })
}
