//! What an idle Theriac costs: the sum over all its processes of memory (PSS) and CPU, with five services and the root filesystem
//! watched at the default of one sample a second. The services themselves are not counted.

#![expect(clippy::print_stdout, reason = "a bench prints what it measured")]

use std::thread;
use std::time::{Duration, Instant};

use theriac_benches::processes::{self, Memory};
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
    let remedies = vec!["service-recover", "disk-reclaim", "cpu-calm", "memory-relief", "release-return", "db-relieve"];
    let stack = Stack::start(&Plan { services: 5, mounts: vec!["/"], remedies, ..Plan::default() })?;
    thread::sleep(SETTLE);
    let before = processes::tree(stack.pid());
    let began = Instant::now();
    thread::sleep(WINDOW);
    let after = processes::tree(stack.pid());
    let seconds = began.elapsed().as_secs_f64();
    println!("idle, 5 services and 1 mount watched each second, over {seconds:.0} s");
    println!(
        "{:<18}{:>8}{:>12}{:>12}{:>12}{:>10}{:>12}",
        "process", "pid", "PSS", "its own", "of files", "CPU", "switches/s"
    );
    let (mut sum, mut hidden) = (Sum::default(), false);
    for (pid, usage) in after.iter().filter(|(_, usage)| usage.name != PATIENT) {
        let began = before.get(pid);
        let cpu = began.map_or(usage.cpu, |before| usage.cpu.saturating_sub(before.cpu));
        let switches = began.map_or(usage.switches, |before| usage.switches.saturating_sub(before.switches));
        let row = Sum {
            memory: usage.memory.unwrap_or_default(),
            percent: share(cpu, seconds),
            rate: rate(switches, seconds),
        };
        row.print(&usage.name, &pid.to_string());
        sum.add(&row);
        hidden |= usage.memory.is_none();
    }
    sum.print("all", "");
    println!("{:<18}{:>8}{:>12}{:>12}{:>12}{AIM_PERCENT:>8.2} %", "aim", "", format!("{AIM_MIB:.1} MiB"), "", "");
    println!("{}", verdict(&sum));
    if hidden {
        println!("memory is not complete: our processes can't be looked into by their own user; run this as root");
    }
    Ok(())
}

/// A row: of one process, or of all.
#[derive(Debug, Default)]
struct Sum {
    memory: Memory,
    percent: f64,
    rate: f64,
}

impl Sum {
    fn add(&mut self, other: &Self) {
        self.memory.pss += other.memory.pss;
        self.memory.anonymous += other.memory.anonymous;
        self.percent += other.percent;
        self.rate += other.rate;
    }

    fn print(&self, name: &str, pid: &str) {
        let Memory { pss, anonymous } = self.memory;
        let [pss, own, files] = [pss, anonymous, pss.saturating_sub(anonymous)].map(mebibytes);
        let (percent, rate) = (self.percent, self.rate);
        println!("{name:<18}{pid:>8}{pss:>12}{own:>12}{files:>12}{percent:>8.2} %{rate:>12.0}");
    }
}

fn verdict(sum: &Sum) -> String {
    let judge = |within: bool| if within { "within" } else { "above" };
    let memory = mib(sum.memory.pss) <= AIM_MIB;
    format!("memory is {} its aim, CPU is {} its aim", judge(memory), judge(sum.percent <= AIM_PERCENT))
}

fn share(cpu: Duration, seconds: f64) -> f64 {
    cpu.as_secs_f64() / seconds * 100.0
}

#[expect(clippy::cast_precision_loss, reason = "for people, to a whole number")]
fn rate(count: u64, seconds: f64) -> f64 {
    count as f64 / seconds
}

#[expect(clippy::cast_precision_loss, reason = "for people, to a tenth")]
fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", mib(bytes))
}
