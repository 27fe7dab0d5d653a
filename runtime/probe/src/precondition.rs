//! The closed table of conditions: what the runner measures by itself before it acts and after.
//!
//! The thresholds come from root's configuration, the readings from the runner's own sampler, so a wholly compromised agent can
//! only make it do what policy allows in a state that is really there. A kind that is not in the table has no measurement and
//! needs a person. `present: None` is "can't tell now", which neither starts a run nor ends one well.

use theriac_model::call::Number;
use theriac_model::catalog::Thresholds;
use theriac_model::certificate::{CertificateReading, ServedReading, seconds_left};
use theriac_model::fault::FaultKind;
use theriac_model::observation::{Metric, SeriesId};
use theriac_model::target::{MountPath, Target};
use theriac_model::time::Timestamp;
use theriac_model::trend::Trend;
use theriac_model::unit::{ActiveState, UnitState};
use theriac_model::units::Bytes;
use theriac_model::verdict::Measurement;

use crate::facts::{self, Facts, HealthStreak};
use crate::fs::{self, Space};
use crate::sampler::Sampler;

mod container;
mod pool;

/// A disk that is full sooner than this is filling.
const FILLING_WITHIN_S: f64 = 7_200.0;
/// From this share of its limit on, a unit that will pass the limit sooner than [`PASSES_WITHIN_S`] leaks already. The same as in
/// the agent's rule, and as the throttle's: what is throttled to it is healed.
const NEAR_LIMIT: f64 = 0.9;
/// See [`NEAR_LIMIT`].
const PASSES_WITHIN_S: f64 = 300.0;
/// History that a trend needs, and how far back it looks, in seconds.
const TREND_LEAST_S: f64 = 10.0;
/// See [`TREND_LEAST_S`].
const TREND_SPAN_S: u32 = 60;
/// A reading or a health answer older than this says nothing about now.
const STALE_MS: u64 = 60_000;
/// Two readings further apart than this leave a hole in a window.
const GAP_MS: u64 = 10_000;
/// Most of a window must be above the threshold: the runner's ticks and the agent's are not the same ticks.
const SHARE_ABOVE: f64 = 0.9;

/// Measures the condition of one fault kind at one target. `None`: the table has no entry for the pair.
pub fn precondition(
    kind: FaultKind,
    target: &Target,
    sampler: &Sampler,
    facts: &Facts,
    now: Timestamp,
) -> Option<Measurement> {
    let thresholds = &sampler.spec(target)?.thresholds;
    let at = At { target, sampler, now };
    let mut measured = match (kind, target) {
        (FaultKind::DiskFull, Target::Mount(path)) => disk(at, path, |space| disk_full(space, thresholds)),
        (FaultKind::DiskFilling, Target::Mount(path)) => disk(at, path, |space| disk_filling(at, space, thresholds)),
        (FaultKind::InodeExhaustion, Target::Mount(path)) => disk(at, path, |space| inodes(space, thresholds)),
        (FaultKind::CpuSaturation, Target::Unit(_)) => cpu(at, thresholds),
        (FaultKind::MemoryLeak, Target::Unit(_)) => memory(at, thresholds),
        (FaultKind::OomKill, Target::Unit(name)) => oom(at, facts.units.get(name)),
        (FaultKind::ServiceCrash, Target::Unit(name)) => crash(facts.units.get(name), facts.health.get(target)),
        (FaultKind::StartLimitHit, Target::Unit(name)) => start_limit(facts.units.get(name)),
        (FaultKind::ServiceUnhealthy, Target::Unit(name)) => {
            unhealthy(at, thresholds, facts.units.get(name), facts.health.get(target))
        }
        (FaultKind::CertificateExpiry, Target::Certificate(name)) => {
            certificate(at, thresholds, facts.certificates.get(name))
        }
        (FaultKind::ContainerUnhealthy, Target::Container(label)) => {
            container::unhealthy(at, thresholds, facts.containers.get(label))
        }
        (FaultKind::DbConnectionsExhausted, Target::Pool(database)) => {
            pool::exhausted(thresholds, facts.pools.get(database).copied())
        }
        _other_pair => return None,
    };
    measured.at = now;
    measured.healthy = facts.health.get(target).map(|streak| streak.ok).or(measured.healthy);
    Some(measured)
}

/// What and when is measured.
#[derive(Clone, Copy)]
struct At<'a> {
    target: &'a Target,
    sampler: &'a Sampler,
    now: Timestamp,
}

impl At<'_> {
    fn series(&self, metric: Metric) -> SeriesId {
        SeriesId { target: self.target.clone(), metric }
    }

    /// The newest reading, if it is of now.
    fn fresh(&self, metric: Metric) -> Option<f64> {
        let (at, value) = self.sampler.latest(&self.series(metric))?;
        (self.now.0.abs_diff(at.0) <= STALE_MS).then_some(value)
    }
}

fn measurement(present: Option<bool>, badness: f64, summary: String, numbers: Vec<Number>) -> Measurement {
    Measurement { at: Timestamp(0), present, summary, badness, numbers, healthy: None }
}

fn unknown(summary: impl Into<String>) -> Measurement {
    measurement(None, 0.0, summary.into(), Vec::new())
}

fn number(name: &str, value: f64, unit: &str) -> Number {
    Number { name: name.to_owned(), value, unit: unit.to_owned() }
}

/// Re-measures at the call: a sample may be a second old, and in a second a disk changes.
fn disk(at: At<'_>, path: &MountPath, judge: impl Fn(&Space) -> Measurement) -> Measurement {
    match fs::space_of_mount(path.as_path()) {
        Ok(space) => judge(&space),
        Err(error) => unknown(format!("{}: {error}", at.target)),
    }
}

#[expect(clippy::cast_precision_loss, reason = "a remedy's numbers are floats; 53 bits hold every disk")]
fn space_numbers(space: &Space) -> Vec<Number> {
    vec![
        number("available", space.available as f64, "bytes"),
        number("total", space.total as f64, "bytes"),
        number("available_share", space.available_permille(), "permille"),
    ]
}

fn disk_full(space: &Space, thresholds: &Thresholds) -> Measurement {
    let (share, limit) = (space.available_permille(), f64::from(thresholds.disk_full.get()));
    let summary =
        format!("{:.1} % available ({}), threshold {:.1} %", share / 10.0, Bytes(space.available), limit / 10.0);
    measurement(Some(share < limit), 1000.0 - share, summary, space_numbers(space))
}

#[expect(clippy::cast_precision_loss, reason = "the end of a disk is estimated, not counted")]
fn disk_filling(at: At<'_>, space: &Space, thresholds: &Thresholds) -> Measurement {
    let (share, limit) = (space.available_permille(), f64::from(thresholds.disk_filling.get()));
    let available = space.available as f64;
    let series = at.series(Metric::DiskAvailableBytes);
    let history = at.sampler.window(&series, TREND_SPAN_S).chain([(at.now, available)]);
    let trend = Trend::over(history).filter(|trend| trend.seconds >= TREND_LEAST_S);
    let full_in = trend.and_then(|trend| trend.seconds_until(available, 0.0));
    let present = match trend {
        _ if share >= limit => Some(false),
        Some(_) => Some(full_in.is_some_and(|seconds| seconds < FILLING_WITHIN_S)),
        None => None,
    };
    let pace = match (trend, full_in) {
        (_, Some(seconds)) => format!("full in {seconds:.0} s at this pace"),
        (Some(_), None) => "not shrinking".to_owned(),
        (None, None) => "too little history for a trend".to_owned(),
    };
    let summary = format!("{:.1} % available, {pace}, threshold {:.1} %", share / 10.0, limit / 10.0);
    let mut numbers = space_numbers(space);
    numbers.extend(full_in.map(|seconds| number("full_in", seconds, "seconds")));
    measurement(present, 1000.0 - share, summary, numbers)
}

#[expect(clippy::cast_precision_loss, reason = "a remedy's numbers are floats; 53 bits hold every count of inodes")]
fn inodes(space: &Space, thresholds: &Thresholds) -> Measurement {
    let Some(share) = space.inodes_permille() else {
        return measurement(Some(false), 0.0, "the filesystem has no inode limit".to_owned(), Vec::new());
    };
    let limit = f64::from(thresholds.inodes.get());
    let summary = format!(
        "{:.1} % of inodes available ({}), threshold {:.1} %",
        share / 10.0,
        space.inodes_available,
        limit / 10.0
    );
    let numbers = vec![
        number("inodes_available", space.inodes_available as f64, "count"),
        number("inodes_available_share", share, "permille"),
    ];
    measurement(Some(share < limit), 1000.0 - share, summary, numbers)
}

/// Above the share for long enough: from the sampler's own history, without holes.
fn cpu(at: At<'_>, thresholds: &Thresholds) -> Measurement {
    let Some(newest) = at.fresh(Metric::UnitCpuShare) else { return unknown("its CPU time is not known") };
    let limit = f64::from(thresholds.cpu_share.get());
    let span = thresholds.cpu_for.duration();
    let span_ms = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    let window: Vec<_> = at.sampler.range(&at.series(Metric::UnitCpuShare), u32::MAX);
    let window: Vec<_> =
        window.into_iter().rev().take_while(|(when, _)| when.0.saturating_add(span_ms) >= at.now.0).collect();
    let covered = is_covered(&window, at.now, span_ms);
    let above = window.iter().filter(|(_, value)| *value >= limit).count();
    #[expect(clippy::cast_precision_loss, reason = "a window holds at most 600 readings")]
    let mostly = above as f64 >= SHARE_ABOVE * window.len() as f64;
    let present = match (newest >= limit && mostly, covered) {
        (true, true) => Some(true),
        (true, false) => None,
        (false, _) => Some(false),
    };
    let recent = window.iter().take(3).map(|(_, value)| *value);
    let mean = recent.clone().sum::<f64>() / f64::from(u8::try_from(recent.count().max(1)).unwrap_or(1));
    let summary = format!(
        "{:.1} % of the machine's CPU, threshold {:.1} % for {}",
        newest / 10.0,
        limit / 10.0,
        thresholds.cpu_for
    );
    measurement(present, mean, summary, vec![number("cpu_share", newest, "permille")])
}

/// Newest first: reaches from now back over the span, and no hole is wider than [`GAP_MS`].
fn is_covered(window: &[(Timestamp, f64)], now: Timestamp, span_ms: u64) -> bool {
    let Some((oldest, _)) = window.last() else { return false };
    let holes = window.windows(2).any(|pair| match pair {
        [(later, _), (earlier, _)] => later.0.saturating_sub(earlier.0) > GAP_MS,
        _ => false,
    });
    // The tick that would complete the window may be up to two seconds away.
    let reach = now.0.saturating_sub(oldest.0).saturating_add(2_000);
    !holes && reach >= span_ms && window.len() >= 2
}

fn memory(at: At<'_>, thresholds: &Thresholds) -> Measurement {
    let Some(limit) = thresholds.memory else { return unknown("no memory limit is configured for it") };
    let Some(used) = at.fresh(Metric::UnitMemory) else { return unknown("its memory is not known") };
    #[expect(clippy::cast_precision_loss, reason = "53 bits hold every byte count of a machine")]
    let limit_bytes = limit.0 as f64;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a sample of a byte count")]
    let shown = Bytes(used as u64);
    let series = at.series(Metric::UnitMemory);
    let trend = Trend::over(at.sampler.window(&series, TREND_SPAN_S)).filter(|trend| trend.seconds >= TREND_LEAST_S);
    let mut numbers = vec![number("memory", used, "bytes"), number("memory_limit", limit_bytes, "bytes")];
    numbers.extend(trend.map(|trend| number("memory_growth", trend.per_second, "bytes-per-second")));
    let growth = trend.filter(|trend| trend.per_second > 0.0);
    let passes_in = growth.and_then(|trend| trend.seconds_until(used, limit_bytes));
    let soon = used >= NEAR_LIMIT * limit_bytes && passes_in.is_some_and(|seconds| seconds < PASSES_WITHIN_S);
    let pace =
        passes_in.map_or_else(String::new, |seconds| format!(", which it will pass in {seconds:.0} s at this pace"));
    let summary = format!("{shown} of anonymous memory, threshold {limit}{pace}");
    measurement(Some(used > limit_bytes || soon), used, summary, numbers)
}

/// On one scale for every kind that is about a unit being up: 0 serves, 1 does not answer, 2 is between, 3 is down, 4 given up.
fn unit_badness(state: &UnitState, health: Option<&HealthStreak>) -> f64 {
    if facts::is_start_limited(state) {
        4.0
    } else if facts::is_failed(state) {
        3.0
    } else if !state.is_up() {
        2.0
    } else {
        f64::from(u8::from(health.is_some_and(|streak| !streak.ok)))
    }
}

fn describe(state: &UnitState) -> String {
    let active = match state.active {
        ActiveState::Active => "active",
        ActiveState::Activating => "starting",
        ActiveState::Deactivating => "stopping",
        ActiveState::Inactive => "inactive",
        ActiveState::Failed => "failed",
        ActiveState::Reloading => "reloading",
        ActiveState::Other => "in another state",
    };
    let note = if state.will_restart {
        ", the manager is about to restart it"
    } else if state.stopped_on_purpose {
        ", stopped on purpose"
    } else {
        ""
    };
    format!("{active} ({}), result {}{note}", state.sub.escape_debug(), state.result.escape_debug())
}

/// Down for good, for now, or not at all.
fn is_down(state: &UnitState) -> Option<bool> {
    if state.is_up() || state.stopped_on_purpose {
        Some(false)
    } else if facts::is_failed(state) {
        Some(true)
    } else {
        // Starting, stopping, or about to be restarted: what will come of it is not known yet.
        None
    }
}

fn crash(state: Option<&UnitState>, health: Option<&HealthStreak>) -> Measurement {
    let Some(state) = state else { return unknown("its state is not known") };
    let numbers = vec![number("restarts", f64::from(state.restarts), "count")];
    measurement(is_down(state), unit_badness(state, health), describe(state), numbers)
}

fn start_limit(state: Option<&UnitState>) -> Measurement {
    let Some(state) = state else { return unknown("its state is not known") };
    // A unit that was freed and failed anew is not well: the kind's condition is gone, the fault is not.
    let present = if facts::is_start_limited(state) { Some(true) } else { is_down(state) };
    let numbers = vec![number("restarts", f64::from(state.restarts), "count")];
    measurement(present, unit_badness(state, None), describe(state), numbers)
}

fn oom(at: At<'_>, state: Option<&UnitState>) -> Measurement {
    let Some(state) = state else { return unknown("its state is not known") };
    let series = at.series(Metric::UnitOomKills);
    let first = at.sampler.window(&series, u32::MAX).next().map_or(0.0, |(_, value)| value);
    let kills = at.fresh(Metric::UnitOomKills).map(|now| (now - first).max(0.0));
    let told = state.result == "oom-kill";
    let killed = told || kills.is_some_and(|kills| kills > 0.0);
    let present = if killed { is_down(state) } else { Some(false) };
    let summary = format!("{} OOM kills in the last ten minutes; {}", kills.unwrap_or(0.0), describe(state));
    let numbers = kills.map(|kills| number("oom_kills", kills, "count")).into_iter().collect();
    measurement(present, unit_badness(state, None), summary, numbers)
}

fn unhealthy(
    at: At<'_>,
    thresholds: &Thresholds,
    state: Option<&UnitState>,
    health: Option<&HealthStreak>,
) -> Measurement {
    let (Some(state), Some(health)) = (state, health) else { return unknown("its health is not known") };
    let enough = health.failures >= thresholds.health_failures.max(1);
    let fresh = at.now.0.abs_diff(health.at.0) <= STALE_MS;
    let present = match (state.is_up(), fresh) {
        (true, true) => Some(enough),
        (true, false) => None,
        // Down is not healthy, unless somebody wants it so; the verification after a restart must not mistake it for healed.
        (false, _) => is_down(state),
    };
    let detail = health.last.detail.escape_debug();
    let summary = format!(
        "{} failed checks in a row (last: {detail}), threshold {}; {}",
        health.failures,
        thresholds.health_failures,
        describe(state)
    );
    let numbers = vec![number("health_failures", f64::from(health.failures), "count")];
    measurement(present, unit_badness(state, Some(health)), summary, numbers)
}

/// The file's and the served one: a new file that nobody has loaded heals nothing.
#[expect(
    clippy::cast_precision_loss,
    reason = "a remedy's numbers are floats; 53 bits hold every second of a certificate"
)]
fn certificate(at: At<'_>, thresholds: &Thresholds, reading: Option<&CertificateReading>) -> Measurement {
    let Some(reading) = reading.filter(|reading| at.now.0.abs_diff(reading.at.0) <= STALE_MS) else {
        return unknown("it has not been read");
    };
    let limit = i64::try_from(thresholds.expires_within.duration().as_secs()).unwrap_or(i64::MAX);
    let file = reading.file_until.map(|until| seconds_left(until, at.now));
    let (served, differs) = match reading.served {
        ServedReading::NotAsked | ServedReading::NotSeen => (None, false),
        ServedReading::Until { not_after, of_file } => (Some(seconds_left(not_after, at.now)), !of_file),
    };
    let known = reading.file_until.is_some() && reading.served != ServedReading::NotSeen;
    let left = file.into_iter().chain(served).min();
    let present = match left {
        Some(left) if left < limit => Some(true),
        Some(_) if known => Some(false),
        Some(_) | None => None,
    };
    let word = |left: Option<i64>| match left {
        Some(left) if left < 0 => format!("expired {} h ago", left.unsigned_abs() / 3_600),
        Some(left) => format!("expires in {} h", left / 3_600),
        None => "can't be read".to_owned(),
    };
    let shown = match reading.served {
        ServedReading::NotAsked => String::new(),
        ServedReading::NotSeen => "; what is served can't be seen".to_owned(),
        ServedReading::Until { of_file: true, .. } => "; it is the one that is served".to_owned(),
        ServedReading::Until { of_file: false, .. } => format!("; another one is served, which {}", word(served)),
    };
    let summary = format!("the file's {}{shown}; threshold {}", word(file), thresholds.expires_within);
    let mut numbers = vec![number("served_differs", f64::from(u8::from(differs)), "bool")];
    numbers.extend(file.map(|left| number("file_left", left as f64, "seconds")));
    numbers.extend(served.map(|left| number("served_left", left as f64, "seconds")));
    measurement(present, left.map_or(0.0, |left| -(left as f64)), summary, numbers)
}

#[cfg(test)]
mod tests;
