//! What the runner measures itself: samples of the listed targets, unit states, health answers.
//!
//! The agent's word starts nothing by itself: every proposal, verification and recovery asks here. One thread samples, one per
//! few targets asks their health checks, so that a service that does not answer slows down nobody but itself.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use theriac_model::catalog::TargetSpec;
use theriac_model::certificate::CertificateReading;
use theriac_model::container::{ContainerSelector, ContainerState};
use theriac_model::database::PoolState;
use theriac_model::fault::FaultKind;
use theriac_model::health::{HealthAnswer, HealthCheck};
use theriac_model::id::{Label, UnitName};
use theriac_model::observation::SeriesId;
use theriac_model::target::Target;
use theriac_model::time::Timestamp;
use theriac_model::unit::UnitState;
use theriac_model::verdict::Measurement;
use theriac_probe::{Facts, HealthStreak, Sampler, precondition};
use theriac_protocol::runner::RunnerEvent;

use crate::backend::{Managers, UnitError};
use crate::clock;
use crate::hands::{Containers, Databases};

/// Health threads; each takes every n-th target that has a check.
const HEALTH_THREADS: usize = 4;
/// Certificates are read that often: they expire by the day, and renewed ones are measured when it is asked.
const READ_CERTIFICATES: Duration = Duration::from_secs(10);
/// Between two measurements of somebody who waits for a condition.
const POLL: Duration = Duration::from_millis(100);

/// Where health answers come from.
pub trait Prober: Send + Sync {
    /// Runs the check once, within its own timeout; `None` when it could not be asked.
    fn check(&self, check: &HealthCheck) -> Option<HealthAnswer>;

    /// Reads a listed certificate, and what is served in its place; `None` where none of that name is listed.
    fn certificate(&self, _name: &Label) -> Option<CertificateReading> {
        None
    }
}

/// The listed containers and database servers, and whom to ask about them.
#[derive(Clone, Default)]
pub struct Watched {
    /// The courier; `None` where no container is listed.
    pub hand: Option<Arc<dyn Containers>>,
    /// How each is found.
    pub selectors: BTreeMap<Label, ContainerSelector>,
    /// The courier of the servers; `None` where no server is listed. What is listed is what is measured.
    pub databases: Option<Arc<dyn Databases>>,
}

impl std::fmt::Debug for Watched {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watched").field("selectors", &self.selectors).finish_non_exhaustive()
    }
}

/// The runner's own eyes.
pub struct Observer {
    specs: Vec<TargetSpec>,
    units: Managers,
    watched: Watched,
    prober: Arc<dyn Prober>,
    inner: Mutex<Inner>,
    tell: Box<dyn Fn(RunnerEvent) + Send + Sync>,
    stop: AtomicBool,
}

struct Inner {
    sampler: Sampler,
    facts: Facts,
}

impl std::fmt::Debug for Observer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Observer").field("targets", &self.specs.len()).finish_non_exhaustive()
    }
}

impl Observer {
    /// Nothing is measured yet. `tell` hears of every unit, container and pool that changes and every health answer.
    pub fn new(
        specs: Vec<TargetSpec>,
        units: Managers,
        watched: Watched,
        prober: Arc<dyn Prober>,
        tell: impl Fn(RunnerEvent) + Send + Sync + 'static,
    ) -> Arc<Self> {
        let inner = Mutex::new(Inner { sampler: Sampler::new(specs.clone()), facts: Facts::default() });
        Arc::new(Self { specs, units, watched, prober, inner, tell: Box::new(tell), stop: AtomicBool::new(false) })
    }

    /// Starts the threads; they end when the observer is stopped.
    pub fn start(self: &Arc<Self>, every: Duration) -> std::io::Result<()> {
        let me = Arc::clone(self);
        std::thread::Builder::new().name("observer".into()).spawn(move || me.sample_every(every))?;
        let checked: Vec<TargetSpec> = self.specs.iter().filter(|spec| !spec.health.is_empty()).cloned().collect();
        for thread in 0..HEALTH_THREADS.min(checked.len()) {
            let mine: Vec<TargetSpec> = checked.iter().skip(thread).step_by(HEALTH_THREADS).cloned().collect();
            let me = Arc::clone(self);
            std::thread::Builder::new().name("health".into()).spawn(move || me.check_every(&mine, every))?;
        }
        let certificates: Vec<Label> = self.specs.iter().filter_map(|spec| certificate_of(&spec.target)).collect();
        if !certificates.is_empty() {
            let me = Arc::clone(self);
            let read = move || me.read_every(&certificates, every);
            std::thread::Builder::new().name("certificates".into()).spawn(read)?;
        }
        // Threads of their own: an engine or a server that is slow slows down nobody else's measurements.
        let is_container = |target: &Target| matches!(target, Target::Container(_));
        let is_pool = |target: &Target| matches!(target, Target::Pool(_));
        self.look(self.watched.hand.is_some(), "containers", is_container, every)?;
        self.look(self.watched.databases.is_some(), "databases", is_pool, every)
    }

    /// Looks at the targets of one kind again and again, where there is somebody to ask about them.
    fn look(
        self: &Arc<Self>,
        askable: bool,
        name: &str,
        of_kind: impl Fn(&Target) -> bool,
        every: Duration,
    ) -> std::io::Result<()> {
        let targets: Vec<Target> =
            self.specs.iter().map(|spec| &spec.target).filter(|target| of_kind(target)).cloned().collect();
        if askable && !targets.is_empty() {
            let me = Arc::clone(self);
            std::thread::Builder::new().name(name.into()).spawn(move || me.look_every(&targets, every))?;
        }
        Ok(())
    }

    /// Ends the threads at their next tick.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
    }

    /// What is normal for the target; `None`: not listed.
    pub fn spec(&self, target: &Target) -> Option<&TargetSpec> {
        self.specs.iter().find(|spec| spec.target == *target)
    }

    /// The service manager told us: known at once, not at the next tick.
    pub fn note_unit(&self, state: &UnitState) {
        self.keep_unit(&state.name, state.clone());
    }

    /// Keeps the state, and tells of it where more than its age changed.
    fn keep_unit(&self, name: &UnitName, state: UnitState) {
        let before = self.lock().facts.units.insert(name.clone(), state.clone());
        let same =
            |old: &UnitState| UnitState { since_ms: 0, ..old.clone() } == UnitState { since_ms: 0, ..state.clone() };
        if !before.as_ref().is_some_and(same) {
            (self.tell)(RunnerEvent::Unit(state));
        }
    }

    /// What is known now, as the events that would have told it.
    pub fn known(&self) -> Vec<RunnerEvent> {
        let inner = self.lock();
        let units = inner.facts.units.values().cloned().map(RunnerEvent::Unit);
        let health = inner.facts.health.iter().map(|(target, streak)| health_event(target, streak));
        let containers = inner.facts.containers.iter().map(|(label, state)| container_event(label, state));
        let read = |(name, reading): (&Label, &CertificateReading)| RunnerEvent::Certificate {
            name: name.clone(),
            reading: reading.clone(),
        };
        let certificates = inner.facts.certificates.iter().map(read);
        let pools = inner.facts.pools.iter().map(|(database, state)| pool_event(database, *state));
        units.chain(health).chain(containers).chain(certificates).chain(pools).collect()
    }

    /// Unit states as last read.
    pub fn units(&self) -> Vec<UnitState> {
        self.lock().facts.units.values().cloned().collect()
    }

    /// Readings of a series, oldest first.
    pub fn range(&self, series: &SeriesId, seconds: u32) -> Vec<(Timestamp, f64)> {
        self.lock().sampler.range(series, seconds)
    }

    /// The newest reading of a series.
    pub fn latest(&self, series: &SeriesId) -> Option<(Timestamp, f64)> {
        self.lock().sampler.latest(series)
    }

    /// Measures the condition now: unit state and health are asked afresh. `None`: no entry in the table of conditions, so a
    /// person is needed.
    pub fn measure(&self, kind: FaultKind, target: &Target) -> Option<Measurement> {
        self.refresh(target);
        let inner = self.lock();
        precondition(kind, target, &inner.sampler, &inner.facts, clock::wall())
    }

    /// Measures until the condition is there, at most for `patience`: the agent may have seen the third failed check a moment
    /// before us.
    pub fn measure_until_present(&self, kind: FaultKind, target: &Target, patience: Duration) -> Option<Measurement> {
        if let Some(known) = self.known_to_be_present(kind, target) {
            return Some(known);
        }
        let deadline = Instant::now() + patience;
        loop {
            let measurement = self.measure(kind, target)?;
            if measurement.present == Some(true) || Instant::now() >= deadline {
                return Some(measurement);
            }
            std::thread::sleep(POLL);
        }
    }

    /// The condition as our own samples already have it. A hung service need not be asked once more, which would take its
    /// whole timeout; where it is not there yet, it is asked.
    fn known_to_be_present(&self, kind: FaultKind, target: &Target) -> Option<Measurement> {
        self.read(target);
        let inner = self.lock();
        let known = precondition(kind, target, &inner.sampler, &inner.facts, clock::wall());
        known.filter(|measurement| measurement.present == Some(true))
    }

    /// Asks one check now.
    pub fn ask(&self, check: &HealthCheck) -> Option<HealthAnswer> {
        self.prober.check(check)
    }

    /// Asks unit state and health checks of one target.
    fn refresh(&self, target: &Target) {
        let Some(spec) = self.spec(target) else { return };
        self.read(target);
        self.check(spec);
    }

    /// Asks who knows the target's state.
    fn read(&self, target: &Target) {
        match target {
            Target::Unit(name) => self.read_unit(name),
            Target::Container(label) => self.read_container(label),
            Target::Certificate(name) => self.read_certificate(name),
            Target::Pool(database) => self.read_pool(database),
            Target::Mount(_) | Target::Host => {}
        }
    }

    fn read_certificate(&self, name: &Label) {
        let Some(reading) = self.prober.certificate(name) else { return };
        self.lock().facts.certificates.insert(name.clone(), reading.clone());
        (self.tell)(RunnerEvent::Certificate { name: name.clone(), reading });
    }

    fn read_every(&self, certificates: &[Label], tick: Duration) {
        while !self.stop.load(Ordering::SeqCst) {
            for name in certificates {
                self.read_certificate(name);
            }
            let began = Instant::now();
            while began.elapsed() < READ_CERTIFICATES && !self.stop.load(Ordering::SeqCst) {
                std::thread::sleep(tick.min(READ_CERTIFICATES));
            }
        }
    }

    /// One that can't be looked at has no state: "unknown" beats "as before".
    fn read_container(&self, label: &Label) {
        let Some((hand, selector)) = self.watched.hand.as_ref().zip(self.watched.selectors.get(label)) else {
            return;
        };
        let Ok(state) = hand.find(selector) else {
            self.lock().facts.containers.remove(label);
            return;
        };
        let before = self.lock().facts.containers.insert(label.clone(), state.clone());
        let ageless = |state: &ContainerState| ContainerState { since_ms: None, ..state.clone() };
        if before.as_ref().map(ageless) != Some(ageless(&state)) {
            (self.tell)(container_event(label, &state));
        }
    }

    /// The same for a database server.
    fn read_pool(&self, database: &Label) {
        let Some(hand) = &self.watched.databases else { return };
        let Ok(state) = hand.pool(database) else {
            self.lock().facts.pools.remove(database);
            return;
        };
        let before = self.lock().facts.pools.insert(database.clone(), state);
        if before != Some(state) {
            (self.tell)(pool_event(database, state));
        }
    }

    fn read_unit(&self, name: &UnitName) {
        self.take_unit(name, self.units.state(name));
    }

    fn take_unit(&self, name: &UnitName, answer: Result<UnitState, UnitError>) {
        match answer {
            Ok(state) => self.keep_unit(name, state),
            // A unit that is not there has no state; one that can't be read keeps none either: "unknown" beats "as before".
            Err(
                UnitError::NoSuchUnit { .. }
                | UnitError::Alias { .. }
                | UnitError::Job { .. }
                | UnitError::Timeout { .. }
                | UnitError::Unavailable { .. }
                | UnitError::Refused { .. }
                | UnitError::Connection { .. },
            ) => {
                self.lock().facts.units.remove(name);
            }
        }
    }

    /// All checks of the target must pass; the first that fails decides.
    fn check(&self, spec: &TargetSpec) {
        let mut decided = None;
        for check in &spec.health {
            let Some(answer) = self.prober.check(check) else { return };
            let failed = !answer.ok;
            decided = Some(answer);
            if failed {
                break;
            }
        }
        let Some(answer) = decided else { return };
        let mut inner = self.lock();
        let streak = HealthStreak::after(inner.facts.health.get(&spec.target), answer, clock::wall());
        let event = health_event(&spec.target, &streak);
        inner.facts.health.insert(spec.target.clone(), streak);
        drop(inner);
        (self.tell)(event);
    }

    fn sample_every(&self, every: Duration) {
        let names: Vec<UnitName> = self.specs.iter().filter_map(|spec| unit_of(&spec.target)).collect();
        while !self.stop.load(Ordering::SeqCst) {
            let began = Instant::now();
            for (name, answer) in self.units.states(&names) {
                self.take_unit(&name, answer);
            }
            {
                let mut inner = self.lock();
                let Inner { sampler, facts } = &mut *inner;
                sampler.sample(clock::wall(), facts);
            }
            std::thread::sleep(every.saturating_sub(began.elapsed()));
        }
    }

    fn look_every(&self, targets: &[Target], every: Duration) {
        while !self.stop.load(Ordering::SeqCst) {
            let began = Instant::now();
            targets.iter().for_each(|target| self.read(target));
            std::thread::sleep(every.saturating_sub(began.elapsed()));
        }
    }

    fn check_every(&self, specs: &[TargetSpec], every: Duration) {
        while !self.stop.load(Ordering::SeqCst) {
            let began = Instant::now();
            for spec in specs {
                self.check(spec);
            }
            std::thread::sleep(every.saturating_sub(began.elapsed()));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic of another thread left whole samples behind, at worst old ones.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn container_event(label: &Label, state: &ContainerState) -> RunnerEvent {
    RunnerEvent::Container { label: label.clone(), state: state.clone() }
}

fn pool_event(database: &Label, state: PoolState) -> RunnerEvent {
    RunnerEvent::Pool { database: database.clone(), state }
}

fn health_event(target: &Target, streak: &HealthStreak) -> RunnerEvent {
    RunnerEvent::Health {
        target: target.clone(),
        answer: streak.last.clone(),
        failures: streak.failures,
        at: streak.at,
    }
}

fn unit_of(target: &Target) -> Option<UnitName> {
    match target {
        Target::Unit(name) => Some(name.clone()),
        Target::Mount(_) | Target::Certificate(_) | Target::Pool(_) | Target::Container(_) | Target::Host => None,
    }
}

fn certificate_of(target: &Target) -> Option<Label> {
    match target {
        Target::Certificate(name) => Some(name.clone()),
        Target::Unit(_) | Target::Mount(_) | Target::Pool(_) | Target::Container(_) | Target::Host => None,
    }
}

/// How often each target kind is listed, for the log line at start.
pub fn census(specs: &[TargetSpec]) -> BTreeMap<&'static str, usize> {
    let mut census = BTreeMap::new();
    for spec in specs {
        let kind = match spec.target {
            Target::Unit(_) => "units",
            Target::Mount(_) => "mounts",
            Target::Certificate(_) => "certificates",
            Target::Pool(_) => "pools",
            Target::Container(_) => "containers",
            Target::Host => "host",
        };
        *census.entry(kind).or_default() += 1;
    }
    census
}
