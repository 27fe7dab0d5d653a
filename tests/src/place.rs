//! A machine with systemd as PID 1, reached through that PID 1: its files, its commands, its bus. It is a container below this
//! machine, or this machine itself; whoever made it ends it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context as _, ensure};

/// Where a systemd rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    leader: u32,
}

impl Place {
    /// The machine below that PID 1, as this machine numbers it.
    pub(crate) const fn of(leader: u32) -> Self {
        Self { leader }
    }

    /// This very machine. Only for one that is thrown away afterwards.
    pub const fn here() -> Self {
        Self::of(1)
    }

    /// Its PID 1, as this machine numbers it.
    pub const fn leader(&self) -> u32 {
        self.leader
    }

    /// Its root directory, mounts included, as seen from here.
    pub fn root(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root", self.leader))
    }

    /// A file of it, as seen from here.
    pub fn path(&self, path: &str) -> PathBuf {
        self.root().join(path.trim_start_matches('/'))
    }

    /// Its system bus, to be connected to from here.
    pub fn bus_address(&self) -> String {
        format!("unix:path={}", self.path("/run/dbus/system_bus_socket").display())
    }

    /// The cgroup filesystems as its systemd sees them.
    pub fn cgroups(&self) -> PathBuf {
        self.path("/sys/fs/cgroup")
    }

    /// Runs a command inside.
    pub fn exec(&self, argv: &[&str]) -> anyhow::Result<Output> {
        let leader = self.leader.to_string();
        let mut command = Command::new("nsenter");
        command.args(["--target", &leader, "--all", "--"]).args(argv).stdin(Stdio::null());
        command.output().with_context(|| format!("running {argv:?} inside"))
    }

    /// The same, and it must succeed.
    pub fn run(&self, argv: &[&str]) -> anyhow::Result<String> {
        let output = self.exec(argv)?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{argv:?} ended with {}: {stderr}", output.status);
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Writes a file inside, such as a unit.
    pub fn write(&self, path: &str, text: &str) -> anyhow::Result<()> {
        let path = self.path(path);
        fs::create_dir_all(path.parent().context("a path below the root")?)?;
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))
    }

    /// Copies a binary of this machine inside.
    pub fn install(&self, binary: &Path, path: &str) -> anyhow::Result<()> {
        let target = self.path(path);
        fs::create_dir_all(target.parent().context("a path below the root")?)?;
        // `copy` takes the mode along, which makes it executable.
        fs::copy(binary, &target).with_context(|| format!("copying {} to {}", binary.display(), target.display()))?;
        Ok(())
    }
}
