//! A name server of the tests' own, as far as RFC 1035 asks of one that knows addresses only.

#![expect(
    clippy::indexing_slicing,
    reason = "the questions come from the courier's own resolver; another one fails the test"
)]

use std::fs;
use std::net::{Ipv4Addr, UdpSocket};
use std::process::Command;
use std::sync::{Arc, Mutex};

use super::{Courier, PROGRAM};

/// A name server on loopback that answers every question for an address with what the name's first label maps to, and counts.
pub(super) struct NameServer {
    address: Ipv4Addr,
    pub(super) asked: Arc<Mutex<Vec<String>>>,
}

impl NameServer {
    /// `None` where port 53 can't be taken, or mounts can't be made.
    pub(super) fn start(address: Ipv4Addr, answers: fn(&str, usize) -> Vec<Ipv4Addr>) -> Option<Self> {
        let socket = UdpSocket::bind((address, 53)).ok()?;
        let asked = Arc::new(Mutex::new(Vec::new()));
        let keep = Arc::clone(&asked);
        std::thread::spawn(move || {
            let mut bytes = [0; 512];
            while let Ok((length, peer)) = socket.recv_from(&mut bytes) {
                let question = &bytes[..length];
                let name = name_of(question);
                let kind = u16::from_be_bytes([question[name.len() + 13], question[name.len() + 14]]);
                let mut asked = keep.lock().unwrap();
                let label = name.split('.').next().unwrap().to_owned();
                let before = asked.iter().filter(|past| **past == label).count();
                let addresses = if kind == A { answers(&label, before) } else { Vec::new() };
                if kind == A {
                    asked.push(label);
                }
                socket.send_to(&reply(question, &addresses), peer).unwrap();
            }
        });
        Some(Self { address, asked })
    }

    /// A courier whose machine knows this name server and no other.
    pub(super) fn courier(&self, hosts: &str) -> Courier {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("resolv.conf"), format!("nameserver {}\n", self.address)).unwrap();
        fs::write(dir.path().join("hosts"), hosts).unwrap();
        let script = format!(
            "mount --bind {0}/resolv.conf /etc/resolv.conf && mount --bind {0}/hosts /etc/hosts && exec \"$0\" \"$@\"",
            dir.path().display()
        );
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", &script, PROGRAM]);
        Courier::start_by(command, dir, "", &[])
    }
}

const A: u16 = 1;

/// The labels of the first question, with their lengths as dots would stand.
fn name_of(question: &[u8]) -> String {
    let (mut name, mut at) = (String::new(), 12);
    while question[at] != 0 {
        let end = at + 1 + usize::from(question[at]);
        name.push_str(std::str::from_utf8(&question[at + 1..end]).unwrap());
        name.push('.');
        at = end;
    }
    name
}

/// RFC 1035, 4.1: the question repeated, and one record for each address, its name a pointer to the question's.
fn reply(question: &[u8], addresses: &[Ipv4Addr]) -> Vec<u8> {
    let end = 12 + name_of(question).len() + 1 + 4;
    let count = u16::try_from(addresses.len()).unwrap().to_be_bytes();
    let mut bytes = question[..2].to_vec();
    bytes.extend([0x81, 0x80, 0, 1, count[0], count[1], 0, 0, 0, 0]);
    bytes.extend(&question[12..end]);
    for address in addresses {
        bytes.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4]);
        bytes.extend(address.octets());
    }
    bytes
}
