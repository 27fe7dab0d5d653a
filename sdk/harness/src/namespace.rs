//! A mount namespace of its own, so that a real filesystem of a few MiB can be filled by an ordinary user.

use std::ffi::CString;
use std::fs;
use std::io;
use std::path::Path;

use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount};
use rustix::thread::UnshareFlags;

/// Moves this process, which must have one thread, into a mount namespace; an ordinary user needs a user namespace for
/// that, in which it is still itself.
pub(crate) fn enter() -> io::Result<()> {
    let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
    if uid.is_root() {
        unshare(UnshareFlags::NEWNS)?;
    } else {
        unshare(UnshareFlags::NEWUSER | UnshareFlags::NEWNS)?;
        fs::write("/proc/self/setgroups", "deny")?;
        fs::write("/proc/self/uid_map", format!("{uid} {uid} 1", uid = uid.as_raw()))?;
        fs::write("/proc/self/gid_map", format!("{gid} {gid} 1", gid = gid.as_raw()))?;
    }
    // What is mounted here must not appear outside.
    Ok(mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE)?)
}

#[expect(unsafe_code, reason = "unshare is unsafe for what it can do to threads that share descriptors")]
fn unshare(flags: UnshareFlags) -> io::Result<()> {
    // SAFETY: file descriptors are not unshared.
    unsafe { rustix::thread::unshare_unsafe(flags) }?;
    Ok(())
}

/// Mounts a filesystem of that size.
pub(crate) fn tmpfs(at: &Path, bytes: u64) -> io::Result<()> {
    let options = CString::new(format!("size={bytes},mode=0755"))?;
    Ok(mount("theriac-scenario", at, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, options.as_c_str())?)
}

/// Takes it away, though a process may still have a file of it open.
pub(crate) fn detach(at: &Path) {
    // An error leaves it until this process ends, and the namespace with it.
    unmount(at, UnmountFlags::DETACH).ok();
}
