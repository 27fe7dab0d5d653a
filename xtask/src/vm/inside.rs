//! What the virtual machine finds when it boots: an initial file system that puts its root together, the packaged tree, and the one
//! unit that it is booted for.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;

use super::host::Host;
use crate::run::run;

/// The last line that the machine says, before its result.
pub(super) const RESULT: &str = "theriac-vm:";
/// By which the kernel knows the shared root.
pub(super) const SHARE: &str = "host";

const CONFIGURATION: &str = "MODULES=list\nBUSYBOX=auto\nKEYMAP=n\nCOMPRESS=gzip\nBOOT=theriac\nRUNSIZE=10%\n";
const MODULES: &str = "virtio_pci\n9p\n9pnet_virtio\noverlay\n";

/// A directory of this machine that the virtual one sees, too; removed at the end.
#[derive(Debug)]
pub(super) struct Inside {
    dir: PathBuf,
}

impl Inside {
    /// Writes what does not depend on the kernel.
    pub(super) fn make(test: &Path) -> anyhow::Result<Self> {
        let inside = Self { dir: std::env::temp_dir().join(format!("theriac-vm-{}", std::process::id())) };
        inside.write("initramfs/initramfs.conf", CONFIGURATION)?;
        inside.write("initramfs/modules", MODULES)?;
        inside.write("initramfs/scripts/theriac", &inside.mount_root())?;
        inside.write("prepare.sh", &inside.prepare())?;
        inside.write("theriac-vm.service", &unit(test))?;
        Ok(inside)
    }

    /// Where the packaged tree is laid out.
    pub(super) fn tree(&self) -> PathBuf {
        self.dir.join("tree")
    }

    pub(super) fn image(&self) -> PathBuf {
        self.dir.join("initrd.img")
    }

    pub(super) fn console(&self) -> PathBuf {
        self.dir.join("console.log")
    }

    /// Packs the initial file system for this kernel.
    pub(super) fn initrd(&self, host: &Host) -> anyhow::Result<()> {
        let mut pack = Command::new(host.mkinitramfs);
        run(pack.arg("-d").arg(self.dir.join("initramfs")).arg("-o").arg(self.image()).arg(&host.version))
    }

    fn write(&self, path: &str, text: &str) -> anyhow::Result<()> {
        let path = self.dir.join(path);
        fs::create_dir_all(path.parent().context("a path below the directory")?)?;
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))
    }

    /// initramfs-tools calls `mountroot` of the script that `BOOT` names.
    fn mount_root(&self) -> String {
        let dir = self.dir.display();
        format!(
            "mountroot()
{{
	modprobe -a virtio_pci 9pnet_virtio 9p overlay
	mkdir -p /lower /layer
	mount -t 9p -o trans=virtio,version=9p2000.L,ro,cache=loose,msize=262144 {SHARE} /lower
	mount -t tmpfs -o size=1g tmpfs /layer
	mkdir /layer/upper /layer/work
	mount -t overlay -o lowerdir=/lower,upperdir=/layer/upper,workdir=/layer/work overlay ${{rootmnt}}
	chroot ${{rootmnt}} /bin/sh {dir}/prepare.sh
}}
"
        )
    }

    /// In the new root, before its systemd: a fresh identity, nothing of this machine's started by itself, and our unit.
    fn prepare(&self) -> String {
        let dir = self.dir.display();
        format!(
            "set -e
# A machine that was itself a container is none any more.
rm -f /.dockerenv /run/.containerenv
: > /etc/machine-id
rm -rf /etc/systemd/system/*.wants
# Nobody empties /tmp: this directory may be in it.
mkdir -p /etc/tmpfiles.d /etc/systemd/system/multi-user.target.wants
ln -sf /dev/null /etc/tmpfiles.d/tmp.conf
cp {dir}/theriac-vm.service /etc/systemd/system/
ln -s ../theriac-vm.service /etc/systemd/system/multi-user.target.wants/
"
        )
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.dir) {
            eprintln!("{} stays: {error}", self.dir.display());
        }
    }
}

/// Runs the tests with swap to put a throttled unit's memory into, says how they ended, and powers off.
fn unit(test: &Path) -> String {
    let test = test.display();
    format!(
        r#"[Unit]
Description=The packaged tree's end-to-end tests
SuccessAction=poweroff-force
FailureAction=poweroff-force

[Service]
Type=oneshot
TimeoutStartSec=infinity
StandardOutput=file:/dev/ttyS1
StandardError=inherit
ExecStartPre=/bin/sh -ec 'modprobe zram; echo 512M > /sys/block/zram0/disksize; mkswap /dev/zram0; swapon /dev/zram0'
ExecStart={test} packaged:: --nocapture --test-threads=1
ExecStopPost=/bin/sh -c 'echo "{RESULT} $SERVICE_RESULT" > /dev/ttyS1'
"#
    )
}
