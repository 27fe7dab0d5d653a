//! The promise about full disks, on a real file system with no free block and no free inode: a tmpfs of our own, in a user and
//! mount namespace, so that any user can run it.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Cursor, Read as _, Write as _};
use std::path::Path;
use std::process::Command;

use theriac_model::effect::Preimage;

use crate::fixture::{line, open, stamp};
use crate::index::Index;
use crate::ledger::audit;
use crate::ledger::checkpoint::tests::TestKey;
use crate::segment::{AppendError, Durability};
use crate::undo::{self, PutError, UndoStore};

const INSIDE: &str = "THERIAC_TEST_FULL_DISK";
const STORE: undo::Options = undo::Options { quota: 1 << 20, arena: 64 << 10 };

#[test]
fn everything_goes_on_with_no_free_block_and_no_free_inode() {
    if std::env::var_os(INSIDE).is_some() {
        let scratch = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=2m,nr_inodes=64", "none"])
            .arg(scratch.path())
            .status()
            .unwrap();
        assert!(mounted.success());
        on_a_full_disk(scratch.path());
        return;
    }
    let can = Command::new("unshare").args(["-Urm", "true"]).output();
    if !can.is_ok_and(|can| can.status.success()) {
        println!("not possible here: no user and mount namespace");
        return;
    }
    let name = "full_disk::everything_goes_on_with_no_free_block_and_no_free_inode";
    let inside = Command::new("unshare")
        .arg("-Urm")
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(INSIDE, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&inside.stdout);
    assert!(inside.status.success() && said.contains("1 passed"), "{said}{}", String::from_utf8_lossy(&inside.stderr));
}

/// Takes every inode, then every block.
fn fill(disk: &Path) {
    let mut file = File::create(disk.join("hog")).unwrap();
    while file.write_all(&[0; 4096]).is_ok() {}
    for n in 0.. {
        if File::create(disk.join(format!("inode-{n}"))).is_err() {
            break;
        }
    }
    assert!(File::create(disk.join("one-more")).is_err());
    assert!(file.write_all(&[0; 4096]).is_err());
    let left = rustix::fs::statvfs(disk).unwrap();
    assert_eq!((left.f_bfree, left.f_ffree), (0, 0));
}

fn on_a_full_disk(disk: &Path) {
    let undo = disk.join("undo");
    let mut journal = open(disk).unwrap().journal;
    let mut store = UndoStore::open(&undo, STORE).unwrap();
    let mut index = Index::open(&disk.join("index.db"), &journal, 64 << 10).unwrap();
    fill(disk);

    // Two segments of 4 KiB are in reserve, and a third is in use after the first record.
    let mut written = 0;
    for n in 0..25 {
        let entry = journal.append(stamp(n), line(n), Durability::Synced).unwrap();
        index.add(&[entry]).unwrap();
        written += 1;
    }
    journal.seal().unwrap().unwrap();
    assert!(journal.unsealed().is_none());
    index.close(&journal).unwrap();

    let text = "a line of configuration\n".repeat(8_000);
    let kept = store.put(&mut Cursor::new(text.as_bytes())).unwrap();
    let mut noise = vec![0; 300_000];
    getrandom::fill(&mut noise).unwrap();
    let refused = store.put(&mut Cursor::new(&noise)).unwrap_err();
    assert!(matches!(refused, PutError::NoRoom { .. }), "{refused}");

    // Killed and started again, with the disk as full as before.
    drop((journal, store));
    let opened = open(disk).unwrap();
    assert_eq!(opened.entries.len(), written);
    let mut journal = opened.journal;
    let mut store = UndoStore::open(&undo, STORE).unwrap();
    let read_back = |store: &UndoStore| {
        let mut bytes = String::new();
        store.get(&kept).unwrap().read_to_string(&mut bytes).unwrap();
        bytes
    };
    assert_eq!(read_back(&store), text);
    assert_eq!(Index::open(&disk.join("index.db"), &journal, 64 << 10).unwrap().next(), written as u64);
    let report =
        audit::verify(&disk.join("journal"), &disk.join("ledger"), &TestKey::new(1).verifier(), Default::default());
    assert!(report.finding.is_none() && report.sealed == written as u64, "{:?}", report.finding);

    let error = loop {
        if let Err(error) = journal.append(stamp(0), line(0), Durability::Synced) {
            break error;
        }
    };
    assert!(matches!(error, crate::log::AppendError::Segment(AppendError::NoRoom { .. })), "{error}");

    std::fs::remove_file(disk.join("hog")).unwrap();
    for n in 0..8 {
        std::fs::remove_file(disk.join(format!("inode-{n}"))).unwrap();
    }
    journal.append(stamp(0), line(0), Durability::Synced).unwrap();
    let Preimage::Stored { content, .. } = &kept else { panic!("inline") };
    store.retain(&BTreeSet::from([*content])).unwrap();
    assert!(store.used() > 0, "the arena was emptied into a file");
    assert_eq!(read_back(&store), text);
}
