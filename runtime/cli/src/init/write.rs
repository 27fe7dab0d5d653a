//! Writing configuration: only new files, readable by all, writable by their owner alone.

use std::fs::{DirBuilder, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use theriac_authority::key::VerifierKey;
use theriac_authority::trust::Class;

use crate::failure::{Failure, OrFail as _};

/// The configuration directory while it is filled.
pub(super) struct Writer {
    config: PathBuf,
    wrote: Vec<PathBuf>,
    kept: Vec<PathBuf>,
}

impl Writer {
    /// Makes the directories.
    pub(super) fn new(config: &Path) -> Result<Self, Failure> {
        let make = |path: &Path, mode| {
            let made = DirBuilder::new().recursive(true).mode(mode).create(path);
            made.or_fail_at(format!("making `{}`", path.display()))
        };
        make(config, 0o755)?;
        for name in ["remedies", "playbooks", "policies"] {
            make(&config.join(name), 0o755)?;
        }
        make(&config.join("keys"), 0o700)?;
        Ok(Self { config: config.to_owned(), wrote: Vec::new(), kept: Vec::new() })
    }

    /// Writes a file that is not there yet; whether it did.
    pub(super) fn put(&mut self, name: &str, text: &str) -> Result<bool, Failure> {
        self.put_bytes(name, text.as_bytes())
    }

    pub(super) fn put_bytes(&mut self, name: &str, bytes: &[u8]) -> Result<bool, Failure> {
        let path = self.config.join(name);
        let opened = OpenOptions::new().write(true).create_new(true).mode(0o644).open(&path);
        let mut file = match opened {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                self.kept.push(path);
                return Ok(false);
            }
            opened => opened.or_fail_at(format!("writing `{}`", path.display()))?,
        };
        file.write_all(bytes).and_then(|()| file.sync_all()).or_fail_at(format!("writing `{}`", path.display()))?;
        self.wrote.push(path);
        Ok(true)
    }

    /// Where a file is, or would be.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.config.join(name)
    }

    /// What was written, and what was there.
    pub(super) fn into_files(self) -> (Vec<PathBuf>, Vec<PathBuf>) {
        (self.wrote, self.kept)
    }
}

/// One signer for everything, who is also the operator: right for one person's machine, and said so.
pub(super) fn trust_toml(key: &VerifierKey) -> String {
    let classes: Vec<String> = Class::ALL.iter().map(|class| format!("\"{}\"", class.as_str())).collect();
    format!(
        "# Who may approve which remedies. `theriac init` wrote this with the local key alone; where several people share a\n\
         # machine, list each one's key and let two of them agree on what changes something:\n\
         #\n\
         # [[threshold]]\n\
         # class = \"units-change\"\n\
         # k     = 2\n\
         \n\
         [[signer]]\n\
         name     = \"{}\"\n\
         key      = \"{key}\"\n\
         remedies = [\"*\"]\n\
         classes  = [{}]\n\
         \n\
         # Whose signed yes to a plan counts where all processes share one user.\n\
         [operators]\n\
         keys = [\"{key}\"]\n",
        key.name(),
        classes.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use theriac_authority::key::Signer;
    use theriac_authority::trust::TrustStore;
    use theriac_model::id::KeyName;

    use super::*;

    #[test]
    fn a_file_that_is_there_stays_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = Writer::new(&dir.path().join("config")).unwrap();
        assert!(writer.put("runner.toml", "first").unwrap());
        assert!(!writer.put("runner.toml", "second").unwrap());
        assert_eq!(std::fs::read_to_string(writer.path("runner.toml")).unwrap(), "first");
    }

    #[test]
    fn the_trust_store_that_is_written_is_taken_and_knows_the_key_as_operator() {
        let signer = Signer::generate(KeyName::parse("box/local").unwrap()).unwrap();
        let store = TrustStore::parse(&trust_toml(signer.public())).unwrap();
        assert_eq!(store.operators().collect::<Vec<_>>(), [signer.public()]);
    }
}
