//! Numbers of the kernel's configuration (sysctl).

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::id::{Label, NameError};

/// A sysctl's name with dots, such as `net.netfilter.nf_conntrack_max`: a file below `/proc/sys`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KnobName(String);

impl KnobName {
    /// Parses the name. Names with a dot inside one part (`net.ipv4.conf.eth0/1.rp_filter`) have no spelling here.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let part = |part: &str| {
            !part.is_empty()
                && !part.starts_with('-')
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
        };
        if text.len() <= 128 && text.contains('.') && text.split('.').all(part) {
            Ok(Self(text.to_owned()))
        } else {
            Err(NameError::new("sysctl", text, "write its name with dots, such as `vm.swappiness`"))
        }
    }

    /// The name as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its path below `/proc/sys`.
    pub fn below_proc_sys(&self) -> String {
        self.0.replace('.', "/")
    }
}

impl fmt::Display for KnobName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for KnobName {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        Self::parse(&text)
    }
}

impl From<KnobName> for String {
    fn from(name: KnobName) -> String {
        name.0
    }
}

/// Verbs of a granted knob.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum KnobCall {
    /// The value.
    Get,
    /// Another value, within the grant's range.
    Set { value: i64 },
}

/// A knob as a remedy sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KnobInfo {
    /// The value.
    pub value: i64,
    /// Includes effects that the dry run only recorded.
    pub assumed: bool,
}

/// One change of one knob.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KnobEffect {
    /// The grant's label.
    pub label: Label,
    /// Which.
    pub knob: KnobName,
    /// The new value.
    pub value: i64,
}

impl KnobEffect {
    /// The verb in the manifest's word.
    pub const fn verb(&self) -> &'static str {
        "set"
    }

    /// The same knob and the same value.
    pub fn is_within(&self, planned: &Self) -> bool {
        self == planned
    }
}

impl fmt::Display for KnobEffect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "set {} to {}", self.knob, self.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_path_below_proc_sys() {
        assert_eq!(KnobName::parse("vm.swappiness").unwrap().below_proc_sys(), "vm/swappiness");
        for text in ["vm", "vm..x", ".vm.x", "vm.x.", "vm/x.y", "vm.../x", "../x.y", "vm.a b", "vm.-w", "", "vm.\0x"] {
            assert!(KnobName::parse(text).is_err(), "{text}");
        }
    }
}
