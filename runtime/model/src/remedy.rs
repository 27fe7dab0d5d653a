//! A remedy's identity and its parameters.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::fault::FaultKind;
use crate::id::{Digest, Label, RemedyName};

/// One exact remedy: the hash covers component and manifest.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RemedyRef {
    /// Its name.
    pub name: RemedyName,
    /// Its version, for people.
    pub version: String,
    /// Only ever grows; an older one is refused.
    pub serial: u64,
    /// SHA-256 of the whole file.
    pub component: Digest,
}

impl fmt::Display for RemedyRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} ({})", self.name, self.version, self.component.short())
    }
}

/// Whether a remedy is linked with WASI, which components of other languages' tools import whether they use it or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Wasi {
    /// None, which is what a remedy of the SDK for Rust needs.
    #[default]
    None,
    /// One with nothing in it: every call is answered with nothing, with a no, or with what is the same in each run.
    Sealed,
}

impl Wasi {
    /// The line of the manifest that asks for the sealed one.
    pub const LINE: &str = "wasi = \"sealed\"";

    /// The packages of preview 2 that can be sealed. Others are no language's runtime: whoever imports them wants something.
    const SEALABLE: [&str; 7] =
        ["wasi:cli/", "wasi:clocks/", "wasi:filesystem/", "wasi:http/", "wasi:io/", "wasi:random/", "wasi:sockets/"];

    /// Whether this import of a component is linked.
    pub fn covers(self, import: &str) -> bool {
        match self {
            Self::None => false,
            Self::Sealed => {
                let preview_2 = import.split_once('@').is_some_and(|(_, version)| version.starts_with("0.2."));
                preview_2 && Self::SEALABLE.iter().any(|package| import.starts_with(package))
            }
        }
    }
}

/// A parameter's value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ParamValue {
    /// A whole number.
    Integer(i64),
    /// One of an enumerated set.
    Choice(String),
    /// Yes or no.
    Flag(bool),
}

impl fmt::Display for ParamValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integer(value) => write!(f, "{value}"),
            Self::Choice(value) => f.write_str(value),
            Self::Flag(value) => write!(f, "{value}"),
        }
    }
}

/// What values a parameter may have. There is no free text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum ParamSpec {
    /// A whole number between two bounds, both allowed.
    Integer { min: i64, max: i64, default: i64 },
    /// One of the choices.
    Choice { choices: Vec<String>, default: String },
    /// Yes or no.
    Flag { default: bool },
}

impl ParamSpec {
    /// The value when nobody gives one.
    pub fn default_value(&self) -> ParamValue {
        match self {
            Self::Integer { default, .. } => ParamValue::Integer(*default),
            Self::Choice { default, .. } => ParamValue::Choice(default.clone()),
            Self::Flag { default } => ParamValue::Flag(*default),
        }
    }

    /// Whether the value is of the type and within the bounds. It is never repaired into them.
    pub fn admits(&self, value: &ParamValue) -> bool {
        match (self, value) {
            (Self::Integer { min, max, .. }, ParamValue::Integer(value)) => (min..=max).contains(&value),
            (Self::Choice { choices, .. }, ParamValue::Choice(value)) => choices.contains(value),
            (Self::Flag { .. }, ParamValue::Flag(_)) => true,
            (Self::Integer { .. } | Self::Choice { .. } | Self::Flag { .. }, _) => false,
        }
    }
}

/// Parameter values by name.
pub type Params = BTreeMap<Label, ParamValue>;

/// Why parameters do not fit a remedy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParamError {
    /// The manifest has no such parameter.
    #[error("the remedy has no parameter `{name}`; it has: {known}")]
    Unknown { name: Label, known: String },
    /// Wrong type or out of bounds.
    #[error("`{value}` does not fit parameter `{name}`, which takes {wanted}")]
    Unfit { name: Label, value: ParamValue, wanted: String },
}

/// Fills the given values up with defaults, and refuses unknown names and unfit values.
pub fn resolve_params(specs: &BTreeMap<Label, ParamSpec>, given: &Params) -> Result<Params, ParamError> {
    for (name, value) in given {
        let Some(spec) = specs.get(name) else {
            let known: Vec<&str> = specs.keys().map(Label::as_str).collect();
            return Err(ParamError::Unknown { name: name.clone(), known: known.join(", ") });
        };
        if !spec.admits(value) {
            return Err(ParamError::Unfit { name: name.clone(), value: value.clone(), wanted: spec.to_string() });
        }
    }
    let fill = |(name, spec): (&Label, &ParamSpec)| {
        (name.clone(), given.get(name).cloned().unwrap_or_else(|| spec.default_value()))
    };
    Ok(specs.iter().map(fill).collect())
}

impl fmt::Display for ParamSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integer { min, max, default } => write!(f, "a whole number from {min} to {max} (default {default})"),
            Self::Choice { choices, default } => write!(f, "one of {} (default {default})", choices.join(", ")),
            Self::Flag { default } => write!(f, "true or false (default {default})"),
        }
    }
}

/// What the agent is told of a remedy that may run on this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RemedyOffer {
    /// Which one.
    pub remedy: RemedyRef,
    /// The manifest's summary.
    pub summary: String,
    /// The fault kinds it treats.
    pub handles: Vec<FaultKind>,
    /// Its parameters.
    pub params: BTreeMap<Label, ParamSpec>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn specs() -> BTreeMap<Label, ParamSpec> {
        let days = ParamSpec::Integer { min: 1, max: 365, default: 7 };
        BTreeMap::from([(Label::parse("keep_days").unwrap(), days)])
    }

    #[test]
    fn a_missing_value_takes_the_default() {
        let params = resolve_params(&specs(), &Params::new()).unwrap();
        assert_eq!(params.values().next(), Some(&ParamValue::Integer(7)));
    }

    #[test]
    fn each_type_takes_its_own_values_and_no_others() {
        let choice = ParamSpec::Choice { choices: vec!["archive".into(), "remove".into()], default: "archive".into() };
        let flag = ParamSpec::Flag { default: true };
        let name = Label::parse("p").unwrap();
        let resolved = |spec: &ParamSpec, value: Option<ParamValue>| {
            let given = value.map(|value| (name.clone(), value)).into_iter().collect();
            resolve_params(&BTreeMap::from([(name.clone(), spec.clone())]), &given).map(|params| params[&name].clone())
        };
        let word = |word: &str| ParamValue::Choice(word.to_owned());
        assert_eq!(resolved(&choice, None), Ok(word("archive")));
        assert_eq!(resolved(&choice, Some(word("remove"))), Ok(word("remove")));
        for value in [word("Remove"), word("remove "), word(""), ParamValue::Integer(0), ParamValue::Flag(true)] {
            assert!(resolved(&choice, Some(value)).is_err());
        }
        assert_eq!(resolved(&flag, None), Ok(ParamValue::Flag(true)));
        assert_eq!(resolved(&flag, Some(ParamValue::Flag(false))), Ok(ParamValue::Flag(false)));
        for value in [word("true"), ParamValue::Integer(1)] {
            assert!(resolved(&flag, Some(value)).is_err());
        }
    }

    // RN05.
    #[test]
    fn a_value_out_of_bounds_is_refused_not_clamped() {
        let name = Label::parse("keep_days").unwrap();
        assert!(resolve_params(&specs(), &Params::from([(name.clone(), ParamValue::Integer(365))])).is_ok());
        for value in [ParamValue::Integer(366), ParamValue::Integer(0), ParamValue::Choice("7".into())] {
            assert!(resolve_params(&specs(), &Params::from([(name.clone(), value)])).is_err());
        }
        let other = Label::parse("other").unwrap();
        assert!(resolve_params(&specs(), &Params::from([(other, ParamValue::Flag(true))])).is_err());
    }
}
