//! Which imports a remedy may have, and what is said about the others.
//!
//! The table is closed: an import that is not in it is refused by name, in a sentence that says which grant would cover it
//! or that none does.

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
}

impl Interface {
    /// Every interface.
    pub const ALL: [Self; 12] = [
        Self::Types,
        Self::Fault,
        Self::Log,
        Self::Files,
        Self::Units,
        Self::Processes,
        Self::Observe,
        Self::Programs,
        Self::Http,
        Self::Kernel,
        Self::Releases,
        Self::Containers,
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
            Self::Programs => "programs",
            Self::Http => "http",
            Self::Kernel => "kernel",
            Self::Releases => "releases",
            Self::Containers => "containers",
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
            Self::Programs => Some("[grants.programs.LABEL]"),
            Self::Http => Some("[grants.http.LABEL]"),
            Self::Kernel => Some("[grants.kernel.LABEL]"),
            Self::Releases => Some("[grants.releases.LABEL]"),
            Self::Containers => Some("[grants.containers.LABEL]"),
        }
    }

    /// Finds the interface that an import names.
    pub fn of_import(import: &str) -> Result<Self, ImportError> {
        Self::ALL.into_iter().find(|interface| interface.name() == import).ok_or_else(|| ImportError::of(import))
    }

    /// The same for an import that must also be covered: `granted` has the names of the interfaces that the grants link.
    pub fn of_granted_import(import: &str, granted: &[String]) -> Result<Self, ImportError> {
        let interface = Self::of_import(import)?;
        match interface.grant() {
            Some(grant) if !granted.iter().any(|name| name == import) => {
                Err(ImportError::NotGranted { import: shown(import), grant })
            }
            Some(_) | None => Ok(interface),
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
    /// WASI.
    #[error("it imports `{import}`, and no grant covers WASI: {instead}")]
    Wasi { import: String, instead: &'static str },
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
            Some((_, instead)) => Self::Wasi { import: shown(import), instead },
            None if import.starts_with("wasi:") => {
                Self::Wasi { import: shown(import), instead: "build it with the Theriac SDK, which needs none" }
            }
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
        match Interface::of_granted_import(import, &granted) {
            Ok(interface) => expected.assert_eq(interface.short()),
            Err(error) => expected.assert_eq(&error.to_string()),
        }
    }

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
            assert_eq!(Interface::of_granted_import(&interface.name(), &[]), Ok(interface));
        }
    }

    #[test]
    fn wasi_is_refused_by_name_with_what_to_use_in_its_place() {
        check(
            "wasi:filesystem/preopens@0.2.6",
            &[],
            expect![
                "it imports `wasi:filesystem/preopens@0.2.6`, and no grant covers WASI: files are reached through `theriac:remedy/files` and `[grants.files.LABEL]`"
            ],
        );
        check(
            "wasi:sockets/tcp@0.2.6",
            &["wasi:sockets/tcp@0.2.6"],
            expect!["it imports `wasi:sockets/tcp@0.2.6`, and no grant covers WASI: a remedy has no network"],
        );
        check(
            "wasi:nn/graph@0.2.0",
            &[],
            expect![
                "it imports `wasi:nn/graph@0.2.0`, and no grant covers WASI: build it with the Theriac SDK, which needs none"
            ],
        );
    }

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
