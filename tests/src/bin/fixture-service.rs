//! A small HTTP service that can be broken for real: the patient of the demo and of the end-to-end tests. Its name does not begin
//! with `theriac`, because the gate spares our own programs.
//!
//! ```text
//! fixture-service --port 8080 [--needs FILE] [--config FILE] [--spin-when FILE] [--spin-threads N] [--leak-when FILE]
//!                 [--log FILE]
//! ```
//!
//! It answers `GET /health` with 200, or with 503 while the file it `--needs` is missing. When the file named by
//! `--spin-when` or `--leak-when` appears, it takes it away and begins to spin on every core or to leak memory; only a
//! restart ends that, as with a real fault of that kind. `--spin-threads` spins on that many cores at most. `--log` is held open
//! for appending.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

/// Leaked per tick.
const LEAK_STEP: usize = 4 << 20;
/// It stops there: a fault must be visible, not kill the machine it is shown on.
const LEAK_MOST: usize = 192 << 20;
const TICK: Duration = Duration::from_millis(50);

#[derive(Debug, Default)]
struct Options {
    port: u16,
    needs: Option<PathBuf>,
    config: Option<PathBuf>,
    spin_when: Option<PathBuf>,
    spin_threads: Option<usize>,
    leak_when: Option<PathBuf>,
    log: Option<PathBuf>,
}

fn main() -> anyhow::Result<()> {
    let options = parse(std::env::args().skip(1))?;
    if let Some(path) = &options.config {
        // A service that can't read its configuration does not start.
        fs::read(path)?;
    }
    let _log =
        options.log.as_ref().map(|path| fs::OpenOptions::new().append(true).create(true).open(path)).transpose()?;
    if let Some(path) = options.spin_when.clone() {
        let threads = options.spin_threads;
        thread::spawn(move || when(&path, || spin(threads)));
    }
    if let Some(path) = options.leak_when.clone() {
        thread::spawn(move || when(&path, leak));
    }
    let listener = TcpListener::bind(("127.0.0.1", options.port))?;
    for stream in listener.incoming() {
        // A client that goes away is its own affair.
        stream.and_then(|stream| answer(stream, options.needs.as_deref())).ok();
    }
    Ok(())
}

fn parse(mut args: impl Iterator<Item = String>) -> anyhow::Result<Options> {
    let mut options = Options::default();
    while let Some(flag) = args.next() {
        let value = args.next().ok_or_else(|| anyhow::anyhow!("`{flag}` wants a value"))?;
        match flag.as_str() {
            "--port" => options.port = value.parse()?,
            "--needs" => options.needs = Some(value.into()),
            "--config" => options.config = Some(value.into()),
            "--spin-when" => options.spin_when = Some(value.into()),
            "--spin-threads" => options.spin_threads = Some(value.parse()?),
            "--leak-when" => options.leak_when = Some(value.into()),
            "--log" => options.log = Some(value.into()),
            _ => anyhow::bail!("unknown flag `{flag}`"),
        }
    }
    Ok(options)
}

fn answer(mut stream: TcpStream, needs: Option<&std::path::Path>) -> io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    let mut request = [0; 1024];
    let _read = stream.read(&mut request)?;
    let status = if needs.is_none_or(std::path::Path::exists) { "200 OK" } else { "503 Service Unavailable" };
    write!(stream, "HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
}

fn when(path: &std::path::Path, act: impl Fn()) {
    loop {
        if fs::remove_file(path).is_ok() {
            act();
        }
        thread::sleep(TICK);
    }
}

fn spin(threads: Option<usize>) {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    // More threads than cores: it takes most of a machine that others are busy on, too.
    for _ in 0..threads.unwrap_or(cores * 4) {
        thread::spawn(|| {
            loop {
                std::hint::spin_loop();
            }
        });
    }
}

fn leak() {
    for _ in 0..LEAK_MOST / LEAK_STEP {
        // Written to, so that the pages are really there.
        std::mem::forget(vec![1_u8; LEAK_STEP]);
        thread::sleep(TICK);
    }
}
