//! A straight line through readings: how fast something grows or shrinks, and how well a line describes it.
//!
//! Shared by the agent's rules and the runner's own triggers, so that the two can't disagree about what "shrinking" means.

use crate::time::Timestamp;

/// A least-squares line through readings of one series.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Trend {
    /// Change per second.
    pub per_second: f64,
    /// Share of the movement that the line explains (R²), 0 to 1.
    pub fit: f64,
    /// Seconds from the first reading to the last.
    pub seconds: f64,
    /// How many readings.
    pub readings: usize,
}

impl Trend {
    /// Fewer readings than this make no trend: two points always lie on a line.
    pub const LEAST_READINGS: usize = 5;

    /// The line through the readings; `None` when they are too few, at one instant, or not finite.
    pub fn over(readings: impl Iterator<Item = (Timestamp, f64)> + Clone) -> Option<Self> {
        let (first, _) = readings.clone().next()?;
        let points = readings.map(|(at, value)| (at.since(first).as_secs_f64(), value));
        let (count, sum_t, sum_v, seconds) =
            points.clone().fold((0_usize, 0.0, 0.0, 0.0), |(n, t, v, _), (at, value)| (n + 1, t + at, v + value, at));
        if count < Self::LEAST_READINGS || seconds <= 0.0 {
            return None;
        }
        #[expect(clippy::cast_precision_loss, reason = "a history holds hundreds of readings")]
        let n = count as f64;
        let (mean_t, mean_v) = (sum_t / n, sum_v / n);
        let (tt, tv, vv) = points.fold((0.0, 0.0, 0.0), |(tt, tv, vv), (at, value)| {
            let (dt, dv) = (at - mean_t, value - mean_v);
            (dt.mul_add(dt, tt), dt.mul_add(dv, tv), dv.mul_add(dv, vv))
        });
        if tt <= 0.0 || !tv.is_finite() || !vv.is_finite() {
            return None;
        }
        let fit = if vv <= 0.0 { 0.0 } else { (tv * tv / (tt * vv)).clamp(0.0, 1.0) };
        Some(Self { per_second: tv / tt, fit, seconds, readings: count })
    }

    /// Seconds until `from` becomes `to` at this pace; `None` when it moves the other way or not at all.
    pub fn seconds_until(&self, from: f64, to: f64) -> Option<f64> {
        let seconds = (to - from) / self.per_second;
        (seconds.is_finite() && seconds >= 0.0).then_some(seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(values: &[f64]) -> Option<Trend> {
        Trend::over(values.iter().enumerate().map(|(i, value)| (Timestamp(1_000 * i as u64), *value)))
    }

    #[test]
    fn a_straight_fall_is_found_with_its_end() {
        let trend = line(&[100.0, 90.0, 80.0, 70.0, 60.0]).unwrap();
        assert!((trend.per_second + 10.0).abs() < 1e-9 && (trend.fit - 1.0).abs() < 1e-9);
        assert_eq!(trend.seconds_until(60.0, 0.0), Some(6.0));
        assert_eq!(trend.seconds_until(60.0, 100.0), None);
    }

    #[test]
    fn a_flat_or_short_series_has_no_direction() {
        let flat = line(&[5.0; 6]).unwrap();
        assert_eq!((flat.per_second, flat.fit), (0.0, 0.0));
        assert_eq!(flat.seconds_until(5.0, 0.0), None);
        assert_eq!(line(&[1.0, 2.0, 3.0, 4.0]), None);
        assert_eq!(line(&[1.0, f64::NAN, 3.0, 4.0, 5.0]), None);
    }
}
