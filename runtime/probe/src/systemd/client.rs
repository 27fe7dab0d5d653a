//! The connection to systemd, and reading one unit.

use std::collections::HashMap;
use std::time::Duration;

use theriac_model::id::UnitName;
use theriac_model::unit::UnitState;
use zbus::wire::{ObjectPath, OwnedObjectPath, OwnedVariant};
use zbus::{Connection, connection};

use super::changes::Changes;
use super::state::Properties;
use crate::group::monotonic_ns;
use crate::proc::Reader;

pub(super) const SYSTEMD: &str = "org.freedesktop.systemd1";
pub(super) const MANAGER_PATH: &str = "/org/freedesktop/systemd1";
pub(super) const MANAGER: &str = "org.freedesktop.systemd1.Manager";
pub(super) const UNIT: &str = "org.freedesktop.systemd1.Unit";
pub(super) const PROPERTIES: &str = "org.freedesktop.DBus.Properties";
/// systemd answers within milliseconds; a manager that needs this long is itself the fault.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The address is malformed.
    #[error("`{}` is no D-Bus address", address.escape_debug())]
    Address {
        address: String,
        #[source]
        source: zbus::Error,
    },
    /// Nobody answers.
    #[error("the system bus can't be reached")]
    Bus(#[source] zbus::Error),
    /// The bus is there and systemd is not on it.
    #[error("systemd does not answer on the bus")]
    Manager(#[source] zbus::Error),
}

/// Why a unit could not be read.
#[derive(Debug, thiserror::Error)]
pub enum UnitError {
    /// There is no such unit.
    #[error("there is no unit `{0}`")]
    NotFound(UnitName),
    /// The call failed.
    #[error("systemd could not be asked about `{unit}`")]
    Call {
        unit: UnitName,
        #[source]
        source: zbus::Error,
    },
    /// systemd refused to send its signals.
    #[error("systemd's signals can't be subscribed to")]
    Subscribe(#[source] zbus::Error),
}

/// A connection to systemd. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Systemd {
    connection: Connection,
}

impl Systemd {
    /// Connects to the system bus, or to the given address, and makes sure that systemd is there.
    pub async fn connect(address: Option<&str>) -> Result<Self, ConnectError> {
        let builder = match address {
            None => connection::Builder::system(),
            Some(address) => connection::Builder::address(address),
        };
        let connection =
            builder.method_timeout(CALL_TIMEOUT).build().await.map_err(|source| match (address, &source) {
                (Some(address), zbus::Error::Address(_)) => {
                    ConnectError::Address { address: address.to_owned(), source }
                }
                (Some(_) | None, _) => ConnectError::Bus(source),
            })?;
        let systemd = Self { connection };
        systemd.version().await.map_err(ConnectError::Manager)?;
        Ok(systemd)
    }

    /// The connection, for the runner's verbs.
    pub const fn connection(&self) -> &Connection {
        &self.connection
    }

    /// systemd's version, as it says it.
    pub async fn version(&self) -> Result<String, zbus::Error> {
        let path = ObjectPath::from_static_str_unchecked(MANAGER_PATH);
        let reply =
            self.connection.call_method(Some(SYSTEMD), path, Some(PROPERTIES), "Get", &(MANAGER, "Version")).await?;
        let value: OwnedVariant = reply.body().deserialize()?;
        String::try_from(value)
    }

    /// The object of a unit; loads the unit if it is not loaded.
    pub async fn path(&self, unit: &UnitName) -> Result<OwnedObjectPath, UnitError> {
        let path = ObjectPath::from_static_str_unchecked(MANAGER_PATH);
        let reply =
            self.connection.call_method(Some(SYSTEMD), path, Some(MANAGER), "LoadUnit", &(unit.as_str(),)).await;
        let failed = |source| UnitError::Call { unit: unit.clone(), source };
        reply.map_err(failed)?.body().deserialize().map_err(failed)
    }

    /// The unit's state now.
    pub async fn unit_state(&self, unit: &UnitName) -> Result<UnitState, UnitError> {
        let path = self.path(unit).await?;
        self.state_at(unit, &path).await
    }

    pub(super) async fn state_at(&self, unit: &UnitName, path: &OwnedObjectPath) -> Result<UnitState, UnitError> {
        let failed = |source| UnitError::Call { unit: unit.clone(), source };
        let general = self.all(path, UNIT).await.map_err(failed)?;
        // LoadUnit makes an object for any name; only this tells that there is no unit file.
        let loaded = general.get("LoadState").and_then(|value| <&str>::try_from(value).ok()).unwrap_or_default();
        if loaded == "not-found" {
            return Err(UnitError::NotFound(unit.clone()));
        }
        let own = match own_interface(unit) {
            Some(interface) => self.all(path, interface).await.map_err(failed)?,
            None => HashMap::new(),
        };
        let start_of = |pid| Reader::live().process(pid).map_or(0, |stat| stat.id.start);
        Ok(Properties { unit: general, own }.state(unit, monotonic_ns() / 1000, start_of))
    }

    pub(super) async fn all(
        &self,
        path: &OwnedObjectPath,
        interface: &str,
    ) -> Result<HashMap<String, OwnedVariant>, zbus::Error> {
        let reply = self.connection.call_method(Some(SYSTEMD), path, Some(PROPERTIES), "GetAll", &(interface,)).await?;
        reply.body().deserialize()
    }

    /// From now on, every change of these units. Their present states come first.
    pub async fn changes(&self, units: &[UnitName]) -> Result<Changes, UnitError> {
        Changes::subscribe(self.clone(), units).await
    }
}

/// The interface that has Result and ControlGroup.
fn own_interface(unit: &UnitName) -> Option<&'static str> {
    match unit.as_str().rsplit_once('.')?.1 {
        "service" => Some("org.freedesktop.systemd1.Service"),
        "socket" => Some("org.freedesktop.systemd1.Socket"),
        "mount" => Some("org.freedesktop.systemd1.Mount"),
        "scope" => Some("org.freedesktop.systemd1.Scope"),
        "slice" => Some("org.freedesktop.systemd1.Slice"),
        "swap" => Some("org.freedesktop.systemd1.Swap"),
        "timer" => Some("org.freedesktop.systemd1.Timer"),
        _without_processes => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // SV13.
    #[tokio::test]
    async fn a_bus_that_is_not_there_and_an_address_that_is_none_are_told_apart() {
        let gone = Systemd::connect(Some("unix:path=/nonexistent/bus")).await.unwrap_err();
        assert!(matches!(gone, ConnectError::Bus(_)), "{gone:?}");
        let wrong = Systemd::connect(Some("nonsense")).await.unwrap_err();
        assert!(matches!(wrong, ConnectError::Address { .. }), "{wrong:?}");
    }
}
