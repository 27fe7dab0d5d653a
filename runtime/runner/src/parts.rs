//! The parts of one runner, shared by its threads.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use theriac_authority::guardrail::{Guardrails, Situation};
use theriac_authority::trust::Moment;
use theriac_model::catalog::Catalog;
use theriac_model::target::MountPath;
use theriac_model::time::GuardTime;
use theriac_protocol::layout::Layout;

use crate::book::Book;
use crate::clock;
use crate::observer::Observer;
use crate::remedies::{Loader, Remedies};
use crate::rules::Rules;
use crate::worker::WorkerConfig;
use crate::worker::cache::Cache;
use crate::world::World;
use crate::writer::{WriteError, Writer as _};
use theriac_journal::Durability;
use theriac_model::record::Record;

/// Files that show that a package manager is at work, held with a lock: their existence says nothing, so the lock is asked.
const PACKAGE_LOCKS: &[&str] = &["/var/lib/dpkg/lock-frontend", "/var/lib/rpm/.rpm.lock"];

/// Everything the runner's threads share.
#[derive(Debug)]
pub struct Parts {
    pub(crate) layout: Layout,
    pub(crate) book: Arc<Book>,
    pub(crate) world: World,
    pub(crate) observer: Arc<Observer>,
    pub(crate) rules: RwLock<Arc<Rules>>,
    pub(crate) remedies: RwLock<Arc<Remedies>>,
    pub(crate) workers: WorkerConfig,
    pub(crate) cache: Option<Cache>,
    pub(crate) engine: String,
    /// What is off on this machine, and why.
    pub(crate) disabled: Vec<String>,
    pub(crate) started: std::time::Instant,
}

impl Parts {
    pub(crate) fn rules(&self) -> Arc<Rules> {
        Arc::clone(&self.rules.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn remedies(&self) -> Arc<Remedies> {
        Arc::clone(&self.remedies.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// What the agent and people are told of this host.
    pub(crate) fn catalog(&self) -> Catalog {
        let rules = self.rules();
        Catalog {
            targets: rules.host.catalog_targets(),
            playbooks: rules.playbooks.clone(),
            remedies: self.remedies().offers(),
            mode: rules.host.mode,
            sample_every: rules.host.timing.sample_every,
        }
    }

    /// The wall clock, never earlier than what the journal has seen.
    pub(crate) fn moment(&self) -> Moment {
        self.book.standing(|standing, _| Moment::new(clock::wall(), standing.last_seen()))
    }

    /// Windows and deployments at this moment.
    pub(crate) fn situation(rules: &Rules, now: GuardTime) -> Situation {
        Situation::at(&rules.host, now, clock::wall(), deploy(&rules.host.deploy_locks))
    }

    pub(crate) fn guardrails(rules: &Rules) -> Guardrails {
        Guardrails::from(&rules.host)
    }

    /// Reads remedies again and says in the journal which are loaded and which refused.
    pub(crate) fn load_remedies(&self) -> Result<(), WriteError> {
        let rules = self.rules();
        let loader = Loader {
            trust: &rules.trust,
            now: self.moment(),
            workers: &self.workers,
            cache: self.cache.as_ref(),
            engine: &self.engine,
        };
        let serials = self.book.standing(|standing, _| standing.clone());
        let remedies = Remedies::load(&self.remedies_dir(), &loader, |name| serials.high_water(name));
        for (remedy, signers) in remedies.loaded() {
            let record = Record::RemedyLoaded { remedy: remedy.clone(), signers };
            self.book.write(record, Durability::Synced)?;
        }
        for (name, reason) in remedies.refused() {
            tracing::warn!(file = name, reason, "a remedy was refused");
            let record = Record::RemedyRefused { name: name.clone(), reason: reason.clone() };
            self.book.write(record, Durability::Buffered)?;
        }
        *self.remedies.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(remedies);
        Ok(())
    }

    fn remedies_dir(&self) -> PathBuf {
        self.layout.config.join("remedies")
    }
}

/// What shows that a deployment or a package manager is at work.
fn deploy(locks: &[MountPath]) -> Option<String> {
    let marked = locks.iter().find(|lock| lock.as_path().exists()).map(|lock| format!("`{lock}` exists"));
    marked.or_else(|| PACKAGE_LOCKS.iter().find(|path| is_locked(path)).map(|path| format!("`{path}` is locked")))
}

/// Asks who holds a lock, without taking it: a package manager must never find it taken by us. A file that can't be opened
/// is not ours to ask about: no lock is seen.
fn is_locked(path: &str) -> bool {
    use rustix::process::{Flock, FlockOffsetType, FlockType, fcntl_getlk};
    let wanted = Flock { start: 0, length: 0, pid: None, typ: FlockType::WriteLock, offset_type: FlockOffsetType::Set };
    let Ok(file) = std::fs::File::open(path) else { return false };
    matches!(fcntl_getlk(&file, &wanted), Ok(Some(_)))
}
