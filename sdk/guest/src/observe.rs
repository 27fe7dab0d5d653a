//! What is measured at the incident's target (`[grants.series.LABEL]`, `[grants.probes.LABEL]`). Read only.

pub use crate::bindings::theriac::remedy::observe::{Answer, Probe, Reading, Series};
