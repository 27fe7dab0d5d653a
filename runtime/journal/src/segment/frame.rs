//! One record on disk: a head of 32 bytes and the payload. Knows bytes only, no files.

/// Bytes before the payload.
pub(crate) const HEAD: usize = 32;

/// 0xF5 occurs in no UTF-8 text, so a JSON payload can't contain a look-alike.
const MAGIC: [u8; 4] = [0xF5, b'T', b'h', 0x1E];

/// Mixed into every checksum, and known to this directory alone: text that somebody else got into a payload can't pass
/// for a record, nor can a record of another segment.
pub(crate) type Salt = [u8; 16];

/// A record whose checksum is right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    /// Its position in the log.
    pub(crate) seq: u64,
    /// Every record before this position was known to be on disk when this one was written. This tells damage from a crash:
    /// a record that was on disk can't be lost by a crash.
    pub(crate) durable: u64,
    /// The checksum of the record before it: a swapped, repeated or left-out record breaks the chain.
    pub(crate) prev: u32,
    /// Its own.
    pub(crate) crc: u32,
    /// What was appended.
    pub(crate) payload: &'a [u8],
}

impl Frame<'_> {
    /// Bytes on disk.
    pub(crate) const fn length(&self) -> usize {
        HEAD + self.payload.len()
    }
}

/// The record as bytes, and its checksum.
pub(crate) fn encode(salt: &Salt, seq: u64, durable: u64, prev: u32, payload: &[u8]) -> Option<(Vec<u8>, u32)> {
    let length = u32::try_from(payload.len()).ok()?;
    let mut bytes = Vec::with_capacity(HEAD + payload.len());
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(&seq.to_le_bytes());
    bytes.extend_from_slice(&durable.to_le_bytes());
    bytes.extend_from_slice(&prev.to_le_bytes());
    let crc = checksum(salt, &bytes, payload);
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes.extend_from_slice(payload);
    Some((bytes, crc))
}

/// The record at the start of `bytes`, if there is an intact one.
pub(crate) fn decode<'a>(salt: &Salt, bytes: &'a [u8]) -> Option<Frame<'a>> {
    let (head, rest) = bytes.split_at_checked(HEAD)?;
    let length = payload_length(head)?;
    let payload = rest.get(..length)?;
    let (covered, crc) = head.split_at_checked(HEAD - 4)?;
    let crc = u32::from_le_bytes(crc.try_into().ok()?);
    if checksum(salt, covered, payload) != crc {
        return None;
    }
    let (_, fields) = covered.split_at_checked(8)?;
    let (seq, fields) = fields.split_first_chunk()?;
    let (durable, fields) = fields.split_first_chunk()?;
    let (prev, _) = fields.split_first_chunk()?;
    Some(Frame {
        seq: u64::from_le_bytes(*seq),
        durable: u64::from_le_bytes(*durable),
        prev: u32::from_le_bytes(*prev),
        crc,
        payload,
    })
}

/// The payload length that a head claims, if it is one.
pub(crate) fn payload_length(head: &[u8]) -> Option<usize> {
    let (magic, rest) = head.split_at_checked(MAGIC.len())?;
    let (length, _) = rest.split_first_chunk()?;
    (magic == MAGIC).then(|| usize::try_from(u32::from_le_bytes(*length)).ok())?
}

/// What lies behind a place where a record should be and is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rest {
    /// Nothing was ever written there.
    Blank,
    /// Bytes that a crash can leave: nothing among them shows that the missing record was ever on disk. `written` is how
    /// far they reach.
    Unfinished { written: usize },
    /// A later record shows that the missing one was on disk, so it was damaged afterwards.
    Damaged,
}

/// How many bytes may be summed in search of a later record, per byte searched. A crash leaves a handful of candidates at
/// most; a hostile segment full of heads would otherwise cost the square of its length.
const SEARCH_FACTOR: usize = 16;

/// Looks at what follows the place where record `missing` should be.
pub(crate) fn rest(salt: &Salt, bytes: &[u8], missing: u64) -> Rest {
    let Some(last) = bytes.iter().rposition(|byte| *byte != 0) else { return Rest::Blank };
    let mut budget = bytes.len().saturating_mul(SEARCH_FACTOR);
    let mut from = 0;
    while let Some(found) = bytes.get(from..).and_then(find_magic) {
        let candidate = bytes.get(from + found..).unwrap_or_default();
        let cost = payload_length(candidate).unwrap_or(0).min(candidate.len());
        let Some(left) = budget.checked_sub(cost) else { return Rest::Damaged };
        budget = left;
        if decode(salt, candidate).is_some_and(|frame| frame.durable > missing) {
            return Rest::Damaged;
        }
        from += found + 1;
    }
    Rest::Unfinished { written: last + 1 }
}

fn find_magic(bytes: &[u8]) -> Option<usize> {
    bytes.windows(MAGIC.len()).position(|window| window == MAGIC)
}

fn checksum(salt: &Salt, head: &[u8], payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(salt);
    hasher.update(head);
    hasher.update(payload);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SALT: Salt = [7; 16];

    proptest! {
        #[test]
        fn a_record_reads_back_as_it_was_written(seq: u64, durable: u64, prev: u32, payload: Vec<u8>) {
            let (bytes, crc) = encode(&SALT, seq, durable, prev, &payload).unwrap();
            let frame = decode(&SALT, &bytes).unwrap();
            prop_assert_eq!(frame, Frame { seq, durable, prev, crc, payload: &payload });
            prop_assert_eq!(frame.length(), bytes.len());
        }

        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>, missing: u64) {
            decode(&SALT, &bytes);
            rest(&SALT, &bytes, missing);
        }
    }

    #[test]
    fn a_flip_of_any_bit_is_noticed() {
        let (bytes, _) = encode(&SALT, 3, 2, 1, b"{\"seq\":3}").unwrap();
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode(&SALT, &flipped), None, "bit {bit}");
        }
    }

    #[test]
    fn a_record_made_without_the_salt_is_no_record() {
        let (bytes, _) = encode(&[8; 16], 3, 2, 1, b"x").unwrap();
        assert_eq!(decode(&SALT, &bytes), None);
    }

    #[test]
    fn a_segment_full_of_false_heads_is_given_up_soon() {
        let mut head = MAGIC.to_vec();
        head.extend_from_slice(&50_000_u32.to_le_bytes());
        assert_eq!(rest(&SALT, &head.repeat(20_000), 0), Rest::Damaged);
    }
}
