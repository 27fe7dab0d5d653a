//! Logs of units out of the files of a real journald, compared with what `journalctl` makes of them.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::time::Instant;

use theriac_runner::backend::ServiceManager as _;

use super::{TIMEOUT, World, unit, until};

const UNITS: &str = "/etc/systemd/system";

fn tail(world: &World, name: &str) -> Vec<String> {
    world.systemd.log_tail(&unit(name), 200).unwrap()
}

/// What journald has of a unit: its own lines, and those of PID 1 about it.
fn by_journalctl(world: &World, name: &str) -> Vec<String> {
    let (own, about) = (format!("_SYSTEMD_UNIT={name}"), format!("UNIT={name}"));
    let words = ["journalctl", "--quiet", "--no-pager", "--output=cat", "--lines=200", &own, "+", "_PID=1", &about];
    world.machine.run(&words).unwrap().lines().map(str::to_owned).collect()
}

fn write_unit(world: &World, name: &str, text: &str) {
    world.machine.write(&format!("{UNITS}/{name}"), text).unwrap();
    world.machine.run(&["systemctl", "daemon-reload"]).unwrap();
}

/// Starts it and waits until it is over and journald has all of it.
fn run_to_its_end(world: &World, name: &str) {
    // One that fails at once has failed when the job is answered, or just after.
    world.systemd.start(&unit(name), TIMEOUT).ok();
    until("the end of the unit", || Some(()).filter(|()| !world.systemd.state(&unit(name)).unwrap().is_up()));
    // What was sent to journald by now is written.
    world.machine.run(&["journalctl", "--sync"]).unwrap();
}

pub(super) fn the_log_is_what_the_unit_wrote_and_systemd_said_of_it_and_no_clients_claim(world: &World) {
    let says = "echo first words; echo \"bind() failed: Address already in use\" >&2; exit 3";
    write_unit(world, "talker.service", &format!("[Service]\nExecStart=/bin/sh -c '{says}'\n"));
    run_to_its_end(world, "talker.service");
    let fields = "MESSAGE=forged by a client\nUNIT=talker.service\n_SYSTEMD_UNIT=talker.service\n_PID=1\n";
    world.machine.write("/tmp/forged", fields).unwrap();
    world
        .machine
        .run(&["systemd-run", "--wait", "--quiet", "--unit=forger", "logger", "--journald=/tmp/forged"])
        .unwrap();
    let claimed = world.machine.run(&["journalctl", "--quiet", "--output=cat", "UNIT=talker.service"]).unwrap();
    assert!(claimed.contains("forged by a client"), "journald took it, as a claim: {claimed}");

    let lines = tail(world, "talker.service");
    assert_eq!(lines, by_journalctl(world, "talker.service"));
    for wanted in ["first words", "bind() failed: Address already in use"] {
        assert!(lines.iter().any(|line| line == wanted), "{lines:?}");
    }
    assert!(lines.iter().any(|line| line.contains("Main process exited, code=exited, status=3")), "{lines:?}");
    assert!(!lines.iter().any(|line| line.contains("forged")), "{lines:?}");
    let newest = world.systemd.log_tail(&unit("talker.service"), 2).unwrap();
    assert!(newest.len() == 2 && lines.ends_with(&newest), "{newest:?}");
}

/// Hashes and the compact form are chosen by journald's environment; its files say which they have, and that they are compressed.
pub(super) fn every_form_that_journald_writes_is_read(world: &World) {
    let long = "printf \"%%03000d\\n\" 7; echo short";
    write_unit(world, "chatter.service", &format!("[Service]\nExecStart=/bin/sh -c '{long}'\n"));
    for (round, (keyed, compact)) in [("0", "0"), ("1", "0"), ("0", "1"), ("1", "1")].into_iter().enumerate() {
        let environment =
            format!("[Service]\nEnvironment=SYSTEMD_JOURNAL_KEYED_HASH={keyed} SYSTEMD_JOURNAL_COMPACT={compact}\n");
        world.machine.write(&format!("{UNITS}/systemd-journald.service.d/form.conf"), &environment).unwrap();
        world.machine.run(&["systemctl", "daemon-reload"]).unwrap();
        world.machine.run(&["systemctl", "restart", "systemd-journald"]).unwrap();
        world.machine.run(&["journalctl", "--rotate"]).unwrap();
        run_to_its_end(world, "chatter.service");
        let header = world.machine.run(&["journalctl", "--header", "--file", &newest(world)]).unwrap();
        let flags = header.lines().find(|line| line.starts_with("Incompatible")).unwrap_or_default();
        assert_eq!(
            (flags.contains("KEYED-HASH"), flags.contains("COMPACT")),
            (keyed == "1", compact == "1"),
            "{flags}"
        );
        assert!(flags.contains("COMPRESSED-"), "{flags}");
        let lines = tail(world, "chatter.service");
        let cut = |line: String| line.chars().take(2048).collect::<String>();
        let expected: Vec<String> = by_journalctl(world, "chatter.service").into_iter().map(cut).collect();
        assert_eq!(lines, expected, "{flags}");
        let long_lines = lines.iter().filter(|line| line.len() == 2048 && line.starts_with("000")).count();
        assert_eq!(long_lines, round + 1, "each round's, over all files: {flags}");
        println!("read: {flags}");
    }
}

pub(super) fn a_unit_with_a_user_or_a_journald_of_its_own_is_read_too(world: &World) {
    // journald keeps what users above 999 write in files of their own.
    world.machine.run(&["/bin/sh", "-c", "echo talker:x:2000:2000::/:/bin/sh >> /etc/passwd"]).unwrap();
    write_unit(world, "users.service", "[Service]\nUser=2000\nExecStart=/bin/echo from a user\n");
    run_to_its_end(world, "users.service");
    assert!(tail(world, "users.service").iter().any(|line| line == "from a user"));
    assert!(files(world).iter().any(|file| file.to_string_lossy().contains("user-2000")), "{:?}", files(world));

    write_unit(world, "apart.service", "[Service]\nLogNamespace=apart\nExecStart=/bin/echo from afar\n");
    run_to_its_end(world, "apart.service");
    until("the other journald to write it", || {
        tail(world, "apart.service").iter().any(|line| line == "from afar").then_some(())
    });
}

/// Bytes of a real file are flipped, put back, and at last the file is cut: an answer or an error, in time.
pub(super) fn real_files_that_were_damaged_are_survived(world: &World) {
    world.machine.run(&["journalctl", "--rotate"]).unwrap();
    let before = tail(world, "chatter.service");
    let archived = files(world).into_iter().find(|file| file.to_string_lossy().contains("system@")).unwrap();
    let file = OpenOptions::new().read(true).write(true).open(&archived).unwrap();
    let length = file.metadata().unwrap().len();
    let began = Instant::now();
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut answers = 0;
    for round in 0..300_u64 {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        // The header first, then anywhere that is written.
        let at = if round < 208 { round } else { (seed >> 16) % length };
        let kept = byte(&file, at);
        file.write_all_at(&[kept ^ 0xff], at).unwrap();
        answers += usize::from(world.systemd.log_tail(&unit("chatter.service"), 200).is_ok());
        file.write_all_at(&[kept], at).unwrap();
    }
    println!("300 damaged real files of {length} bytes in {:?}, {answers} answers", began.elapsed());
    assert_eq!(tail(world, "chatter.service"), before, "and whole again it is what it was");
    file.set_len(length / 3).unwrap();
    assert!(world.systemd.log_tail(&unit("chatter.service"), 200).is_ok(), "the other files are still read");
}

fn byte(file: &File, at: u64) -> u8 {
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    byte[0]
}

/// journald's files in the box, as seen from here.
fn files(world: &World) -> Vec<PathBuf> {
    let places = ["var/log/journal", "run/log/journal"].map(|place| world.machine.root().join(place));
    let below = |place: &PathBuf| std::fs::read_dir(place).into_iter().flatten().flatten().map(|entry| entry.path());
    let machines: Vec<PathBuf> = places.iter().flat_map(below).collect();
    machines.iter().flat_map(below).collect()
}

/// The file that journald writes now, as it is called inside.
fn newest(world: &World) -> String {
    let is_live = |file: &PathBuf| file.ends_with("system.journal") && !file.to_string_lossy().contains(".apart");
    let live = files(world).into_iter().find(is_live).unwrap();
    format!("/{}", live.strip_prefix(world.machine.root()).unwrap().display())
}
