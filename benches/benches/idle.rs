//! What an idle Theriac costs: the sum over all its processes of memory (PSS) and CPU, with five services and the root filesystem
//! watched at the default of one sample a second. The services themselves are not counted.

#![expect(clippy::print_stdout, reason = "a bench prints what it measured")]

use std::thread;
use std::time::{Duration, Instant};

use theriac_benches::processes;
use theriac_benches::stack::{PATIENT, Plan, Stack};

/// After the start, until caches are filled and the remedies are compiled.
const SETTLE: Duration = Duration::from_secs(10);
/// Measured.
const WINDOW: Duration = Duration::from_secs(30);
/// The aims: a VPS of 512 MB never notices.
const AIM_MIB: f64 = 30.0;
const AIM_PERCENT: f64 = 0.5;

fn main() {
    if let Err(error) = measure() {
        println!("idle: {error:#}");
    }
}

fn measure() -> anyhow::Result<()> {
    let remedies = vec!["service-recover", "disk-reclaim", "cpu-calm", "memory-relief"];
    let stack = Stack::start(&Plan { services: 5, mounts: vec!["/"], remedies, ..Plan::default() })?;
    thread::sleep(SETTLE);
    let before = processes::tree(stack.pid());
    let began = Instant::now();
    thread::sleep(WINDOW);
    let after = processes::tree(stack.pid());
    let seconds = began.elapsed().as_secs_f64();
    println!("idle, 5 services and 1 mount watched each second, over {seconds:.0} s");
    println!("{:<18}{:>8}{:>12}{:>10}", "process", "pid", "PSS", "CPU");
    let (mut bytes, mut cpu, mut hidden) = (0, 0.0, false);
    for (pid, usage) in after.iter().filter(|(_, usage)| usage.name != PATIENT) {
        let used = before.get(pid).map_or(usage.cpu, |before| usage.cpu.saturating_sub(before.cpu));
        let percent = used.as_secs_f64() / seconds * 100.0;
        println!(
            "{:<18}{pid:>8}{:>12}{percent:>8.2} %",
            usage.name,
            usage.pss.map_or_else(|| "hidden".to_owned(), mebibytes)
        );
        bytes += usage.pss.unwrap_or(0);
        cpu += percent;
        hidden |= usage.pss.is_none();
    }
    println!("{:<18}{:>8}{:>12}{cpu:>8.2} %", "all", "", mebibytes(bytes));
    println!("{:<18}{:>8}{:>12}{AIM_PERCENT:>8.2} %", "aim", "", format!("{AIM_MIB:.1} MiB"));
    if hidden {
        println!("memory is not complete: our processes can't be looked into by their own user; run this as root");
    }
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "for people, to a tenth")]
fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}
