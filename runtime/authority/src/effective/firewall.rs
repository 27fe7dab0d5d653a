//! A bound set of the firewall: which addresses may be put there, and for how long.
//!
//! What it can tell without looking at the machine: the grant, the operator's lists and bounds, and what the configuration
//! itself speaks to. Who is logged in and which addresses are the machine's own, the runner looks up.

use std::collections::BTreeSet;
use std::net::IpAddr;

use theriac_model::call::Interface;
use theriac_model::denial::{Denial, DenialCause};
use theriac_model::firewall::{FirewallCall, FirewallEffect, Network, SetId};
use theriac_model::health::HealthCheck;
use theriac_model::id::Label;
use theriac_model::plan::PlannedEffect;
use theriac_model::time::Span;

use super::missing::Missing;
use super::{suggest, unbound};
use crate::grant::{AddBounds, FirewallGrant, FirewallVerb, never};
use crate::host::{FirewallConfig, HostConfig};

/// A set with what one run may put there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BoundSet {
    /// The label.
    pub label: Label,
    /// Which.
    pub set: SetId,
    /// What the manifest asks for and the operator leaves.
    pub verbs: BTreeSet<FirewallVerb>,
    asked: BTreeSet<FirewallVerb>,
    bounds: Option<AddBounds>,
    left: FirewallConfig,
    /// Addresses that the configuration names for something else.
    named: Vec<Network>,
}

/// The bounds of a grant without `add`: nothing is within them.
const NOTHING: AddBounds = AddBounds { prefix4: 33, prefix6: 129, max_timeout: Span::from_secs(0), max_elements: 0 };

impl BoundSet {
    pub(super) fn bind(label: &Label, grant: &FirewallGrant, host: &HostConfig) -> Result<Self, Denial> {
        let entry = host.firewall.iter().find(|entry| entry.label == *label).ok_or_else(|| {
            unbound(Interface::Firewall, label, DenialCause::NotGranted, "runner.firewall")
                .suggest(listing(label, grant))
        })?;
        let left = |verb: &&FirewallVerb| !verb.changes() || entry.verbs.contains(verb);
        Ok(Self {
            label: label.clone(),
            set: entry.set.clone(),
            verbs: grant.verbs.iter().filter(left).copied().collect(),
            asked: grant.verbs.clone(),
            bounds: grant.bounds,
            left: entry.clone(),
            named: named(host),
        })
    }

    /// A call on the set, as far as no look at the machine is needed.
    pub fn admits(&self, call: &FirewallCall) -> Result<(), Denial> {
        let (address, prefix, seconds) = match *call {
            FirewallCall::List => return self.admits_list(),
            FirewallCall::Add { address, prefix, seconds } => (address, prefix, seconds),
        };
        let attempted = format!("add {address}/{prefix} to {} for {}", self.set, Span::from_secs(seconds.into()));
        let never = |rule: &str| Err(Denial::new(DenialCause::NotGranted, &self.label, rule, &attempted));
        let Some(network) = Network::new(address, prefix) else { return never("network") };
        // An element without a time would stay.
        if seconds == 0 {
            return never("timeout");
        }
        if never::network(&network).is_some() {
            return never("never");
        }
        if self.left.never.iter().any(|never| never.overlaps(&network)) {
            return never("runner.firewall.never");
        }
        if self.named.iter().any(|named| named.overlaps(&network)) {
            return never("runner.health");
        }
        self.beyond(&network, Span::from_secs(seconds.into())).answer(&self.label, attempted)
    }

    fn admits_list(&self) -> Result<(), Denial> {
        let mut missing = Missing::default();
        if !self.asked.contains(&FirewallVerb::List) {
            missing.add("verbs", self.asking(FirewallVerb::List));
        }
        missing.answer(&self.label, format_args!("list {}", self.set))
    }

    /// Every bound that an addition is beyond.
    fn beyond(&self, network: &Network, timeout: Span) -> Missing {
        let mut beyond = Missing::default();
        if !self.asked.contains(&FirewallVerb::Add) {
            beyond.add("verbs", self.asking(FirewallVerb::Add));
            // It comes with the verb.
            beyond.add("max_elements", self.manifest("max_elements", 1));
        }
        if !self.left.verbs.contains(&FirewallVerb::Add) {
            beyond.add("runner.firewall.verbs", self.runner("verbs", suggest::list(["add"])));
        }
        if let Some(private) = never::private_range(network)
            && !(private.holds(network) && self.left.private.iter().any(|listed| listed.holds(network)))
        {
            let listed = self.left.private.iter().copied().chain([*network]).map(|network| network.to_string());
            beyond.add("runner.firewall.private", self.runner("private", suggest::list(listed)));
        }
        self.beyond_prefix(network, &mut beyond);
        let asked = self.bounds.unwrap_or(NOTHING).max_timeout;
        if timeout > asked {
            beyond.add("max_timeout", self.manifest("max_timeout", suggest::text(&timeout.to_string())));
        }
        if timeout > self.left.max_timeout {
            let line = self.runner("max_timeout", suggest::text(&timeout.to_string()));
            beyond.add("runner.firewall.max_timeout", line);
        }
        beyond
    }

    fn beyond_prefix(&self, network: &Network, beyond: &mut Missing) {
        let (prefix, bounds) = (network.prefix(), self.bounds);
        let (key, one, asked, rule, left) = match network.first() {
            IpAddr::V4(_) => {
                ("prefix4", 32, bounds.map(|bounds| bounds.prefix4), "runner.firewall.prefix4", self.left.prefix4)
            }
            IpAddr::V6(_) => {
                ("prefix6", 128, bounds.map(|bounds| bounds.prefix6), "runner.firewall.prefix6", self.left.prefix6)
            }
        };
        // Where nothing is written, single addresses are meant.
        if prefix < asked.unwrap_or(one) {
            beyond.add(key, self.manifest(key, prefix));
        }
        if prefix < left {
            beyond.add(rule, self.runner(key, prefix));
        }
    }

    /// One more in a run that has added so many.
    pub fn admits_count(&self, added: u32, attempted: impl std::fmt::Display) -> Result<(), Denial> {
        let wanted = added.saturating_add(1);
        let mut missing = Missing::default();
        if wanted > self.bounds.map_or(0, |bounds| bounds.max_elements) {
            missing.add_as(DenialCause::OverBudget, "max_elements", self.manifest("max_elements", wanted));
        }
        missing.answer(&self.label, attempted)
    }

    /// How many may be put there in one hour.
    pub const fn per_hour(&self) -> u32 {
        self.left.per_hour
    }

    /// One more in an hour in which so many were put there.
    pub fn admits_in_this_hour(&self, added: u32, attempted: impl std::fmt::Display) -> Result<(), Denial> {
        let wanted = added.saturating_add(1);
        let mut missing = Missing::default();
        if wanted > self.left.per_hour {
            missing.add_as(DenialCause::OverBudget, "runner.firewall.per_hour", self.runner("per_hour", wanted));
        }
        missing.answer(&self.label, attempted)
    }

    /// A planned effect still lies within the grant, whatever the plan says of itself.
    pub(crate) fn admits_effect(
        &self,
        planned: &PlannedEffect,
        effect: &FirewallEffect,
        added: u32,
    ) -> Result<(), Denial> {
        if effect.set != self.set {
            return Err(Denial::new(DenialCause::StaleTarget, &self.label, "identity", &planned.effect));
        }
        let FirewallEffect { network, seconds, .. } = effect;
        self.admits(&FirewallCall::Add { address: network.first(), prefix: network.prefix(), seconds: *seconds })?;
        self.admits_count(added, &planned.effect)
    }

    /// What it comes to here, in words.
    pub(crate) fn words(&self) -> String {
        let verbs = self.verbs.iter().map(|verb| verb.as_str()).collect::<Vec<_>>().join(", ");
        let mut text = format!("{verbs} of the set {}", self.set);
        if let Some(bounds) = self.bounds.filter(|_| self.verbs.contains(&FirewallVerb::Add)) {
            let (prefix4, prefix6) = (bounds.prefix4.max(self.left.prefix4), bounds.prefix6.max(self.left.prefix6));
            let timeout = bounds.max_timeout.min(self.left.max_timeout);
            text.push_str(&format!(
                ", {} elements in a run and {} in an hour, each for {timeout} at most, prefixes of {prefix4} and {prefix6} bits at least",
                bounds.max_elements, self.left.per_hour
            ));
        }
        text
    }

    fn asking(&self, verb: FirewallVerb) -> String {
        self.manifest("verbs", suggest::list_with(&self.asked, verb, FirewallVerb::as_str))
    }

    fn manifest(&self, key: &str, value: impl std::fmt::Display) -> String {
        suggest::manifest(Interface::Firewall, &self.label, key, value)
    }

    fn runner(&self, key: &str, value: impl std::fmt::Display) -> String {
        suggest::runner("firewall", ("label", self.label.as_str()), key, value)
    }
}

/// Where the health checks and the endpoints are that the couriers speak to, as far as they are written as addresses.
fn named(host: &HostConfig) -> Vec<Network> {
    let checks = host.units.values().flat_map(|unit| &unit.health).map(|check| match check {
        HealthCheck::Tcp { address, .. } => address.ip(),
        HealthCheck::Http { url, .. } => url.address().ip(),
    });
    let endpoints = host.endpoints.iter().filter_map(|endpoint| {
        let host = endpoint.origin.host();
        host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host).parse().ok()
    });
    checks.chain(endpoints).map(|address: IpAddr| Network::host(address.to_canonical())).collect()
}

/// The entry that would bind the label, for a table and a set that the operator has yet to make.
fn listing(label: &Label, grant: &FirewallGrant) -> String {
    let line = |key, value| suggest::runner("firewall", ("label", label.as_str()), key, value);
    let mut lines = vec![
        line("family", suggest::text("inet")),
        line("table", suggest::text("filter")),
        line("set", suggest::text(label.as_str())),
    ];
    if grant.verbs.contains(&FirewallVerb::Add) {
        lines.push(line("verbs", suggest::list(["add"])));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::effective::tests::{applied, bound, rule};

    const MANIFEST: &str = r#"
[remedy]
name = "x"
version = "1.0.0"
serial = 1
summary = "s"
handles = ["traffic-flood"]

[grants.firewall.abusers]
set = { from = "operator" }
verbs = ["list", "add"]
prefix4 = 28
prefix6 = 64
max_timeout = "1h"
max_elements = 2
why = "w"
"#;
    const HOST: &str = r#"
[[firewall]]
label = "abusers"
family = "inet"
table = "filter"
set = "block4"
verbs = ["add"]
never = ["198.51.100.0/24", "2001:db8:a::/48"]
private = ["10.20.0.0/16"]
prefix4 = 26
prefix6 = 56
max_timeout = "2h"
per_hour = 3

[[unit]]
name = "web.service"
health = [{ tcp = "192.0.2.80:80" }]

[[endpoint]]
origin = "http://192.0.2.90:9000"
"#;

    fn add(text: &str, seconds: u32) -> FirewallCall {
        let network = Network::parse(text).unwrap();
        FirewallCall::Add { address: network.first(), prefix: network.prefix(), seconds }
    }

    fn admits(manifest: &str, host: &str, call: &FirewallCall) -> Result<(), Denial> {
        bound(manifest, host, "host").set("abusers").and_then(|set| set.admits(call))
    }

    #[test]
    fn addresses_within_every_bound_are_added() {
        for (text, seconds) in [
            ("203.0.113.7", 1),
            ("203.0.113.7", 3600),
            ("203.0.113.0/28", 60),
            ("2001:db8::1", 60),
            ("2001:db8::/64", 60),
            ("10.20.30.40", 60),
            ("198.51.101.0/28", 60),
            ("192.0.2.81", 60),
        ] {
            assert_eq!(admits(MANIFEST, HOST, &add(text, seconds)), Ok(()), "{text} {seconds}");
        }
        assert_eq!(admits(MANIFEST, HOST, &FirewallCall::List), Ok(()));
    }

    #[test]
    fn each_bound_is_told_by_its_rule() {
        for (text, seconds, wanted) in [
            ("203.0.113.7", 3601, "max_timeout"),
            ("203.0.113.0/27", 60, "prefix4"),
            ("2001:db8::/63", 60, "prefix6"),
            ("203.0.113.7", 0, "timeout"),
            ("127.0.0.1", 60, "never"),
            ("198.51.100.1", 60, "runner.firewall.never"),
            ("198.51.0.0/16", 60, "runner.firewall.never"),
            ("2001:db8:a:1::1", 60, "runner.firewall.never"),
            ("192.0.2.80", 60, "runner.health"),
            ("192.0.2.80/28", 60, "runner.health"),
            ("192.0.2.90", 60, "runner.health"),
            ("10.21.0.1", 60, "runner.firewall.private"),
        ] {
            assert_eq!(rule(admits(MANIFEST, HOST, &add(text, seconds))), wanted, "{text} {seconds}");
        }
        let host_bits = FirewallCall::Add { address: "203.0.113.7".parse().unwrap(), prefix: 24, seconds: 60 };
        assert_eq!(rule(admits(MANIFEST, HOST, &host_bits)), "network");
        let wide = MANIFEST.replace("prefix4 = 28", "prefix4 = 16").replace("1h", "7d");
        assert_eq!(rule(admits(&wide, HOST, &add("203.0.113.0/25", 60))), "runner.firewall.prefix4");
        assert_eq!(rule(admits(&wide, HOST, &add("203.0.113.7", 7201))), "runner.firewall.max_timeout");
        let single = MANIFEST.replace("prefix4 = 28\n", "");
        assert_eq!(rule(admits(&single, HOST, &add("203.0.113.0/31", 60))), "prefix4");
        assert_eq!(admits(&single, HOST, &add("203.0.113.0", 60)), Ok(()));
        let listed_only = HOST.replace("verbs = [\"add\"]\n", "");
        assert_eq!(rule(admits(MANIFEST, &listed_only, &add("203.0.113.7", 60))), "runner.firewall.verbs");
        assert_eq!(admits(MANIFEST, &listed_only, &FirewallCall::List), Ok(()));
        assert_eq!(rule(admits(MANIFEST, "", &FirewallCall::List)), "runner.firewall");
    }

    #[test]
    fn a_verb_needs_the_manifest() {
        let lists = MANIFEST
            .replace("[\"list\", \"add\"]", "[\"list\"]")
            .replace("prefix4 = 28\nprefix6 = 64\nmax_timeout = \"1h\"\nmax_elements = 2\n", "");
        let adds = MANIFEST.replace("[\"list\", \"add\"]", "[\"add\"]");
        let (list, add) = (FirewallCall::List, add("203.0.113.7", 60));
        assert!(admits(&lists, HOST, &list).is_ok() && admits(&adds, HOST, &add).is_ok());
        assert_eq!(rule(admits(&lists, HOST, &add)), "verbs");
        assert_eq!(rule(admits(&adds, HOST, &list)), "verbs");
    }

    #[test]
    fn what_is_left_out_is_a_day_and_prefixes_of_24_and_64() {
        let host = "[[firewall]]\nlabel = \"abusers\"\nfamily = \"inet\"\ntable = \"filter\"\nset = \"block4\"\nverbs = [\"add\"]\n";
        let wide = MANIFEST
            .replace("prefix4 = 28", "prefix4 = 16")
            .replace("prefix6 = 64", "prefix6 = 32")
            .replace("1h", "7d");
        for (text, seconds) in [("203.0.113.0/24", 86_400), ("2001:db8::/64", 86_400)] {
            assert_eq!(admits(&wide, host, &add(text, seconds)), Ok(()), "{text}");
        }
        assert_eq!(rule(admits(&wide, host, &add("203.0.112.0/23", 60))), "runner.firewall.prefix4");
        assert_eq!(rule(admits(&wide, host, &add("2001:db8::/63", 60))), "runner.firewall.prefix6");
        assert_eq!(rule(admits(&wide, host, &add("203.0.113.7", 86_401))), "runner.firewall.max_timeout");
        assert_eq!(bound(&wide, host, "host").set("abusers").unwrap().per_hour(), 200);
    }

    #[test]
    fn the_counts_of_a_run_and_of_an_hour_have_their_lines() {
        let effective = bound(MANIFEST, HOST, "host");
        let set = effective.set("abusers").unwrap();
        assert!(set.admits_count(1, "x").is_ok() && set.admits_in_this_hour(2, "x").is_ok());
        let denials = [set.admits_count(2, "x").unwrap_err(), set.admits_in_this_hour(3, "x").unwrap_err()];
        assert_eq!(denials.clone().map(|denial| denial.rule), ["max_elements", "runner.firewall.per_hour"]);
        let (mut manifest, mut host) = (MANIFEST.to_owned(), HOST.to_owned());
        for denial in denials {
            (manifest, host) = applied(&denial.suggestion.unwrap(), &manifest, &host);
        }
        let effective = bound(&manifest, &host, "host");
        let set = effective.set("abusers").unwrap();
        assert!(set.admits_count(2, "x").is_ok() && set.admits_count(3, "x").is_err());
        assert!(set.admits_in_this_hour(3, "x").is_ok() && set.admits_in_this_hour(4, "x").is_err());
    }

    proptest! {
        #[test]
        fn a_suggestion_allows_exactly_the_call_it_was_made_for(
            bits: u32,
            prefix in 16_u8..=32,
            seconds in 1_u32..=7 * 86_400,
            asked: bool,
            left: bool,
            listed: bool,
        ) {
            let mut manifest = MANIFEST.to_owned();
            if !asked {
                manifest = manifest.replace("[\"list\", \"add\"]", "[\"list\"]");
                for line in ["prefix4 = 28\n", "prefix6 = 64\n", "max_timeout = \"1h\"\n", "max_elements = 2\n"] {
                    manifest = manifest.replace(line, "");
                }
            }
            let host = HOST.replace("verbs = [\"add\"]\n", if left { "verbs = [\"add\"]\n" } else { "" });
            let host = if listed { host } else { String::new() };
            let first = std::net::Ipv4Addr::from_bits(bits & u32::MAX << (32 - u32::from(prefix)));
            let call = FirewallCall::Add { address: first.into(), prefix, seconds };
            let (mut now, mut here) = (manifest.clone(), host.clone());
            // A label that was bound by the first lines may need the lines of the call.
            for _ in 0..2 {
                let Err(denial) = admits(&now, &here, &call) else { break };
                let Some(suggestion) = denial.suggestion else { return Ok(()) };
                (now, here) = applied(&suggestion, &now, &here);
            }
            prop_assert_eq!(admits(&now, &here, &call), Ok(()));
            // Nothing that was denied before is allowed but the call and what is smaller in every way.
            let larger = [
                FirewallCall::Add { address: first.into(), prefix, seconds: seconds.max(7200) + 1 },
                add("203.0.112.0/20", 1),
                add("127.0.0.1", 1),
                add("198.51.100.1", 1),
            ];
            for other in larger.iter().filter(|other| admits(&manifest, &host, other).is_err()) {
                let within = matches!(other, FirewallCall::Add { prefix: wide, seconds: long, .. }
                    if *wide >= prefix && *long <= seconds.max(7200));
                prop_assert!(within || admits(&now, &here, other).is_err(), "{:?} also allowed {:?}", call, other);
            }
        }
    }
}
