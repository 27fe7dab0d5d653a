//! `theriac remedy new`: a remedy that builds and passes its own scenario at once.
//!
//! Nothing is published, so the SDK comes along: it is embedded here and written beside the remedy, once for all of them.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use theriac_model::fault::FaultKind;
use theriac_model::id::RemedyName;

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::{Failure, OrFail as _};

/// What the new remedy is called and treats.
#[derive(Debug, Args)]
pub struct New {
    /// Its name: small letters, digits and `-`, beginning with a letter
    #[arg(value_name = "NAME", value_parser = RemedyName::parse)]
    name: RemedyName,
    /// The fault kind it treats, such as `service-crash`
    #[arg(long, value_name = "KIND", value_parser = |text: &str| text.parse::<FaultKind>())]
    fault: FaultKind,
    /// Where its directory is made
    #[arg(long, value_name = "DIR", default_value = ".")]
    dir: PathBuf,
}

macro_rules! embedded {
    ($($path:literal => $source:literal,)*) => {
        &[$(($path, include_str!(concat!("../../../../", $source))),)*]
    };
}

/// Path below the remedy's directory, and its text with placeholders.
type Files = &'static [(&'static str, &'static str)];

const COMMON: Files = embedded! {
    "Cargo.toml" => "sdk/guest/template/common/Cargo.toml.in",
    "Cargo.lock" => "sdk/guest/template/common/Cargo.lock.in",
    ".gitignore" => "sdk/guest/template/common/gitignore.in",
    "rustfmt.toml" => "sdk/guest/template/common/rustfmt.toml.in",
    "README.md" => "sdk/guest/template/common/README.md.in",
};
const UNIT: Files = embedded! {
    "remedy.toml" => "sdk/guest/template/unit/remedy.toml.in",
    "src/lib.rs" => "sdk/guest/template/unit/src/lib.rs.in",
    "scenarios/first.toml" => "sdk/guest/template/unit/scenarios/first.toml.in",
};
const FILES: Files = embedded! {
    "remedy.toml" => "sdk/guest/template/files/remedy.toml.in",
    "src/lib.rs" => "sdk/guest/template/files/src/lib.rs.in",
    "scenarios/first.toml" => "sdk/guest/template/files/scenarios/first.toml.in",
};
/// The SDK, below `theriac/` beside the remedy. It reads the contract as `../../wit`.
const SDK: Files = embedded! {
    "sdk/guest/Cargo.toml" => "sdk/guest/Cargo.toml",
    "sdk/guest/src/bindings.rs" => "sdk/guest/src/bindings.rs",
    "sdk/guest/src/certificates.rs" => "sdk/guest/src/certificates.rs",
    "sdk/guest/src/containers.rs" => "sdk/guest/src/containers.rs",
    "sdk/guest/src/databases.rs" => "sdk/guest/src/databases.rs",
    "sdk/guest/src/denial.rs" => "sdk/guest/src/denial.rs",
    "sdk/guest/src/fault.rs" => "sdk/guest/src/fault.rs",
    "sdk/guest/src/files.rs" => "sdk/guest/src/files.rs",
    "sdk/guest/src/firewall.rs" => "sdk/guest/src/firewall.rs",
    "sdk/guest/src/http.rs" => "sdk/guest/src/http.rs",
    "sdk/guest/src/kernel.rs" => "sdk/guest/src/kernel.rs",
    "sdk/guest/src/lib.rs" => "sdk/guest/src/lib.rs",
    "sdk/guest/src/logging.rs" => "sdk/guest/src/logging.rs",
    "sdk/guest/src/observe.rs" => "sdk/guest/src/observe.rs",
    "sdk/guest/src/processes.rs" => "sdk/guest/src/processes.rs",
    "sdk/guest/src/programs.rs" => "sdk/guest/src/programs.rs",
    "sdk/guest/src/releases.rs" => "sdk/guest/src/releases.rs",
    "sdk/guest/src/runtime.rs" => "sdk/guest/src/runtime.rs",
    "sdk/guest/src/units.rs" => "sdk/guest/src/units.rs",
    "wit/certificates.wit" => "wit/certificates.wit",
    "wit/containers.wit" => "wit/containers.wit",
    "wit/databases.wit" => "wit/databases.wit",
    "wit/fault.wit" => "wit/fault.wit",
    "wit/files.wit" => "wit/files.wit",
    "wit/firewall.wit" => "wit/firewall.wit",
    "wit/http.wit" => "wit/http.wit",
    "wit/kernel.wit" => "wit/kernel.wit",
    "wit/log.wit" => "wit/log.wit",
    "wit/observe.wit" => "wit/observe.wit",
    "wit/processes.wit" => "wit/processes.wit",
    "wit/programs.wit" => "wit/programs.wit",
    "wit/releases.wit" => "wit/releases.wit",
    "wit/types.wit" => "wit/types.wit",
    "wit/units.wit" => "wit/units.wit",
    "wit/world.wit" => "wit/world.wit",
};
/// Where the remedy finds it.
const SDK_PATH: &str = "../theriac/sdk/guest";

#[derive(Debug, Serialize)]
struct Written {
    remedy: PathBuf,
    sdk: PathBuf,
}

impl New {
    pub(super) fn run(self, context: &Context) -> Result<Exit, Failure> {
        let name = self.name.as_str();
        if !name.starts_with(|c: char| c.is_ascii_lowercase()) {
            return Err(Failure::usage(format!("`{name}` does not begin with a letter"))
                .hint("the name becomes a crate's name"));
        }
        if self.fault == FaultKind::Unknown {
            return Err(Failure::usage("a fault that no rule names is always a person's: no remedy treats `unknown`")
                .hint("`theriac help faults` lists the others"));
        }
        let remedy = self.dir.join(name);
        if remedy.exists() {
            return Err(Failure::failed(format!("`{}` is there already", remedy.display())));
        }
        let values = [("{{name}}", name), ("{{fault}}", self.fault.as_str()), ("{{sdk}}", SDK_PATH)];
        let own = if is_about_files(self.fault) { FILES } else { UNIT };
        for (path, text) in COMMON.iter().chain(own) {
            let text = values.iter().fold((*text).to_owned(), |text, (key, value)| text.replace(key, value));
            write(&remedy.join(path), &text)?;
        }
        let sdk = self.dir.join("theriac");
        for (path, text) in SDK {
            write_once(&sdk.join(path), text)?;
        }
        context.show(&Written { remedy, sdk }, |it| {
            let remedy = it.remedy.display();
            format!(
                "{remedy}: a remedy for {}, with its manifest and its first scenario\n{}: the SDK it is built with\n\n\
                 theriac remedy build {remedy}\ntheriac remedy test {remedy}\n",
                self.fault,
                it.sdk.display(),
            )
        })
    }
}

/// Kinds that are about a filesystem; all others are about a unit, or begin best with one.
const fn is_about_files(kind: FaultKind) -> bool {
    match kind {
        FaultKind::DiskFull | FaultKind::DiskFilling | FaultKind::InodeExhaustion | FaultKind::LogExplosion => true,
        FaultKind::CpuSaturation
        | FaultKind::MemoryLeak
        | FaultKind::OomKill
        | FaultKind::SwapThrash
        | FaultKind::ServiceCrash
        | FaultKind::ServiceUnhealthy
        | FaultKind::StartLimitHit
        | FaultKind::CertificateExpiry
        | FaultKind::DbConnectionsExhausted
        | FaultKind::ContainerUnhealthy
        | FaultKind::TrafficFlood
        | FaultKind::BadRelease
        | FaultKind::Unknown => false,
    }
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).or_fail_at(format!("making `{}`", parent.display()))?;
    }
    fs::write(path, text).or_fail_at(format!("writing `{}`", path.display()))
}

/// The SDK that is there stays: other remedies are built with it.
fn write_once(path: &Path, text: &str) -> Result<(), Failure> {
    if path.exists() { Ok(()) } else { write(path, text) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn root() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
    }

    fn names(dir: &str) -> BTreeSet<String> {
        let entries = fs::read_dir(root().join(dir)).unwrap();
        entries.map(|entry| format!("{dir}/{}", entry.unwrap().file_name().to_str().unwrap())).collect()
    }

    #[test]
    fn the_whole_sdk_and_the_whole_contract_come_along() {
        let embedded: BTreeSet<String> = SDK.iter().map(|(path, _)| (*path).to_owned()).collect();
        let mut there = names("sdk/guest/src");
        there.extend(names("wit"));
        there.insert("sdk/guest/Cargo.toml".to_owned());
        assert_eq!(embedded, there);
    }

    #[test]
    fn every_template_of_every_kind_is_a_manifest_that_handles_the_kind() {
        for kind in FaultKind::ALL.iter().filter(|kind| **kind != FaultKind::Unknown) {
            let own = if is_about_files(*kind) { FILES } else { UNIT };
            let text = own.iter().find(|(path, _)| *path == "remedy.toml").unwrap().1;
            let text = text.replace("{{name}}", "first").replace("{{fault}}", kind.as_str());
            let manifest = theriac_authority::manifest::Manifest::parse(&text).unwrap();
            assert!(manifest.handles.contains(kind));
        }
    }
}
