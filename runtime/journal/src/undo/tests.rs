use std::io::Cursor;

use super::*;

const SMALL: Options = Options { quota: 1 << 20, arena: 64 << 10 };

fn store() -> (tempfile::TempDir, UndoStore) {
    let scratch = tempfile::tempdir().unwrap();
    let store = UndoStore::open(&scratch.path().join("undo"), SMALL).unwrap();
    (scratch, store)
}

fn text(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|n| b'a' + u8::try_from(n / 97 % 26).unwrap()).collect()
}

/// Bytes that don't compress.
fn noise(bytes: usize) -> Vec<u8> {
    let mut noise = vec![0; bytes];
    getrandom::fill(&mut noise).unwrap();
    noise
}

fn put(store: &mut UndoStore, bytes: &[u8]) -> Preimage {
    store.put(&mut Cursor::new(bytes)).unwrap()
}

fn get(store: &UndoStore, preimage: &Preimage) -> Vec<u8> {
    let mut bytes = Vec::new();
    store.get(preimage).unwrap().read_to_end(&mut bytes).unwrap();
    bytes
}

fn digest(preimage: &Preimage) -> Digest {
    match preimage {
        Preimage::Stored { content, .. } => *content,
        Preimage::Inline(_) => panic!("inline"),
    }
}

#[test]
fn small_ones_travel_in_the_record_and_larger_ones_are_stored() {
    let (_scratch, mut store) = store();
    let inline = usize::try_from(INLINE).unwrap();
    for (bytes, stored) in [(0, false), (1, false), (inline, false), (inline + 1, true), (300_000, true)] {
        let preimage = put(&mut store, &text(bytes));
        assert_eq!(matches!(preimage, Preimage::Stored { .. }), stored, "{bytes} bytes");
        assert_eq!(get(&store, &preimage), text(bytes));
    }
}

#[test]
fn what_is_put_apart_is_never_in_the_record_however_small() {
    let (_scratch, mut store) = store();
    let preimage = store.put_apart(&mut Cursor::new(b"secret")).unwrap();
    assert!(matches!(preimage, Preimage::Stored { bytes: 6, .. }));
    assert_eq!(get(&store, &preimage), b"secret");
}

#[test]
fn the_same_content_is_kept_once_and_survives_a_restart() {
    let (scratch, mut store) = store();
    let first = put(&mut store, &text(50_000));
    let used = store.used();
    assert_eq!(put(&mut store, &text(50_000)), first);
    assert_eq!(store.used(), used);
    drop(store);
    let store = UndoStore::open(&scratch.path().join("undo"), SMALL).unwrap();
    assert_eq!(get(&store, &first), text(50_000));
}

#[test]
fn a_damaged_one_is_an_error_and_is_replaced_when_it_is_put_again() {
    let (scratch, mut store) = store();
    let preimage = put(&mut store, &noise(20_000));
    let path = scratch.path().join("undo").join(name_of(&digest(&preimage)));
    let mut bytes = std::fs::read(&path).unwrap();
    for at in (0..bytes.len()).step_by(97) {
        bytes[at] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        assert!(matches!(store.get(&preimage).err(), Some(GetError::Damaged { .. } | GetError::Disk(_))), "byte {at}");
        bytes[at] ^= 1;
    }
    std::fs::remove_file(&path).unwrap();
    assert!(store.get(&preimage).is_err());
}

#[test]
fn a_wrong_length_is_noticed() {
    let (_scratch, mut store) = store();
    let Preimage::Stored { content, bytes } = put(&mut store, &text(9_000)) else { panic!("inline") };
    for wrong in [bytes - 1, bytes + 1] {
        assert!(matches!(store.get(&Preimage::Stored { content, bytes: wrong }).err(), Some(GetError::Damaged { .. })));
    }
}

// FS24.
#[test]
fn the_quota_holds_and_leaves_nothing_behind() {
    let (scratch, mut store) = store();
    let kept = put(&mut store, &noise(900_000));
    let error = store.put(&mut Cursor::new(noise(300_000))).unwrap_err();
    assert!(matches!(error, PutError::Quota { quota: Bytes(1_048_576), .. }), "{error}");
    let mut names: Vec<_> = std::fs::read_dir(scratch.path().join("undo"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    let mut expected = [name_of(&digest(&kept)), "arena".into(), "lock".into()];
    expected.sort();
    assert_eq!(names, expected);
    put(&mut store, &noise(50_000));
}

#[test]
fn only_what_is_wanted_is_kept() {
    let (_scratch, mut store) = store();
    let (kept, dropped) = (put(&mut store, &noise(9_000)), put(&mut store, &noise(9_000)));
    assert!(store.retain(&BTreeSet::from([digest(&kept)])).unwrap() >= 9_000);
    assert!(store.get(&kept).is_ok());
    assert!(matches!(store.get(&dropped).err(), Some(GetError::Missing { .. })));
}

#[test]
fn the_arena_gives_its_blocks_out_once_and_takes_them_back() {
    let scratch = tempfile::tempdir().unwrap();
    let directory = Directory::open(scratch.path()).unwrap();
    let mut arena = Arena::open(&directory, 8 * 4096).unwrap();
    let blobs: Vec<Vec<u8>> = (1..=3).map(|n| noise(n * 4000)).collect();
    for blob in &blobs {
        arena.put(Digest::of(blob), blob).unwrap();
    }
    drop(arena);
    let mut arena = Arena::open(&directory, 8 * 4096).unwrap();
    for blob in &blobs {
        assert_eq!(arena.get(&Digest::of(blob)).unwrap(), *blob);
    }
    assert_eq!(arena.largest_free(), 2 * 4096 - 48);
    arena.retain(&BTreeSet::from([Digest::of(&blobs[2])])).unwrap();
    let again = noise(8_000);
    arena.put(Digest::of(&again), &again).unwrap();
    assert_eq!(arena.get(&Digest::of(&blobs[2])).unwrap(), blobs[2]);
    assert_eq!(arena.get(&Digest::of(&again)).unwrap(), again);
}
