//! Packets: three bytes of length, one of sequence, the rest. Each has a bound, whatever its length says.

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::super::rows::{Fault, Row};

/// Bytes of one packet: a row of names and numbers, or an error with its text.
const MAX_PACKET: usize = 64 << 10;
/// The server has another answer to the same question.
const MORE_RESULTS: u16 = 8;

/// A packet, by what its first byte says of it.
pub(super) enum Packet {
    /// Done, without rows.
    Ok,
    /// The last of a list.
    End,
    /// Anything else, whole.
    Data(Vec<u8>),
    /// An error.
    No(Fault),
}

/// A stream of packets.
pub(super) struct Wire<S> {
    stream: S,
    sequence: u8,
    /// The last packet said that another answer follows.
    pub(super) more: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, sequence: 0, more: false }
    }

    /// For the next command.
    pub(super) fn restart(&mut self) {
        self.sequence = 0;
        self.more = false;
    }

    pub(super) fn into_inner(self) -> (S, u8) {
        (self.stream, self.sequence)
    }

    pub(super) fn resumed(stream: S, sequence: u8) -> Self {
        Self { stream, sequence, more: false }
    }

    pub(super) async fn write(&mut self, payload: &[u8]) -> Result<(), Fault> {
        let length = u32::try_from(payload.len()).ok().filter(|length| *length < 1 << 24);
        let length = length.ok_or_else(Fault::nonsense)?.to_le_bytes();
        let [low, middle, high, _] = length;
        let mut packet = vec![low, middle, high, self.sequence];
        packet.extend_from_slice(payload);
        self.sequence = self.sequence.wrapping_add(1);
        self.stream.write_all(&packet).await.map_err(broken)?;
        self.stream.flush().await.map_err(broken)
    }

    /// The bytes of the next packet.
    pub(super) async fn read_bytes(&mut self) -> Result<Vec<u8>, Fault> {
        let mut head = [0; 4];
        self.stream.read_exact(&mut head).await.map_err(broken)?;
        let [low, middle, high, sequence] = head;
        let length = u32::from_le_bytes([low, middle, high, 0]) as usize;
        if length > MAX_PACKET || sequence != self.sequence {
            return Err(Fault::nonsense());
        }
        self.sequence = self.sequence.wrapping_add(1);
        let mut payload = vec![0; length];
        self.stream.read_exact(&mut payload).await.map_err(broken)?;
        Ok(payload)
    }

    /// The next packet of an answer's head.
    pub(super) async fn read(&mut self) -> Result<Packet, Fault> {
        let bytes = self.read_bytes().await?;
        match bytes.first() {
            Some(0x00) => {
                self.more = status_of_ok(&bytes).ok_or_else(Fault::nonsense)? & MORE_RESULTS != 0;
                Ok(Packet::Ok)
            }
            _ => self.other(bytes),
        }
    }

    /// The next packet of a list of rows, where an empty text is no `Ok`.
    pub(super) async fn read_row(&mut self) -> Result<Packet, Fault> {
        let bytes = self.read_bytes().await?;
        self.other(bytes)
    }

    fn other(&mut self, bytes: Vec<u8>) -> Result<Packet, Fault> {
        match bytes.as_slice() {
            [0xfe, _, _, low, high] => {
                self.more = u16::from_le_bytes([*low, *high]) & MORE_RESULTS != 0;
                Ok(Packet::End)
            }
            // It asks for a file of ours.
            [0xfb] => Err(Fault::nonsense()),
            [0xff, low, high, ..] => Ok(Packet::No(refusal(u16::from_le_bytes([*low, *high])))),
            [] => Err(Fault::nonsense()),
            _ => Ok(Packet::Data(bytes)),
        }
    }
}

fn broken(error: std::io::Error) -> Fault {
    use std::io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    let closed = matches!(error.kind(), UnexpectedEof | ConnectionReset | BrokenPipe);
    Fault::Lost(if closed { "the connection was closed" } else { "the connection broke" }.to_owned())
}

/// What is left of an error: a class of ours. Nothing the server said is repeated but its number.
pub(super) fn refusal(code: u16) -> Fault {
    match code {
        1040 => Fault::Full(format!("it has no slot left for the courier ({code})")),
        // A bound of the courier's own user, which says nothing of others.
        1203 | 1226 => Fault::Unavailable(format!("it has no slot left for the courier ({code})")),
        1044 | 1045 | 1698 => Fault::Unavailable(format!("it does not let the courier's user in ({code})")),
        1142 | 1143 | 1227 | 1370 => Fault::Refused(format!("the courier's user has no right to ({code})")),
        1193 => Fault::Unavailable(format!("this server has no such setting ({code})")),
        1094 => Fault::Stale(format!("it ended by itself ({code})")),
        1053 | 1927 | 4031 => Fault::Lost(format!("it ended the courier's session ({code})")),
        1205 | 1969 | 3024 => Fault::Refused(format!("it took too long ({code})")),
        code => Fault::Refused(format!("the server said no ({code})")),
    }
}

/// A number of the protocol's variable length, and what follows it.
fn lenenc(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (first, rest) = bytes.split_first()?;
    let width = match first {
        0..=0xfa => return Some((u64::from(*first), rest)),
        0xfc => 2,
        0xfd => 3,
        0xfe => 8,
        0xfb | 0xff => return None,
    };
    let (digits, rest) = rest.split_at_checked(width)?;
    let number = digits.iter().rev().fold(0_u64, |number, digit| number << 8 | u64::from(*digit));
    Some((number, rest))
}

fn status_of_ok(bytes: &[u8]) -> Option<u16> {
    let (_affected, rest) = lenenc(bytes.get(1..)?)?;
    let (_last_id, rest) = lenenc(rest)?;
    let (status, _) = rest.split_first_chunk::<2>()?;
    Some(u16::from_le_bytes(*status))
}

/// How many columns an answer has.
pub(super) fn column_count(head: &[u8]) -> Option<usize> {
    let (count, rest) = lenenc(head)?;
    if rest.is_empty() { usize::try_from(count).ok() } else { None }
}

/// A row of so many texts, each as long as it says and no longer than the packet.
pub(super) fn row(bytes: &[u8], columns: usize) -> Option<Row> {
    let mut rest = bytes;
    let mut row = Vec::with_capacity(columns);
    for _ in 0..columns {
        if let Some((0xfb, after)) = rest.split_first() {
            row.push(None);
            rest = after;
            continue;
        }
        let (length, after) = lenenc(rest)?;
        let (text, after) = after.split_at_checked(usize::try_from(length).ok()?)?;
        row.push(Some(String::from_utf8_lossy(text).into_owned()));
        rest = after;
    }
    rest.is_empty().then_some(Row(row))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_row_is_as_long_as_it_says_or_none() {
        let read = |bytes: &[u8]| row(bytes, 2).map(|row| row.0);
        assert_eq!(read(b"\x021a\xfb"), Some(vec![Some("1a".to_owned()), None]));
        for bytes in
            [&b"\x021"[..], b"\x011", b"\x0112", b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff1\x00", b"\xff\x00", b""]
        {
            assert_eq!(read(bytes), None, "{bytes:?}");
        }
    }

    #[test]
    fn a_count_of_columns_stands_alone() {
        assert_eq!(column_count(&[3]), Some(3));
        assert_eq!(column_count(&[0xfc, 0, 1]), Some(256));
        assert_eq!(column_count(&[3, 0]), None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64), columns in 0_usize..16) {
            let _ignored = (row(&bytes, columns), column_count(&bytes), status_of_ok(&bytes));
        }
    }
}
