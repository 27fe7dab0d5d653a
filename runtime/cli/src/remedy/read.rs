//! Reading remedies: the file, what it may do, and what another version asks for.

use std::fs;
use std::io::{self, Read as _};
use std::path::Path;

use theriac_authority::document;
use theriac_authority::explain;
use theriac_authority::host::HostConfig;
use theriac_authority::package::{self, MAX_PACKAGE, Package};

use super::verify::{Judgement, judge};
use theriac_trusted as trusted;

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::{Failure, OrFail as _, chain};

/// Opens a remedy without trusting it: nothing of it is run.
pub(crate) fn package(path: &Path) -> Result<Package, Failure> {
    let bytes = bytes(path).or_fail_at(format!("reading `{}`", path.display()))?;
    package::open(bytes).map_err(|error| Failure::not_verified(format!("`{}`: {}", path.display(), chain(&error))))
}

/// At most one byte over the cap, so that the package says how long is too long.
fn bytes(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(MAX_PACKAGE as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The interfaces that a component imports. It also imports the types of its own exports, which have no package and no use.
pub(super) fn imports(package: &Package) -> Result<Vec<String>, Failure> {
    let all = package::imports(&package.bytes).or_fail()?;
    Ok(all.into_iter().filter(|name| name.contains(':')).collect())
}

/// `runner.toml` of the configuration directory, where there is one.
fn host(context: &Context) -> Result<Option<HostConfig>, Failure> {
    let path = context.layout.config.join("runner.toml");
    let text = trusted::read_if_there(&path, document::MAX_FILE).or_fail()?;
    text.map(|text| HostConfig::parse(&text).or_fail_at(format!("in `{}`", path.display()))).transpose()
}

/// `theriac remedy inspect`.
pub(super) fn inspect(context: &Context, path: &Path) -> Result<Exit, Failure> {
    let package = package(path)?;
    let approvals = match judge(context, path, &package)? {
        Judgement::Trusted(approved) => {
            approved.signers().iter().map(|signer| format!("Approved by {signer}.")).collect()
        }
        Judgement::Refused(refusal) => vec![format!("Refused here: {}.", chain(&refusal))],
    };
    let host = host(context)?;
    let shown = explain::inspection(&package.manifest, package.digest, imports(&package)?, approvals, host.as_ref());
    context.show(&shown, ToString::to_string)
}

/// `theriac remedy diff`: a script that takes new versions over by itself stops where the exit code says that they may do more.
pub(super) fn diff(context: &Context, from: &Path, to: &Path) -> Result<Exit, Failure> {
    let difference = explain::diff(&package(from)?.manifest, &package(to)?.manifest);
    context.show(&difference, ToString::to_string)?;
    Ok(if difference.grew { Exit::Refused } else { Exit::Ok })
}
