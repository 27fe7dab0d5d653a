//! The world of a bench: a real journal, a real undo store, real files. The unit alone is a table: what a restart takes is the
//! service's affair.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use theriac_journal::undo::UndoStore;
use theriac_journal::{Durability, Journal, Options, Stamp};
use theriac_model::health::{HealthAnswer, HealthCheck};
use theriac_model::id::UnitName;
use theriac_model::observation::SeriesId;
use theriac_model::record::{Entry, Record};
use theriac_model::time::{GuardTime, Timestamp};
use theriac_model::unit::{ActiveState, Backend, KillWhom, Property, Signal, UnitState};
use theriac_runner::backend::{ServiceManager, UnitError};
use theriac_runner::world::{CheckError, Roots, Senses, World};
use theriac_runner::writer::{WriteError, Writer};

use crate::place::Place;

/// What the gate reaches the world through, with the unit `web`.
pub fn of(place: &Place, journal: Arc<Book>) -> anyhow::Result<World> {
    let web = UnitName::parse("web")?;
    let undo = UndoStore::open(&place.path().join("undo"), theriac_journal::undo::Options::default())?;
    Ok(World {
        systemd: None,
        supervised: Some(Arc::new(Table(web.clone()))),
        backends: BTreeMap::from([(web, Backend::Supervised)]),
        senses: Arc::new(Blind),
        undo: Mutex::new(undo),
        writer: journal,
        roots: Roots::default(),
        renewals: theriac_runner::renewals::Renewals::default(),
        releases: theriac_runner::releases::Releases::default(),
        additions: theriac_runner::additions::Additions::default(),
        hands: theriac_runner::hands::Hands::default(),
    })
}

/// The journal behind a lock, as in the runner.
#[derive(Debug)]
pub struct Book {
    journal: Mutex<Journal>,
    syncs: bool,
}

impl Book {
    /// A new one at the place.
    pub fn open(place: &Place) -> anyhow::Result<Self> {
        let opened = Journal::open(&place.path().join("journal"), Options::default())?;
        Ok(Self { journal: Mutex::new(opened.journal), syncs: place.syncs })
    }

    /// Room for the next records, which the runner makes between runs.
    pub fn top_up(&self) -> anyhow::Result<()> {
        Ok(self.lock().top_up()?)
    }

    fn lock(&self) -> MutexGuard<'_, Journal> {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Writer for Book {
    fn write(&self, record: Record, durability: Durability) -> Result<Entry, WriteError> {
        let stamp = Stamp { at: Timestamp(0), guard: GuardTime(0), epoch: 1 };
        let durability = if self.syncs { durability } else { Durability::Buffered };
        let mut journal = self.lock();
        journal.append(stamp, record, durability).map_err(|error| WriteError { source: std::io::Error::other(error) })
    }

    fn guard_now(&self) -> GuardTime {
        GuardTime(0)
    }
}

/// A unit that is always found failed and whose restart always works at once.
struct Table(UnitName);

impl Table {
    fn unit(&self, active: ActiveState, invocation: &str) -> UnitState {
        UnitState {
            active,
            sub: "failed".to_owned(),
            result: "exit-code".to_owned(),
            invocation: invocation.to_owned(),
            ..UnitState::running(self.0.clone())
        }
    }
}

impl ServiceManager for Table {
    fn state(&self, _: &UnitName) -> Result<UnitState, UnitError> {
        Ok(self.unit(ActiveState::Failed, "i1"))
    }
    fn start(&self, _: &UnitName, _: Duration) -> Result<UnitState, UnitError> {
        Ok(self.unit(ActiveState::Active, "i2"))
    }
    fn stop(&self, _: &UnitName, _: Duration) -> Result<UnitState, UnitError> {
        Ok(self.unit(ActiveState::Inactive, "i1"))
    }
    fn restart(&self, _: &UnitName, _: Duration) -> Result<UnitState, UnitError> {
        Ok(self.unit(ActiveState::Active, "i2"))
    }
    fn reload(&self, _: &UnitName, _: Duration) -> Result<UnitState, UnitError> {
        Ok(self.unit(ActiveState::Active, "i1"))
    }
    fn kill(&self, _: &UnitName, _: KillWhom, _: Signal) -> Result<UnitState, UnitError> {
        Ok(self.unit(ActiveState::Failed, "i1"))
    }
    fn reset_failed(&self, _: &UnitName) -> Result<UnitState, UnitError> {
        Ok(self.unit(ActiveState::Inactive, "i1"))
    }
    fn property(&self, _: &UnitName, like: Property) -> Result<Property, UnitError> {
        Ok(like)
    }
    fn set_property(&self, _: &UnitName, property: Property) -> Result<Property, UnitError> {
        Ok(property)
    }
    fn log_tail(&self, _: &UnitName, _: u32) -> Result<Vec<String>, UnitError> {
        Ok(Vec::new())
    }
}

struct Blind;

impl Senses for Blind {
    fn now(&self) -> Timestamp {
        Timestamp(0)
    }
    fn readings(&self, _: &SeriesId, _: u32) -> Vec<(Timestamp, f64)> {
        Vec::new()
    }
    fn check(&self, _: &HealthCheck) -> Result<HealthAnswer, CheckError> {
        Err(CheckError { reason: "no courier".to_owned() })
    }
}
