//! `[[knob]]` of `runner.toml`: numbers of the kernel's configuration that remedies may change, and how far.

use theriac_model::kernel::KnobName;

use crate::document::{Field, Mistake};
use crate::manifest::{knob, knob_range};

/// One listed number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnobConfig {
    /// Which.
    pub name: KnobName,
    /// What it may be set to, both ends allowed; none: it may be read.
    pub range: Option<(i64, i64)>,
}

pub(super) fn parse(field: Field) -> Result<KnobConfig, Mistake> {
    let mut table = field.table(&["name", "range"])?;
    let name = knob(&table.required("name", "a sysctl such as \"net.core.somaxconn\"")?)?;
    Ok(KnobConfig { name, range: table.optional("range").map(knob_range).transpose()? })
}
