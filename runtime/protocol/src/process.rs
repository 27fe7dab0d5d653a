//! What each of our processes does with itself before it reads a byte from anybody: exec first, drop afterwards (a binary
//! under a root-only home can't be executed by the uid it is to become).

use std::io;

/// The user a process becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// User.
    pub uid: u32,
    /// Group; supplementary groups are given up.
    pub gid: u32,
}

/// Becomes the user for good, gains no privileges by any later exec, and can't be traced or dumped by its peers.
///
/// Call it while the process has one thread. `None` keeps the present user and still does the rest. What
/// [`die_with_parent`] asked for still holds afterwards.
#[expect(unsafe_code, reason = "set*id for the whole process and prctl have no safe wrapper")]
pub fn drop_privileges(identity: Option<Identity>) -> io::Result<()> {
    // The kernel forgets it when the user changes.
    let death = rustix::process::parent_process_death_signal()?;
    if let Some(Identity { uid, gid }) = identity {
        // SAFETY: plain system calls without pointers, but for setgroups, which reads zero elements.
        let dropped = unsafe {
            libc::setgroups(0, std::ptr::null()) == 0
                && libc::setresgid(gid, gid, gid) == 0
                && libc::setresuid(uid, uid, uid) == 0
        };
        if !dropped {
            return Err(io::Error::last_os_error());
        }
    }
    rustix::thread::set_no_new_privs(true)?;
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)?;
    rustix::process::set_parent_process_death_signal(death)?;
    Ok(())
}

/// Whether this process may become that user: it is root, and its user namespace knows the number.
pub fn may_become(uid: u32) -> bool {
    let known = |line: &str| {
        let mut numbers = line.split_ascii_whitespace().map(str::parse::<u32>);
        match (numbers.next(), numbers.next(), numbers.next()) {
            (Some(Ok(first)), Some(Ok(_)), Some(Ok(count))) => uid >= first && uid - first < count,
            (_, _, _) => false,
        }
    };
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    rustix::process::geteuid().is_root() && map.lines().any(known)
}

/// Asks the kernel to end this process when its parent dies, however the parent dies. Call it first of all.
pub fn die_with_parent() -> io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::TERM))?;
    Ok(())
}

/// The C library's heap is then as large as what is in it. Call it first of all.
///
/// One arena for all threads: each has one of its own otherwise, with pages that no other can use. And every large block is mapped
/// by itself: by default the first that is given back raises the limit to its size, so that the 8 MiB into which a start reads a
/// segment of the journal would stay for as long as the process lives.
#[cfg(target_env = "gnu")]
#[expect(unsafe_code, reason = "mallopt has no safe wrapper")]
pub fn keep_heap_small() {
    const LARGE: libc::c_int = 128 << 10;
    for (parameter, value) in [(libc::M_ARENA_MAX, 1), (libc::M_MMAP_THRESHOLD, LARGE), (libc::M_TRIM_THRESHOLD, LARGE)]
    {
        // SAFETY: takes two numbers. What it does not know it leaves as it was, and so do we.
        unsafe { libc::mallopt(parameter, value) };
    }
}

/// Other C libraries keep no arenas.
#[cfg(not(target_env = "gnu"))]
pub const fn keep_heap_small() {}
