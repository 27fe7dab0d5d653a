//! Attempts on the walls: one system call from behind them, in a real process of the real binary. A test (or a doubtful
//! operator) starts `theriac-worker --try open` and looks at how the process ended; with `--bare` the same call is made
//! without walls, so that a call which fails for another reason is not taken for a wall.

use std::os::fd::{FromRawFd, OwnedFd};

use crate::worker::{Options, Worker, WorkerError};

/// One attempt.
#[derive(Debug, Clone, Copy)]
pub struct Trial {
    /// What to try.
    pub attempt: Attempt,
    /// Without walls.
    pub bare: bool,
}

/// What can be tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attempt {
    /// Nothing: the walls alone.
    Nothing,
    /// Open a file.
    Open,
    /// Make an internet socket.
    Socket,
    /// Execute a program.
    Exec,
    /// Make a process.
    Fork,
    /// Trace a process.
    Ptrace,
    /// Signal another process.
    Kill,
    /// Make anonymous memory that could be executed as a file.
    Memfd,
    /// Make memory executable, after the second filter.
    Executable,
    /// Abort, which is allowed and is SIGABRT.
    Abort,
    /// Write where nothing is, which is SIGSEGV behind the walls as before them.
    Crash,
}

impl Attempt {
    /// Every attempt, by name.
    pub const ALL: [(&'static str, Self); 11] = [
        ("nothing", Self::Nothing),
        ("open", Self::Open),
        ("socket", Self::Socket),
        ("exec", Self::Exec),
        ("fork", Self::Fork),
        ("ptrace", Self::Ptrace),
        ("kill", Self::Kill),
        ("memfd", Self::Memfd),
        ("executable", Self::Executable),
        ("abort", Self::Abort),
        ("crash", Self::Crash),
    ];

    /// By name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(known, _)| *known == name).map(|(_, attempt)| *attempt)
    }
}

/// Raises the walls, or not, and tries. The process ends with 0 if the call was made, whatever the kernel answered; with 1 if
/// it was made and refused.
pub fn run(options: &Options, trial: Trial) -> Result<(), WorkerError> {
    if !trial.bare {
        #[expect(unsafe_code, reason = "an inherited descriptor is a number until somebody owns it")]
        // SAFETY: the descriptor was made for this process, and nothing else in it takes it.
        let socket = unsafe { OwnedFd::from_raw_fd(options.descriptor) };
        let _worker = Worker::enclose(options, socket)?;
        if trial.attempt == Attempt::Executable {
            crate::walls::seccomp::tighten()?;
        }
    }
    end_now(if attempt(trial.attempt) { 0 } else { 1 })
}

/// Ends the process at once: nothing is flushed, nothing is allocated.
#[expect(unsafe_code, reason = "_exit has no safe wrapper")]
pub fn end_now(code: i32) -> ! {
    // SAFETY: no pointers; the process ends.
    unsafe { libc::_exit(code) }
}

#[expect(unsafe_code, reason = "raw system calls are the point")]
fn attempt(attempt: Attempt) -> bool {
    let null = c"/dev/null".as_ptr();
    let exec = libc::PROT_READ | libc::PROT_EXEC;
    // SAFETY: each call gets valid constants and static strings; those that make a process end it at once. The write to the
    // second page, which nobody can map, is meant to end this one.
    let answer = unsafe {
        match attempt {
            Attempt::Nothing => 0,
            Attempt::Open => libc::syscall(libc::SYS_openat, libc::AT_FDCWD, null, libc::O_RDONLY),
            Attempt::Socket => libc::syscall(libc::SYS_socket, libc::AF_INET, libc::SOCK_STREAM, 0),
            Attempt::Exec => {
                let argv = [c"true".as_ptr(), std::ptr::null()];
                libc::syscall(libc::SYS_execve, c"/bin/true".as_ptr(), argv.as_ptr(), std::ptr::null::<usize>())
            }
            Attempt::Fork => match libc::fork() {
                0 => libc::_exit(0),
                child => child.into(),
            },
            Attempt::Ptrace => libc::syscall(libc::SYS_ptrace, libc::PTRACE_TRACEME, 0, 0, 0),
            Attempt::Kill => libc::syscall(libc::SYS_kill, libc::getppid(), 0),
            Attempt::Memfd => libc::syscall(libc::SYS_memfd_create, c"x".as_ptr(), 0),
            Attempt::Executable => {
                let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
                libc::syscall(libc::SYS_mmap, 0, 4096, exec, flags, -1, 0)
            }
            Attempt::Abort => libc::abort(),
            Attempt::Crash => {
                std::ptr::without_provenance_mut::<u8>(4096).write_volatile(0);
                0
            }
        }
    };
    answer >= 0
}
