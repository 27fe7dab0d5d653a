//! The two hash functions of the format's tables: SipHash-2-4 keyed by the file's id, and Jenkins' lookup3 in files without a key.

use siphasher::sip::SipHasher24;

pub(super) fn keyed(file_id: &[u8; 16], payload: &[u8]) -> u64 {
    SipHasher24::new_with_key(file_id).hash(payload)
}

/// `jenkins_hashlittle2` with both seeds zero: its first result is the upper half.
pub(super) fn jenkins(payload: &[u8]) -> u64 {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    let start = 0xdead_beef_u32.wrapping_add(length);
    let mut state = [start; 3];
    let mut rest = payload;
    while let Some((block, after)) = rest.split_first_chunk::<12>().filter(|(_, after)| !after.is_empty()) {
        state = mix(add(state, block));
        rest = after;
    }
    if !rest.is_empty() {
        let mut last = [0; 12];
        last.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
        state = last_mix(add(state, &last));
    }
    let [_, b, c] = state;
    u64::from(c) << 32 | u64::from(b)
}

fn add([a, b, c]: [u32; 3], [a0, a1, a2, a3, b0, b1, b2, b3, c0, c1, c2, c3]: &[u8; 12]) -> [u32; 3] {
    [
        a.wrapping_add(u32::from_le_bytes([*a0, *a1, *a2, *a3])),
        b.wrapping_add(u32::from_le_bytes([*b0, *b1, *b2, *b3])),
        c.wrapping_add(u32::from_le_bytes([*c0, *c1, *c2, *c3])),
    ]
}

fn mix([mut a, mut b, mut c]: [u32; 3]) -> [u32; 3] {
    for (first, second, third) in [(4, 6, 8), (16, 19, 4)] {
        a = a.wrapping_sub(c) ^ c.rotate_left(first);
        c = c.wrapping_add(b);
        b = b.wrapping_sub(a) ^ a.rotate_left(second);
        a = a.wrapping_add(c);
        c = c.wrapping_sub(b) ^ b.rotate_left(third);
        b = b.wrapping_add(a);
    }
    [a, b, c]
}

fn last_mix([mut a, mut b, mut c]: [u32; 3]) -> [u32; 3] {
    c = (c ^ b).wrapping_sub(b.rotate_left(14));
    a = (a ^ c).wrapping_sub(c.rotate_left(11));
    b = (b ^ a).wrapping_sub(a.rotate_left(25));
    c = (c ^ b).wrapping_sub(b.rotate_left(16));
    a = (a ^ c).wrapping_sub(c.rotate_left(4));
    b = (b ^ a).wrapping_sub(a.rotate_left(14));
    c = (c ^ b).wrapping_sub(b.rotate_left(24));
    [a, b, c]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jenkins_gives_the_values_of_its_authors_own_test() {
        assert_eq!(jenkins(b""), 0xdead_beef_dead_beef);
        assert_eq!(jenkins(b"Four score and seven years ago"), 0x1777_0551_ce72_26e6);
    }

    #[test]
    fn the_keyed_hash_is_that_of_the_siphash_paper() {
        let key = std::array::from_fn(|index| u8::try_from(index).unwrap());
        let input: Vec<u8> = (0..15).collect();
        assert_eq!(keyed(&key, &input), 0xa129_ca61_49be_45e5);
    }
}
