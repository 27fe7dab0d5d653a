//! How the gate, undo and sessions write to the journal. The run loop owns the journal and shares it behind this.

use theriac_journal::Durability;
use theriac_model::record::{Entry, Record};
use theriac_model::time::GuardTime;

/// Takes records for the journal, from any thread, in the order in which the calls return.
pub trait Writer: Send + Sync {
    /// Writes one record. With [`Durability::Synced`] it is on disk when this returns.
    fn write(&self, record: Record, durability: Durability) -> Result<Entry, WriteError>;
    /// Guard time now, as the next record will have it.
    fn guard_now(&self) -> GuardTime;
}

/// The journal takes no more records. After this nothing may be changed any more: an effect without a durable intent is
/// the one thing that must never happen.
#[derive(Debug, thiserror::Error)]
#[error("the journal takes no more records")]
pub struct WriteError {
    /// What the journal said.
    #[source]
    pub source: std::io::Error,
}
