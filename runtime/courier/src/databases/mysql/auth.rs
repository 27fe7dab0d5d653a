//! Getting in: the server's greeting, TLS where it is configured, and the proofs of a password that servers ask for today.
//!
//! A password never leaves in clear text but inside of TLS or over a Unix socket.

use sha1::Sha1;
use sha2::{Digest as _, Sha256};

use super::super::config::{Password, Place, Server};
use super::super::rows::Fault;
use super::super::stream::{self, Allowance, Metered, Stream};
use super::wire::{Wire, refusal};

/// What the client can: long passwords, the newer protocol, TLS, status in answers, the newer passwords, several answers to one
/// statement, and naming how a password is proved. Not among them: sending files, and several statements at once.
const CAPABILITIES: u32 = 0x1 | 0x200 | 0x2000 | 0x8000 | 0x2_0000 | 0x8_0000;
const TLS: u32 = 0x800;
/// Largest packet we say we take; what is taken is less.
const MAX_PACKET: u32 = 1 << 20;
/// `utf8mb4_general_ci`.
const UTF8: u8 = 45;
/// A server that changes its mind more often is none.
const MAX_ROUNDS: usize = 4;

/// What the server said of itself.
pub(super) struct Greeting {
    pub(super) mariadb: bool,
    speaks_tls: bool,
    salt: Vec<u8>,
    plugin: String,
}

/// Answers the greeting and proves who the courier is.
pub(super) async fn enter(
    stream: Stream,
    server: &Server,
    allowance: &Allowance,
) -> Result<(Wire<Metered>, Greeting), Fault> {
    let mut wire = Wire::new(Metered::new(stream, allowance.clone()));
    let first = wire.read_bytes().await?;
    if let [0xff, low, high, ..] = first.as_slice() {
        return Err(refusal(u16::from_le_bytes([*low, *high])));
    }
    let greeting = greeting(&first).ok_or_else(Fault::nonsense)?;
    let mut capabilities = CAPABILITIES;
    let mut secret = matches!(server.listed.place, Place::Socket(_));
    if let Some(tls) = &server.tls {
        if !greeting.speaks_tls {
            return Err(Fault::Unavailable("it does not speak TLS".to_owned()));
        }
        capabilities |= TLS;
        wire.write(&head(capabilities)).await?;
        let (metered, sequence) = wire.into_inner();
        let secured = stream::secure(metered.into_inner(), tls).await;
        let secured = secured.map_err(|error| Fault::Unavailable(crate::check::tls_words_of(&error).to_owned()))?;
        wire = Wire::resumed(Metered::new(secured, allowance.clone()), sequence);
        secret = true;
    }
    let mut answer = head(capabilities);
    answer.extend_from_slice(server.listed.user.as_bytes());
    answer.push(0);
    let proof = proof(&greeting.plugin, &greeting.salt, server.password.as_ref())?;
    answer.push(u8::try_from(proof.len()).map_err(|_too_long| Fault::nonsense())?);
    answer.extend_from_slice(&proof);
    answer.extend_from_slice(greeting.plugin.as_bytes());
    answer.push(0);
    wire.write(&answer).await?;
    settle(&mut wire, server, secret).await?;
    Ok((wire, greeting))
}

/// Capabilities, packet size, character set, and the gap that the protocol has there.
fn head(capabilities: u32) -> Vec<u8> {
    let mut head = capabilities.to_le_bytes().to_vec();
    head.extend_from_slice(&MAX_PACKET.to_le_bytes());
    head.push(UTF8);
    head.extend_from_slice(&[0; 23]);
    head
}

/// What the server asks beyond the first proof, until it lets the courier in or does not.
async fn settle(wire: &mut Wire<Metered>, server: &Server, secret: bool) -> Result<(), Fault> {
    for _ in 0..MAX_ROUNDS {
        let answer = wire.read_bytes().await?;
        match answer.as_slice() {
            [0x00, ..] => return Ok(()),
            [0xff, low, high, ..] => return Err(refusal(u16::from_le_bytes([*low, *high]))),
            // Another proof, with a salt of its own.
            [0xfe, rest @ ..] => {
                let at = rest.iter().position(|byte| *byte == 0).ok_or_else(Fault::nonsense)?;
                let (plugin, salt) = rest.split_at_checked(at).ok_or_else(Fault::nonsense)?;
                let salt = salt.strip_prefix(&[0]).unwrap_or(salt);
                let plugin = std::str::from_utf8(plugin).map_err(|_not_text| Fault::nonsense())?;
                wire.write(&proof(plugin, salt.strip_suffix(&[0]).unwrap_or(salt), server.password.as_ref())?).await?;
            }
            // The proof is good, and the server is done in a moment.
            [0x01, 0x03] => {}
            // It does not remember the password's hash, and wants to see the password.
            [0x01, 0x04] if secret => {
                let mut clear = server.password.as_ref().map_or_else(Vec::new, |password| password.as_bytes().to_vec());
                clear.push(0);
                wire.write(&clear).await?;
            }
            [0x01, 0x04] => {
                let reason = "it wants the password itself, which goes over TLS or a Unix socket only";
                return Err(Fault::Unavailable(reason.to_owned()));
            }
            _ => return Err(Fault::nonsense()),
        }
    }
    Err(Fault::nonsense())
}

/// What proves the password to this server.
fn proof(plugin: &str, salt: &[u8], password: Option<&Password>) -> Result<Vec<u8>, Fault> {
    let password = password.map(Password::as_bytes).filter(|password| !password.is_empty());
    match (plugin, password) {
        // The server asks the kernel who is at the other end.
        ("unix_socket" | "auth_socket", _) | ("mysql_native_password" | "caching_sha2_password", None) => Ok(Vec::new()),
        ("mysql_native_password", Some(password)) => Ok(native(password, salt)),
        ("caching_sha2_password", Some(password)) => Ok(caching(password, salt)),
        (_, _) => Err(Fault::Unavailable(
            "it wants a proof that the courier does not know: use caching_sha2_password, mysql_native_password or unix_socket"
                .to_owned(),
        )),
    }
}

fn both<const N: usize>(one: [u8; N], other: [u8; N]) -> Vec<u8> {
    one.into_iter().zip(other).map(|(one, other)| one ^ other).collect()
}

/// SHA-1 of the password, hidden by the salt and the hash that the server has.
fn native(password: &[u8], salt: &[u8]) -> Vec<u8> {
    let once: [u8; 20] = Sha1::digest(password).into();
    let twice: [u8; 20] = Sha1::digest(once).into();
    both(once, Sha1::new().chain_update(salt).chain_update(twice).finalize().into())
}

/// The same with SHA-256, and the salt at the other end.
fn caching(password: &[u8], salt: &[u8]) -> Vec<u8> {
    let once: [u8; 32] = Sha256::digest(password).into();
    let twice: [u8; 32] = Sha256::digest(once).into();
    both(once, Sha256::new().chain_update(twice).chain_update(salt).finalize().into())
}

/// Protocol 10: version, number, salt, capabilities, the rest of the salt, and how a password is proved.
fn greeting(bytes: &[u8]) -> Option<Greeting> {
    let rest = bytes.strip_prefix(&[10])?;
    let (version, rest) = rest.split_at_checked(rest.iter().position(|byte| *byte == 0)?)?;
    let (salt, rest) = rest.get(5..)?.split_at_checked(8)?;
    let (low, rest) = rest.get(1..)?.split_first_chunk::<2>()?;
    let (high, rest) = rest.get(3..)?.split_first_chunk::<2>()?;
    let [low, high] = [u16::from_le_bytes(*low), u16::from_le_bytes(*high)];
    let capabilities = u32::from(high) << 16 | u32::from(low);
    let (length, rest) = rest.split_first()?;
    let (more, rest) = rest.get(10..)?.split_at_checked(usize::from(length.saturating_sub(8).max(13)))?;
    let plugin = rest.split(|byte| *byte == 0).next().unwrap_or_default();
    let salt = [salt, more.strip_suffix(&[0]).unwrap_or(more)].concat();
    Some(Greeting {
        mariadb: version.windows(7).any(|window| window == b"MariaDB"),
        speaks_tls: capabilities & TLS != 0,
        salt,
        plugin: String::from_utf8(plugin.to_vec()).ok()?,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// As MariaDB 10.11 sent it.
    fn sent() -> Vec<u8> {
        let mut bytes = vec![10];
        bytes.extend_from_slice(b"5.5.5-10.11.6-MariaDB-0+deb12u1\0");
        bytes.extend_from_slice(&[7, 0, 0, 0]);
        bytes.extend_from_slice(b"12345678\0");
        bytes.extend_from_slice(&[0xfe, 0xf7, 45, 2, 0, 0xff, 0x81, 21]);
        bytes.extend_from_slice(&[0; 10]);
        bytes.extend_from_slice(b"abcdefghijkl\0mysql_native_password\0");
        bytes
    }

    #[test]
    fn a_greeting_is_read_as_it_was_sent() {
        let read = greeting(&sent()).unwrap();
        assert!(read.mariadb);
        assert_eq!(read.salt, b"12345678abcdefghijkl");
        assert_eq!(read.plugin, "mysql_native_password");
    }

    #[test]
    fn half_a_greeting_is_none() {
        let whole = sent();
        for length in 0..whole.len() - b"\0mysql_native_password\0".len() {
            assert!(greeting(&whole[..length]).is_none(), "{length}");
        }
    }

    #[test]
    fn proofs_are_those_of_the_reference_clients() {
        let salt = b"12345678abcdefghijkl";
        let hex = |bytes: Vec<u8>| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        assert_eq!(hex(native(b"secret", salt)), "4f1522d6eb54737eda413b3e219ca6caebe3df2c");
        assert_eq!(hex(caching(b"secret", salt)), "7f7e3878fe488ed45081455d0d6e89e26d4ef86ef6c6aeed02397b6fe8ad5422");
    }

    proptest! {
        #[test]
        fn no_greeting_makes_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..128)) {
            let _ignored = greeting(&bytes).is_some();
        }
    }
}
