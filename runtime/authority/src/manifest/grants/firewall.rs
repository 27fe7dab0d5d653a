//! Reads `[grants.firewall.LABEL]`.

use std::collections::BTreeSet;

use theriac_model::time::Span;

use super::{from, idle, verbs, why};
use crate::document::{Field, Mistake, Table};
use crate::grant::{AddBounds, FirewallGrant, FirewallVerb};

/// Addresses one run may add: a person reads them, one by one.
const MAX_ELEMENTS: u32 = 200;
/// Whoever is to be kept out for longer is to be kept out by the operator's own rules.
pub(crate) const MAX_TIMEOUT: Span = Span::from_secs(7 * 86_400);
/// Below a second nothing is blocked by the time that anybody looks.
pub(crate) const MIN_TIMEOUT: Span = Span::from_secs(1);

pub(super) fn parse(field: Field) -> Result<FirewallGrant, Mistake> {
    let mut table = field.table(&["set", "verbs", "prefix4", "prefix6", "max_timeout", "max_elements", "why"])?;
    let why = why(&mut table)?;
    from(table.required("set", "{ from = \"operator\" }: the operator's `[[firewall]]` of this label")?, "operator")?;
    let verbs: BTreeSet<FirewallVerb> = verbs(&mut table, FirewallVerb::ALL.iter().map(|verb| verb.as_str()))?;
    if verbs.contains(&FirewallVerb::Add) {
        return Ok(FirewallGrant { bounds: Some(bounds(&mut table)?), verbs, why });
    }
    for key in ["prefix4", "prefix6", "max_timeout", "max_elements"] {
        idle(&mut table, key, "the verb `add`")?;
    }
    Ok(FirewallGrant { verbs, bounds: None, why })
}

fn bounds(table: &mut Table) -> Result<AddBounds, Mistake> {
    let needed = "`add` needs it";
    let timeout = table.required("max_timeout", &format!("`max_timeout = \"1h\"`: {needed}"))?;
    let elements = table.required("max_elements", &format!("`max_elements = 20`: {needed}"))?;
    Ok(AddBounds {
        prefix4: table.optional("prefix4").map_or(Ok(32), |field| prefix4(&field))?,
        prefix6: table.optional("prefix6").map_or(Ok(128), |field| prefix6(&field))?,
        max_timeout: max_timeout(&timeout)?,
        max_elements: elements.integer(1, MAX_ELEMENTS)?,
    })
}

/// The shortest prefix of IPv4. A /16 has 65536 addresses, and whoever blocks more of the world means another thing.
pub(crate) fn prefix4(field: &Field) -> Result<u8, Mistake> {
    field.integer(16, 32)
}

/// The shortest prefix of IPv6. A site has a /48, a provider a /32.
pub(crate) fn prefix6(field: &Field) -> Result<u8, Mistake> {
    field.integer(32, 128)
}

/// The longest time, in whole seconds, as the contract counts them.
pub(crate) fn max_timeout(field: &Field) -> Result<Span, Mistake> {
    let span = field.span(MIN_TIMEOUT, MAX_TIMEOUT)?;
    if span.duration().subsec_nanos() == 0 {
        Ok(span)
    } else {
        Err(field.mistake(format!("`{span}` is no whole number of seconds"), "write it in s, m, h or d"))
    }
}
