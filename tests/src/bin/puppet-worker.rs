//! A worker that was taken over, as far as the runner can tell: what it says is what the test says that holds its strings. It raises
//! no wall and becomes nobody; it only passes bytes on, both ways, until either side hangs up.
//!
//! A worker is started without an environment and with fixed arguments, so that the way to the test is the place that this program
//! lies in: the socket `strings` beside it.

use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::process::exit;
use std::thread;

fn main() -> anyhow::Result<()> {
    let mut test = UnixStream::connect(std::env::current_exe()?.with_file_name("strings"))?;
    let mut runner = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    let (mut said, mut to_runner) = (test.try_clone()?, runner.try_clone()?);
    thread::spawn(move || {
        io::copy(&mut said, &mut to_runner).ok();
        // The test let go of the strings: a worker that falls dead.
        exit(1);
    });
    io::copy(&mut runner, &mut test).ok();
    Ok(())
}
