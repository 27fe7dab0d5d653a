//! A granted set of the machine's firewall (`[grants.firewall.LABEL]`).

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub use crate::bindings::theriac::remedy::firewall::{Address, Element, Network, Set};

impl From<IpAddr> for Network {
    /// One address.
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => {
                let [a, b, c, d] = v4.octets();
                Self { address: Address::Ipv4((a, b, c, d)), prefix: 32 }
            }
            IpAddr::V6(v6) => {
                let [a, b, c, d, e, f, g, h] = v6.segments();
                Self { address: Address::Ipv6((a, b, c, d, e, f, g, h)), prefix: 128 }
            }
        }
    }
}

impl From<Address> for IpAddr {
    fn from(address: Address) -> Self {
        match address {
            Address::Ipv4((a, b, c, d)) => Self::V4(Ipv4Addr::new(a, b, c, d)),
            Address::Ipv6((a, b, c, d, e, f, g, h)) => Self::V6(Ipv6Addr::new(a, b, c, d, e, f, g, h)),
        }
    }
}

impl Element {
    /// The address is one of the element's.
    pub fn holds(&self, address: IpAddr) -> bool {
        let (first, bits) = (IpAddr::from(self.network.address), u32::from(self.network.prefix));
        match (first, address) {
            (IpAddr::V4(first), IpAddr::V4(address)) => {
                (first.to_bits() ^ address.to_bits()).checked_shr(32_u32.saturating_sub(bits)).unwrap_or(0) == 0
            }
            (IpAddr::V6(first), IpAddr::V6(address)) => {
                (first.to_bits() ^ address.to_bits()).checked_shr(128_u32.saturating_sub(bits)).unwrap_or(0) == 0
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", IpAddr::from(self.address), self.prefix)
    }
}
