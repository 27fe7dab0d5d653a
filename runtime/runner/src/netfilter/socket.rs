//! One question to the kernel's netfilter, and its answer. A socket is made for each question: there is no state to get wrong.

use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::sockopt::{self, Timeout};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, netlink, recvfrom, sendto, socket_with,
};

use super::NetfilterError;
use super::message::{Head, Incoming, Outgoing};

/// `NLM_F_REQUEST`, `NLM_F_ACK`, `NLM_F_DUMP`, `NLM_F_CREATE` with `NLM_F_EXCL`.
const REQUEST: u16 = 0x1;
const ACK: u16 = 0x4;
const DUMP: u16 = 0x300;
pub(super) const CREATE_NEW: u16 = 0x600;
/// In a dump: what is dumped changed meanwhile.
const INTERRUPTED: u16 = 0x10;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;
/// The greatest number of a message of ours: that of the end of a batch.
const LAST: u32 = 2;
/// The subsystem.
const NFTABLES: u16 = 10;

/// The kernel answers at once; it is held up only by another's transaction.
const PATIENCE: Duration = Duration::from_secs(5);
/// What the kernel fills at most with one part of a dump is 32 KiB.
const DATAGRAM: usize = 64 << 10;
/// All parts of one answer: some 100,000 elements.
const MAX_ANSWER: usize = 16 << 20;

/// What came back: the messages of the asked type, in order.
#[derive(Debug)]
pub(super) enum Answer {
    /// Whole.
    Whole(Vec<Vec<u8>>),
    /// It changed while it was being read.
    Interrupted,
    /// More than is read.
    TooLarge,
}

/// A message of nftables.
#[derive(Debug, Clone, Copy)]
pub(super) struct Message {
    /// `NFT_MSG_…`.
    pub(super) kind: u16,
    /// `NFPROTO_…`.
    pub(super) family: u8,
    /// Beside `NLM_F_REQUEST`.
    pub(super) flags: u16,
}

impl Message {
    const fn head(self, flags: u16, seq: u32) -> Head {
        let kind = NFTABLES << 8 | self.kind;
        Head { kind, flags: self.flags | REQUEST | flags, seq, family: self.family, resource: 0 }
    }
}

/// Asks for one thing.
pub(super) fn get(message: Message, body: impl FnOnce(&mut Outgoing)) -> Result<Answer, NetfilterError> {
    let mut out = Outgoing::default();
    // The acknowledgement says where the answer ends.
    out.message(message.head(ACK, 1), body);
    ask(&out)
}

/// Asks for all of something.
pub(super) fn dump(message: Message, body: impl FnOnce(&mut Outgoing)) -> Result<Answer, NetfilterError> {
    let mut out = Outgoing::default();
    out.message(message.head(DUMP, 1), body);
    ask(&out)
}

/// Makes one change: a transaction, which the kernel makes whole or not at all.
pub(super) fn change(message: Message, body: impl FnOnce(&mut Outgoing)) -> Result<(), NetfilterError> {
    let frame = |kind, seq| Head { kind, flags: REQUEST, seq, family: 0, resource: NFTABLES };
    let mut out = Outgoing::default();
    out.message(frame(BATCH_BEGIN, 0), |_| ());
    out.message(message.head(ACK, 1), body);
    out.message(frame(BATCH_END, LAST), |_| ());
    ask(&out).map(drop)
}

fn ask(out: &Outgoing) -> Result<Answer, NetfilterError> {
    let socket = open().map_err(|error| NetfilterError::Unreachable(error.into()))?;
    let kernel = SocketAddrNetlink::new(0, 0);
    sendto(&socket, out.bytes(), SendFlags::empty(), &kernel)
        .map_err(|error| NetfilterError::Unreachable(error.into()))?;
    let deadline = Instant::now() + PATIENCE;
    let mut gathering = Gathering::default();
    let mut buffer = vec![0; DATAGRAM];
    loop {
        let (length, from) = receive(&socket, &mut buffer)?;
        // Any process may send to a netlink socket; only the kernel is number 0.
        if from != 0 {
            if Instant::now() > deadline {
                return Err(NetfilterError::Silent(io::ErrorKind::TimedOut.into()));
            }
            continue;
        }
        let datagram = buffer.get(..length).ok_or(NetfilterError::Malformed("an answer is larger than its buffer"))?;
        if let Some(answer) = gathering.take(datagram)? {
            return Ok(answer);
        }
        if Instant::now() > deadline {
            return Err(NetfilterError::Silent(io::ErrorKind::TimedOut.into()));
        }
    }
}

fn open() -> rustix::io::Result<OwnedFd> {
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, Some(netlink::NETFILTER))?;
    bind(&socket, &SocketAddrNetlink::new(0, 0))?;
    sockopt::set_socket_timeout(&socket, Timeout::Recv, Some(PATIENCE))?;
    Ok(socket)
}

/// The datagram's whole length, and the netlink number of its sender.
fn receive(socket: &OwnedFd, buffer: &mut [u8]) -> Result<(usize, u32), NetfilterError> {
    loop {
        // With TRUNC the length is the real one, so that a cut datagram is seen.
        match recvfrom(socket, &mut *buffer, RecvFlags::TRUNC) {
            Ok((_, length, from)) => {
                let from = from.and_then(|from| SocketAddrNetlink::try_from(from).ok());
                return Ok((length, from.map_or(u32::MAX, |from| from.pid())));
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(NetfilterError::Silent(error.into())),
        }
    }
}

/// An answer as it comes in.
#[derive(Debug, Default)]
struct Gathering {
    messages: Vec<Vec<u8>>,
    bytes: usize,
    interrupted: bool,
}

impl Gathering {
    /// One more datagram; the answer, if this was its end.
    fn take(&mut self, mut datagram: &[u8]) -> Result<Option<Answer>, NetfilterError> {
        while let Some((message, rest)) = Incoming::split(datagram)? {
            let whole = datagram.get(..datagram.len() - rest.len()).unwrap_or_default();
            datagram = rest;
            // It answers nothing of ours.
            if message.seq > LAST {
                continue;
            }
            match message.kind {
                NLMSG_DONE | NLMSG_ERROR => {
                    self.interrupted |= message.flags & INTERRUPTED != 0;
                    return end(message.status()?).map(|()| Some(self.answer()));
                }
                kind if kind >> 8 == NFTABLES => {
                    self.interrupted |= message.flags & INTERRUPTED != 0;
                    self.bytes = self.bytes.saturating_add(whole.len());
                    if self.bytes > MAX_ANSWER {
                        return Ok(Some(Answer::TooLarge));
                    }
                    self.messages.push(whole.to_vec());
                }
                // NLMSG_NOOP and its like say nothing.
                _ => {}
            }
        }
        Ok(None)
    }

    fn answer(&mut self) -> Answer {
        if self.interrupted { Answer::Interrupted } else { Answer::Whole(std::mem::take(&mut self.messages)) }
    }
}

/// What the kernel's status means: 0, or a negative errno.
fn end(status: i32) -> Result<(), NetfilterError> {
    if status == 0 {
        return Ok(());
    }
    let error = io::Error::from_raw_os_error(status.saturating_neg());
    Err(match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => NetfilterError::NotPermitted,
        Some(_) | None => NetfilterError::Refused(error),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, flags: u16, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(16 + payload.len()).unwrap();
        let head = [length.to_ne_bytes(), [0; 4], 1_u32.to_ne_bytes(), [0; 4]].concat();
        let mut bytes = [head, payload.to_vec()].concat();
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
        bytes
    }

    const NEW_SET: u16 = NFTABLES << 8 | 9;

    #[test]
    fn an_answer_ends_with_its_status_in_whichever_datagram_that_comes() {
        let mut gathering = Gathering::default();
        assert!(gathering.take(&message(NEW_SET, 2, &[0; 4])).unwrap().is_none());
        let last = [message(NEW_SET, 2, &[1; 4]), message(NLMSG_DONE, 2, &[0; 4])].concat();
        let Some(Answer::Whole(messages)) = gathering.take(&last).unwrap() else { panic!() };
        assert_eq!(messages.len(), 2);
    }

    #[test]
    fn a_dump_of_what_was_changed_meanwhile_does_not_count() {
        let mut gathering = Gathering::default();
        let all = [message(NEW_SET, 2 | INTERRUPTED, &[0; 4]), message(NLMSG_DONE, 2, &[0; 4])].concat();
        assert!(matches!(gathering.take(&all).unwrap(), Some(Answer::Interrupted)));
    }

    #[test]
    fn a_refusal_has_the_kernels_reason_and_changed_nothing() {
        let refused =
            |errno: i32| Gathering::default().take(&message(NLMSG_ERROR, 0, &(-errno).to_ne_bytes())).unwrap_err();
        assert!(matches!(refused(libc::EPERM), NetfilterError::NotPermitted));
        assert!(matches!(refused(libc::EEXIST), NetfilterError::Refused(_)));
        assert!(!refused(libc::EEXIST).may_have_happened());
        assert!(Gathering::default().take(&message(NLMSG_ERROR, 0, &[0; 3])).unwrap_err().may_have_happened());
    }

    #[test]
    fn more_than_is_ever_read_is_told_and_not_kept() {
        let mut gathering = Gathering::default();
        let large = message(NEW_SET, 2, &vec![0; 60 << 10]);
        let ended = (0..).find_map(|_| gathering.take(&large).unwrap()).unwrap();
        assert!(matches!(ended, Answer::TooLarge) && gathering.bytes < MAX_ANSWER + large.len() + 1);
    }
}
