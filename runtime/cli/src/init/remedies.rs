//! The shipped remedies: shown with their rights on this host, then approved by the local key.

use std::fs;
use std::path::{Path, PathBuf};

use theriac_authority::approval::{Approval, Validity};
use theriac_authority::explain;
use theriac_authority::host::HostConfig;
use theriac_authority::key::Signer;
use theriac_authority::note::Note;
use theriac_authority::package::{self, MAX_PACKAGE, Package};
use theriac_model::time::Span;

use super::write::Writer;
use crate::context::Context;
use crate::failure::{Failure, OrFail as _};

/// A year, like a certificate's.
const VALID: Span = Span::from_secs(365 * 86_400);

/// The shipped remedies in the order of their names; `None`: there is no such directory.
pub(super) fn shipped(named: Option<&Path>) -> Result<Option<Vec<Package>>, Failure> {
    let dir = match named {
        Some(dir) => dir.to_owned(),
        None => beside()?,
    };
    if named.is_none() && !dir.is_dir() {
        return Ok(None);
    }
    let entries = fs::read_dir(&dir).or_fail_at(format!("listing `{}`", dir.display()))?;
    let mut files: Vec<PathBuf> = Vec::new();
    for entry in entries {
        let path = entry.or_fail_at(format!("listing `{}`", dir.display()))?.path();
        if path.extension().is_some_and(|extension| extension == "wasm") {
            files.push(path);
        }
    }
    files.sort();
    files.iter().map(|path| read(path)).collect::<Result<_, _>>().map(Some)
}

fn beside() -> Result<PathBuf, Failure> {
    let own = std::env::current_exe().or_fail_at("finding this program")?;
    let root = own.parent().and_then(Path::parent).map(Path::to_owned).unwrap_or_default();
    Ok(root.join("lib/theriac/remedies"))
}

fn read(path: &Path) -> Result<Package, Failure> {
    let length = fs::metadata(path).or_fail_at(format!("opening `{}`", path.display()))?.len();
    if length > MAX_PACKAGE as u64 {
        return Err(Failure::failed(format!("`{}` is too large for a remedy", path.display())));
    }
    let bytes = fs::read(path).or_fail_at(format!("reading `{}`", path.display()))?;
    package::open(bytes).or_fail_at(format!("`{}`", path.display()))
}

/// Shows what each may do here, asks once, then puts remedies and approvals into the configuration.
pub(super) fn approve(
    context: &Context,
    shipped: &[Package],
    signer: &Signer,
    yes: bool,
    writer: &mut Writer,
) -> Result<Vec<String>, Failure> {
    if !yes && !context.json {
        let text = fs::read_to_string(writer.path("runner.toml")).or_fail_at("reading runner.toml")?;
        let host = HostConfig::parse(&text).or_fail_at("runner.toml")?;
        for package in shipped {
            let imports = package::imports(&package.bytes).or_fail()?;
            let shown = explain::inspect(&package.manifest, package.digest, imports, Vec::new(), Some(&host));
            context.print(&format!("{shown}\n"))?;
        }
    }
    context.confirm(&format!("Approve these {} remedies with the local key?", shipped.len()), yes)?;
    let mut approved = Vec::new();
    for package in shipped {
        let name = &package.manifest.name;
        if writer.put_bytes(&format!("remedies/{name}.wasm"), &package.bytes)? {
            writer.put(&format!("remedies/{name}.approval"), &sign(package, signer)?)?;
            approved.push(format!("{name} {}", package.manifest.version));
        }
    }
    Ok(approved)
}

fn sign(package: &Package, signer: &Signer) -> Result<String, Failure> {
    let from = theriac_runner::clock::wall();
    let valid = Validity { from, until: from.after(VALID.duration()) };
    let approval = Approval::of(&package.manifest, package.digest, valid).or_fail()?;
    let mut note = Note::unsigned(&approval.to_string()).or_fail()?;
    note.sign(signer).or_fail()?;
    Ok(note.to_string())
}
