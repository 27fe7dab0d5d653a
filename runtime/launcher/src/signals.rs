//! The launcher's signals as a file descriptor, so that an ended child wakes the same `poll` as a request does.

#![expect(unsafe_code, reason = "signal masks and signalfd have no safe wrapper in our dependencies")]

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};

/// What arrived since the last look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Arrived {
    /// A child changed its state.
    pub(crate) child: bool,
    /// The launcher is told to end.
    pub(crate) end: bool,
}

/// CHLD, TERM and INT, blocked and readable.
#[derive(Debug)]
pub(crate) struct Signals(OwnedFd);

fn set(signals: &[libc::c_int]) -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: sigemptyset initialises the set; sigaddset gets that set and valid signal numbers.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        for signal in signals {
            libc::sigaddset(set.as_mut_ptr(), *signal);
        }
        set.assume_init()
    }
}

impl Signals {
    /// Blocks them for this thread and opens the descriptor. Call before any thread or child exists.
    pub(crate) fn take() -> io::Result<Self> {
        let set = set(&[libc::SIGCHLD, libc::SIGTERM, libc::SIGINT]);
        // SAFETY: the set is initialised and outlives both calls; -1 asks for a new descriptor, which is owned here alone.
        unsafe {
            if libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) != 0 {
                return Err(io::Error::last_os_error());
            }
            let fd = libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK);
            if fd < 0 { Err(io::Error::last_os_error()) } else { Ok(Self(OwnedFd::from_raw_fd(fd))) }
        }
    }

    /// Empties the descriptor.
    pub(crate) fn read(&self) -> Arrived {
        const RECORD: usize = size_of::<libc::signalfd_siginfo>();
        let mut arrived = Arrived::default();
        let mut buffer = [0_u8; RECORD * 8];
        while let Ok(length @ 1..) = rustix::io::read(&self.0, &mut buffer) {
            for record in buffer.get(..length).unwrap_or_default().chunks_exact(RECORD) {
                // `ssi_signo` is the record's first field.
                let Some((number, _)) = record.split_first_chunk::<4>() else { continue };
                match i32::try_from(u32::from_ne_bytes(*number)) {
                    Ok(libc::SIGCHLD) => arrived.child = true,
                    Ok(_) | Err(_) => arrived.end = true,
                }
            }
        }
        arrived
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Every signal as a new program expects it, neither blocked nor ignored; for the child between fork and exec, which inherits both. Whoever
/// starts the launcher by `nohup`, say, ignores HUP in it, and a service that reloads by HUP would never hear of it.
pub(crate) fn forget_all() -> io::Result<()> {
    // SAFETY: signal is async-signal-safe and takes a number and a constant; it refuses KILL, STOP, and the C library's own.
    (1..=libc::SIGRTMAX()).for_each(|signal| unsafe {
        libc::signal(signal, libc::SIG_DFL);
    });
    let set = set(&[]);
    // SAFETY: the set is initialised; sigprocmask is async-signal-safe.
    match unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
