//! Where a bench keeps its files: on a real disk, where an fsync costs what it costs, and in memory, where it is free.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// A directory and what it stands for in the names of benches.
#[derive(Debug)]
pub struct Place {
    dir: TempDir,
    /// Such as `disk, fsync`.
    pub name: &'static str,
    /// Records that ask for it are synced.
    pub syncs: bool,
}

impl Place {
    /// Below the build directory: that is on a disk wherever one builds.
    fn on_disk(name: &'static str, syncs: bool) -> anyhow::Result<Self> {
        Ok(Self { dir: TempDir::new_in(build_directory()?)?, name, syncs })
    }

    /// The three: on disk with and without fsync, and in memory where there is a tmpfs.
    pub fn all() -> anyhow::Result<Vec<Self>> {
        let mut places = vec![Self::on_disk("disk, fsync", true)?, Self::on_disk("disk, no fsync", false)?];
        if Path::new("/dev/shm").is_dir() {
            places.push(Self { dir: TempDir::new_in("/dev/shm")?, name: "tmpfs", syncs: true });
        }
        Ok(places)
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }
}

/// `target/release`, or whatever profile this bench was built in.
pub fn build_directory() -> anyhow::Result<PathBuf> {
    let exe = std::env::current_exe()?;
    let dir = exe.ancestors().nth(2).map(Path::to_owned);
    dir.ok_or_else(|| anyhow::anyhow!("{} lies in no build directory", exe.display()))
}

/// A program of the workspace, if it was built in the same profile; otherwise the sentence that says how.
pub fn program(name: &str) -> Result<PathBuf, String> {
    let dir = build_directory().map_err(|error| error.to_string())?;
    let path = dir.join(name);
    if path.exists() {
        return Ok(path);
    }
    Err(format!("not measured: {} is not built; `cargo build --workspace --release` builds it", path.display()))
}

/// The root of the checkout.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_owned).unwrap_or_default()
}
