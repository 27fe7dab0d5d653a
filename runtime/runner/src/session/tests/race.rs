//! The rename racer: somebody who may write in the granted directory swaps directories, files, symlinks and hard links under the
//! hands of a session that lists, reads, cuts, removes and archives. Nothing outside may be touched or told, however the race goes.
//!
//! The session's mode lets every granted effect through: what is tried here is the files capability alone, with a plan that
//! could not be wider.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rustix::fs::{CWD, RenameFlags, renameat, renameat_with};
use tempfile::TempDir;
use theriac_model::call::{Call, DirCall, EntryCall, Interface, Reply};
use theriac_model::denial::Denial;
use theriac_model::effect::Effect;
use theriac_model::target::MountPath;
use theriac_model::units::Bytes;

use super::world::*;
use crate::gate::{Admission, Draft, Mode};
use crate::session::{Scene, serve};

/// Changes that are tried where nobody asks for more; `cargo xtask race` does.
const TRIES: u64 = 20_000;
/// How the command line of `cargo xtask race` arrives here.
const TRIES_VARIABLE: &str = "THERIAC_RACE_TRIES";
/// What stands in every file outside, and in none inside.
const CANARY: &str = "nobody was granted this";

/// Lets everything through that the grants do.
#[derive(Debug, Default)]
struct Anything {
    effects: u32,
}

impl Mode for Anything {
    fn admit(&mut self, _: &Draft) -> Result<Admission, Denial> {
        self.effects += 1;
        Ok(Admission::Perform { index: self.effects })
    }

    fn in_time(&self, _: &Effect) -> Result<(), Denial> {
        Ok(())
    }

    fn record(&mut self, _: Draft) {}

    fn failed(&mut self, _: &Denial) {}

    fn is_dry(&self) -> bool {
        false
    }
}

/// The granted directory, and beside it what nobody was granted: a directory and two files, which the racer puts links to.
struct Ground {
    place: Place,
    dir: TempDir,
    /// The real `sub`, wherever it is.
    sub: OwnedFd,
}

impl Ground {
    fn lay() -> Self {
        // Memory is where a race is fast; the archive is on the disk.
        let mut place = place();
        let dir = tempfile::tempdir_in("/dev/shm").unwrap();
        for made in ["logs", "logs/sub", "outside", "outside/sub"] {
            std::fs::create_dir(dir.path().join(made)).unwrap();
        }
        for name in ["a.log", "b.log", "sub/a.log", "sub/b.log"] {
            std::fs::write(dir.path().join("outside").join(name), CANARY).unwrap();
            std::fs::write(dir.path().join("logs").join(name), name).unwrap();
        }
        symlink(dir.path().join("outside/sub"), dir.path().join("logs/spare")).unwrap();
        let (logs, aside) = (dir.path().join("logs"), place.disk.path().join("aside"));
        for bound in place.grants.files.values_mut() {
            bound.dir = MountPath::parse(logs.to_str().unwrap()).unwrap();
            bound.archive_to = Some(MountPath::parse(aside.to_str().unwrap()).unwrap());
            (bound.max_files, bound.max_bytes) = (u32::MAX, Bytes(u64::MAX >> 1));
        }
        place.grants.limits.host_calls = u32::MAX;
        let sub = File::open(logs.join("sub")).unwrap().into();
        Self { place, dir, sub }
    }

    fn logs(&self, name: &str) -> PathBuf {
        self.dir.path().join("logs").join(name)
    }

    fn outside(&self) -> PathBuf {
        self.dir.path().join("outside")
    }

    /// Every file outside: name, content, mode, owner, modification time, and the number of its names.
    fn fingerprint(&self) -> Vec<String> {
        let links = |name: &str| self.outside().join(name).metadata().unwrap().nlink();
        let mut all = snapshot(&self.outside());
        all.extend(
            ["a.log", "b.log", "sub/a.log", "sub/b.log"].map(|name| format!("{name} has {} names", links(name))),
        );
        all
    }

    /// One move of the racer. Not each succeeds, for the session takes names away too.
    fn swap(&self, turn: u64) {
        let (new, a, b) = (self.logs("new"), self.logs("a.log"), self.logs("b.log"));
        let put = |name: &Path| renameat(CWD, &new, CWD, name).ok();
        let into_sub = |name: &str| renameat(CWD, &new, &self.sub, name).ok();
        let outside = |name: &str| self.outside().join(name);
        match turn % 8 {
            // A directory for a link to another.
            0 | 4 => {
                let (sub, spare) = (self.logs("sub"), self.logs("spare"));
                renameat_with(CWD, &sub, CWD, &spare, RenameFlags::EXCHANGE).ok()
            }
            // A file for a link to another.
            1 => symlink(outside("a.log"), &new).ok().and_then(|()| put(&a)),
            2 => std::fs::write(&new, "a").ok().and_then(|()| put(&a)),
            // A file for a second name of another, and back.
            3 => std::fs::hard_link(outside("b.log"), &new).ok().and_then(|()| put(&b)),
            5 => std::fs::write(&new, "b").ok().and_then(|()| put(&b)),
            // Fresh files in the real directory, wherever it is.
            6 => std::fs::write(&new, "sub a").ok().and_then(|()| into_sub("a.log")),
            _ => std::fs::write(&new, "sub b").ok().and_then(|()| into_sub("b.log")),
        };
        // It is still there if it could not be put into its place, or is another name of what is there: a link that must not be
        // written through the next time.
        std::fs::remove_file(&new).ok();
    }
}

/// Ends the race, also where an expectation did not hold.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What came of the tries.
#[derive(Debug, Default)]
struct Tally {
    done: [u64; 4],
    denied: u64,
}

/// The verb of a try; the archive is the slow one, for it is made durable on a disk.
fn verb(turn: u64) -> (usize, EntryCall) {
    match turn % 16 {
        0 => (3, EntryCall::Archive),
        1..=6 => (0, EntryCall::Truncate),
        7..=11 => (1, EntryCall::Remove),
        _ => (2, EntryCall::Tail { max: 100 }),
    }
}

/// Lists, and tries one verb on each file that was found, until there were so many tries.
fn session(ground: &Ground, tries: u64) -> Tally {
    let mut scene = Scene::new(&ground.place.world, &ground.place.grants, run(), "test-remedy".parse().unwrap());
    let (mut mode, mut tally, mut tried) = (Anything::default(), Tally::default(), 0);
    let mut ask = |call: Call| serve::answer(&mut scene, &mut mode, call);
    let dir = open(&mut ask, Interface::Files, "logs");
    while tried < tries {
        let Reply::Entries { entries, .. } =
            ask(Call::Dir { handle: dir, verb: DirCall::List { filter: ALL, cursor: 0 } })
        else {
            panic!()
        };
        for found in entries {
            assert!(!found.name.contains("outside"), "{}", found.name);
            let (kind, verb) = verb(tried);
            tried += 1;
            match ask(on(found.handle, verb)) {
                Reply::Count(_) => tally.done[kind] += 1,
                Reply::Bytes(bytes) => {
                    assert!(!String::from_utf8_lossy(&bytes.0).contains(CANARY), "read through {}", found.name);
                    tally.done[kind] += 1;
                }
                Reply::Denied(_) => tally.denied += 1,
                other => panic!("{other:?}"),
            }
            ask(Call::Drop { handle: found.handle });
        }
        // The journal is in memory here, and nobody asks it.
        ground.place.notes.entries.lock().unwrap().clear();
    }
    tally
}

/// No archive holds what lies outside.
fn archives_hold_no_canary(ground: &Ground) -> usize {
    let archives = std::fs::read_dir(ground.place.disk.path().join("aside")).unwrap();
    let mut count = 0;
    for archive in archives.map(|entry| entry.unwrap().path()) {
        let mut content = String::new();
        zstd::stream::read::Decoder::new(File::open(&archive).unwrap()).unwrap().read_to_string(&mut content).unwrap();
        assert!(!content.contains(CANARY), "{}", archive.display());
        count += 1;
    }
    count
}

// FS06, FS07, FS08.
#[test]
fn no_race_of_renames_leads_outside() {
    let tries = std::env::var(TRIES_VARIABLE).map_or(TRIES, |text| text.parse().unwrap());
    let ground = Ground::lay();
    let before = ground.fingerprint();
    let (stop, swaps) = (AtomicBool::new(false), AtomicU64::new(0));
    let tally = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                ground.swap(swaps.fetch_add(1, Ordering::Relaxed));
            }
        });
        let _end = End(&stop);
        session(&ground, tries)
    });
    // A second name that the racer left is his.
    std::fs::remove_file(ground.logs("b.log")).ok();
    std::fs::remove_file(ground.logs("new")).ok();
    assert_eq!(ground.fingerprint(), before);
    assert!(tally.done.iter().take(3).all(|done| *done > 0) && tally.denied > 0, "the race was run: {tally:?}");
    // An archive takes so long that a racer may spoil every one; left alone, the same session makes them.
    std::fs::write(ground.logs("a.log"), "a").unwrap();
    assert!(session(&ground, 1).done[3] > 0, "what nobody swaps is archived");
    let archives = archives_hold_no_canary(&ground);
    println!("{tries} tries against {} swaps: {tally:?}, {archives} archives, 0 effects outside", swaps.into_inner());
}
