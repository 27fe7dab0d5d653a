//! The world as the gate, undo and recovery reach it: service managers, measurements, the undo store, the journal.
//!
//! One value per runner, shared by its threads. Nothing here decides whether something may be done.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use theriac_journal::undo::UndoStore;
use theriac_model::health::{HealthAnswer, HealthCheck};
use theriac_model::id::UnitName;
use theriac_model::observation::SeriesId;
use theriac_model::target::MountPath;
use theriac_model::time::Timestamp;
use theriac_model::unit::Backend;

use crate::additions::Additions;
use crate::backend::ServiceManager;
use crate::capability::files::Identity;
use crate::hands::Hands;
use crate::releases::Releases;
use crate::renewals::Renewals;
use crate::writer::Writer;

/// What the runner measures, for remedies that may read it.
pub trait Senses: Send + Sync {
    /// The wall clock.
    fn now(&self) -> Timestamp;
    /// The readings of the last seconds, oldest first.
    fn readings(&self, series: &SeriesId, seconds: u32) -> Vec<(Timestamp, f64)>;
    /// Runs a health check once, through the courier.
    fn check(&self, check: &HealthCheck) -> Result<HealthAnswer, CheckError>;
}

/// A health check could not be run at all, which is not the same as one that failed.
#[derive(Debug, thiserror::Error)]
#[error("the check could not be run: {reason}")]
pub struct CheckError {
    /// Why, such as `no courier is configured`.
    pub reason: String,
}

/// Everything effects are done with.
pub struct World {
    /// systemd, where it runs.
    pub systemd: Option<Arc<dyn ServiceManager>>,
    /// The launcher, where it runs.
    pub supervised: Option<Arc<dyn ServiceManager>>,
    /// Which of them has which unit, by root's configuration: an undo knows a unit by its name only.
    pub backends: BTreeMap<UnitName, Backend>,
    /// Samples and probes.
    pub senses: Arc<dyn Senses>,
    /// Pre-images.
    pub undo: Mutex<UndoStore>,
    /// The journal.
    pub writer: Arc<dyn Writer>,
    /// Directories as they were when they were first seen.
    pub roots: Roots,
    /// Which releases were in use when.
    pub releases: Releases,
    /// What was put in which set of the firewall when.
    pub additions: Additions,
    /// When each certificate was last asked for.
    pub renewals: Renewals,
    /// What other processes do for the runner.
    pub hands: Hands,
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("World").field("backends", &self.backends).field("roots", &self.roots).finish_non_exhaustive()
    }
}

impl World {
    /// The service manager of that backend, where there is one.
    pub(crate) fn manager(&self, backend: Backend) -> Option<&dyn ServiceManager> {
        match backend {
            Backend::Systemd => self.systemd.as_deref(),
            Backend::Supervised => self.supervised.as_deref(),
        }
    }

    /// The service manager of a unit that the configuration lists.
    pub(crate) fn manager_of(&self, unit: &UnitName) -> Option<&dyn ServiceManager> {
        self.manager(*self.backends.get(unit)?)
    }

    pub(crate) fn undo_store(&self) -> MutexGuard<'_, UndoStore> {
        self.undo.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Granted directories by the identity they had when the runner first saw them. One that was replaced since (renamed away,
/// a symlink or a mount put in its place) is refused until the runner is started again.
#[derive(Debug, Default)]
pub struct Roots {
    seen: Mutex<BTreeMap<MountPath, Identity>>,
}

impl Roots {
    /// Remembers the directories as they are now; call it once at start with everything the configuration lists. One that
    /// is missing is remembered when it is first opened.
    pub fn pin<'p>(&self, paths: impl IntoIterator<Item = &'p MountPath>) {
        for path in paths {
            if let Ok(root) = crate::capability::files::Root::open(path) {
                self.is_as_seen(path, root.identity);
            }
        }
    }

    pub(crate) fn is_as_seen(&self, path: &MountPath, identity: Identity) -> bool {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        *seen.entry(path.clone()).or_insert(identity) == identity
    }
}
