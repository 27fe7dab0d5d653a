//! `observe`: the runner's own samples and health checks. Reads only.

use theriac_model::call::{ProbeInfo, Reading, Reply, SeriesCall};
use theriac_model::denial::{Denial, DenialCause};
use theriac_model::id::Label;

use crate::session::Scene;

/// Longest range; the sampler remembers no more.
const MAX_SECONDS: u32 = 600;
/// How old the newest reading may be and still be called `now`.
const FRESH_SECONDS: u32 = 30;

pub(crate) fn series(scene: &Scene<'_>, label: &Label, call: SeriesCall) -> Result<Reply, Denial> {
    let bound = scene.grants.series(label.as_str())?;
    let seconds = match call {
        SeriesCall::Now => FRESH_SECONDS,
        SeriesCall::Range { seconds } => seconds.min(MAX_SECONDS),
    };
    let now = scene.world.senses.now();
    let readings = scene.world.senses.readings(&bound.series, seconds);
    let reading = |(at, value): (theriac_model::time::Timestamp, f64)| Reading {
        age_s: u32::try_from(now.since(at).as_secs()).unwrap_or(u32::MAX),
        value,
    };
    let mut readings: Vec<Reading> = readings.into_iter().filter(|(_, value)| value.is_finite()).map(reading).collect();
    if call == SeriesCall::Now {
        let Some(last) = readings.pop() else {
            let attempted = format!("read {} of {}", bound.series.metric.as_str(), bound.series.target);
            return Err(Denial::new(DenialCause::Unavailable, label, "reading", attempted));
        };
        readings = vec![last];
    }
    Ok(Reply::Readings(readings))
}

/// Every check of the target; the first that fails is the answer.
pub(crate) fn probe(scene: &Scene<'_>, label: &Label) -> Result<Reply, Denial> {
    let bound = scene.grants.probe(label.as_str())?;
    let mut answer = ProbeInfo { ok: true, latency_ms: 0, detail: String::new() };
    for check in &bound.checks {
        let said = scene.world.senses.check(check).map_err(|error| {
            Denial::new(DenialCause::Unavailable, label, "probe", format!("{check}: {}", error.reason))
        })?;
        answer.latency_ms = answer.latency_ms.saturating_add(said.latency_ms);
        answer.detail = said.detail;
        if !said.ok {
            return Ok(Reply::Probe(ProbeInfo { ok: false, ..answer }));
        }
    }
    Ok(Reply::Probe(answer))
}
