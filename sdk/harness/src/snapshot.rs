//! What a world looks like, as far as a scenario's end and an undo are held against it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use theriac_model::database::{Setting, SettingState};
use theriac_model::id::{Digest, Label};

/// A file by its directory's label and its path.
pub(crate) type FileKey = (Label, String);

/// Files, and the unit where there is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Snapshot {
    pub(crate) files: BTreeMap<FileKey, Shot>,
    /// The unit is up.
    pub(crate) up: Option<bool>,
    /// The CPUs that its main process may use.
    pub(crate) cpus: Option<String>,
    /// The release in use.
    pub(crate) release: Option<String>,
    /// The certificate and its key.
    pub(crate) certificate: Option<Digest>,
    /// The database's settings.
    pub(crate) settings: BTreeMap<Setting, SettingState>,
}

/// One file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shot {
    pub(crate) content: Digest,
    pub(crate) size: u64,
    mode: u32,
    owner: (u32, u32),
    mtime: (i64, i64),
}

impl Shot {
    pub(crate) fn of(path: &Path) -> io::Result<Self> {
        let meta = fs::metadata(path)?;
        Ok(Self {
            content: Digest::of(&fs::read(path)?),
            size: meta.len(),
            mode: meta.mode(),
            owner: (meta.uid(), meta.gid()),
            mtime: (meta.mtime(), meta.mtime_nsec()),
        })
    }
}

impl Snapshot {
    /// Every file below the directories.
    pub(crate) fn files<'a>(dirs: impl Iterator<Item = (&'a Label, &'a Path)>) -> io::Result<BTreeMap<FileKey, Shot>> {
        let mut files = BTreeMap::new();
        for (label, root) in dirs {
            let mut pending = vec![root.to_owned()];
            while let Some(dir) = pending.pop() {
                for entry in fs::read_dir(dir)? {
                    let path = entry?.path();
                    if path.is_dir() {
                        pending.push(path);
                    } else {
                        let below = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
                        files.insert((label.clone(), below), Shot::of(&path)?);
                    }
                }
            }
        }
        Ok(files)
    }

    /// In which ways this one is not as `start` was; what can't be taken back is left out.
    pub(crate) fn differs_from(&self, start: &Self, but: &BTreeSet<FileKey>) -> Vec<String> {
        let keys: BTreeSet<&FileKey> =
            self.files.keys().chain(start.files.keys()).filter(|key| !but.contains(key)).collect();
        let mut differences: Vec<String> = Vec::new();
        for key @ (label, path) in keys {
            match (start.files.get(key), self.files.get(key)) {
                (Some(_), None) => differences.push(format!("{label}/{path} is gone")),
                (None, Some(_)) => differences.push(format!("{label}/{path} is new")),
                (Some(before), Some(now)) if before != now => {
                    differences.push(format!("{label}/{path} was {before:?} and is {now:?}"));
                }
                (Some(_), Some(_)) | (None, None) => {}
            }
        }
        if self.up != start.up {
            differences.push(format!("the unit is {}", if self.up == Some(true) { "up" } else { "down" }));
        }
        if self.certificate != start.certificate {
            differences.push("the certificate or its key is another one".to_owned());
        }
        if self.release != start.release {
            differences.push(format!("the release was {:?} and is {:?}", start.release, self.release));
        }
        if self.settings != start.settings {
            differences.push(format!("the settings were {:?} and are {:?}", start.settings, self.settings));
        }
        if self.cpus != start.cpus && self.cpus.is_some() && start.cpus.is_some() {
            differences.push(format!("the unit's CPUs were {:?} and are {:?}", start.cpus, self.cpus));
        }
        differences
    }
}

/// The CPUs a process may use, as the kernel lists them.
pub(crate) fn cpus_of(pid: u32) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).map(|list| list.trim().to_owned())
}
