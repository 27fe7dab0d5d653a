//! The stored bytes of a field, uncompressed as far as they are wanted. The decoders are written in safe or fuzzed Rust, and
//! each is told how much memory it may take before it takes any.

use std::io::Read as _;

use super::bytes::u64_at;

/// Compressed bytes that are looked at: more of them is a message nobody reads to its end.
pub(super) const MAX_STORED: usize = 256 << 10;
/// zstd's window at journald's level is 2 MiB at most, and the whole content where that is smaller.
const MAX_WINDOW: u64 = 8 << 20;
/// journald compresses with a dictionary of 1 MiB; the decoder's own tables come on top.
const MAX_XZ_KIB: u32 = 16 << 10;
/// LZ4 as journald writes it is one block, which can be had only as a whole.
const MAX_LZ4: usize = 1 << 20;

/// How a field is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Coding {
    Plain,
    Xz,
    Lz4,
    Zstd,
}

impl Coding {
    /// From an object's flags; `None` where they are not known, or are two at once.
    pub(super) const fn of(flags: u8) -> Option<Self> {
        match flags {
            0 => Some(Self::Plain),
            1 => Some(Self::Xz),
            2 => Some(Self::Lz4),
            4 => Some(Self::Zstd),
            _two_or_unknown => None,
        }
    }
}

/// The first `most` bytes; `None` where the decoder does not take them.
pub(super) fn decoded(coding: Coding, stored: &[u8], most: usize) -> Option<Vec<u8>> {
    match coding {
        Coding::Plain => Some(stored.get(..most).unwrap_or(stored).to_vec()),
        Coding::Xz => first(lzma_rust2::XzReader::new_mem_limit(stored, false, MAX_XZ_KIB), most),
        Coding::Zstd => {
            first(ruzstd::decoding::StreamingDecoder::new_with_max_window_size(stored, MAX_WINDOW).ok()?, most)
        }
        Coding::Lz4 => {
            let length = usize::try_from(u64_at(stored, 0)?).ok().filter(|length| *length <= MAX_LZ4)?;
            let mut plain = lz4_flex::block::decompress(stored.get(8..)?, length).ok()?;
            plain.truncate(most);
            Some(plain)
        }
    }
}

fn first(decoder: impl std::io::Read, most: usize) -> Option<Vec<u8>> {
    let mut plain = Vec::new();
    decoder.take(u64::try_from(most).unwrap_or(u64::MAX)).read_to_end(&mut plain).ok()?;
    Some(plain)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_bytes_make_a_decoder_panic_or_give_more_than_was_asked_for(
            stored in proptest::collection::vec(any::<u8>(), 0..512),
            flags in prop_oneof![Just(0_u8), Just(1), Just(2), Just(4)],
            most in 0_usize..4096,
        ) {
            let plain = decoded(Coding::of(flags).unwrap(), &stored, most);
            prop_assert!(plain.is_none_or(|plain| plain.len() <= most));
        }
    }

    /// `xz --check=none -0` of 136 bytes, as liblzma writes it for journald.
    const XZ: [u8; 88] = [
        0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00, 0x00, 0x00, 0xff, 0x12, 0xd9, 0x41, 0x02, 0x00, 0x21, 0x01, 0x10, 0x00,
        0x00, 0x00, 0xa8, 0x70, 0x8e, 0x86, 0xe0, 0x00, 0x87, 0x00, 0x20, 0x5d, 0x00, 0x26, 0x91, 0x46, 0xac, 0xd0,
        0x6f, 0x74, 0xb8, 0xa6, 0x25, 0x3a, 0x3c, 0xd7, 0x25, 0xde, 0x2f, 0x87, 0x30, 0xe0, 0x16, 0xac, 0xbe, 0xdf,
        0x58, 0x5f, 0x68, 0xad, 0x0f, 0x92, 0xdc, 0x00, 0x00, 0x00, 0x00, 0x01, 0x34, 0x88, 0x01, 0x00, 0x00, 0x00,
        0x50, 0x0d, 0x94, 0x65, 0xa8, 0x00, 0x0a, 0xfc, 0x02, 0x00, 0x00, 0x00, 0x00, 0x00, 0x59, 0x5a,
    ];

    #[test]
    fn xz_is_read_as_far_as_it_is_wanted_and_not_with_a_dictionary_beyond_its_limit() {
        let plain = decoded(Coding::Xz, &XZ, 24).unwrap();
        assert_eq!(plain, b"MESSAGE=out of patience ");
        assert_eq!(decoded(Coding::Xz, &XZ, 4096).unwrap().len(), 136);
        let mut greedy = XZ;
        // The dictionary of the block's header: 1.5 GiB, with the header's checksum put right.
        greedy[16] = 37;
        greedy[20..24].copy_from_slice(&[0x3b, 0x78, 0x7b, 0x41]);
        assert_eq!(decoded(Coding::Xz, &greedy, 24), None);
    }

    #[test]
    fn two_compressions_at_once_are_none() {
        assert_eq!(Coding::of(3), None);
        assert_eq!(Coding::of(8), None);
    }

    #[test]
    fn an_lz4_block_that_claims_to_be_huge_takes_no_memory() {
        let mut stored = u64::MAX.to_le_bytes().to_vec();
        stored.extend([0; 32]);
        assert_eq!(decoded(Coding::Lz4, &stored, 100), None);
    }
}
