//! From samples to signals, by rules that are data.
//!
//! A rule says when something is abnormal (`when`), for how long before it counts (`for`), and when it is well again (`clear`, which
//! lies apart from `when` so that a value on the border does not flap). Between the two it stays as it is.

mod detector;
mod names;
mod rules;
mod selftest;

pub use detector::Detector;
pub use rules::{RuleError, RuleSet};
