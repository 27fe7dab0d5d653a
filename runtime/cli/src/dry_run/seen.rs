//! Supervised services as the running runner sees them. A dry run never speaks to the launcher itself: a connection with an
//! epoch of its own would fence the runner out, and one with none would be refused.

use std::time::Duration;

use theriac_model::id::UnitName;
use theriac_model::unit::{KillWhom, Property, Signal, UnitState};
use theriac_protocol::layout::Layout;
use theriac_runner::backend::{ServiceManager, UnitError};

use crate::client;

/// Reads states through the runner; everything else is not available.
pub(super) struct Seen(pub(super) Layout);

fn no<T>(what: &str) -> Result<T, UnitError> {
    let why = "a dry run of a file only reads states; approve it and dry-run it by name".to_owned();
    Err(UnitError::Unavailable { what: what.to_owned(), why })
}

impl ServiceManager for Seen {
    fn state(&self, unit: &UnitName) -> Result<UnitState, UnitError> {
        let units = client::units(&self.0).map_err(|failure| UnitError::Connection { reason: failure.to_string() })?;
        let found = units.into_iter().find(|state| state.name == *unit);
        found.ok_or_else(|| UnitError::NoSuchUnit { unit: unit.clone() })
    }

    fn start(&self, _: &UnitName, _: Duration) -> Result<UnitState, UnitError> {
        no("start")
    }

    fn stop(&self, _: &UnitName, _: Duration) -> Result<UnitState, UnitError> {
        no("stop")
    }

    fn restart(&self, _: &UnitName, _: Duration) -> Result<UnitState, UnitError> {
        no("restart")
    }

    fn reload(&self, _: &UnitName, _: Duration) -> Result<UnitState, UnitError> {
        no("reload")
    }

    fn kill(&self, _: &UnitName, _: KillWhom, _: Signal) -> Result<UnitState, UnitError> {
        no("kill")
    }

    fn reset_failed(&self, _: &UnitName) -> Result<UnitState, UnitError> {
        no("reset-failed")
    }

    fn property(&self, _: &UnitName, like: Property) -> Result<Property, UnitError> {
        no(like.name())
    }

    fn set_property(&self, _: &UnitName, property: Property) -> Result<Property, UnitError> {
        no(property.name())
    }

    fn log_tail(&self, _: &UnitName, _: u32) -> Result<Vec<String>, UnitError> {
        no("log-tail")
    }
}
