//! What the privileged zone remembers, and how it can prove that it remembers it.
//!
//! Owns the append-only segments, the runner's [`Journal`] made of them, the pre-images an undo needs, the ledger over the
//! journal's records and its verification, guard time, and a derived index for history queries. It decides nothing: which
//! record is written when is the runner's business. It opens no socket and starts no process.
//!
//! INVARIANT: everything that a heal needs works on a file system with no free block and no free inode, because a full disk
//! is one of the faults to heal. Hence nothing on that path creates, grows or renames a file: segments, ledger and the
//! arena of the undo store are written before they are needed, and only overwritten in place afterwards.

pub mod disk;
pub mod guard_time;
pub mod index;
pub mod journal;
pub mod ledger;
pub mod log;
pub mod segment;
pub mod undo;

pub use disk::Directory;
pub use journal::{Durability, Head, Journal, Opened, Options, Stamp};
pub use log::Log;

#[cfg(test)]
mod fixture;
#[cfg(test)]
mod full_disk;
