//! Read-only local probes, and the closed table of conditions the runner measures before it acts.
//!
//! Everything here looks and nothing changes: no file is written, no signal sent, no socket opened but the one to systemd's
//! bus. The readers are small and our own, because they run each second for the life of the machine and the idle cost of the
//! daemon is theirs. What a reading means is decided elsewhere (`theriac-analysis`), except for [`precondition`], which the
//! runner must be able to measure without trusting anybody.

pub mod activity;
pub mod certificate;
pub mod cgroup;
pub mod facts;
pub mod features;
pub mod fs;
pub mod group;
pub mod journal_file;
mod kin;
mod precondition;
pub mod proc;
mod sampler;
pub mod systemd;

pub use facts::{Facts, HealthStreak};
pub use precondition::precondition;
pub use sampler::Sampler;
