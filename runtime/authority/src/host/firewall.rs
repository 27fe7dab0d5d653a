//! `[[firewall]]` of `runner.toml`: sets of nftables that remedies may put addresses in. The operator made the table, the set
//! and the rules that use it.

use std::collections::BTreeSet;

use theriac_model::firewall::{Family, Network, NftName, SetId};
use theriac_model::id::Label;
use theriac_model::time::Span;

use crate::document::{Field, Mistake};
use crate::grant::{FirewallVerb, WordError, never};
use crate::manifest::{max_timeout, prefix4, prefix6};

/// Networks of one list: a person reads them.
const MAX_NETWORKS: usize = 256;

/// One listed set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FirewallConfig {
    /// What manifests call it.
    pub label: Label,
    /// Which.
    pub set: SetId,
    /// What remedies may change.
    pub verbs: BTreeSet<FirewallVerb>,
    /// Addresses that are never put there: administrators, monitoring, load balancers.
    pub never: Vec<Network>,
    /// The private ranges of which addresses may be put there.
    pub private: Vec<Network>,
    /// The shortest prefix of IPv4.
    pub prefix4: u8,
    /// The shortest prefix of IPv6.
    pub prefix6: u8,
    /// The longest time.
    pub max_timeout: Span,
    /// How many in one hour, over all runs and restarts.
    pub per_hour: u32,
}

const KEYS: &[&str] =
    &["label", "family", "table", "set", "verbs", "never", "private", "prefix4", "prefix6", "max_timeout", "per_hour"];

/// The whole list; a label stands for one set.
pub(super) fn all(field: Option<Field>) -> Result<Vec<FirewallConfig>, Mistake> {
    let mut all: Vec<FirewallConfig> = Vec::new();
    for field in field.map_or_else(|| Ok(Vec::new()), Field::list)? {
        let twice = field.mistake("its label stands for another set already", "give each set a label of its own");
        let config = parse(field)?;
        if all.iter().any(|other| other.label == config.label) {
            return Err(twice);
        }
        all.push(config);
    }
    Ok(all)
}

fn parse(field: Field) -> Result<FirewallConfig, Mistake> {
    let mut table = field.table(KEYS)?;
    let label = table.required("label", "what manifests call it, such as \"abusers\"")?.parse_with(Label::parse)?;
    let set = SetId {
        family: family(&table.required("family", "the table's family: inet, ip, ip6 or netdev")?)?,
        table: table.required("table", "the name of the table")?.parse_with(NftName::parse)?,
        set: table.required("set", "the name of the set")?.parse_with(NftName::parse)?,
    };
    let mut networks = |key: &str| table.optional(key).map_or_else(|| Ok(Vec::new()), networks);
    let (never, private) = (networks("never")?, networks("private")?);
    let never = never.into_iter().map(|(_, network)| network).collect();
    Ok(FirewallConfig {
        label,
        set,
        verbs: table.optional("verbs").map_or_else(|| Ok(BTreeSet::new()), verbs)?,
        never,
        private: private.into_iter().map(|(field, network)| is_private(&field, network)).collect::<Result<_, _>>()?,
        prefix4: table.optional("prefix4").map_or(Ok(24), |field| prefix4(&field))?,
        prefix6: table.optional("prefix6").map_or(Ok(64), |field| prefix6(&field))?,
        max_timeout: table.optional("max_timeout").map_or(Ok(DAY), |field| max_timeout(&field))?,
        per_hour: table.optional("per_hour").map_or(Ok(PER_HOUR), |field| field.integer(1, 10_000))?,
    })
}

const DAY: Span = Span::from_secs(86_400);
const PER_HOUR: u32 = 200;

fn family(field: &Field) -> Result<Family, Mistake> {
    field.parse_with(|word| {
        let known = Family::ALL.into_iter().find(|family| family.as_str() == word);
        let words = Family::ALL.iter().map(|family| family.as_str());
        known.ok_or_else(|| WordError::new("a family of addresses", word, words))
    })
}

/// Reading needs no leave.
fn verbs(field: Field) -> Result<BTreeSet<FirewallVerb>, Mistake> {
    let mut verbs = BTreeSet::new();
    for item in field.list()? {
        let verb: FirewallVerb = item.parse()?;
        if !verb.changes() {
            return Err(item.mistake("it changes nothing, and is allowed by listing the set", "leave it out"));
        }
        verbs.insert(verb);
    }
    Ok(verbs)
}

fn networks(field: Field) -> Result<Vec<(Field, Network)>, Mistake> {
    let many = field.mistake(format!("more than {MAX_NETWORKS} networks"), "write wider ones");
    let items = field.list()?;
    if items.len() > MAX_NETWORKS {
        return Err(many);
    }
    items.into_iter().map(|item| Ok((item.clone(), item.parse_with(Network::parse)?))).collect()
}

/// Elsewhere the list would change nothing.
fn is_private(field: &Field, network: Network) -> Result<Network, Mistake> {
    match never::private_range(&network) {
        Some(range) if range.holds(&network) => Ok(network),
        Some(_) | None => Err(field.mistake(
            format!("`{network}` is no part of one private range"),
            "leave it out: only private addresses need to be listed",
        )),
    }
}
