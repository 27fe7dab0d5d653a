//! One frame: a fixed header and a JSON payload.
//!
//! ```text
//! offset  0  magic     "THR1"           4 bytes
//!         4  version   u16, big endian  equal on both sides, or the connection ends
//!         6  reserved  u16, zero
//!         8  epoch     u64              the runner's fencing epoch; 0 from a peer that has not been told one
//!        16  id        u64              pairs an answer with its request; 0 is an event
//!        24  length    u32              bytes of payload
//! ```

use std::io::{self, Read, Write};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Both sides must speak the same version: the processes are installed together.
pub const VERSION: u16 = 1;
/// Bytes of a header.
pub const HEADER_LEN: usize = 28;
/// The largest payload. A read of 64 KiB is 88 KiB in base64, a chunk of a component 256 KiB in 350 KiB.
pub const MAX_PAYLOAD: u32 = 1 << 20;

const MAGIC: [u8; 4] = *b"THR1";

/// A message with its place in the conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame<T> {
    /// The fencing epoch of the sender's view.
    pub epoch: u64,
    /// Pairs an answer with its request; 0 is an event.
    pub id: u64,
    /// The message.
    pub message: T,
}

/// A parsed header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The fencing epoch.
    pub epoch: u64,
    /// The conversation id.
    pub id: u64,
    /// Bytes of payload that follow.
    pub length: u32,
}

/// Why a frame could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The peer closed the connection between two frames.
    #[error("the peer closed the connection")]
    Closed,
    /// Not one of our frames.
    #[error("not a Theriac frame")]
    Magic,
    /// The peer is of another version.
    #[error("the peer speaks frame version {theirs}, this is version {VERSION}: install all binaries from one package")]
    Version { theirs: u16 },
    /// Longer than allowed.
    #[error("a frame of {length} bytes is over the limit of {MAX_PAYLOAD}")]
    TooLong { length: u64 },
    /// The payload is no message of this conversation.
    #[error("the frame is no message of this conversation")]
    Message(#[source] serde_json::Error),
    /// The socket failed, or the frame was cut.
    #[error("the connection failed")]
    Io(#[source] io::Error),
}

/// Header and payload, ready to be written in one call.
pub fn encode<T: Serialize>(frame: &Frame<T>) -> Result<Vec<u8>, FrameError> {
    let payload = serde_json::to_vec(&frame.message).map_err(FrameError::Message)?;
    let length = u32::try_from(payload.len())
        .ok()
        .filter(|length| *length <= MAX_PAYLOAD)
        .ok_or(FrameError::TooLong { length: payload.len() as u64 })?;
    let mut bytes = Vec::with_capacity(HEADER_LEN + payload.len());
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&VERSION.to_be_bytes());
    bytes.extend_from_slice(&[0; 2]);
    bytes.extend_from_slice(&frame.epoch.to_be_bytes());
    bytes.extend_from_slice(&frame.id.to_be_bytes());
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(&payload);
    Ok(bytes)
}

/// Checks magic, version and length.
pub fn decode_header(bytes: &[u8; HEADER_LEN]) -> Result<Header, FrameError> {
    let [m0, m1, m2, m3, v0, v1, _, _, rest @ ..] = bytes;
    if [*m0, *m1, *m2, *m3] != MAGIC {
        return Err(FrameError::Magic);
    }
    let theirs = u16::from_be_bytes([*v0, *v1]);
    if theirs != VERSION {
        return Err(FrameError::Version { theirs });
    }
    let [e0, e1, e2, e3, e4, e5, e6, e7, i0, i1, i2, i3, i4, i5, i6, i7, l0, l1, l2, l3] = *rest;
    let length = u32::from_be_bytes([l0, l1, l2, l3]);
    if length > MAX_PAYLOAD {
        return Err(FrameError::TooLong { length: u64::from(length) });
    }
    Ok(Header {
        epoch: u64::from_be_bytes([e0, e1, e2, e3, e4, e5, e6, e7]),
        id: u64::from_be_bytes([i0, i1, i2, i3, i4, i5, i6, i7]),
        length,
    })
}

/// Parses a payload.
pub fn decode_payload<T: DeserializeOwned>(payload: &[u8]) -> Result<T, FrameError> {
    serde_json::from_slice(payload).map_err(FrameError::Message)
}

/// Writes one frame in one call.
pub fn write<T: Serialize>(writer: &mut impl Write, frame: &Frame<T>) -> Result<(), FrameError> {
    let bytes = encode(frame)?;
    writer.write_all(&bytes).and_then(|()| writer.flush()).map_err(FrameError::Io)
}

/// Reads one frame; memory is taken only after the length was checked.
pub fn read<T: DeserializeOwned>(reader: &mut impl Read) -> Result<Frame<T>, FrameError> {
    let mut header = [0; HEADER_LEN];
    read_header(reader, &mut header)?;
    let header = decode_header(&header)?;
    let mut payload = vec![0; header.length as usize];
    reader.read_exact(&mut payload).map_err(FrameError::Io)?;
    let message = decode_payload(&payload)?;
    Ok(Frame { epoch: header.epoch, id: header.id, message })
}

/// Tells "closed between frames" from "cut in the middle of one".
fn read_header(reader: &mut impl Read, header: &mut [u8; HEADER_LEN]) -> Result<(), FrameError> {
    let (first, rest) = header.split_at_mut(1);
    loop {
        match reader.read(first) {
            Ok(0) => return Err(FrameError::Closed),
            Ok(_) => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(FrameError::Io(error)),
        }
    }
    reader.read_exact(rest).map_err(FrameError::Io)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame() -> Frame<Vec<String>> {
        Frame { epoch: 3, id: 7, message: vec!["a".to_owned()] }
    }

    #[test]
    fn a_frame_reads_back() {
        let bytes = encode(&frame()).unwrap();
        assert_eq!(read::<Vec<String>>(&mut bytes.as_slice()).unwrap(), frame());
    }

    // RN01.
    #[test]
    fn a_length_of_four_gigabytes_is_refused_before_memory_is_taken() {
        let mut bytes = encode(&frame()).unwrap();
        bytes[24..28].copy_from_slice(&u32::MAX.to_be_bytes());
        assert!(matches!(read::<Vec<String>>(&mut bytes.as_slice()), Err(FrameError::TooLong { .. })));
    }

    // RN01.
    #[test]
    fn an_end_between_frames_is_closed_and_a_cut_frame_is_a_failure() {
        let bytes = encode(&frame()).unwrap();
        assert!(matches!(read::<Vec<String>>(&mut [].as_slice()), Err(FrameError::Closed)));
        for cut in 1..bytes.len() {
            assert!(matches!(read::<Vec<String>>(&mut &bytes[..cut]), Err(FrameError::Io(_))), "cut at {cut}");
        }
    }

    #[test]
    fn another_version_is_named() {
        let mut bytes = encode(&frame()).unwrap();
        bytes[5] = 9;
        assert!(matches!(read::<Vec<String>>(&mut bytes.as_slice()), Err(FrameError::Version { theirs: 9 })));
    }

    proptest::proptest! {
        // RN01.
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            drop(read::<Vec<String>>(&mut bytes.as_slice()));
        }
    }
}
