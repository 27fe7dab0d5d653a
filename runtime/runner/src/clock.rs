//! The one place where the runner reads the wall clock. Guardrails use guard time instead (`theriac_journal::guard_time`).

use std::time::{SystemTime, UNIX_EPOCH};

use theriac_model::time::{Timestamp, millis};

/// Now, by the wall clock; 1970 where it is set before that.
pub fn wall() -> Timestamp {
    Timestamp(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, millis))
}
