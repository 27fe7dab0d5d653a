//! Netlink messages: written in one buffer, read without trust in a single length.
//!
//! Headers are in the machine's byte order, what is inside attributes of nftables is in the network's (`nfnetlink(7)`).

use super::NetfilterError;

/// `struct nlmsghdr` and `struct nfgenmsg`.
const HEADER: usize = 16;
const NFGEN: usize = 4;
/// The low bits of an attribute's type; the others say that it is nested, or in network byte order.
const TYPE_MASK: u16 = 0x3fff;
const NESTED: u16 = 0x8000;

/// What begins a message.
#[derive(Debug, Clone, Copy)]
pub(super) struct Head {
    pub(super) kind: u16,
    pub(super) flags: u16,
    pub(super) seq: u32,
    /// `nfgen_family`.
    pub(super) family: u8,
    /// `res_id`: the subsystem of a batch.
    pub(super) resource: u16,
}

/// Messages that are being written.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    bytes: Vec<u8>,
}

impl Outgoing {
    /// One message; its attributes are written by `body`.
    pub(super) fn message(&mut self, head: Head, body: impl FnOnce(&mut Self)) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&head.kind.to_ne_bytes());
        self.bytes.extend_from_slice(&head.flags.to_ne_bytes());
        self.bytes.extend_from_slice(&head.seq.to_ne_bytes());
        // The kernel writes who we are.
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&[head.family, 0]);
        self.bytes.extend_from_slice(&head.resource.to_be_bytes());
        body(self);
        let length = u32::try_from(self.bytes.len() - start).unwrap_or(u32::MAX).to_ne_bytes();
        self.patch(start, &length);
    }

    /// An attribute.
    pub(super) fn put(&mut self, kind: u16, value: &[u8]) {
        self.attribute(kind, |out| out.bytes.extend_from_slice(value));
    }

    /// A text with the zero that the kernel wants at its end.
    pub(super) fn text(&mut self, kind: u16, text: &str) {
        self.attribute(kind, |out| {
            out.bytes.extend_from_slice(text.as_bytes());
            out.bytes.push(0);
        });
    }

    /// An attribute of attributes.
    pub(super) fn nest(&mut self, kind: u16, inner: impl FnOnce(&mut Self)) {
        self.attribute(kind | NESTED, inner);
    }

    fn attribute(&mut self, kind: u16, value: impl FnOnce(&mut Self)) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 2]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        value(self);
        // Everything of ours is far below 64 KiB: names of 64 bytes, a comment, two keys.
        let length = u16::try_from(self.bytes.len() - start).unwrap_or(u16::MAX).to_ne_bytes();
        self.patch(start, &length);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn patch(&mut self, start: usize, value: &[u8]) {
        if let Some(place) = self.bytes.get_mut(start..start + value.len()) {
            place.copy_from_slice(value);
        }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// One message that came in.
#[derive(Debug, Clone, Copy)]
pub(super) struct Incoming<'b> {
    pub(super) kind: u16,
    pub(super) flags: u16,
    pub(super) seq: u32,
    payload: &'b [u8],
}

impl<'b> Incoming<'b> {
    /// The first messages of a datagram, and what is left after it.
    pub(super) fn split(bytes: &'b [u8]) -> Result<Option<(Self, &'b [u8])>, NetfilterError> {
        if bytes.is_empty() {
            return Ok(None);
        }
        let cut = NetfilterError::Malformed("a message is cut");
        let (Some(length), Some(kind), Some(flags), Some(seq)) =
            (word(bytes, 0), half(bytes, 4), half(bytes, 6), word(bytes, 8))
        else {
            return Err(cut);
        };
        let Some(length) = usize::try_from(length).ok().filter(|length| *length >= HEADER) else { return Err(cut) };
        let Some(payload) = bytes.get(HEADER..length) else { return Err(cut) };
        // The last one may end without its padding.
        let rest = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Ok(Some((Self { kind, flags, seq, payload }, rest)))
    }

    /// The number that an error or the end of a dump begins with: 0, or a negative errno.
    pub(super) fn status(&self) -> Result<i32, NetfilterError> {
        let number = self.payload.first_chunk().ok_or(NetfilterError::Malformed("an answer has no status"))?;
        Ok(i32::from_ne_bytes(*number))
    }

    /// Its attributes, behind `nfgenmsg`.
    pub(super) fn attributes(&self) -> Result<Attributes<'b>, NetfilterError> {
        let inner = self.payload.get(NFGEN..).ok_or(NetfilterError::Malformed("a message has no family"))?;
        Ok(Attributes { rest: inner })
    }
}

/// Attributes one after the other. After one that is cut there is nothing more.
#[derive(Debug, Clone, Copy)]
pub(super) struct Attributes<'b> {
    rest: &'b [u8],
}

impl<'b> Attributes<'b> {
    pub(super) const fn of(bytes: &'b [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The first one of that type.
    pub(super) fn find(self, wanted: u16) -> Result<Option<&'b [u8]>, NetfilterError> {
        for attribute in self {
            let (kind, value) = attribute?;
            if kind == wanted {
                return Ok(Some(value));
            }
        }
        Ok(None)
    }
}

impl<'b> Iterator for Attributes<'b> {
    type Item = Result<(u16, &'b [u8]), NetfilterError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let whole = std::mem::take(&mut self.rest);
        let read = half(whole, 0).zip(half(whole, 2)).and_then(|(length, kind)| {
            let length = usize::from(length);
            Some((kind & TYPE_MASK, whole.get(NFGEN..length)?, length))
        });
        let Some((kind, value, length)) = read else {
            return Some(Err(NetfilterError::Malformed("an attribute is cut")));
        };
        self.rest = whole.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Ok((kind, value)))
    }
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|chunk| u16::from_ne_bytes(*chunk))
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|chunk| u32::from_ne_bytes(*chunk))
}

/// A number of 32 bits in network byte order.
pub(super) fn be32(bytes: &[u8]) -> Result<u32, NetfilterError> {
    <[u8; 4]>::try_from(bytes).map(u32::from_be_bytes).map_err(|_size| NetfilterError::Malformed("no 32-bit number"))
}

/// A number of 64 bits in network byte order.
pub(super) fn be64(bytes: &[u8]) -> Result<u64, NetfilterError> {
    <[u8; 8]>::try_from(bytes).map(u64::from_be_bytes).map_err(|_size| NetfilterError::Malformed("no 64-bit number"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEAD: Head = Head { kind: 0x0a0c, flags: 0x405, seq: 7, family: 1, resource: 0 };

    /// What the kernel's own tools send, byte by byte, on a machine that puts the low byte first.
    #[cfg(target_endian = "little")]
    #[test]
    fn a_message_is_laid_out_as_nfnetlink_says() {
        let mut out = Outgoing::default();
        out.message(HEAD, |out| {
            out.text(1, "heal");
            out.nest(3, |out| out.put(4, &60_000_u64.to_be_bytes()));
        });
        let expected: &[u8] = &[
            48, 0, 0, 0, 0x0c, 0x0a, 0x05, 0x04, 7, 0, 0, 0, 0, 0, 0, 0, // nlmsghdr
            1, 0, 0, 0, // nfgenmsg
            9, 0, 1, 0, b'h', b'e', b'a', b'l', 0, 0, 0, 0, // a text, with its zero and padding
            16, 0, 3, 0x80, 12, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0xea, 0x60, // nested
        ];
        assert_eq!(out.bytes(), expected);
    }

    #[test]
    fn what_was_written_is_read() {
        let mut out = Outgoing::default();
        out.message(HEAD, |out| out.put(5, &[1, 2, 3]));
        out.message(Head { seq: 8, ..HEAD }, |out| out.nest(3, |out| out.put(1, &[9])));
        let (first, rest) = Incoming::split(out.bytes()).unwrap().unwrap();
        assert_eq!((first.kind, first.flags, first.seq), (0x0a0c, 0x405, 7));
        assert_eq!(first.attributes().unwrap().find(5).unwrap(), Some(&[1, 2, 3][..]));
        let (second, rest) = Incoming::split(rest).unwrap().unwrap();
        let nested = second.attributes().unwrap().find(3).unwrap().unwrap();
        assert_eq!((second.seq, Attributes::of(nested).find(1).unwrap()), (8, Some(&[9][..])));
        assert!(rest.is_empty() && Incoming::split(rest).unwrap().is_none());
    }

    #[test]
    fn a_length_that_reaches_beyond_the_end_is_refused() {
        let mut out = Outgoing::default();
        out.message(HEAD, |out| out.put(5, &[1, 2, 3, 4]));
        let bytes = out.bytes();
        for cut in 1..bytes.len() {
            assert!(Incoming::split(&bytes[..cut]).is_err(), "{cut}");
        }
        for (length, fine) in [(0_u32, false), (15, false), (16, true), (u32::MAX, false), (29, false)] {
            let mut lying = bytes.to_vec();
            lying[..4].copy_from_slice(&length.to_ne_bytes());
            assert_eq!(Incoming::split(&lying).is_ok(), fine, "{length}");
        }
        for length in [0_u16, 3, 9, u16::MAX] {
            let attributes = [&length.to_ne_bytes()[..], &[5, 0, 1, 2, 3, 4]].concat();
            assert!(Attributes::of(&attributes).find(5).is_err(), "{length}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic_or_read_for_ever(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            let _either = crate::netfilter::set::elements_in(&bytes).is_ok();
            prop_assert!(Attributes::of(&bytes).take(1000).count() <= bytes.len() / 4 + 1);
        }
    }
}
