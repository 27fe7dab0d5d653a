//! systemd's own word on its units, by D-Bus signals: nothing is polled, and a crash is known within milliseconds.

use std::time::Duration;

use theriac_model::id::UnitName;
use theriac_model::unit::UnitState;
use theriac_probe::systemd::{Change, Systemd};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::clock::chain;

/// Changes the engine may be behind.
const BACKLOG: usize = 256;
/// Between two tries to reach the bus, at first and at most.
const RETRY: Duration = Duration::from_millis(250);
const RETRY_MOST: Duration = Duration::from_secs(30);

/// What is told.
#[derive(Debug)]
pub(crate) enum Told {
    /// From here on systemd tells us itself.
    Following,
    /// The unit's state, by the configuration's name.
    Unit(UnitName, Box<UnitState>),
    /// The unit can't be read.
    LostUnit(UnitName),
    /// The bus is gone.
    Lost,
}

/// A subscription; ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Watch(JoinHandle<()>);

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Where changes arrive.
pub(crate) fn channel() -> (mpsc::Sender<Told>, mpsc::Receiver<Told>) {
    mpsc::channel(BACKLOG)
}

/// Follows these units for as long as the watch is kept.
pub(crate) fn watch(units: Vec<UnitName>, tell: mpsc::Sender<Told>) -> Option<Watch> {
    if units.is_empty() {
        return None;
    }
    Some(Watch(tokio::spawn(async move {
        let mut pause = RETRY;
        while !tell.is_closed() {
            match follow(&units, &tell).await {
                Ok(()) => pause = RETRY,
                Err(reason) if pause == RETRY => tracing::warn!(reason, "systemd can't be followed; trying again"),
                Err(reason) => tracing::debug!(reason, "systemd can't be followed"),
            }
            if tell.send(Told::Lost).await.is_err() {
                return;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(RETRY_MOST);
        }
    })))
}

/// `Ok` when it worked until the bus went away.
async fn follow(units: &[UnitName], tell: &mpsc::Sender<Told>) -> Result<(), String> {
    let systemd = Systemd::connect(None).await.map_err(|error| chain(&error))?;
    let mut changes = systemd.changes(units).await.map_err(|error| chain(&error))?;
    let mut told = tell.send(Told::Following).await;
    while told.is_ok() {
        told = match changes.next().await {
            Some(Change::Unit(name, state)) => tell.send(Told::Unit(name, state)).await,
            Some(Change::Lost(name, error)) => {
                tracing::debug!(unit = %name, error = chain(&error), "a unit can't be read");
                tell.send(Told::LostUnit(name)).await
            }
            None => return Ok(()),
        };
    }
    Ok(())
}
