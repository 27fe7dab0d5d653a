//! One set of nftables: what it is, its elements, one more, one less.
//!
//! In a set with `flags interval` the kernel keeps a range as two elements: the first address, and the one after the last with
//! a flag that says so. A range that reaches to the end of all addresses has no second one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use theriac_model::firewall::{Family, Network, SetId};

use super::NetfilterError;
use super::message::{Attributes, Incoming, Outgoing, be32, be64};
use super::socket::{Answer, CREATE_NEW, Message, change, dump, get};

// linux/netfilter/nf_tables.h
const NEWSETELEM: u16 = 12;
const GETSETELEM: u16 = 13;
const DELSETELEM: u16 = 14;
const GETSET: u16 = 10;
const SET_TABLE: u16 = 1;
const SET_NAME: u16 = 2;
const SET_FLAGS: u16 = 3;
const SET_KEY_TYPE: u16 = 4;
const SET_KEY_LEN: u16 = 5;
const LIST_TABLE: u16 = 1;
const LIST_SET: u16 = 2;
const LIST_ELEMENTS: u16 = 3;
const LIST_ELEMENT: u16 = 1;
const ELEMENT_KEY: u16 = 1;
const ELEMENT_FLAGS: u16 = 3;
const ELEMENT_TIMEOUT: u16 = 4;
const ELEMENT_EXPIRATION: u16 = 5;
const ELEMENT_USERDATA: u16 = 6;
const DATA_VALUE: u16 = 1;
const FLAG_ANONYMOUS: u32 = 0x1;
const FLAG_CONSTANT: u32 = 0x2;
const FLAG_INTERVAL: u32 = 0x4;
const FLAG_MAP: u32 = 0x8;
const FLAG_TIMEOUT: u32 = 0x10;
const FLAG_INTERVAL_END: u32 = 0x1;
/// nft's own numbers of its types `ipv4_addr` and `ipv6_addr`, and the kernel's number for their lengths.
const IPV4_ADDR: (u32, u32) = (7, 4);
const IPV6_ADDR: (u32, u32) = (8, 16);
/// What nft shows as `comment "…"`: type, length, text, zero.
const COMMENT: u8 = 0;
/// Readings of a set that changes while it is read.
const READINGS: u32 = 8;

/// What a set is, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SetFacts {
    /// Of IPv6 addresses; else of IPv4 ones.
    pub(crate) v6: bool,
    /// It takes prefixes.
    pub(crate) intervals: bool,
}

/// One element, or one range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Element {
    pub(crate) first: IpAddr,
    pub(crate) last: IpAddr,
    /// `None`: it stays.
    pub(crate) timeout_ms: Option<u64>,
    pub(crate) expires_ms: Option<u64>,
    pub(crate) comment: Option<String>,
}

impl Element {
    pub(crate) fn overlaps(&self, network: &Network) -> bool {
        self.first.is_ipv4() == network.first().is_ipv4()
            && self.first <= network.last()
            && network.first() <= self.last
    }

    pub(crate) fn is(&self, network: &Network) -> bool {
        self.first == network.first() && self.last == network.last()
    }

    /// The range as a prefix, if it is one.
    pub(crate) fn network(&self) -> Option<Network> {
        (0..=128).find_map(|prefix| Network::new(self.first, prefix).filter(|network| self.is(network)))
    }
}

const fn family(set: &SetId) -> u8 {
    match set.family {
        Family::Inet => 1,
        Family::Ip => 2,
        Family::Netdev => 5,
        Family::Ip6 => 10,
    }
}

fn message(set: &SetId, kind: u16, flags: u16) -> Message {
    Message { kind, family: family(set), flags }
}

/// Asks what the set is; one that is not made for this is an error.
pub(crate) fn facts(set: &SetId) -> Result<SetFacts, NetfilterError> {
    let answer = get(message(set, GETSET, 0), |out| {
        out.text(SET_TABLE, set.table.as_str());
        out.text(SET_NAME, set.set.as_str());
    });
    let messages = whole(set, answer)?.ok_or_else(|| NetfilterError::Restless { set: set.clone() })?;
    let first = messages.first().ok_or(NetfilterError::Malformed("no set came back"))?;
    let (message, _) = Incoming::split(first)?.ok_or(NetfilterError::Malformed("no set came back"))?;
    let attributes = message.attributes()?;
    let number = |kind| attributes.find(kind)?.map_or(Ok(0), be32);
    let (flags, key) = (number(SET_FLAGS)?, (number(SET_KEY_TYPE)?, number(SET_KEY_LEN)?));
    let unfit = |reason| Err(NetfilterError::Unfit { set: set.clone(), reason });
    if flags & (FLAG_ANONYMOUS | FLAG_CONSTANT) != 0 {
        return unfit("can't be changed");
    }
    if flags & FLAG_MAP != 0 {
        return unfit("is a map");
    }
    if flags & FLAG_TIMEOUT == 0 {
        return unfit("has no `flags timeout`: what is put there would stay");
    }
    let v6 = match key {
        IPV4_ADDR => false,
        IPV6_ADDR => true,
        _ => return unfit("is neither of type ipv4_addr nor of type ipv6_addr"),
    };
    Ok(SetFacts { v6, intervals: flags & FLAG_INTERVAL != 0 })
}

/// The messages of an answer; `None` where it has to be asked again.
fn whole(set: &SetId, answer: Result<Answer, NetfilterError>) -> Result<Option<Vec<Vec<u8>>>, NetfilterError> {
    match answer {
        Ok(Answer::Whole(messages)) => Ok(Some(messages)),
        Ok(Answer::Interrupted) => Ok(None),
        Ok(Answer::TooLarge) => Err(NetfilterError::TooLarge { set: set.clone() }),
        Err(error) => Err(missing(set, error)),
    }
}

fn missing(set: &SetId, error: NetfilterError) -> NetfilterError {
    if let NetfilterError::Refused(source) = &error
        && source.raw_os_error() == Some(libc::ENOENT)
    {
        return NetfilterError::Missing { set: set.clone() };
    }
    error
}

/// Everything that is in the set now, in the order of the addresses.
pub(crate) fn elements(set: &SetId) -> Result<Vec<Element>, NetfilterError> {
    let intervals = facts(set)?.intervals;
    for _ in 0..READINGS {
        let answer = dump(message(set, GETSETELEM, 0), |out| {
            out.text(LIST_TABLE, set.table.as_str());
            out.text(LIST_SET, set.set.as_str());
        });
        if let Some(messages) = whole(set, answer)? {
            let mut ends = Vec::new();
            messages.iter().try_for_each(|message| read(message, &mut ends))?;
            return paired(ends, intervals);
        }
    }
    Err(NetfilterError::Restless { set: set.clone() })
}

/// The same from one datagram, as if it were the whole answer.
#[cfg(test)]
pub(super) fn elements_in(bytes: &[u8]) -> Result<Vec<Element>, NetfilterError> {
    let mut ends = Vec::new();
    read(bytes, &mut ends)?;
    paired(ends, true)
}

/// An element as the kernel has it: an address, and whether it ends a range.
#[derive(Debug, Clone, PartialEq, Eq)]
struct End {
    at: IpAddr,
    ends: bool,
    timeout_ms: Option<u64>,
    expires_ms: Option<u64>,
    comment: Option<String>,
}

/// The elements of every message in the bytes.
fn read(bytes: &[u8], into: &mut Vec<End>) -> Result<(), NetfilterError> {
    let mut rest = bytes;
    while let Some((message, after)) = Incoming::split(rest)? {
        rest = after;
        let Some(list) = message.attributes()?.find(LIST_ELEMENTS)? else { continue };
        for element in Attributes::of(list) {
            let (kind, element) = element?;
            if kind == LIST_ELEMENT {
                // Elements without a key (`*`) are no addresses.
                into.extend(end(Attributes::of(element))?);
            }
        }
    }
    Ok(())
}

fn end(element: Attributes<'_>) -> Result<Option<End>, NetfilterError> {
    let Some(key) = element.find(ELEMENT_KEY)? else { return Ok(None) };
    let value = Attributes::of(key).find(DATA_VALUE)?.ok_or(NetfilterError::Malformed("a key has no value"))?;
    let flags = element.find(ELEMENT_FLAGS)?.map_or(Ok(0), be32)?;
    Ok(Some(End {
        at: address(value)?,
        ends: flags & FLAG_INTERVAL_END != 0,
        timeout_ms: element.find(ELEMENT_TIMEOUT)?.map(be64).transpose()?,
        expires_ms: element.find(ELEMENT_EXPIRATION)?.map(be64).transpose()?,
        comment: element.find(ELEMENT_USERDATA)?.and_then(comment),
    }))
}

fn address(value: &[u8]) -> Result<IpAddr, NetfilterError> {
    let v4 = || <[u8; 4]>::try_from(value).map(|octets| IpAddr::V4(Ipv4Addr::from(octets)));
    let v6 = || <[u8; 16]>::try_from(value).map(|octets| IpAddr::V6(Ipv6Addr::from(octets)));
    v4().or_else(|_size| v6()).map_err(|_size| NetfilterError::Malformed("a key is no address"))
}

/// The comment in an element's user data, which may hold other things of nft's.
fn comment(mut data: &[u8]) -> Option<String> {
    while let [kind, length, rest @ ..] = data {
        let (value, after) = rest.split_at_checked(usize::from(*length))?;
        if *kind == COMMENT {
            let text = value.strip_suffix(&[0]).unwrap_or(value);
            return String::from_utf8(text.to_vec()).ok();
        }
        data = after;
    }
    None
}

fn user_data(comment: &str) -> Vec<u8> {
    let length = u8::try_from(comment.len() + 1).unwrap_or(u8::MAX);
    [&[COMMENT, length][..], comment.as_bytes(), &[0]].concat()
}

/// Ranges out of their two ends, or each element for itself.
fn paired(mut ends: Vec<End>, intervals: bool) -> Result<Vec<Element>, NetfilterError> {
    // Where one range ends another may begin: the end comes first.
    ends.sort_by_key(|end| (end.at, !end.ends));
    let mut elements = Vec::with_capacity(ends.len());
    let mut rest = ends.into_iter().peekable();
    while let Some(start) = rest.next() {
        // The kernel's tools put an end at 0 where nothing begins.
        if start.ends {
            continue;
        }
        let last = if intervals {
            match rest.peek() {
                Some(next) if next.at.is_ipv4() == start.at.is_ipv4() => {
                    before(next.at).ok_or(NetfilterError::Malformed("a range ends before the first address"))?
                }
                Some(_) | None => greatest(start.at),
            }
        } else {
            start.at
        };
        let End { at: first, timeout_ms, expires_ms, comment, ends: _ } = start;
        elements.push(Element { first, last: last.max(first), timeout_ms, expires_ms, comment });
    }
    Ok(elements)
}

fn before(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(address) => address.to_bits().checked_sub(1).map(|bits| IpAddr::V4(Ipv4Addr::from_bits(bits))),
        IpAddr::V6(address) => address.to_bits().checked_sub(1).map(|bits| IpAddr::V6(Ipv6Addr::from_bits(bits))),
    }
}

fn after(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(address) => address.to_bits().checked_add(1).map(|bits| IpAddr::V4(Ipv4Addr::from_bits(bits))),
        IpAddr::V6(address) => address.to_bits().checked_add(1).map(|bits| IpAddr::V6(Ipv6Addr::from_bits(bits))),
    }
}

const fn greatest(like: IpAddr) -> IpAddr {
    match like {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::BROADCAST),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::from_bits(u128::MAX)),
    }
}

/// Puts one more element there. The kernel refuses one that is there already.
pub(crate) fn add(
    set: &SetId,
    facts: SetFacts,
    network: &Network,
    timeout_ms: u64,
    comment: &str,
) -> Result<(), NetfilterError> {
    let start = |out: &mut Outgoing| {
        out.put(ELEMENT_TIMEOUT, &timeout_ms.to_be_bytes());
        out.put(ELEMENT_USERDATA, &user_data(comment));
    };
    let message = message(set, NEWSETELEM, CREATE_NEW);
    change(message, |out| list(out, set, facts, network, start)).map_err(|error| missing(set, error))
}

/// Takes one element out.
pub(crate) fn remove(set: &SetId, facts: SetFacts, network: &Network) -> Result<(), NetfilterError> {
    let message = message(set, DELSETELEM, 0);
    change(message, |out| list(out, set, facts, network, |_| ())).map_err(|error| missing(set, error))
}

/// The attributes of a message about one element.
fn list(out: &mut Outgoing, set: &SetId, facts: SetFacts, network: &Network, more: impl FnOnce(&mut Outgoing)) {
    out.text(LIST_TABLE, set.table.as_str());
    out.text(LIST_SET, set.set.as_str());
    out.nest(LIST_ELEMENTS, |out| {
        out.nest(LIST_ELEMENT, |out| {
            key(out, network.first());
            more(out);
        });
        if let Some(end) = facts.intervals.then(|| after(network.last())).flatten() {
            out.nest(LIST_ELEMENT, |out| {
                key(out, end);
                out.put(ELEMENT_FLAGS, &FLAG_INTERVAL_END.to_be_bytes());
            });
        }
    });
}

fn key(out: &mut Outgoing, address: IpAddr) {
    out.nest(ELEMENT_KEY, |out| match address {
        IpAddr::V4(address) => out.put(DATA_VALUE, &address.octets()),
        IpAddr::V6(address) => out.put(DATA_VALUE, &address.octets()),
    });
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::netfilter::message::Head;

    fn network(text: &str) -> Network {
        Network::parse(text).unwrap()
    }

    fn end_at(text: &str, ends: bool) -> End {
        End { at: text.parse().unwrap(), ends, timeout_ms: None, expires_ms: None, comment: None }
    }

    fn ranges(ends: &[(&str, bool)]) -> Vec<String> {
        let ends = ends.iter().map(|(text, ends)| end_at(text, *ends)).collect();
        let shown = |element: &Element| format!("{}-{}", element.first, element.last);
        paired(ends, true).unwrap().iter().map(shown).collect()
    }

    #[test]
    fn two_ends_are_a_range_in_whatever_order_they_come() {
        assert_eq!(
            ranges(&[("203.0.114.0", true), ("203.0.113.0", false), ("0.0.0.0", true)]),
            ["203.0.113.0-203.0.113.255"]
        );
        let touching = [("10.0.0.1", false), ("10.0.0.2", true), ("10.0.0.2", false), ("10.0.0.3", true)];
        assert_eq!(ranges(&touching), ["10.0.0.1-10.0.0.1", "10.0.0.2-10.0.0.2"]);
        assert_eq!(ranges(&[("255.255.255.0", false)]), ["255.255.255.0-255.255.255.255"]);
        assert_eq!(ranges(&[]), Vec::<String>::new());
    }

    #[test]
    fn a_set_without_intervals_has_single_addresses() {
        let elements = paired(vec![end_at("10.0.0.1", false), end_at("10.0.0.9", false)], false).unwrap();
        assert!(elements.iter().all(|element| element.first == element.last));
        assert_eq!(elements.len(), 2);
    }

    #[test]
    fn the_comment_is_found_among_other_user_data() {
        assert_eq!(comment(&user_data("theriac r-1/0")), Some("theriac r-1/0".to_owned()));
        assert_eq!(comment(&[1, 2, 9, 9, 0, 2, b'x', 0]), Some("x".to_owned()));
        for data in [&[][..], &[0], &[0, 9, b'x'], &[1, 1, 0], &[0, 1, 0xff]] {
            assert_eq!(comment(data), None, "{data:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_sent_is_what_is_read(bits: u32, prefix in 1_u8..=32, timeout in 1_u64..1 << 40, run in "[a-z0-9-]{1,64}") {
            let first = Ipv4Addr::from_bits(bits & u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0));
            let network = Network::new(first.into(), prefix).unwrap();
            let set: SetId = serde_json::from_str(r#"{"family":"inet","table":"filter","set":"block4"}"#).unwrap();
            let facts = SetFacts { v6: false, intervals: true };
            let mut out = Outgoing::default();
            let head = Head { kind: 0x0a0c, flags: 0, seq: 1, family: 1, resource: 0 };
            out.message(head, |out| list(out, &set, facts, &network, |out| {
                out.put(ELEMENT_TIMEOUT, &timeout.to_be_bytes());
                out.put(ELEMENT_USERDATA, &user_data(&run));
            }));
            let elements = elements_in(out.bytes()).unwrap();
            prop_assert_eq!(elements.len(), 1);
            prop_assert_eq!(elements[0].network(), Some(network));
            prop_assert_eq!(elements[0].timeout_ms, Some(timeout));
            prop_assert_eq!(elements[0].comment.as_deref(), Some(run.as_str()));
            prop_assert!(elements[0].overlaps(&network) && !elements[0].overlaps(&self::network("2001:db8::/32")));
        }
    }
}
