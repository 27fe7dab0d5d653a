//! A mount namespace of our own, so that a real filesystem can be filled by an ordinary user.

use std::fs;

use anyhow::Context as _;
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use rustix::thread::UnshareFlags;

/// Moves this process into a mount namespace (and, for an ordinary user, a user namespace in which it is still itself).
pub(crate) fn enter() -> anyhow::Result<()> {
    let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
    if uid.is_root() {
        unshare(UnshareFlags::NEWNS).context("a mount namespace")?;
    } else {
        unshare(UnshareFlags::NEWUSER | UnshareFlags::NEWNS).context("a user namespace")?;
        fs::write("/proc/self/setgroups", "deny")?;
        fs::write("/proc/self/uid_map", format!("{uid} {uid} 1", uid = uid.as_raw()))?;
        fs::write("/proc/self/gid_map", format!("{gid} {gid} 1", gid = gid.as_raw()))?;
    }
    // What we mount must not appear outside.
    mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE).context("a private mount tree")?;
    Ok(())
}

#[expect(unsafe_code, reason = "unshare is unsafe for what it can do to threads that share descriptors")]
fn unshare(flags: UnshareFlags) -> anyhow::Result<()> {
    // SAFETY: this process has one thread, and file descriptors are not unshared.
    unsafe { rustix::thread::unshare_unsafe(flags) }?;
    Ok(())
}

/// Mounts a tmpfs of that size.
pub(crate) fn tmpfs(at: &std::path::Path, bytes: u64) -> anyhow::Result<()> {
    let options = std::ffi::CString::new(format!("size={bytes},mode=0755"))?;
    mount("theriac-demo", at, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, options.as_c_str())
        .with_context(|| format!("mounting a tmpfs on {}", at.display()))
}
