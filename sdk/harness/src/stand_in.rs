//! The process that stands in for a service: it answers HTTP, or takes CPU, or holds memory. And the process that has a
//! file open.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

/// What a leaking service holds.
const MEMORY: usize = 64 << 20;
/// A page: what is not written to is not held.
const PAGE: usize = 4096;

/// Answers every connection with 200 until it is killed.
pub fn serve(port: u16, load: &str) -> io::Result<()> {
    // A reload: it has nothing to load, and must not die of it.
    signal_hook::flag::register(signal_hook::consts::SIGHUP, Arc::default())?;
    let mut held = Vec::new();
    match load {
        "spin" => {
            for _ in 0..std::thread::available_parallelism()?.get() {
                std::thread::spawn(|| {
                    loop {
                        std::hint::spin_loop();
                    }
                });
            }
        }
        "memory" => {
            held.resize(MEMORY, 0_u8);
            held.iter_mut().step_by(PAGE).for_each(|byte| *byte = 1);
        }
        _ => {}
    }
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
    io::stderr().write_all(b"serving\n")?;
    for connection in listener.incoming() {
        let Ok(mut connection) = connection else { continue };
        // A client that says nothing must not keep the next one waiting.
        connection.set_read_timeout(Some(Duration::from_millis(200)))?;
        let mut request = [0; 1024];
        let _whatever_it_asks = connection.read(&mut request);
        connection.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok\n").ok();
    }
    drop(held);
    Ok(())
}

/// Has its standard input open until it is killed.
pub fn hold() {
    loop {
        std::thread::park();
    }
}
