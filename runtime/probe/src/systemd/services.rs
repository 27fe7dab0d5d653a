//! Which services of this machine are there to stay: what `theriac init` lists.

use theriac_model::id::UnitName;
use zbus::wire::{ObjectPath, OwnedObjectPath, OwnedVariant};

use super::client::{MANAGER, MANAGER_PATH, SYSTEMD, Systemd, UNIT};

/// Machines with more services than this have them made by a program, and their list, too.
const MAX_SERVICES: usize = 512;
const SERVICE: &str = "org.freedesktop.systemd1.Service";

/// A row of `ListUnits`: name, description, load, active and sub state, followed unit, object, and a job's number, type, object.
type Row = (String, String, String, String, String, String, OwnedObjectPath, u32, String, OwnedObjectPath);

impl Systemd {
    /// Services that run, and whose end would be a fault: not those that do their work and end, those that somebody runs once
    /// (`systemd-run`), and those that the bus starts when they are asked for and that leave when they are idle.
    pub async fn lasting_services(&self) -> Result<Vec<UnitName>, zbus::Error> {
        let path = ObjectPath::from_static_str_unchecked(MANAGER_PATH);
        let states = (vec!["active"], vec!["*.service"]);
        let listed = self.connection().call_method(Some(SYSTEMD), path, Some(MANAGER), "ListUnitsByPatterns", &states);
        let rows: Vec<Row> = listed.await?.body().deserialize()?;
        let mut lasting = Vec::new();
        for (name, _, load, _, sub, followed, path, ..) in rows.into_iter().take(MAX_SERVICES) {
            if load == "loaded"
                && sub == "running"
                && followed.is_empty()
                && let Ok(name) = UnitName::parse(&name)
                && self.is_lasting(&path).await?
            {
                lasting.push(name);
            }
        }
        Ok(lasting)
    }

    async fn is_lasting(&self, path: &OwnedObjectPath) -> Result<bool, zbus::Error> {
        let unit = self.all(path, UNIT).await?;
        let service = self.all(path, SERVICE).await?;
        let transient = unit.get("Transient").and_then(|value| bool::try_from(value).ok()).unwrap_or(false);
        let on_demand = text(service.get("Type")) == "dbus" && text(unit.get("UnitFileState")) == "static";
        Ok(!transient && !on_demand && text(service.get("Type")) != "oneshot")
    }
}

fn text(value: Option<&OwnedVariant>) -> &str {
    value.and_then(|value| <&str>::try_from(value).ok()).unwrap_or_default()
}
