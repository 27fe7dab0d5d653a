//! Which imports a remedy may have, and what is said about the others.
//!
//! The table is closed: an import that is not in it is refused by name, in a sentence that says which grant would cover it
//! or that none does. WASI is no interface of ours; whether a sealed one is linked is the manifest's to say, and what is in it
//! is `host::wasi`'s.

use theriac_model::remedy::Wasi;

/// The version of the contract in `wit/`.
pub const CONTRACT: &str = "0.1.0";
const PACKAGE: &str = "theriac:remedy/";

/// One interface of the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interface {
    /// Types only; nothing to call.
    Types,
    /// The fault and the answers; nothing to call.
    Fault,
    /// Lines for the run's record; needs no grant.
    Log,
    /// `[grants.files.LABEL]`.
    Files,
    /// `[grants.units.LABEL]`.
    Units,
    /// `[grants.processes.LABEL]`.
    Processes,
    /// `[grants.series.LABEL]` and `[grants.probes.LABEL]`.
    Observe,
    /// `[grants.certificates.LABEL]`.
    Certificates,
    /// `[grants.programs.LABEL]`.
    Programs,
    /// `[grants.http.LABEL]`.
    Http,
    /// `[grants.kernel.LABEL]`.
    Kernel,
    /// `[grants.releases.LABEL]`.
    Releases,
    /// `[grants.containers.LABEL]`.
    Containers,
    /// `[grants.firewall.LABEL]`.
    Firewall,
    /// `[grants.databases.LABEL]`.
    Databases,
}

impl Interface {
    /// Every interface.
    pub const ALL: [Self; 15] = [
        Self::Types,
        Self::Fault,
        Self::Log,
        Self::Files,
        Self::Units,
        Self::Processes,
        Self::Observe,
        Self::Certificates,
        Self::Programs,
        Self::Http,
        Self::Kernel,
        Self::Releases,
        Self::Containers,
        Self::Firewall,
        Self::Databases,
    ];

    /// Its name within the package.
    pub const fn short(self) -> &'static str {
        match self {
            Self::Types => "types",
            Self::Fault => "fault",
            Self::Log => "log",
            Self::Files => "files",
            Self::Units => "units",
            Self::Processes => "processes",
            Self::Observe => "observe",
            Self::Certificates => "certificates",
            Self::Programs => "programs",
            Self::Http => "http",
            Self::Kernel => "kernel",
            Self::Releases => "releases",
            Self::Containers => "containers",
            Self::Firewall => "firewall",
            Self::Databases => "databases",
        }
    }

    /// Its name as an import, such as `theriac:remedy/files@0.1.0`.
    pub fn name(self) -> String {
        format!("{PACKAGE}{}@{CONTRACT}", self.short())
    }

    /// The manifest's line that covers it; `None` where none is needed.
    pub const fn grant(self) -> Option<&'static str> {
        match self {
            Self::Types | Self::Fault | Self::Log => None,
            Self::Files => Some("[grants.files.LABEL]"),
            Self::Units => Some("[grants.units.LABEL]"),
            Self::Processes => Some("[grants.processes.LABEL]"),
            Self::Observe => Some("[grants.series.LABEL] or [grants.probes.LABEL]"),
            Self::Certificates => Some("[grants.certificates.LABEL]"),
            Self::Programs => Some("[grants.programs.LABEL]"),
            Self::Http => Some("[grants.http.LABEL]"),
            Self::Kernel => Some("[grants.kernel.LABEL]"),
            Self::Releases => Some("[grants.releases.LABEL]"),
            Self::Containers => Some("[grants.containers.LABEL]"),
            Self::Firewall => Some("[grants.firewall.LABEL]"),
            Self::Databases => Some("[grants.databases.LABEL]"),
        }
    }
}

/// What an import is linked with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Import {
    /// An interface of ours.
    Contract(Interface),
    /// The sealed WASI.
    Wasi,
}

impl Import {
    /// Finds what an import names, granted or not.
    pub fn parse(import: &str) -> Result<Self, ImportError> {
        match Interface::ALL.into_iter().find(|interface| interface.name() == import) {
            Some(interface) => Ok(Self::Contract(interface)),
            None if Wasi::Sealed.covers(import) => Ok(Self::Wasi),
            None => Err(ImportError::of(import)),
        }
    }

    /// The same for an import that must also be covered: `granted` has the names that the manifest links, as the runner read
    /// it.
    pub fn granted(import: &str, granted: &[String]) -> Result<Self, ImportError> {
        let found = Self::parse(import)?;
        if granted.iter().any(|name| name == import) {
            return Ok(found);
        }
        match found {
            Self::Wasi => Err(ImportError::of(import)),
            Self::Contract(interface) => match interface.grant() {
                Some(grant) => Err(ImportError::NotGranted { import: shown(import), grant }),
                None => Ok(found),
            },
        }
    }
}

/// Why an import is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImportError {
    /// Ours, and no grant of the manifest covers it.
    #[error("it imports `{import}`, which no grant covers: add `{grant}` to its manifest, or don't call it")]
    NotGranted { import: String, grant: &'static str },
    /// Ours, of another version.
    #[error("it imports `{import}`, and this Theriac speaks version {CONTRACT}: build it with the SDK of this version")]
    Version { import: String },
    /// WASI, which its manifest does not ask for.
    #[error(
        "it imports `{import}`, and no grant covers WASI: {instead}; a component of another language's tools needs `{}` in its manifest, and reaches nothing by it",
        Wasi::LINE
    )]
    Wasi { import: String, instead: &'static str },
    /// WASI that nobody seals.
    #[error(
        "it imports `{import}`, and no grant covers that: a sealed WASI is of preview 2 and has what a language's runtime asks for, no more"
    )]
    Unsealable { import: String },
    /// Anything else.
    #[error("it imports `{import}`, and no grant covers that: a remedy imports interfaces of `theriac:remedy` only")]
    Unknown { import: String },
}

/// What to use in place of a WASI package.
const INSTEAD_OF_WASI: [(&str, &str); 7] = [
    ("wasi:filesystem/", "files are reached through `theriac:remedy/files` and `[grants.files.LABEL]`"),
    ("wasi:sockets/", "a remedy has no network"),
    ("wasi:http/", "a remedy has no network"),
    ("wasi:clocks/", "a remedy has no clock; ages come with the entries and readings it is given"),
    ("wasi:random/", "a remedy has no random numbers; the same input gives the same effects"),
    ("wasi:io/", "a remedy has no streams"),
    ("wasi:cli/", "a remedy has no environment, no arguments and no standard streams; use `theriac:remedy/log`"),
];

impl ImportError {
    fn of(import: &str) -> Self {
        if let Some(rest) = import.strip_prefix(PACKAGE) {
            let short = rest.split('@').next().unwrap_or(rest);
            if Interface::ALL.iter().any(|interface| interface.short() == short) {
                return Self::Version { import: shown(import) };
            }
        }
        match INSTEAD_OF_WASI.iter().find(|(prefix, _)| import.starts_with(prefix)) {
            Some((_, instead)) if Wasi::Sealed.covers(import) => Self::Wasi { import: shown(import), instead },
            Some(_) => Self::Unsealable { import: shown(import) },
            None if import.starts_with("wasi:") => Self::Unsealable { import: shown(import) },
            None => Self::Unknown { import: shown(import) },
        }
    }
}

/// A name chosen by whoever made the component: escaped and cut.
pub(crate) fn shown(text: &str) -> String {
    let cut: String = text.chars().take(120).collect();
    let mark = if cut.len() < text.len() { "…" } else { "" };
    format!("{}{mark}", cut.escape_debug())
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn check(import: &str, granted: &[&str], expected: Expect) {
        let granted: Vec<String> = granted.iter().map(|name| (*name).to_owned()).collect();
        match Import::granted(import, &granted) {
            Ok(Import::Contract(interface)) => expected.assert_eq(interface.short()),
            Ok(Import::Wasi) => expected.assert_eq("the sealed WASI"),
            Err(error) => expected.assert_eq(&error.to_string()),
        }
    }

    // AB03.
    #[test]
    fn an_interface_is_linked_when_a_grant_covers_it_and_named_when_none_does() {
        let files = "theriac:remedy/files@0.1.0";
        check(files, &[files], expect!["files"]);
        check(
            files,
            &["theriac:remedy/units@0.1.0"],
            expect![
                "it imports `theriac:remedy/files@0.1.0`, which no grant covers: add `[grants.files.LABEL]` to its manifest, or don't call it"
            ],
        );
    }

    #[test]
    fn types_fault_and_log_need_no_grant() {
        for interface in [Interface::Types, Interface::Fault, Interface::Log] {
            assert_eq!(Import::granted(&interface.name(), &[]), Ok(Import::Contract(interface)));
        }
    }

    // AB03.
    #[test]
    fn wasi_is_refused_by_name_with_what_to_use_in_its_place() {
        check(
            "wasi:filesystem/preopens@0.2.6",
            &[],
            expect![
                "it imports `wasi:filesystem/preopens@0.2.6`, and no grant covers WASI: files are reached through `theriac:remedy/files` and `[grants.files.LABEL]`; a component of another language's tools needs `wasi = \"sealed\"` in its manifest, and reaches nothing by it"
            ],
        );
        check(
            "wasi:sockets/tcp@0.2.6",
            &["wasi:sockets/udp@0.2.6"],
            expect![
                "it imports `wasi:sockets/tcp@0.2.6`, and no grant covers WASI: a remedy has no network; a component of another language's tools needs `wasi = \"sealed\"` in its manifest, and reaches nothing by it"
            ],
        );
    }

    #[test]
    fn a_wasi_that_the_manifest_asks_for_is_the_sealed_one() {
        for import in ["wasi:filesystem/preopens@0.2.6", "wasi:sockets/tcp@0.2.12", "wasi:cli/exit@0.2.0"] {
            check(import, &[import], expect!["the sealed WASI"]);
        }
    }

    #[test]
    fn a_wasi_that_nobody_seals_is_refused_even_when_it_is_asked_for() {
        for import in ["wasi:nn/graph@0.2.0", "wasi:cli/exit@0.3.0", "wasi:cli/exit", "wasi:keyvalue/store@0.2.0"] {
            assert_eq!(
                Import::granted(import, &[import.to_owned()]),
                Err(ImportError::Unsealable { import: import.to_owned() })
            );
        }
    }

    // AB04.
    #[test]
    fn another_version_of_our_own_interface_is_no_unknown_one() {
        check(
            "theriac:remedy/files@0.2.0",
            &[],
            expect![
                "it imports `theriac:remedy/files@0.2.0`, and this Theriac speaks version 0.1.0: build it with the SDK of this version"
            ],
        );
        check(
            "theriac:remedy/shell@0.1.0",
            &[],
            expect![
                "it imports `theriac:remedy/shell@0.1.0`, and no grant covers that: a remedy imports interfaces of `theriac:remedy` only"
            ],
        );
        check(
            "env\u{1b}[2J",
            &[],
            expect![[
                r#"it imports `env\u{1b}[2J`, and no grant covers that: a remedy imports interfaces of `theriac:remedy` only"#
            ]],
        );
    }
}
