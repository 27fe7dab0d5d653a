//! The one place where the agent reads the wall clock.

use std::time::{SystemTime, UNIX_EPOCH};

use theriac_model::time::{Timestamp, millis};

/// Now, by the wall clock; 1970 where it is set before that.
pub(crate) fn wall() -> Timestamp {
    Timestamp(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, millis))
}

/// An error with everything that caused it, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
