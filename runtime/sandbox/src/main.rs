//! `theriac-worker`: started by the runner for one compilation or one run, with one socket. It prints nothing.

use std::alloc::{GlobalAlloc, Layout, System};
use std::os::fd::{FromRawFd, OwnedFd};
use std::panic;
use std::process::ExitCode;

use theriac_protocol::process::Identity;
use theriac_sandbox::trial::{self, Trial};
use theriac_sandbox::worker::{Options, Worker, WorkerError};

/// The arguments make no sense.
const EXIT_USAGE: u8 = 64;
/// Our own code failed.
const EXIT_BUG: u8 = 70;
/// A wall, the socket or the runner.
const EXIT_FAILED: u8 = 74;
/// The heap is at its limit.
const EXIT_MEMORY: i32 = 71;

/// Ends the process where the heap is at its limit. Unwinding from there would allocate again.
struct EndAtLimit;

#[expect(unsafe_code, reason = "an allocator is unsafe by nature; this one only looks at the system's answer")]
// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for EndAtLimit {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are handed on.
        or_end(unsafe { System.alloc(layout) })
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are handed on.
        or_end(unsafe { System.alloc_zeroed(layout) })
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller's promises are handed on.
        or_end(unsafe { System.realloc(pointer, layout, size) })
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are handed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

fn or_end(pointer: *mut u8) -> *mut u8 {
    if pointer.is_null() { trial::end_now(EXIT_MEMORY) } else { pointer }
}

#[global_allocator]
static HEAP: EndAtLimit = EndAtLimit;

/// What the command line asks for.
struct Arguments {
    options: Options,
    trial: Option<Trial>,
}

fn main() -> ExitCode {
    // A panic's text goes nowhere: it would open files for its backtrace, and standard error is closed.
    panic::set_hook(Box::new(|_| {}));
    let Some(arguments) = parse(std::env::args().skip(1)) else { return ExitCode::from(EXIT_USAGE) };
    let result = panic::catch_unwind(|| match arguments.trial {
        Some(trial) => trial::run(&arguments.options, trial),
        None => work(&arguments.options),
    });
    match result {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(_)) => ExitCode::from(EXIT_FAILED),
        Err(_) => ExitCode::from(EXIT_BUG),
    }
}

fn work(options: &Options) -> Result<(), WorkerError> {
    let (worker, walls) = Worker::enclose(options, socket(options.descriptor))?;
    worker.serve(walls)
}

#[expect(unsafe_code, reason = "an inherited descriptor is a number until somebody owns it")]
fn socket(descriptor: i32) -> OwnedFd {
    // SAFETY: the runner made this descriptor for us, and nothing else in this process takes it.
    unsafe { OwnedFd::from_raw_fd(descriptor) }
}

/// `--fd N [--uid N --gid N]`; for tests also `--try NAME`, `--bare` and `--without SYSCALL`.
fn parse(mut arguments: impl Iterator<Item = String>) -> Option<Arguments> {
    let (mut descriptor, mut uid, mut gid, mut name, mut bare, mut without) =
        (None, None, None, None, false, Vec::new());
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--fd" => descriptor = Some(arguments.next()?.parse().ok().filter(|number: &i32| *number >= 0)?),
            "--uid" => uid = Some(arguments.next()?.parse().ok()?),
            "--gid" => gid = Some(arguments.next()?.parse().ok()?),
            "--try" => name = Some(arguments.next()?),
            "--bare" => bare = true,
            "--without" => without.push(arguments.next()?),
            _ => return None,
        }
    }
    let identity = match (uid, gid) {
        (Some(uid), Some(gid)) => Some(Identity { uid, gid }),
        (None, None) => None,
        (Some(_), None) | (None, Some(_)) => return None,
    };
    let trial = match name {
        Some(name) => Some(Trial { attempt: trial::Attempt::parse(&name)?, bare }),
        None => None,
    };
    Some(Arguments { options: Options { descriptor: descriptor?, identity, without }, trial })
}
