//! The journal's records as a Merkle tree (RFC 6962) with signed checkpoints (C2SP tlog-checkpoint), and its verification.
//!
//! A leaf is the exact bytes of one journal entry. Checkpoints are kept all, in a segment log of their own: so writing one
//! is atomic and works on a full disk, and the audit can say between which two checkpoints a record was exchanged by
//! somebody who mended all checksums.
//!
//! What the host's own checkpoints can't show: a rewrite by root, who can read the host's key, and an old copy of journal and
//! ledger together. For that the checkpoint has to be kept elsewhere, and handed to the audit
//! ([`audit::Options::remembered`]). Cosigning witnesses are not in this version.

pub mod audit;
pub mod checkpoint;
mod history;
mod keeper;
pub mod tree;

pub use checkpoint::{Checkpoint, Signer, VerifierKey};
pub(crate) use history::{Follower, Mismatch};
pub(crate) use keeper::Checkpoints;
pub use keeper::SealError;
