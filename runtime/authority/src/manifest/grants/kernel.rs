//! Reads `[grants.kernel.LABEL]`.

use std::collections::BTreeSet;

use theriac_model::kernel::KnobName;

use super::{idle, verbs, why};
use crate::document::{Field, Mistake};
use crate::grant::{KernelGrant, KernelVerb, never};

pub(super) fn parse(field: Field) -> Result<KernelGrant, Mistake> {
    let mut table = field.table(&["knob", "verbs", "range", "why"])?;
    let why = why(&mut table)?;
    let knob = knob(&table.required("knob", "a sysctl such as \"net.core.somaxconn\"")?)?;
    let verbs: BTreeSet<KernelVerb> = verbs(&mut table, KernelVerb::ALL.iter().map(|verb| verb.as_str()))?;
    let mut range = None;
    if verbs.contains(&KernelVerb::Set) {
        let hint = "`range = { min = 10, max = 60 }`: `set` needs it";
        range = Some(self::range(table.required("range", hint)?)?);
    } else {
        idle(&mut table, "range", "the verb `set`")?;
    }
    Ok(KernelGrant { knob, verbs, range, why })
}

/// A sysctl that can be granted at all.
pub(crate) fn knob(field: &Field) -> Result<KnobName, Mistake> {
    let knob = field.parse_with(KnobName::parse)?;
    match never::knob(&knob) {
        Some(reason) => Err(field.mistake(format!("`{knob}` can never be granted: {reason}"), "")),
        None => Ok(knob),
    }
}

/// `{ min = …, max = … }`, both ends allowed.
pub(crate) fn range(field: Field) -> Result<(i64, i64), Mistake> {
    super::range(field, |field| field.integer(i64::MIN, i64::MAX))
}
