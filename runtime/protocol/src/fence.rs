//! The fence before the processes that work for the runner: who may ask anything of them, and under which lead.
//!
//! What it promises. *Whoever can't become the runner can't speak as the runner*: only the user who started this process is
//! heard (and root). The same hand starts the runner, so a process of the user that this one became later, or of a service it
//! runs under a user of its own, is not. Where all share one user (`theriac up` without root) there is no such wall, and none is
//! claimed. *A lead that is over stays over*: an epoch comes in with a `hello`, belongs to that connection, and every later
//! frame of the connection has to carry it. *One wrong number does not end the service*: an epoch is the count of the runner's
//! starts, so one that no count can have reached, or that leaps ahead of the last one, is refused instead of believed. That is
//! against mistakes; a user who passes the first wall could climb in steps, and could as well end this process.

use crate::peer::Peer;

/// A runner that starts once a second has this epoch after 136 years.
const MAX_EPOCH: u64 = u32::MAX as u64;
/// Starts of the runner that one of its hands can have missed between two greetings: ten a minute, which is what systemd lets
/// happen, for more than a day and a half.
const MAX_STEP: u64 = 1 << 14;

/// What a process keeps of its runner, for as long as it lives.
#[derive(Debug)]
pub struct Fence {
    runner: u32,
    highest: u64,
}

/// What a connection was let in with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lead(u64);

/// Why a frame is not heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FenceError {
    /// Another runner has begun since.
    #[error("epoch {epoch} is over: epoch {highest} has been seen")]
    Over { epoch: u64, highest: u64 },
    /// No runner has this epoch now.
    #[error("epoch {epoch} can't follow epoch {highest}")]
    Implausible { epoch: u64, highest: u64 },
    /// Another epoch than that of the connection's `hello`.
    #[error("epoch {epoch} is not that of this connection, which began with epoch {lead}")]
    Changed { epoch: u64, lead: u64 },
    /// No `hello` yet.
    #[error("the first message must be hello")]
    NotGreeted,
}

impl Fence {
    /// Takes the present user for the runner's. Call it before [`drop_privileges`](crate::process::drop_privileges).
    pub fn of_starter() -> Self {
        Self { runner: rustix::process::geteuid().as_raw(), highest: 0 }
    }

    /// Whether this peer is heard at all.
    pub const fn admits(&self, peer: &Peer) -> bool {
        peer.uid == 0 || peer.uid == self.runner
    }

    /// The highest epoch seen; goes into every frame that is sent.
    pub const fn epoch(&self) -> u64 {
        self.highest
    }

    /// A `hello`: begins a lead, or goes on with the present one.
    pub fn greet(&mut self, epoch: u64) -> Result<Lead, FenceError> {
        let highest = self.highest;
        if epoch < highest {
            return Err(FenceError::Over { epoch, highest });
        }
        // The first one can be any: this process may be the younger.
        let leaps = highest != 0 && epoch - highest > MAX_STEP;
        if epoch == 0 || epoch > MAX_EPOCH || leaps {
            return Err(FenceError::Implausible { epoch, highest });
        }
        self.highest = epoch;
        Ok(Lead(epoch))
    }

    /// Any other message of a connection. A runner whose lead is over may not act, however its frames were delayed.
    pub fn check(&self, lead: Option<Lead>, epoch: u64) -> Result<(), FenceError> {
        let Lead(lead) = lead.ok_or(FenceError::NotGreeted)?;
        if lead < self.highest {
            Err(FenceError::Over { epoch: lead, highest: self.highest })
        } else if epoch != lead {
            Err(FenceError::Changed { epoch, lead })
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fence() -> Fence {
        Fence { runner: 1000, highest: 0 }
    }

    // RN09.
    #[test]
    fn only_root_and_the_user_who_started_it_are_heard() {
        let peer = |uid| Peer { pid: 7, uid, gid: 7 };
        let heard: Vec<u32> =
            [0, 999, 1000, 1001, 61_102, u32::MAX].into_iter().filter(|uid| fence().admits(&peer(*uid))).collect();
        assert_eq!(heard, [0, 1000]);
        assert!(Fence::of_starter().admits(&peer(rustix::process::geteuid().as_raw())));
    }

    #[test]
    fn a_new_lead_ends_the_old_one_on_all_of_its_connections() {
        let mut fence = fence();
        let old = fence.greet(700).unwrap();
        assert_eq!(fence.check(Some(old), 700), Ok(()));
        let new = fence.greet(701).unwrap();
        assert_eq!(fence.check(Some(new), 701), Ok(()));
        let over = Err(FenceError::Over { epoch: 700, highest: 701 });
        assert_eq!(fence.check(Some(old), 700), over);
        assert_eq!(fence.check(Some(old), 701), over, "a greater number in the frame makes no new lead");
        assert_eq!(fence.greet(700), Err(FenceError::Over { epoch: 700, highest: 701 }));
    }

    #[test]
    fn an_epoch_that_no_runner_can_have_is_refused_and_the_true_one_is_still_heard() {
        let mut fence = fence();
        for absurd in [u64::MAX, MAX_EPOCH + 1, 0] {
            assert_eq!(fence.greet(absurd), Err(FenceError::Implausible { epoch: absurd, highest: 0 }));
        }
        let lead = fence.greet(40_000).unwrap();
        for absurd in [u64::MAX, 40_000 + MAX_STEP + 1] {
            assert_eq!(fence.greet(absurd), Err(FenceError::Implausible { epoch: absurd, highest: 40_000 }));
        }
        assert_eq!(fence.check(Some(lead), 40_000), Ok(()));
        assert_eq!(fence.greet(40_000 + MAX_STEP), Ok(Lead(40_000 + MAX_STEP)));
    }

    #[test]
    fn nothing_is_heard_before_hello_and_nothing_but_hello_changes_the_epoch() {
        let mut fence = fence();
        assert_eq!(fence.check(None, 1), Err(FenceError::NotGreeted));
        let lead = fence.greet(1).unwrap();
        assert_eq!(fence.check(Some(lead), u64::MAX), Err(FenceError::Changed { epoch: u64::MAX, lead: 1 }));
        assert_eq!((fence.epoch(), fence.check(Some(lead), 1)), (1, Ok(())));
    }
}
