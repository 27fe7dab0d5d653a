//! Filesystems of their own that are full, filling, or out of inodes. The remedy leaves alone what is younger than ten seconds,
//! and nobody can set a file's change time back: each of these waits for that.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::Pid;
use theriac_model::id::Digest;
use theriac_model::run::RunState;

use super::stage::{Case, Need, Stage, Whole};
use crate::host::{Host, Service, Setup, pause};

const MIB: usize = 1 << 20;
/// A little over the remedy's `min_age`.
const OLD: Duration = Duration::from_secs(11);

pub(super) const fn case(playbook: &'static str, rung: u32, set: fn() -> Stage) -> Case {
    Case {
        needs: Need::Root("a filesystem of our own takes root in this test; the demo shows it as an ordinary user"),
        ..Case::of(playbook, rung, set)
    }
}

/// A tmpfs that is unmounted with the test.
pub(super) struct Volume {
    pub(super) path: PathBuf,
}

impl Volume {
    pub(super) fn mount(path: &Path, options: &str) -> Self {
        fs::create_dir_all(path).unwrap();
        let options = std::ffi::CString::new(options).unwrap();
        rustix::mount::mount("theriac-test", path, "tmpfs", rustix::mount::MountFlags::NOSUID, options.as_c_str())
            .unwrap();
        Self { path: path.to_owned() }
    }
}

fn fill_up(volume: &Path) {
    let mut rest = File::create(volume.join("rest")).unwrap();
    while rest.write_all(&[0x5a; 65_536]).is_ok() {}
}

impl Drop for Volume {
    fn drop(&mut self) {
        rustix::mount::unmount(&self.path, rustix::mount::UnmountFlags::DETACH).ok();
    }
}

/// Where a disk's stage is: its volume with logs on it, and an archive on a device of its own, whatever room the machine has left.
struct Disk {
    dir: tempfile::TempDir,
    volume: Volume,
    logs: PathBuf,
    archive: Volume,
}

impl Disk {
    fn mount(options: &str) -> Self {
        let dir = Host::scratch();
        let volume = Volume::mount(&dir.path().join("vol"), options);
        let archive = Volume::mount(&dir.path().join("archive"), "size=256m");
        let logs = volume.path.join("log");
        fs::create_dir(&logs).unwrap();
        Self { dir, volume, logs, archive }
    }

    fn write(&self, names: impl IntoIterator<Item = String>, bytes: usize) {
        for (n, name) in names.into_iter().enumerate() {
            fs::write(self.logs.join(name), noise(n, bytes)).unwrap();
        }
    }

    fn stage(self, kind: &'static str, grants: &str, fault: impl FnOnce(&Host) -> Whole + 'static) -> Stage {
        let (volume, logs) = (self.volume.path.display().to_string(), self.logs.display());
        let rules = format!(
            "\n[[mount]]\npath = \"{volume}\"\ntraffic_share = 0.1\n\n[[directory]]\npath = \"{logs}\"\nlabel = \"logs\"\n{grants}\n"
        );
        Stage {
            dir: self.dir,
            setup: Setup { rules, ..Setup::default() },
            kind,
            target: format!("mount:{volume}"),
            fault: Box::new(fault),
            keep: vec![Box::new(self.volume), Box::new(self.archive)],
        }
    }

    fn archives(&self) -> String {
        format!("verbs = [\"archive\"]\narchive_to = \"{}\"", self.archive.path.display())
    }
}

/// Content that does not compress.
fn noise(seed: usize, bytes: usize) -> Vec<u8> {
    let seed = u32::try_from(seed).unwrap();
    (0..u32::try_from(bytes).unwrap())
        .map(|i| (i.wrapping_mul(2_654_435_761).wrapping_add(seed) >> 13).to_le_bytes()[0])
        .collect()
}

fn numbered(range: std::ops::RangeInclusive<u32>) -> impl Iterator<Item = String> {
    range.map(|n| format!("app.log.{n}"))
}

fn wait_until_old() {
    let young = Instant::now();
    while young.elapsed() < OLD {
        pause();
    }
}

fn hashes(dir: &Path) -> BTreeMap<String, Digest> {
    let files = fs::read_dir(dir).unwrap().map(Result::unwrap);
    let hash = |file: &fs::DirEntry| Digest::of(&fs::read(file.path()).unwrap());
    files.map(|file| (file.file_name().into_string().unwrap(), hash(&file))).collect()
}

/// Each log is where it was or archived, never both when the run is over and undone, never twice, never lost.
fn archived_or_kept(logs: PathBuf, archive: PathBuf) -> Whole {
    let before = hashes(&logs);
    Box::new(move |_, state| {
        let now = hashes(&logs);
        let archives: BTreeSet<String> = hashes(&archive).into_keys().collect();
        for (name, hash) in &before {
            let kept = now.get(name);
            let archived = archives.iter().filter(|archive| archive.starts_with(&format!("{name}."))).count();
            assert!(kept.is_none_or(|kept| kept == hash), "{state}: {name} has another content");
            assert!(archived <= 1, "{state}: {name} is archived twice: {archives:?}");
            assert!(kept.is_some() || archived == 1, "{state}: {name} is lost");
            assert!(
                state != RunState::Undone || (kept.is_some() && archived == 0),
                "{state}: {name} was not put back: {archives:?}"
            );
        }
        assert!(now.keys().all(|name| before.contains_key(name)), "{state}: something of ours is left: {now:?}");
        assert!(state != RunState::Committed || now.len() < before.len(), "{state}: nothing was archived");
    })
}

/// Each log is as it was or gone; a run that says that it took nothing away took nothing away.
fn removed_or_kept(logs: PathBuf) -> Whole {
    let before = hashes(&logs);
    Box::new(move |_, state| {
        let now = hashes(&logs);
        for (name, hash) in &now {
            assert_eq!(before.get(name), Some(hash), "{state}: {name} is not what it was");
        }
        let gone = before.len() - now.len();
        match state {
            RunState::Committed => assert!(gone > 0, "{state}: nothing was removed"),
            RunState::FailedNeedsPerson => {}
            _ => assert_eq!(gone, 0, "{state}: something was removed"),
        }
    })
}

pub(super) fn full_of_logs() -> Stage {
    let disk = Disk::mount("size=16m");
    disk.write(numbered(1..=6), MIB);
    let (logs, archive, grants) = (disk.logs.clone(), disk.archive.path.clone(), disk.archives());
    fill_up(&disk.volume.path);
    disk.stage("disk-full", &grants, move |_| {
        wait_until_old();
        archived_or_kept(logs, archive)
    })
}

/// It is a tenth away from full, and something writes.
pub(super) fn filling() -> Stage {
    let disk = Disk::mount("size=16m");
    disk.write(numbered(1..=6), MIB);
    fs::write(disk.volume.path.join("data"), noise(7, 8 * MIB)).unwrap();
    let (logs, archive, grants) = (disk.logs.clone(), disk.archive.path.clone(), disk.archives());
    let grows = disk.volume.path.join("grows");
    disk.stage("disk-filling", &grants, move |_| {
        let mut grows = File::create(grows).unwrap();
        let began = Instant::now();
        // The trend needs ten seconds of history, and the logs have to be as old.
        while began.elapsed() < OLD {
            grows.write_all(&[0x5a; 1024]).unwrap();
            pause();
        }
        archived_or_kept(logs, archive)
    })
}

/// One large log of yesterday beside the newest: one removal is enough.
pub(super) fn full_of_reproducible_logs() -> Stage {
    let disk = Disk::mount("size=16m");
    disk.write(numbered(1..=2), 4 * MIB);
    fill_up(&disk.volume.path);
    let logs = disk.logs.clone();
    disk.stage("disk-full", "verbs = [\"remove\"]\nreproducible = [\"**\"]", move |_| {
        wait_until_old();
        removed_or_kept(logs)
    })
}

/// A log that was deleted while its writer holds it open for appending.
pub(super) fn full_of_a_deleted_log() -> Stage {
    let disk = Disk::mount("size=16m");
    let log = disk.logs.join("app.log");
    let mut writer = Service::new("writer");
    writer.args = vec!["--log".into(), log.display().to_string()];
    let volume = disk.volume.path.clone();
    let grants = "verbs = [\"truncate\"]\nreproducible = [\"**\"]";
    let mine = writer.clone();
    let mut stage = disk.stage("disk-full", grants, move |host| {
        Host::wait_for_status(&mine, "200");
        let pid = host.main_pid("writer");
        fs::OpenOptions::new().append(true).open(&log).unwrap().write_all(&noise(1, 4 * MIB)).unwrap();
        fs::remove_file(&log).unwrap();
        fill_up(&volume);
        wait_until_old();
        let before = held_open(pid);
        assert_eq!(before, [4 * MIB as u64]);
        Box::new(move |_, state| {
            let now = held_open(pid);
            let cut = match state {
                RunState::Committed => true,
                // A kill around the cut: nobody can tell afterwards, and a person is told so.
                RunState::FailedNeedsPerson => now == [0],
                _ => false,
            };
            assert_eq!(now, if cut { vec![0] } else { before.clone() }, "{state}");
        })
    });
    stage.setup.services.push(writer);
    stage
}

/// The sizes of the deleted files that the process holds open on a tmpfs of ours.
fn held_open(pid: Pid) -> Vec<u64> {
    let open = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().map(|fd| fd.unwrap().path());
    let deleted =
        open.filter(|fd| fs::read_link(fd).is_ok_and(|at| at.to_string_lossy().ends_with("app.log (deleted)")));
    deleted.map(|fd| fs::metadata(fd).unwrap().size()).collect()
}

/// Many small logs, and not one inode left.
pub(super) fn out_of_inodes() -> Stage {
    let disk = Disk::mount("size=16m,nr_inodes=60");
    disk.write(numbered(10..=29), 100);
    let full = |n: u32| File::create(disk.volume.path.join(format!("spool-{n}"))).is_err();
    let _taken = (0..60).find(|n| full(*n)).expect("no inode is left");
    let (logs, archive) = (disk.logs.clone(), disk.archive.path.clone());
    let grants = format!(
        "verbs = [\"archive\", \"remove\"]\nreproducible = [\"**\"]\narchive_to = \"{}\"",
        disk.archive.path.display()
    );
    disk.stage("inode-exhaustion", &grants, move |_| {
        wait_until_old();
        let (kept, removed) = (archived_or_kept(logs.clone(), archive.clone()), removed_or_kept(logs));
        Box::new(move |host, state| {
            let archives = fs::read_dir(&archive).unwrap().count() > 0;
            let with_an_archive = archives || state != RunState::Committed;
            if with_an_archive && state != RunState::FailedNeedsPerson {
                kept(host, state)
            } else {
                removed(host, state)
            }
        })
    })
}
