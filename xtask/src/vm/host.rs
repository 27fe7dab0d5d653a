//! What this machine has to bring along.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};

const QEMU: &str = "/usr/bin/qemu-system-x86_64";
const MKINITRAMFS: &str = "/usr/sbin/mkinitramfs";
/// Where the shared root comes from, and the swap that a throttled unit's memory goes to. A cloud kernel lacks the first.
const MODULES: [&str; 2] = ["fs/9p/9p.ko", "drivers/block/zram/zram.ko"];

/// A kernel, an emulator for it, and something that makes an initial file system.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) qemu: &'static str,
    pub(super) mkinitramfs: &'static str,
    /// As `uname -r` would say.
    pub(super) version: String,
}

impl Host {
    /// Looks for all of it; what is missing is said at once, and in full.
    pub(super) fn find() -> anyhow::Result<Self> {
        ensure!(cfg!(target_arch = "x86_64"), "a virtual machine is not possible here: it is made for x86-64");
        ensure!(
            rustix::process::geteuid().is_root(),
            "a virtual machine is not possible here: its root is this machine's, which only root can read"
        );
        let version = kernel()?;
        let mut missing: Vec<&str> = [
            (QEMU, "qemu-system-x86"),
            (MKINITRAMFS, "initramfs-tools"),
            ("/lib/systemd/systemd", "systemd-sysv"),
            ("/usr/sbin/nginx", "nginx"),
        ]
        .into_iter()
        .filter_map(|(path, package)| (!Path::new(path).exists()).then_some(package))
        .collect();
        missing.extend(version.is_none().then_some("linux-image-amd64"));
        ensure!(
            missing.is_empty(),
            "a virtual machine is not possible here: missing (as Debian's packages) {}",
            missing.join(", ")
        );
        Ok(Self { qemu: QEMU, mkinitramfs: MKINITRAMFS, version: version.context("a kernel")? })
    }

    pub(super) fn kernel(&self) -> PathBuf {
        Path::new("/boot").join(format!("vmlinuz-{}", self.version))
    }
}

/// The kernel that was installed last, of those that have the modules.
fn kernel() -> anyhow::Result<Option<String>> {
    let mut kernels = Vec::new();
    for entry in fs::read_dir("/boot").context("listing /boot")? {
        let entry = entry?;
        let name = entry.file_name();
        let version = name.to_str().and_then(|name| name.strip_prefix("vmlinuz-"));
        if let Some(version) = version.filter(|version| MODULES.iter().all(|module| has(version, module))) {
            kernels.push((entry.metadata()?.modified()?, version.to_owned()));
        }
    }
    Ok(kernels.into_iter().max().map(|(_, version)| version))
}

/// Distributions compress modules, or do not.
fn has(version: &str, module: &str) -> bool {
    let modules = Path::new("/lib/modules").join(version).join("kernel");
    ["", ".xz", ".zst", ".gz"].iter().any(|ending| modules.join(format!("{module}{ending}")).exists())
}
