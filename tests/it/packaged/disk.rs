//! Volumes full of logs: filesystems of their own, filled by a unit that writes, rotates and then runs away. On one of them old
//! logs may be archived to another device, on the other they may be lost.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use theriac_model::effect::{Effect, FileVerb};
use theriac_model::run::RunState;

use super::configuration::Playbook;
use super::machine::Machine;
use super::{Fault, Healed, heal};

/// Less than this share of free space is a fault.
const FULL: f64 = 0.05;
/// The grant spares logs that were rotated this moment.
const SPARED: Duration = Duration::from_secs(10);
const ROTATED: usize = 8;

pub(super) const LISTED: &str = r#"
[[mount]]
path          = "/srv/shop"
traffic_share = 0.1
disk_full     = 0.05
disk_filling  = 0.1

[[directory]]
path       = "/srv/shop/log"
label      = "logs"
verbs      = ["archive"]
archive_to = "/var/archive"

[[mount]]
path          = "/srv/mail"
traffic_share = 0.1
disk_full     = 0.05
disk_filling  = 0.1

[[directory]]
path         = "/srv/mail/log"
label        = "logs"
verbs        = ["remove"]
reproducible = ["**/*.[0-9]"]
"#;

/// Writes and rotates its log, then waits until it is told to run away: it then takes every block that is left, and keeps its
/// log open.
const LOGGER: &str = "\
for n in 1 2 3 4 5 6 7 8; do
  head -c 3M /dev/urandom > live.log
  mv live.log app.log.$n
done
exec >> live.log
until [ -e ../run-away ]; do sleep 0.1; done
rm ../run-away
cat /dev/urandom
exec sleep infinity
";

pub(super) fn playbooks() -> Vec<Playbook> {
    let rungs = vec![
        ("disk-reclaim", "mode: archive, keep_days: 0, target_available: 150", 1, "30s"),
        ("disk-reclaim", "mode: reclaim, keep_days: 0, target_available: 150", 2, "30s"),
    ];
    vec![Playbook { name: "disk-full", kind: "disk-full", target: None, rungs }]
}

pub(super) fn install(machine: &Machine) {
    machine.write("/usr/local/lib/logger.sh", LOGGER);
    machine.run(&["mkdir", "-p", "/var/archive"]);
    for name in ["shop", "mail"] {
        let kind = mount(machine, name);
        println!("/srv/{name}: {kind}");
        machine.run(&["mkdir", &format!("/srv/{name}/log")]);
        let service = format!("WorkingDirectory=/srv/{name}/log\nExecStart=/bin/sh /usr/local/lib/logger.sh");
        machine.start_service(&format!("{name}.service"), &service);
    }
}

/// Loop devices are not in a container's /dev, and its kernel is this machine's.
const MOUNT: &str = "\
set -e
[ -e /dev/loop-control ] || mknod /dev/loop-control c 10 237
for n in 0 1 2 3 4 5 6 7 8 9; do [ -e /dev/loop$n ] || mknod /dev/loop$n b 7 $n; done
mkfs.ext4 -q $1
mount -o loop $1 $2
";

/// A filesystem of 48 MiB: ext4, which keeps blocks back for root as a real volume does; a tmpfs where the kernel hands out no
/// loop device.
fn mount(machine: &Machine, name: &str) -> &'static str {
    let (image, dir) = (format!("/var/tmp/{name}.img"), format!("/srv/{name}"));
    machine.run(&["mkdir", "-p", &dir]);
    machine.run(&["truncate", "--size=48M", &image]);
    if machine.place().run(&["sh", "-c", MOUNT, "mount", &image, &dir]).is_ok() {
        return "ext4";
    }
    machine.run(&["mount", "-t", "tmpfs", "-o", "size=48M", "tmpfs", &dir]);
    "tmpfs: no loop device here"
}

pub(super) fn is_full_and_its_rotated_logs_are_archived(machine: &Machine) -> Healed {
    let healed = fill(machine, "volume full: logs archived", "shop", "mount:/srv/shop");
    assert_eq!(healed.runs(), [RunState::Committed]);
    let archived = verbs(&healed, |verb| matches!(verb, FileVerb::Archive { .. }));
    assert_eq!(listed_in(machine, "/var/archive"), archived, "each of them is on the other device");
    println!("/srv/shop: {archived} of {ROTATED} rotated logs archived");
    healed
}

/// There is no archive for it, so that only the second rung is left.
pub(super) fn is_full_and_its_rotated_logs_are_removed(machine: &Machine) -> Healed {
    let before = listed_in(machine, "/var/archive");
    let healed = fill(machine, "volume full: logs removed", "mail", "mount:/srv/mail");
    let removed = verbs(&healed, |verb| matches!(verb, FileVerb::Remove { .. }));
    assert_eq!(healed.runs().last(), Some(&RunState::Committed));
    assert_eq!(listed_in(machine, "/srv/mail/log"), ROTATED - removed + 1, "the others and the live log are there");
    assert_eq!(listed_in(machine, "/var/archive"), before);
    println!("/srv/mail: {removed} of {ROTATED} rotated logs removed, runs {:?}", healed.runs());
    healed
}

/// How many files were changed; all of them in this way.
fn verbs(healed: &Healed, wanted: impl Fn(&FileVerb) -> bool) -> usize {
    let effects = healed.effects();
    assert!(effects.iter().all(|effect| matches!(effect, Effect::File { verb, .. } if wanted(verb))), "{effects:?}");
    assert!(!effects.is_empty());
    effects.len()
}

fn listed_in(machine: &Machine, dir: &str) -> usize {
    fs::read_dir(machine.place().path(dir)).unwrap().count()
}

/// Lets the unit run away with what is left of its volume.
fn fill(machine: &Machine, name: &'static str, unit: &str, target: &'static str) -> Healed {
    let volume = format!("/srv/{unit}");
    let newest = machine.place().path(&format!("{volume}/log/app.log.{ROTATED}"));
    machine.until("its rotated logs to be old enough", || age(&newest).is_some_and(|age| age > SPARED));
    let live = machine.place().path(&format!("{volume}/log/live.log"));
    let inode = fs::metadata(&live).unwrap().ino();
    let broken = || {
        machine.write(&format!("{volume}/run-away"), "");
        machine.until(&format!("{volume} to be full"), || free(machine, &volume) < FULL);
        Instant::now()
    };
    let fault = Fault { name, kind: "disk-full", target, mission: Duration::from_secs(5) };
    let healed = heal(machine, fault, broken, || free(machine, &volume) >= FULL);
    assert_eq!(fs::metadata(&live).unwrap().ino(), inode, "what the unit writes to is not touched");
    assert!(newest.exists(), "the newest is spared");
    healed
}

fn age(path: &Path) -> Option<Duration> {
    // Not its mtime alone: the grant goes by the younger of both.
    let changed = fs::metadata(path).ok()?.ctime();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    now.checked_sub(Duration::from_secs(u64::try_from(changed).unwrap()))
}

/// The share of the volume that others than root may still take.
fn free(machine: &Machine, volume: &str) -> f64 {
    let space = rustix::fs::statvfs(machine.place().path(volume)).unwrap();
    #[expect(clippy::cast_precision_loss, reason = "a volume of 48 MiB")]
    let share = space.f_bavail as f64 / space.f_blocks as f64;
    share
}
