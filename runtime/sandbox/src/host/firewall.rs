//! `firewall`: one set of addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use theriac_model::call::{Call, Interface, Reply};
use theriac_model::firewall::{self as model, FirewallCall, Network};
use wasmtime::component::Resource;

use super::{Answer, State, ask, handle};
use crate::bindings::{AddressSet, firewall};

const fn address(address: firewall::Address) -> IpAddr {
    match address {
        firewall::Address::Ipv4((a, b, c, d)) => IpAddr::V4(Ipv4Addr::new(a, b, c, d)),
        firewall::Address::Ipv6((a, b, c, d, e, f, g, h)) => IpAddr::V6(Ipv6Addr::new(a, b, c, d, e, f, g, h)),
    }
}

const fn network(network: &Network) -> firewall::Network {
    let address = match network.first() {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            firewall::Address::Ipv4((a, b, c, d))
        }
        IpAddr::V6(address) => {
            let [a, b, c, d, e, f, g, h] = address.segments();
            firewall::Address::Ipv6((a, b, c, d, e, f, g, h))
        }
    };
    firewall::Network { address, prefix: network.prefix() }
}

fn element(element: &model::ElementInfo) -> firewall::Element {
    firewall::Element { network: network(&element.network), expires: element.expires_s, assumed: element.assumed }
}

impl firewall::Host for State {}

impl firewall::HostSet for State {
    fn open(&mut self, label: String) -> Answer<Resource<AddressSet>> {
        State::open(self, Interface::Firewall, label)
    }

    fn list(&mut self, set: Resource<AddressSet>) -> Answer<Vec<firewall::Element>> {
        let call = Call::Firewall { handle: handle(&set), verb: FirewallCall::List };
        ask!(self, call, Reply::Elements(elements) => elements.iter().map(element).collect())
    }

    fn add(&mut self, set: Resource<AddressSet>, asked: firewall::Network, seconds: u32) -> Answer<()> {
        let verb = FirewallCall::Add { address: address(asked.address), prefix: asked.prefix, seconds };
        ask!(self, Call::Firewall { handle: handle(&set), verb }, Reply::Done => ())
    }

    fn drop(&mut self, set: Resource<AddressSet>) -> wasmtime::Result<()> {
        self.give_back(&set)
    }
}
