//! What root's configuration directory says, read once at start and again on `reload`: targets, policies, playbooks, trust.
//!
//! A reload that finds a mistake changes nothing. A file that others could have written is a mistake.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use theriac_authority::document;
use theriac_authority::host::{HostConfig, HostError};
use theriac_authority::playbook::{self, PlaybookError};
use theriac_authority::policy::{Policies, PolicyError, PolicyFile};
use theriac_authority::trust::TrustStore;
use theriac_model::id::{Digest, NameError};
use theriac_model::playbook::Playbook;
use theriac_model::target::MountPath;
use theriac_protocol::layout::Layout;
use theriac_trusted::{self as trusted, TrustedError};

/// Playbooks that ship; the operator's own, by the same name, take their place.
const SHIPPED: &[&str] = &[
    include_str!("../../../policies/playbooks/certificate-expiry.yaml"),
    include_str!("../../../policies/playbooks/disk-full.yaml"),
    include_str!("../../../policies/playbooks/disk-filling.yaml"),
    include_str!("../../../policies/playbooks/inode-exhaustion.yaml"),
    include_str!("../../../policies/playbooks/service-crash.yaml"),
    include_str!("../../../policies/playbooks/service-unhealthy.yaml"),
    include_str!("../../../policies/playbooks/start-limit-hit.yaml"),
    include_str!("../../../policies/playbooks/cpu-saturation.yaml"),
    include_str!("../../../policies/playbooks/memory-leak.yaml"),
    include_str!("../../../policies/playbooks/oom-kill.yaml"),
];

/// Playbooks in one directory.
const MAX_PLAYBOOKS: usize = 256;

/// Everything root decided.
#[derive(Debug)]
pub struct Rules {
    /// `runner.toml`.
    pub host: HostConfig,
    /// The built-in policies and `policies/*.cedar`.
    pub policies: Policies,
    /// The shipped playbooks and `playbooks/*.yaml`; those that name a target come first.
    pub playbooks: Vec<Playbook>,
    /// `trust.toml`.
    pub trust: TrustStore,
    /// Over all that was read, for the record of this start.
    pub digest: Digest,
}

/// Why the configuration is refused.
#[derive(Debug, thiserror::Error)]
pub enum RulesError {
    /// A file that others could have written, or that can't be read.
    #[error(transparent)]
    Open(#[from] TrustedError),
    /// `runner.toml`.
    #[error("in `{}`", path.display())]
    Host {
        path: PathBuf,
        #[source]
        source: HostError,
    },
    /// `trust.toml`, or a playbook.
    #[error("in `{}`", path.display())]
    Playbook {
        path: PathBuf,
        #[source]
        source: PlaybookError,
    },
    /// A policy.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// A directory can't be listed.
    #[error("can't list `{}`", path.display())]
    List {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// `--config` or `--state` is not an absolute path in normal form.
    #[error(transparent)]
    Path(#[from] NameError),
}

impl Rules {
    /// Reads only `runner.toml`, for whoever needs to know what is listed and no policy.
    pub fn read_host(layout: &Layout) -> Result<HostConfig, RulesError> {
        let path = layout.config.join("runner.toml");
        let text = or_empty(&path)?;
        host(layout, path, &text)
    }

    /// Reads the directory. What is missing is as if it were empty: the modes are *observe*, the signers nobody.
    pub fn read(layout: &Layout) -> Result<Self, RulesError> {
        let mut seen = String::new();
        let mut read = |path: &Path| -> Result<String, RulesError> {
            let text = or_empty(path)?;
            seen.push_str(&format!("{}\n{}\n{text}\n", path.display(), text.len()));
            Ok(text)
        };
        let path = layout.config.join("runner.toml");
        let text = read(&path)?;
        let host = host(layout, path, &text)?;
        let path = layout.config.join("trust.toml");
        let trust = TrustStore::parse(&read(&path)?).map_err(|source| RulesError::Host { path, source })?;
        let playbooks = playbooks(&layout.config.join("playbooks"), &mut read)?;
        let operator = PolicyFile::read_dir(&layout.config.join("policies"))?;
        let policies = Policies::new(&operator)?;
        for file in &operator {
            seen.push_str(&format!("{}\n{}\n{}\n", file.name, file.text.len(), file.text));
        }
        Ok(Self { host, policies, playbooks, trust, digest: Digest::of(seen.as_bytes()) })
    }
}

/// With our own directories protected, whatever is configured.
fn host(layout: &Layout, path: PathBuf, text: &str) -> Result<HostConfig, RulesError> {
    let own = [normal(&layout.config)?, normal(&layout.state)?];
    Ok(HostConfig::parse(text).map_err(|source| RulesError::Host { path, source })?.protecting(own))
}

fn or_empty(path: &Path) -> Result<String, TrustedError> {
    trusted::read_if_there(path, document::MAX_FILE).map(Option::unwrap_or_default)
}

fn normal(path: &Path) -> Result<MountPath, NameError> {
    MountPath::parse(&path.to_string_lossy())
}

fn playbooks(
    dir: &Path,
    read: &mut impl FnMut(&Path) -> Result<String, RulesError>,
) -> Result<Vec<Playbook>, RulesError> {
    let mut own = Vec::new();
    for path in files(dir)? {
        let text = read(&path)?;
        own.push(playbook::parse(&text).map_err(|source| RulesError::Playbook { path, source })?);
    }
    for text in SHIPPED {
        let shipped = playbook::parse(text)
            .map_err(|source| RulesError::Playbook { path: PathBuf::from("built-in playbook"), source })?;
        if !own.iter().any(|playbook| playbook.name == shipped.name) {
            own.push(shipped);
        }
    }
    Ok(own)
}

fn files(dir: &Path) -> Result<Vec<PathBuf>, RulesError> {
    let failed = |source| RulesError::List { path: dir.to_owned(), source };
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut files = Vec::new();
    for entry in entries.take(MAX_PLAYBOOKS) {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}
