//! Addresses in a set of the machine's firewall (nftables), for a while.
//!
//! The set, its table and the rules that use it are the operator's. Nothing here names a rule or a chain, and no element is
//! without a time at which it goes by itself.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::id::{Label, NameError};
use crate::time::Span;

/// An address, or a prefix whose host bits are zero: `203.0.113.7`, `203.0.113.0/24`, `2001:db8::/64`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Network {
    first: IpAddr,
    prefix: u8,
}

const NETWORK_RULE: &str = "write an address or a prefix without host bits, such as `203.0.113.7` or `2001:db8::/64`";

impl Network {
    /// The prefix; `None` where it is longer than an address, or where the address has bits beyond it.
    pub fn new(first: IpAddr, prefix: u8) -> Option<Self> {
        let host_bits = u32::from(width(first).checked_sub(prefix)?);
        let cut = match first {
            IpAddr::V4(address) => {
                IpAddr::V4(Ipv4Addr::from_bits(address.to_bits() & u32::MAX.checked_shl(host_bits).unwrap_or(0)))
            }
            IpAddr::V6(address) => {
                IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & u128::MAX.checked_shl(host_bits).unwrap_or(0)))
            }
        };
        (cut == first).then_some(Self { first, prefix })
    }

    /// One address.
    pub const fn host(address: IpAddr) -> Self {
        Self { first: address, prefix: width(address) }
    }

    /// Parses `ADDRESS` or `ADDRESS/PREFIX`; nothing is rounded.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let wrong = || NameError::new("network", text, NETWORK_RULE);
        let (address, prefix) = match text.split_once('/') {
            None => (text, None),
            Some((address, digits)) => {
                let plain = digits.bytes().all(|b| b.is_ascii_digit()) && (digits == "0" || !digits.starts_with('0'));
                (address, Some(digits.parse::<u8>().ok().filter(|_| plain).ok_or_else(wrong)?))
            }
        };
        let address: IpAddr = address.parse().map_err(|_not_one| wrong())?;
        Self::new(address, prefix.unwrap_or(width(address))).ok_or_else(wrong)
    }

    /// Its first address.
    pub const fn first(&self) -> IpAddr {
        self.first
    }

    /// Its last address.
    pub fn last(&self) -> IpAddr {
        match self.first {
            IpAddr::V4(first) => {
                IpAddr::V4(Ipv4Addr::from_bits(first.to_bits() | u32::MAX.checked_shr(self.prefix.into()).unwrap_or(0)))
            }
            IpAddr::V6(first) => IpAddr::V6(Ipv6Addr::from_bits(
                first.to_bits() | u128::MAX.checked_shr(self.prefix.into()).unwrap_or(0),
            )),
        }
    }

    /// How many bits its addresses share.
    pub const fn prefix(&self) -> u8 {
        self.prefix
    }

    /// One address only.
    pub const fn is_one(&self) -> bool {
        self.prefix == width(self.first)
    }

    /// They have an address in common. An IPv4 address and an IPv6 address are never the same.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.first.is_ipv4() == other.first.is_ipv4() && self.first <= other.last() && other.first <= self.last()
    }

    /// Every address of the other one is one of its own.
    pub fn holds(&self, other: &Self) -> bool {
        self.overlaps(other) && self.prefix <= other.prefix
    }
}

const fn width(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_one() { self.first.fmt(f) } else { write!(f, "{}/{}", self.first, self.prefix) }
    }
}

impl FromStr for Network {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::parse(text)
    }
}

impl TryFrom<String> for Network {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        Self::parse(&text)
    }
}

impl From<Network> for String {
    fn from(network: Network) -> String {
        network.to_string()
    }
}

/// The sort of packets that a table of nftables sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Family {
    /// IPv4 and IPv6.
    Inet,
    /// IPv4.
    Ip,
    /// IPv6.
    Ip6,
    /// What comes in at one interface.
    Netdev,
}

impl Family {
    /// Every family that a set of addresses can be in.
    pub const ALL: [Self; 4] = [Self::Inet, Self::Ip, Self::Ip6, Self::Netdev];

    /// nftables' word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Inet => "inet",
            Self::Ip => "ip",
            Self::Ip6 => "ip6",
            Self::Netdev => "netdev",
        }
    }
}

/// The name of a table or a set of nftables.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NftName(String);

impl NftName {
    /// Parses what `nft` takes without quotes.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let good = (1..=64).contains(&text.len())
            && text.starts_with(|c: char| c.is_ascii_alphabetic())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b));
        if good {
            Ok(Self(text.to_owned()))
        } else {
            Err(NameError::new(
                "nftables name",
                text,
                "use 1 to 64 of letters, digits, `_`, `-`, `.`, starting with a letter",
            ))
        }
    }

    /// The name as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NftName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for NftName {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        Self::parse(&text)
    }
}

impl From<NftName> for String {
    fn from(name: NftName) -> String {
        name.0
    }
}

/// One set, by root's configuration.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetId {
    /// The table's family.
    pub family: Family,
    /// The table.
    pub table: NftName,
    /// The set.
    pub set: NftName,
}

impl fmt::Display for SetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.family.as_str(), self.table, self.set)
    }
}

/// Verbs of a granted set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum FirewallCall {
    /// The elements that Theriac put there.
    List,
    /// One more, for that long.
    Add { address: IpAddr, prefix: u8, seconds: u32 },
}

/// An element as a remedy sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ElementInfo {
    /// Which addresses.
    pub network: Network,
    /// Seconds until it goes by itself.
    pub expires_s: u32,
    /// A dry run only recorded it.
    pub assumed: bool,
}

/// One more element of one set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FirewallEffect {
    /// The grant's label.
    pub label: Label,
    /// Which set.
    pub set: SetId,
    /// Which addresses.
    pub network: Network,
    /// For how long.
    pub seconds: u32,
}

impl FirewallEffect {
    /// The verb in the manifest's word.
    pub const fn verb(&self) -> &'static str {
        "add"
    }

    /// The same addresses in the same set, and for no longer.
    pub fn is_within(&self, planned: &Self) -> bool {
        let Self { label, set, network, seconds } = self;
        *label == planned.label && *set == planned.set && *network == planned.network && *seconds <= planned.seconds
    }
}

impl fmt::Display for FirewallEffect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "add {} to {} for {}", self.network, self.set, Span::from_secs(self.seconds.into()))
    }
}

/// An element of a set as it is known again: nobody else writes that comment, and a person who puts the same addresses there
/// for another time has another element.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ElementState {
    /// The time it was put there for.
    pub timeout_ms: u64,
    /// The comment, which names the run and the effect.
    pub comment: String,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn network(text: &str) -> Network {
        Network::parse(text).unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn a_network_is_written_in_one_way_and_has_no_host_bits() {
        for text in ["203.0.113.7", "203.0.113.0/24", "0.0.0.0/0", "2001:db8::/64", "::1", "::/0", "255.255.255.255"] {
            assert_eq!(network(text).to_string(), text);
        }
        assert_eq!(network("203.0.113.7/32"), network("203.0.113.7"));
        for text in [
            "",
            "/24",
            "203.0.113.7/24",
            "203.0.113.0/33",
            "203.0.113.0/024",
            "203.0.113.0/+24",
            "203.0.113.0/",
            "2001:db8::1/64",
            "2001:db8::/129",
            "1.2.3",
            "01.2.3.4",
            "fe80::1%eth0",
            "localhost",
            "203.0.113.0/24 ",
        ] {
            assert!(Network::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_shorter_time_for_the_same_addresses_is_within_the_plan_and_nothing_else() {
        let name = |text| NftName::parse(text).unwrap();
        let effect = |text, seconds| FirewallEffect {
            label: Label::parse("abusers").unwrap(),
            set: SetId { family: Family::Inet, table: name("filter"), set: name("block4") },
            network: network(text),
            seconds,
        };
        let planned = effect("203.0.113.7", 60);
        assert_eq!(planned.to_string(), "add 203.0.113.7 to inet filter block4 for 1m");
        assert!(effect("203.0.113.7", 60).is_within(&planned) && effect("203.0.113.7", 1).is_within(&planned));
        assert!(!effect("203.0.113.7", 61).is_within(&planned) && !effect("203.0.113.8", 60).is_within(&planned));
        assert!(!effect("203.0.113.0/24", 60).is_within(&planned));
    }

    #[test]
    fn names_are_those_that_nft_takes_without_quotes() {
        assert!(NftName::parse("block4").is_ok() && NftName::parse("f2b-table").is_ok());
        for text in ["", "4block", "-x", "a b", "a;b", "a{", "a\0", &"x".repeat(65)] {
            assert!(NftName::parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_overlaps_has_an_address_in_common(a: u32, b: u32, p in 0_u8..=32, q in 0_u8..=32) {
            let cut = |bits: u32, prefix: u8| bits & u32::MAX.checked_shl(u32::from(32 - prefix)).unwrap_or(0);
            let of = |bits, prefix| Network::new(Ipv4Addr::from_bits(cut(bits, prefix)).into(), prefix).unwrap();
            let (one, other) = (of(a, p), of(b, q));
            let shared = p.min(q);
            prop_assert_eq!(one.overlaps(&other), cut(a, shared) == cut(b, shared));
            prop_assert_eq!(one.overlaps(&other), other.overlaps(&one));
            prop_assert_eq!(one.holds(&other), one.overlaps(&other) && p <= q);
            prop_assert_eq!(Network::parse(&one.to_string()).unwrap(), one);
            prop_assert!(one.first() <= one.last() && one.holds(&Network::host(one.last())));
        }
    }
}
