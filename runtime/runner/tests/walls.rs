//! The runner's filter of system calls, tried from behind. It holds for a whole process and for good, and so this is a process
//! of its own with one test in it.

use rustix::io::Errno;
use rustix::net::{AddressFamily, Protocol, SocketType, netlink, socket};
use theriac_runner::walls::{self, Netfilter};

fn tries(family: AddressFamily, kind: SocketType, protocol: Option<Protocol>) -> Result<(), Errno> {
    socket(family, kind, protocol).map(drop)
}

#[test]
fn netfilter_is_reached_where_a_set_is_listed_and_no_other_network_ever() {
    let unix = || tries(AddressFamily::UNIX, SocketType::STREAM, None);
    let netfilter = || tries(AddressFamily::NETLINK, SocketType::RAW, Some(netlink::NETFILTER));
    let others = || {
        [
            tries(AddressFamily::NETLINK, SocketType::RAW, None),
            tries(AddressFamily::NETLINK, SocketType::RAW, Some(netlink::GENERIC)),
            tries(AddressFamily::NETLINK, SocketType::RAW, Some(netlink::KOBJECT_UEVENT)),
            tries(AddressFamily::INET, SocketType::STREAM, None),
            tries(AddressFamily::INET6, SocketType::DGRAM, None),
        ]
    };
    assert_eq!((unix(), netfilter()), (Ok(()), Ok(())), "before");
    assert!(others().iter().all(Result::is_ok), "before: {:?}", others());
    walls::raise(Netfilter::Open).unwrap();
    assert_eq!((unix(), netfilter()), (Ok(()), Ok(())));
    assert_eq!(others(), [Err(Errno::PERM); 5]);
    // Filters add up: what one of them denies is denied.
    walls::raise(Netfilter::Closed).unwrap();
    assert_eq!((unix(), netfilter()), (Ok(()), Err(Errno::PERM)));
    assert_eq!(others(), [Err(Errno::PERM); 5]);
}
