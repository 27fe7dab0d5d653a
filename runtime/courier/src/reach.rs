//! Which addresses a name may stand for. Every answer of the resolver is looked at, and what is connected to is the address
//! that was looked at: a name that means something else a moment later changes nothing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use theriac_model::http::Reach;

/// Why an address is not connected to; `None` when it may be.
pub(crate) fn refusal(address: IpAddr, reach: Reach) -> Option<&'static str> {
    match address {
        IpAddr::V4(address) => refusal_v4(address, reach),
        IpAddr::V6(address) => refusal_v6(address, reach),
    }
}

fn unless(allowed: bool, why: &'static str) -> Option<&'static str> {
    (!allowed).then_some(why)
}

fn refusal_v4(address: Ipv4Addr, reach: Reach) -> Option<&'static str> {
    let [a, b, c, _] = address.octets();
    match (a, b, c) {
        (0, ..) => Some("it stands for this host in some programs and for none in others"),
        (127, ..) => unless(reach.loopback, "it is a loopback address"),
        // Alibaba's metadata service lies among the shared addresses.
        (169, 254, _) => unless(reach.metadata, "it is a link-local address, such as a cloud's metadata service"),
        (100, 100, 100) if address == Ipv4Addr::new(100, 100, 100, 200) => {
            unless(reach.metadata, "it is a cloud's metadata service")
        }
        (10, ..) | (172, 16..=31, _) | (192, 168, _) | (100, 64..=127, _) => {
            unless(reach.private, "it is a private address")
        }
        (192, 0, 0 | 2) | (198, 18..=19, _) | (198, 51, 100) | (203, 0, 113) => Some("it is reserved"),
        (224.., ..) => Some("it is a multicast, broadcast or reserved address"),
        _ => None,
    }
}

fn refusal_v6(address: Ipv6Addr, reach: Reach) -> Option<&'static str> {
    if let Some(inner) = embedded(address) {
        return refusal_v4(inner, reach);
    }
    let [a, ..] = address.segments();
    match a {
        _ if address.is_unspecified() => Some("it stands for this host in some programs and for none in others"),
        _ if address.is_loopback() => unless(reach.loopback, "it is a loopback address"),
        _ if address == METADATA_V6 => unless(reach.metadata, "it is a cloud's metadata service"),
        0xfe80..=0xfebf => unless(reach.metadata, "it is a link-local address, such as a cloud's metadata service"),
        0xfc00..=0xfdff => unless(reach.private, "it is a private address"),
        // Global unicast is 2000::/3; everything else is not assigned.
        0x2000..=0x3fff if !is_documentation(address) => None,
        _ => Some("it is reserved"),
    }
}

/// Amazon's.
const METADATA_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);

fn is_documentation(address: Ipv6Addr) -> bool {
    matches!(address.segments(), [0x2001, 0xdb8, ..] | [0x3fff, 0..=0x0fff, ..])
}

/// An IPv4 address in IPv6 clothes: mapped (`::ffff:0:0/96`), translated (`64:ff9b::/96`), 6to4 (`2002::/16`). A gateway or the
/// kernel itself takes them off again.
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let octets = address.octets();
    let v4 = |at: usize| octets.get(at..at + 4).and_then(|part| <[u8; 4]>::try_from(part).ok()).map(Ipv4Addr::from);
    match address.segments() {
        [0, 0, 0, 0, 0, 0xffff, ..] | [0x64, 0xff9b, 0, 0, 0, 0, ..] => v4(12),
        [0x2002, ..] => v4(2),
        // The old "compatible" form, but for `::` and `::1`.
        [0, 0, 0, 0, 0, 0, high, low] if high != 0 || low > 1 => v4(12),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PUBLIC: Reach = Reach { loopback: false, private: false, metadata: false };

    fn allowed(text: &str, reach: Reach) -> bool {
        refusal(text.parse().unwrap(), reach).is_none()
    }

    // NW03, NW04.
    #[test]
    fn only_public_addresses_are_reached_unless_the_operator_says_so() {
        for text in ["93.184.216.34", "8.8.8.8", "2606:2800:220:1::1", "172.32.0.1", "100.128.0.1", "2002:808:808::1"] {
            assert!(allowed(text, PUBLIC), "{text}");
        }
        for text in [
            "127.0.0.1",
            "127.255.255.254",
            "0.0.0.0",
            "10.0.0.1",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "100.64.0.1",
            "169.254.169.254",
            "100.100.100.200",
            "224.0.0.1",
            "255.255.255.255",
            "240.0.0.1",
            "192.0.2.1",
            "::",
            "::1",
            "fe80::1",
            "fc00::1",
            "fd00:ec2::254",
            "ff02::1",
            "2001:db8::1",
            "64:ff9b:1::1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
            "2002:a00:1::",
        ] {
            assert!(!allowed(text, PUBLIC), "{text}");
        }
    }

    // NW03.
    #[test]
    fn each_switch_opens_its_own_addresses_and_no_others() {
        let only = |loopback, private, metadata| Reach { loopback, private, metadata };
        let kinds = [
            (only(true, false, false), ["127.0.0.1", "::1", "::ffff:127.0.0.1"]),
            (only(false, true, false), ["10.1.2.3", "fd12::1", "64:ff9b::a01:203"]),
            (only(false, false, true), ["169.254.169.254", "fd00:ec2::254", "100.100.100.200"]),
        ];
        for (reach, _) in kinds {
            for (other, texts) in kinds {
                for text in texts {
                    assert_eq!(allowed(text, reach), reach == other, "{text} {reach:?}");
                }
            }
        }
    }
}
