//! Releases of a service: directories beside each other, and the symbolic link that names the one in use.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::id::{Label, NameError};
use crate::target::MountPath;

/// The name of one release: a directory's name, no path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ReleaseName(String);

impl ReleaseName {
    /// Parses the name of a directory.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let good = (1..=128).contains(&text.len())
            && !text.starts_with(['.', '-'])
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-+".contains(&b));
        if good {
            Ok(Self(text.to_owned()))
        } else {
            Err(NameError::new(
                "release",
                text,
                "use 1 to 128 of letters, digits, `.`, `_`, `-`, `+`, starting with a letter or digit",
            ))
        }
    }

    /// The name as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ReleaseName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for ReleaseName {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        Self::parse(&text)
    }
}

impl From<ReleaseName> for String {
    fn from(name: ReleaseName) -> String {
        name.0
    }
}

/// Where the releases of one service are, by root's configuration.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReleasePlace {
    /// The symbolic link to the one in use.
    pub link: MountPath,
    /// The directory that holds them all.
    pub releases: MountPath,
}

/// Verbs of granted releases.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReleaseCall {
    /// The one in use.
    Current,
    /// The one before it.
    Previous,
    /// Back to the one before it.
    SwitchBack,
}

/// A release as a remedy sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReleaseInfo {
    /// Its name, for log lines.
    pub name: String,
    /// Seconds since it was switched to, where the runner saw that.
    pub since_s: Option<u64>,
    /// Includes effects that the dry run only recorded.
    pub assumed: bool,
}

/// One switch to another release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReleaseEffect {
    /// The grant's label.
    pub label: Label,
    /// Of which service.
    pub unit: crate::id::UnitName,
    /// Where.
    pub place: ReleasePlace,
    /// The one in use.
    pub from: ReleaseName,
    /// The one that is to be in use.
    pub to: ReleaseName,
}

impl ReleaseEffect {
    /// The verb in the manifest's word.
    pub const fn verb(&self) -> &'static str {
        "switch-back"
    }

    /// The same switch.
    pub fn is_within(&self, planned: &Self) -> bool {
        self == planned
    }
}

impl fmt::Display for ReleaseEffect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "switch {} of {} from {} back to {}", self.place.link, self.unit, self.from, self.to)
    }
}
