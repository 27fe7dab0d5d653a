//! Judging a remedy with this host's trust store, as the runner would.
//!
//! What only the runner knows is left out: the highest serial that was ever loaded here.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;
use theriac_authority::document;
use theriac_authority::package::Package;
use theriac_authority::trust::{Approved, Candidate, Moment, Refusal, TrustStore};
use theriac_runner::clock;

use super::read;
use theriac_trusted as trusted;

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::{Failure, OrFail as _, chain};

/// What the trust store says.
#[derive(Debug)]
pub(super) enum Judgement {
    /// It would be loaded.
    Trusted(Box<Approved>),
    /// It would not.
    Refused(Refusal),
}

/// Where the approval of a remedy lies.
pub(super) fn approval_of(remedy: &Path) -> PathBuf {
    remedy.with_extension("approval")
}

/// The approval's bytes, where there is one.
pub(super) fn note(remedy: &Path) -> Result<Option<Vec<u8>>, Failure> {
    let path = approval_of(remedy);
    match fs::read(&path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).or_fail_at(format!("reading `{}`", path.display())),
    }
}

pub(super) fn judge(context: &Context, path: &Path, package: &Package) -> Result<Judgement, Failure> {
    let trust = trust(context)?;
    let note = note(path)?;
    let candidate = Candidate { manifest: &package.manifest, component: package.digest, note: note.as_deref() };
    let now = clock::wall();
    Ok(match trust.judge(&candidate, Moment::new(now, now), |_| None) {
        Ok(approved) => Judgement::Trusted(Box::new(approved)),
        Err(refusal) => Judgement::Refused(refusal),
    })
}

/// Without a trust store, nobody is trusted.
fn trust(context: &Context) -> Result<TrustStore, Failure> {
    let path = context.layout.config.join("trust.toml");
    match trusted::read_if_there(&path, document::MAX_FILE).or_fail()? {
        Some(text) => TrustStore::parse(&text).or_fail_at(format!("in `{}`", path.display())),
        None => Ok(TrustStore::default()),
    }
}

#[derive(Debug, Serialize)]
struct Verified {
    remedy: String,
    version: String,
    serial: u64,
    component: String,
    signers: Vec<String>,
}

/// `theriac remedy verify`.
pub(super) fn run(context: &Context, path: &Path) -> Result<Exit, Failure> {
    let package = read::package(path)?;
    match judge(context, path, &package)? {
        Judgement::Trusted(approved) => {
            let remedy = approved.remedy();
            let verified = Verified {
                remedy: remedy.name.to_string(),
                version: remedy.version.clone(),
                serial: remedy.serial,
                component: remedy.component.to_string(),
                signers: approved.signers().iter().map(ToString::to_string).collect(),
            };
            context.show(&verified, |it| {
                format!(
                    "{} {} (serial {}) is approved by {}\n",
                    it.remedy,
                    it.version,
                    it.serial,
                    it.signers.join(", ")
                )
            })
        }
        Judgement::Refused(refusal) => Err(refused(&refusal)),
    }
}

/// A file that is not what was signed is *wrong*; one that the right people have not signed is *refused*.
fn refused(refusal: &Refusal) -> Failure {
    let sentence = chain(refusal);
    match refusal {
        Refusal::Note { .. } | Refusal::NoApproval { .. } | Refusal::Altered { .. } => Failure::not_verified(sentence),
        Refusal::Unsigned { .. } => Failure::refused(sentence).hint("`theriac remedy approve` signs it"),
        Refusal::Strangers { .. } => {
            Failure::refused(sentence).hint("list the signer in trust.toml: `theriac key show` prints the key")
        }
        Refusal::Expired { .. }
        | Refusal::NotYetValid { .. }
        | Refusal::Older { .. }
        | Refusal::Revoked { .. }
        | Refusal::RevokedSigners { .. }
        | Refusal::OutOfScope { .. }
        | Refusal::Threshold { .. } => Failure::refused(sentence),
    }
}
