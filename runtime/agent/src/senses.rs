//! What the agent perceives: its own samples, and the facts it is told by systemd and the runner. Samples become signals here.

use theriac_analysis::detect::{Detector, RuleSet};
use theriac_analysis::diagnose::Context;
use theriac_model::catalog::TargetSpec;
use theriac_model::certificate::CertificateReading;
use theriac_model::container::ContainerState;
use theriac_model::database::PoolState;
use theriac_model::id::{Label, UnitName};
use theriac_model::observation::{Metric, SeriesId};
use theriac_model::signal::Signal;
use theriac_model::target::Target;
use theriac_model::time::Timestamp;
use theriac_model::unit::{Backend, UnitState};
use theriac_probe::{Facts, HealthStreak, Sampler, activity, facts};

/// A unit that went down longer ago than this did so before we looked: the time says nothing about how fast it was detected.
const WATCHED_MS: u64 = 10_000;

/// Sampler, detector and facts.
#[derive(Debug)]
pub(crate) struct Senses {
    sampler: Sampler,
    detector: Detector,
    facts: Facts,
    /// systemd tells us itself; the runner's word on its units is older and left aside.
    systemd: bool,
    ticked: Option<Timestamp>,
}

impl Senses {
    /// Tests every rule on its planted anomaly first.
    pub(crate) fn new(rules: RuleSet) -> Self {
        let detector = Detector::new(rules, &[]);
        Self { sampler: Sampler::new(Vec::new()), detector, facts: Facts::default(), systemd: false, ticked: None }
    }

    /// Takes another list of targets; the history of those that stay is kept.
    pub(crate) fn set_targets(&mut self, specs: &[TargetSpec]) {
        self.sampler.set_specs(specs.to_vec());
        self.detector.set_specs(specs);
    }

    /// Units of systemd in the list.
    pub(crate) fn systemd_units(&self) -> Vec<UnitName> {
        let ours = self.sampler.specs().iter().filter(|spec| spec.backend == Some(Backend::Systemd));
        ours.filter_map(|spec| unit_name(&spec.target)).collect()
    }

    /// Whether systemd tells us itself.
    pub(crate) fn follow_systemd(&mut self, follows: bool) {
        self.systemd = follows;
    }

    /// One round of samples.
    pub(crate) fn tick(&mut self, now: Timestamp) -> Vec<Signal> {
        let samples = self.sampler.sample(now, &self.facts);
        self.ticked = Some(now);
        self.detector.observe(now, &samples)
    }

    /// When the last round was.
    pub(crate) const fn ticked(&self) -> Option<Timestamp> {
        self.ticked
    }

    /// The runner's word on a unit.
    pub(crate) fn told_unit(&mut self, now: Timestamp, state: UnitState) -> Vec<Signal> {
        let target = Target::Unit(state.name.clone());
        let of_systemd = self.sampler.spec(&target).is_some_and(|spec| spec.backend == Some(Backend::Systemd));
        if of_systemd && self.systemd { Vec::new() } else { self.unit(now, state.name.clone(), state) }
    }

    /// A unit's state changed: judged at once, not at the next tick. The name is the configuration's.
    pub(crate) fn unit(&mut self, now: Timestamp, name: UnitName, state: UnitState) -> Vec<Signal> {
        let listed = self.sampler.spec(&Target::Unit(name.clone())).is_some();
        let mut signals = Vec::new();
        if listed {
            let samples: Vec<_> = facts::unit_samples(&name, &state, now).collect();
            signals = self.detector.observe(now, &samples);
            if state.since_ms <= WATCHED_MS {
                // systemd knows when it happened; we only know when we heard.
                let began = Timestamp(now.0.saturating_sub(state.since_ms));
                signals.iter_mut().filter(|signal| signal.onset == now).for_each(|signal| signal.onset = began);
            }
        }
        self.facts.units.insert(name, state);
        signals
    }

    /// The runner's word on a container: judged at once. How often it was started again in a while is for the next tick, which
    /// knows the history.
    pub(crate) fn told_container(&mut self, now: Timestamp, label: Label, state: ContainerState) -> Vec<Signal> {
        let listed = self.sampler.spec(&Target::Container(label.clone())).is_some();
        let samples: Vec<_> = facts::container_samples(&label, &state, now).filter(|_| listed).collect();
        let signals = self.detector.observe(now, &samples);
        self.facts.containers.insert(label, state);
        signals
    }

    /// The runner's word on a database server: judged at once.
    pub(crate) fn told_pool(&mut self, now: Timestamp, database: Label, state: PoolState) -> Vec<Signal> {
        let listed = self.sampler.spec(&Target::Pool(database.clone())).is_some();
        let sample = listed.then(|| facts::pool_sample(&database, state, now));
        let signals = sample.map_or_else(Vec::new, |sample| self.detector.observe(now, &[sample]));
        self.facts.pools.insert(database, state);
        signals
    }

    /// A unit that can't be read has no state: "unknown" beats "as before".
    pub(crate) fn lost_unit(&mut self, name: &UnitName) {
        self.facts.units.remove(name);
    }

    /// A health check was answered.
    pub(crate) fn health(&mut self, now: Timestamp, target: Target, streak: HealthStreak) -> Vec<Signal> {
        let listed = self.sampler.spec(&target).is_some();
        let sample = facts::health_sample(&target, &streak).filter(|_| listed);
        let signals = sample.map_or_else(Vec::new, |sample| self.detector.observe(now, &[sample]));
        self.facts.health.insert(target, streak);
        signals
    }

    /// The runner's word on a certificate: judged with the next round of samples.
    pub(crate) fn told_certificate(&mut self, name: Label, reading: CertificateReading) {
        self.facts.certificates.insert(name, reading);
    }

    /// The runner is gone: what it told is getting old.
    pub(crate) fn forget_told(&mut self) {
        self.facts.certificates.clear();
        self.facts.health.clear();
        self.facts.containers.clear();
        self.facts.pools.clear();
        if self.systemd {
            let ours = self.systemd_units();
            self.facts.units.retain(|name, _| ours.contains(name));
        } else {
            self.facts.units.clear();
        }
    }

    /// What a diagnosis looks at besides the evidence. Looks through the machine's processes: not for each tick.
    pub(crate) fn context(&self, target: &Target) -> Context {
        let latest = |target: &Target, metric: Metric| {
            self.sampler.latest(&SeriesId { target: target.clone(), metric }).map(|(_, value)| value)
        };
        let of = |metric: Metric| Some((metric, latest(target, metric).or_else(|| latest(&Target::Host, metric))?));
        let mounts = self.sampler.specs().iter().filter(|spec| matches!(spec.target, Target::Mount(_)));
        let lowest = mounts.filter_map(|spec| latest(&spec.target, Metric::DiskAvailable)).min_by(f64::total_cmp);
        let activity = activity::now();
        Context {
            metrics: Metric::ALL.iter().copied().filter_map(of).chain(self.told_share(target)).collect(),
            unit: unit_name(target).and_then(|name| self.facts.units.get(&name).cloned()),
            lowest_disk_available: lowest,
            deploy: activity.deploy,
            backup: activity.backup,
        }
    }

    /// What was told of a pool, which the next tick only will have among its samples.
    fn told_share(&self, target: &Target) -> Option<(Metric, f64)> {
        let Target::Pool(database) = target else { return None };
        self.facts.pools.get(database).map(|state| (Metric::PoolUsed, state.used_share()))
    }

    /// The readings of a series over the last seconds.
    pub(crate) fn range(&self, series: &SeriesId, seconds: u32) -> Vec<(Timestamp, f64)> {
        self.sampler.range(series, seconds)
    }

    /// What the target's health checks said.
    pub(crate) fn streak(&self, target: &Target) -> Option<&HealthStreak> {
        self.facts.health.get(target)
    }

    /// The unit's state.
    pub(crate) fn unit_of(&self, target: &Target) -> Option<&UnitState> {
        self.facts.units.get(&unit_name(target)?)
    }

    /// How many series are sampled.
    pub(crate) fn series(&self) -> usize {
        self.sampler.series()
    }

    /// Rules that failed their self-test.
    pub(crate) fn disarmed(&self) -> &[String] {
        self.detector.disarmed()
    }

    /// Rules at work.
    pub(crate) const fn armed(&self) -> usize {
        self.detector.armed()
    }
}

fn unit_name(target: &Target) -> Option<UnitName> {
    match target {
        Target::Unit(name) => Some(name.clone()),
        Target::Mount(_) | Target::Certificate(_) | Target::Pool(_) | Target::Container(_) | Target::Host => None,
    }
}
