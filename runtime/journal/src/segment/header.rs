//! The first 64 bytes of a segment file.

use super::frame::Salt;

/// Bytes before the first record.
pub(crate) const HEADER: usize = 64;

/// The version this code writes; the only one it reads.
pub(crate) const VERSION: u32 = 1;

const MAGIC: [u8; 8] = *b"THERIAC\x1A";

/// What a segment says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    /// The position of its first record.
    pub(crate) first_seq: u64,
    /// Made anew for each segment.
    pub(crate) salt: Salt,
}

/// What the first 64 bytes of a segment file turn out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    /// Zeros: allocated ahead, not begun.
    Blank,
    /// A segment with records.
    Begun(Header),
    /// Written by a later version.
    Newer(u32),
    /// Neither.
    Broken,
}

impl Header {
    /// The bytes. The first 16 (magic, version, their checksum) are the same in every version to come, so that an old
    /// program can always tell "newer" from "damaged".
    pub(crate) fn encode(&self) -> [u8; HEADER] {
        let mut bytes = Vec::with_capacity(HEADER);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
        bytes.extend_from_slice(&self.first_seq.to_le_bytes());
        bytes.extend_from_slice(&self.salt);
        bytes.resize(HEADER - 4, 0);
        bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
        let mut header = [0; HEADER];
        header.copy_from_slice(&bytes);
        header
    }

    /// Reads them back.
    pub(crate) fn decode(bytes: &[u8; HEADER]) -> Found {
        if bytes.iter().all(|byte| *byte == 0) {
            return Found::Blank;
        }
        Self::parse(bytes).unwrap_or(Found::Broken)
    }

    fn parse(bytes: &[u8]) -> Option<Found> {
        let (magic, rest) = bytes.split_at_checked(MAGIC.len())?;
        let (version, rest) = rest.split_first_chunk()?;
        let (prefix_crc, rest) = rest.split_first_chunk()?;
        if magic != MAGIC || crc32fast::hash(bytes.get(..12)?) != u32::from_le_bytes(*prefix_crc) {
            return None;
        }
        let version = u32::from_le_bytes(*version);
        if version > VERSION {
            return Some(Found::Newer(version));
        }
        let (covered, crc) = bytes.split_last_chunk()?;
        if version != VERSION || crc32fast::hash(covered) != u32::from_le_bytes(*crc) {
            return None;
        }
        let (first_seq, rest) = rest.split_first_chunk()?;
        let (salt, _) = rest.split_first_chunk()?;
        Some(Found::Begun(Self { first_seq: u64::from_le_bytes(*first_seq), salt: *salt }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: Header = Header { first_seq: 42, salt: [9; 16] };

    #[test]
    fn a_header_reads_back_and_a_flip_of_any_bit_breaks_it() {
        let bytes = HERE.encode();
        assert_eq!(Header::decode(&bytes), Found::Begun(HERE));
        for bit in 0..HEADER * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Header::decode(&flipped), Found::Broken, "bit {bit}");
        }
    }

    #[test]
    fn a_later_version_is_told_from_damage() {
        let mut bytes = HERE.encode();
        bytes[8..12].copy_from_slice(&7_u32.to_le_bytes());
        let crc = crc32fast::hash(&bytes[..12]);
        bytes[12..16].copy_from_slice(&crc.to_le_bytes());
        bytes[16..].fill(0xAA);
        assert_eq!(Header::decode(&bytes), Found::Newer(7));
    }

    #[test]
    fn zeros_are_a_segment_not_begun() {
        assert_eq!(Header::decode(&[0; HEADER]), Found::Blank);
    }
}
