//! RFC 6962 tree hashing: pure functions over hashes, no files.

use sha2::{Digest as _, Sha256};

/// A hash of the tree.
pub type Hash = [u8; 32];

/// The hash of one entry's bytes.
pub fn leaf_hash(entry: &[u8]) -> Hash {
    Sha256::new().chain_update([0]).chain_update(entry).finalize().into()
}

fn node_hash(left: &Hash, right: &Hash) -> Hash {
    Sha256::new().chain_update([1]).chain_update(left).chain_update(right).finalize().into()
}

/// A tree that grows: its size and the roots of its complete subtrees, one per bit of the size.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    // INVARIANT: as many as `size` has one-bits, largest subtree first.
    peaks: Vec<Hash>,
}

impl Frontier {
    /// Adds a leaf by its hash.
    pub fn push(&mut self, leaf: Hash) {
        let mut hash = leaf;
        for _ in 0..self.size.trailing_ones() {
            if let Some(left) = self.peaks.pop() {
                hash = node_hash(&left, &hash);
            }
        }
        self.peaks.push(hash);
        self.size += 1;
    }

    /// How many leaves.
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// The root; of an empty tree, the hash of nothing.
    pub fn root(&self) -> Hash {
        let folded = self.peaks.iter().rev().copied().reduce(|right, left| node_hash(&left, &right));
        folded.unwrap_or_else(|| Sha256::digest([]).into())
    }
}

/// The root over some leaves.
pub fn root(leaves: &[Hash]) -> Hash {
    let mut tree = Frontier::default();
    leaves.iter().for_each(|leaf| tree.push(*leaf));
    tree.root()
}

/// The largest power of two below `leaves`, which is at least 2.
const fn split(leaves: usize) -> usize {
    1 << (usize::BITS - 1 - (leaves - 1).leading_zeros())
}

/// Proves that the leaf at `index` is in the tree over `leaves`; `None` when there is no such leaf.
pub fn inclusion_proof(leaves: &[Hash], index: usize) -> Option<Vec<Hash>> {
    if index >= leaves.len() {
        return None;
    }
    let (mut leaves, mut index, mut proof) = (leaves, index, Vec::new());
    while leaves.len() > 1 {
        let (left, right) = leaves.split_at_checked(split(leaves.len()))?;
        let other = if index < left.len() {
            leaves = left;
            right
        } else {
            index -= left.len();
            leaves = right;
            left
        };
        proof.push(root(other));
    }
    proof.reverse();
    Some(proof)
}

/// Proves that the tree over the first `old` of `leaves` is a prefix of the whole; `None` when it can't be (0 or too many).
pub fn consistency_proof(leaves: &[Hash], old: usize) -> Option<Vec<Hash>> {
    if old == 0 || old > leaves.len() {
        return None;
    }
    let (mut leaves, mut old, mut whole, mut proof) = (leaves, old, true, Vec::new());
    while old < leaves.len() {
        let (left, right) = leaves.split_at_checked(split(leaves.len()))?;
        if old <= left.len() {
            proof.push(root(right));
            leaves = left;
        } else {
            proof.push(root(left));
            old -= left.len();
            leaves = right;
            whole = false;
        }
    }
    if !whole {
        proof.push(root(leaves));
    }
    proof.reverse();
    Some(proof)
}

/// Checks an inclusion proof (RFC 9162, 2.1.3.2).
pub fn verify_inclusion(leaf: Hash, index: u64, size: u64, proof: &[Hash], root: &Hash) -> bool {
    if index >= size {
        return false;
    }
    let (mut at, mut last, mut hash) = (index, size - 1, leaf);
    for step in proof {
        if last == 0 {
            return false;
        }
        if at & 1 == 1 || at == last {
            hash = node_hash(step, &hash);
            let levels = if at & 1 == 1 { 0 } else { at.trailing_zeros().min(u64::BITS - 1) };
            (at, last) = (at >> levels, last >> levels);
        } else {
            hash = node_hash(&hash, step);
        }
        (at, last) = (at >> 1, last >> 1);
    }
    last == 0 && hash == *root
}

/// One side of a consistency check: a tree's size and root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TreeHead {
    /// How many leaves.
    pub size: u64,
    /// Their root.
    pub root: Hash,
}

/// Checks a consistency proof (RFC 9162, 2.1.4.2).
pub fn verify_consistency(old: TreeHead, new: TreeHead, proof: &[Hash]) -> bool {
    if old.size == 0 || old.size > new.size {
        return false;
    }
    if old.size == new.size {
        return proof.is_empty() && old.root == new.root;
    }
    let (mut steps, complete) = (proof.iter(), old.size.is_power_of_two());
    let Some(first) = (if complete { Some(&old.root) } else { steps.next() }) else { return false };
    let levels = (old.size - 1).trailing_ones();
    let (mut at, mut last) = ((old.size - 1) >> levels, (new.size - 1) >> levels);
    let (mut from_old, mut from_new) = (*first, *first);
    for step in steps {
        if last == 0 {
            return false;
        }
        if at & 1 == 1 || at == last {
            from_old = node_hash(step, &from_old);
            from_new = node_hash(step, &from_new);
            let levels = if at & 1 == 1 { 0 } else { at.trailing_zeros().min(u64::BITS - 1) };
            (at, last) = (at >> levels, last >> levels);
        } else {
            from_new = node_hash(&from_new, step);
        }
        (at, last) = (at >> 1, last >> 1);
    }
    last == 0 && from_old == old.root && from_new == new.root
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use theriac_model::id::Digest;

    use super::*;

    fn leaves(count: usize) -> Vec<Hash> {
        (0..count).map(|n| leaf_hash(&n.to_le_bytes())).collect()
    }

    fn head(leaves: &[Hash]) -> TreeHead {
        TreeHead { size: leaves.len() as u64, root: root(leaves) }
    }

    /// The definition of RFC 6962, 2.1, as it is written there.
    fn by_definition(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => Sha256::digest([]).into(),
            [leaf] => *leaf,
            _ => {
                let (left, right) = leaves.split_at(split(leaves.len()));
                node_hash(&by_definition(left), &by_definition(right))
            }
        }
    }

    #[test]
    fn the_growing_tree_agrees_with_the_definition() {
        let all = leaves(70);
        for size in 0..=all.len() {
            assert_eq!(root(&all[..size]), by_definition(&all[..size]), "size {size}");
        }
    }

    #[test]
    fn roots_are_those_of_the_public_test_vectors() {
        // The eight entries that Certificate Transparency implementations test against.
        let entries: [&[u8]; 8] = [
            b"",
            b"\x00",
            b"\x10",
            b"\x20\x21",
            b"\x30\x31",
            b"\x40\x41\x42\x43",
            b"\x50\x51\x52\x53\x54\x55\x56\x57",
            b"\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f",
        ];
        let all: Vec<Hash> = entries.iter().map(|entry| leaf_hash(entry)).collect();
        let hex = |hash: Hash| Digest::from_bytes(hash).hex();
        expect!["6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"].assert_eq(&hex(root(&all[..1])));
        expect!["5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"].assert_eq(&hex(root(&all)));
    }

    #[test]
    fn every_inclusion_proof_holds_for_its_leaf_and_for_no_other() {
        let all = leaves(33);
        for size in 1..=all.len() {
            let (tree, known) = (&all[..size], root(&all[..size]));
            for index in 0..size {
                let proof = inclusion_proof(tree, index).unwrap();
                let holds =
                    |leaf, at: usize, proof: &[Hash]| verify_inclusion(leaf, at as u64, size as u64, proof, &known);
                assert!(holds(tree[index], index, &proof), "{index} of {size}");
                assert!(!holds([0; 32], index, &proof));
                assert!(!holds(tree[index], (index + 1) % (size + 1), &proof));
                assert!(!holds(tree[index], index, &[&proof[..], &[[0; 32]]].concat()));
                assert!(proof.is_empty() || !holds(tree[index], index, &proof[1..]));
            }
            assert_eq!(inclusion_proof(tree, size), None);
        }
    }

    #[test]
    fn every_consistency_proof_holds_for_its_prefix_and_for_no_other() {
        let all = leaves(33);
        for new in 1..=all.len() {
            for old in 1..=new {
                let proof = consistency_proof(&all[..new], old).unwrap();
                let (before, after) = (head(&all[..old]), head(&all[..new]));
                assert!(verify_consistency(before, after, &proof), "{old} of {new}");
                assert!(!verify_consistency(TreeHead { root: [0; 32], ..before }, after, &proof));
                assert!(!verify_consistency(before, TreeHead { root: [0; 32], ..after }, &proof));
                assert!(!verify_consistency(before, after, &[&proof[..], &[[0; 32]]].concat()));
                assert!(proof.is_empty() || !verify_consistency(before, after, &proof[1..]));
            }
        }
    }
}
