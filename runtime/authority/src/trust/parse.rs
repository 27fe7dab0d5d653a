//! Reading `trust.toml`.

use std::collections::BTreeMap;

use theriac_model::id::{KeyName, RemedyName};

use super::{Class, Names, TrustStore, TrustedSigner};
use crate::document::{self, Field, Mistake};
use crate::key::VerifierKey;

/// More signers than a company has.
const MAX_KEYS: usize = 256;

pub(super) fn store(text: &str) -> Result<TrustStore, Mistake> {
    let mut top = document::toml(text)?.table(&["signer", "threshold", "revoked", "operators"])?;
    let mut store = TrustStore::default();
    for field in list(top.optional("signer"))? {
        let signer = signer(field, &store.signers)?;
        store.signers.push(signer);
    }
    for field in list(top.optional("threshold"))? {
        threshold(field, &store.signers, &mut store.thresholds)?;
    }
    if let Some(field) = top.optional("revoked") {
        let mut table = field.table(&["keys", "components"])?;
        let keys = keys(table.optional("keys"))?;
        store.revoked_keys = keys.iter().map(|key| *key.point()).collect();
        if let Some(field) = table.optional("components") {
            store.revoked_components = field.set()?;
        }
    }
    if let Some(field) = top.optional("operators") {
        store.operators = keys(field.table(&["keys"])?.optional("keys"))?;
    }
    Ok(store)
}

fn list(field: Option<Field>) -> Result<Vec<Field>, Mistake> {
    let Some(field) = field else { return Ok(Vec::new()) };
    let many = field.mistake("too many entries", format!("at most {MAX_KEYS} are read"));
    let items = field.list()?;
    if items.len() > MAX_KEYS { Err(many) } else { Ok(items) }
}

fn signer(field: Field, others: &[TrustedSigner]) -> Result<TrustedSigner, Mistake> {
    let mut table = field.table(&["name", "key", "remedies", "classes"])?;
    let name = table.required("name", "the name in the key, such as `ops.example.com/alice`")?;
    let key_field = table.required("key", "the line that `theriac key new` printed")?;
    let key: VerifierKey = key_field.parse()?;
    if name.parse::<KeyName>()? != *key.name() {
        return Err(name.mistake("it is not the name in the key", format!("write `{}`", key.name())));
    }
    if let Some(other) = others.iter().find(|other| other.key.point() == key.point()) {
        let problem = format!("the same key is listed for `{}`", other.key.name());
        return Err(key_field.mistake(problem, "one key is one signer: leave one of the two out"));
    }
    if others.iter().any(|other| other.key.name() == key.name()) {
        return Err(name.mistake("another signer has that name", "give each key its own name"));
    }
    let remedies = table.required("remedies", "a list such as [\"disk-*\"]")?;
    let classes = table.required("classes", "a list such as [\"observe\", \"files-read\"]")?;
    let remedies = list(Some(remedies))?.iter().map(|item| item.parse_with(names)).collect::<Result<_, _>>()?;
    Ok(TrustedSigner { key, remedies, classes: classes.set()? })
}

/// `*`, `disk-*` or `disk-reclaim`.
fn names(text: &str) -> Result<Names, String> {
    let beginning = text.strip_suffix('*');
    let wrong = |_| format!("`{}` is no remedy name and no beginning of one such as `disk-*`", text.escape_debug());
    match beginning {
        Some("") => Ok(Names::Beginning(String::new())),
        Some(beginning) => RemedyName::parse(beginning).map(|name| Names::Beginning(name.into())).map_err(wrong),
        None => RemedyName::parse(text).map(Names::Exactly).map_err(wrong),
    }
}

fn threshold(field: Field, signers: &[TrustedSigner], thresholds: &mut BTreeMap<Class, u32>) -> Result<(), Mistake> {
    let mut table = field.table(&["class", "k"])?;
    let class_field = table.required("class", "a capability class such as `units-change`")?;
    let class: Class = class_field.parse()?;
    let k_field = table.required("k", "how many signers must agree")?;
    let k: u32 = k_field.integer(1, u32::try_from(MAX_KEYS).unwrap_or(u32::MAX))?;
    let able = signers.iter().filter(|signer| signer.classes.contains(&class)).count();
    if k as usize > able {
        let problem = format!("{k} signers must agree, and {able} of those listed may approve `{class}`");
        return Err(k_field.mistake(problem, "lower `k`, or give more signers that class"));
    }
    match thresholds.insert(class, k) {
        Some(_) => Err(class_field.mistake("it has a threshold already", "leave one of the two out")),
        None => Ok(()),
    }
}

fn keys(field: Option<Field>) -> Result<Vec<VerifierKey>, Mistake> {
    let mut keys: Vec<VerifierKey> = Vec::new();
    for item in list(field)? {
        let key: VerifierKey = item.parse()?;
        if keys.iter().any(|other| other.point() == key.point()) {
            return Err(item.mistake("the same key is listed twice", "leave one of the two out"));
        }
        keys.push(key);
    }
    Ok(keys)
}
