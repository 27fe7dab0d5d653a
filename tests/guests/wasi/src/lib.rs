//! An ordinary `std` guest: its standard library brings WASI along, and it tries all of it. It exports what a remedy exports.
//!
//! With its own manifest it is a beginner's mistake, or a cover: refused at load, with the import's name and what to use in its
//! place. With the manifest in `../sealed` it runs, and reaches nothing: whatever answers with more than nothing is reported as
//! `treated("leak: …")`.

use std::fs;
use std::io::Read as _;
use std::net::{TcpStream, ToSocketAddrs as _, UdpSocket};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

mod bindings {
    #![expect(unsafe_code, clippy::too_many_arguments, reason = "generated from the WIT")]
    wit_bindgen::generate!({ path: "../../../wit", world: "remedy" });

    struct Remedy;

    impl Guest for Remedy {
        fn remediate(_: Input) -> Result<Report, Denial> {
            let (tried, leaks) = super::attack();
            super::speak();
            Ok(if leaks.is_empty() {
                Report::GaveUp(format!("{tried} attempts, nothing was reached"))
            } else {
                Report::Treated(format!("leak: {}", leaks.join(", ")))
            })
        }

        fn check(_: Input) -> Result<Opinion, Denial> {
            Ok(Opinion::Satisfied)
        }
    }

    export!(Remedy);
}

/// How much was tried, and what came through.
fn attack() -> (usize, Vec<&'static str>) {
    let attempts = [
        ("a file is read", fs::read_to_string("/etc/passwd").is_ok()),
        ("a file is written", fs::write("/tmp/leak", "leak").is_ok()),
        ("a directory is listed", fs::read_dir(".").is_ok()),
        ("a directory is made", fs::create_dir("/leak").is_ok()),
        ("there is an environment", std::env::vars().next().is_some()),
        ("there are arguments", std::env::args().next().is_some()),
        ("there is an input", std::io::stdin().read(&mut [0; 16]).is_ok_and(|read| read > 0)),
        ("a name is looked up", ("localhost", 80).to_socket_addrs().is_ok_and(|mut found| found.next().is_some())),
        ("a connection is made", TcpStream::connect("127.0.0.1:80").is_ok()),
        ("a port is bound", UdpSocket::bind("127.0.0.1:0").is_ok()),
        ("time passes", time_passes()),
    ];
    (attempts.len(), attempts.iter().filter(|(_, reached)| *reached).map(|(what, _)| *what).collect())
}

/// Sleeping is over at once, and no clock moves by it.
fn time_passes() -> bool {
    let (wall, steady) = (SystemTime::now(), Instant::now());
    std::thread::sleep(Duration::from_secs(3600));
    SystemTime::now() != wall || Instant::now() != steady
}

/// Prints what a clock and a hasher's random key give: the same in each run.
fn speak() {
    use std::hash::BuildHasher as _;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    println!("it is {}", now.as_secs());
    print!("and the key is ");
    println!("{:x}", std::collections::hash_map::RandomState::new().hash_one(7));
    eprint!("this line has no end");
}
