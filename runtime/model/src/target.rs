//! What can be at fault.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::id::{Label, NameError, UnitName};

/// The thing at fault: one that the operator's configuration lists.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Target {
    /// A systemd unit or a supervised service.
    Unit(UnitName),
    /// A mounted filesystem, by the absolute path of its mount point.
    Mount(MountPath),
    /// A certificate of the configuration.
    Certificate(Label),
    /// A database's connection pool.
    Pool(Label),
    /// A container of the configuration.
    Container(Label),
    /// The machine as a whole.
    Host,
}

/// An absolute path in normal form: no `.`, no `..`, no doubled or trailing slash, and nothing that a line of text can't show.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MountPath(String);

impl MountPath {
    /// Parses an absolute path; it is compared byte by byte and never normalised for the writer.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let normal = text == "/"
            || (text.starts_with('/')
                && text.len() < 4096
                && text.chars().all(is_shown)
                && text.split('/').skip(1).all(|part| !matches!(part, "" | "." | "..")));
        if normal {
            Ok(Self(text.to_owned()))
        } else {
            Err(NameError::new(
                "absolute path",
                text,
                "start with `/`, without `.`, `..`, `//`, control characters or a slash at the end",
            ))
        }
    }

    /// The path as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The path for file calls.
    pub fn as_path(&self) -> &std::path::Path {
        std::path::Path::new(&self.0)
    }
}

/// It neither breaks a line nor turns one around: paths stand in approvals, plans and logs as they are.
fn is_shown(c: char) -> bool {
    !c.is_control() && !matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}')
}

impl fmt::Display for MountPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for MountPath {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        Self::parse(&text)
    }
}

impl From<MountPath> for String {
    fn from(path: MountPath) -> String {
        path.0
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unit(name) => write!(f, "unit:{name}"),
            Self::Mount(path) => write!(f, "mount:{path}"),
            Self::Certificate(label) => write!(f, "certificate:{label}"),
            Self::Pool(label) => write!(f, "pool:{label}"),
            Self::Container(label) => write!(f, "container:{label}"),
            Self::Host => f.write_str("host"),
        }
    }
}

impl FromStr for Target {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        if text == "host" {
            return Ok(Self::Host);
        }
        match text.split_once(':') {
            Some(("unit", name)) => UnitName::parse(name).map(Self::Unit),
            Some(("mount", path)) => MountPath::parse(path).map(Self::Mount),
            Some(("certificate", label)) => Label::parse(label).map(Self::Certificate),
            Some(("pool", label)) => Label::parse(label).map(Self::Pool),
            Some(("container", label)) => Label::parse(label).map(Self::Container),
            Some(_) | None => Err(NameError::new(
                "target",
                text,
                "write `unit:NAME`, `mount:PATH`, `certificate:LABEL`, `pool:LABEL`, `container:LABEL` or `host`",
            )),
        }
    }
}

impl TryFrom<String> for Target {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<Target> for String {
    fn from(target: Target) -> String {
        target.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_read_back_as_they_are_shown() {
        for text in
            ["unit:nginx.service", "mount:/var/log", "mount:/", "certificate:web", "pool:main", "container:api", "host"]
        {
            assert_eq!(text.parse::<Target>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_path_that_climbs_is_no_mount() {
        for text in [
            "mount:var",
            "mount:/a/../b",
            "mount://a",
            "mount:/a/",
            "mount:",
            "disk:/a",
            "nginx.service",
            "mount:/a\nb",
            "mount:/\u{202e}b",
        ] {
            assert!(text.parse::<Target>().is_err(), "{text:?}");
        }
    }
}
