//! Small readers of /proc: one file into a reused buffer, one pass over it, no allocation once warm.
//!
//! Parsers are separate from reading and take text, so that they are tested on recorded files. A field that is absent or
//! malformed is `None`, never zero: a missing number must not look like a healthy one.

use std::fmt::{self, Write as _};
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use theriac_model::unit::ProcessId;

/// Ticks per second in /proc. It is part of the kernel's ABI (`USER_HZ`) and 100 on every architecture we build for.
pub const USER_HZ: u64 = 100;
/// The most that is read of one file; `cgroup.procs` of a full machine is the largest and has 32768 short lines.
const MAX_FILE: u64 = 512 << 10;
/// `PF_KTHREAD` of include/linux/sched.h.
const KERNEL_THREAD: u64 = 0x0020_0000;

/// Reads files below one directory into one buffer.
#[derive(Debug)]
pub struct Reader {
    root: PathBuf,
    path: String,
    buffer: Vec<u8>,
}

impl Reader {
    /// A reader of files below `root`.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), path: String::new(), buffer: Vec::new() }
    }

    /// A reader of the running machine's /proc.
    pub fn live() -> Self {
        Self::new("/proc")
    }

    /// The directory it reads below.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The file's text; `None` when it can't be read or is not UTF-8.
    pub fn read(&mut self, below: fmt::Arguments<'_>) -> Option<&str> {
        std::str::from_utf8(self.read_bytes(below)?).ok()
    }

    /// The file's bytes; `None` when it can't be read.
    pub fn read_bytes(&mut self, below: fmt::Arguments<'_>) -> Option<&[u8]> {
        self.path.clear();
        write!(self.path, "{}/{below}", self.root.display()).ok()?;
        let file = File::open(&self.path).ok()?;
        self.buffer.clear();
        file.take(MAX_FILE).read_to_end(&mut self.buffer).ok()?;
        Some(&self.buffer)
    }

    /// `/proc/PID/stat`.
    pub fn process(&mut self, pid: u32) -> Option<ProcessStat> {
        parse_process(self.read_bytes(format_args!("{pid}/stat"))?)
    }

    /// The name the kernel shows for a process, escaped: whoever runs it chooses it.
    pub fn comm(&mut self, pid: u32) -> Option<String> {
        let bytes = self.read_bytes(format_args!("{pid}/comm"))?;
        Some(String::from_utf8_lossy(bytes).trim_end().escape_debug().to_string())
    }

    /// The user a process acts as.
    pub fn uid(&mut self, pid: u32) -> Option<u32> {
        parse_uid(self.read(format_args!("{pid}/status"))?)
    }
}

/// CPU time of the machine since boot, in ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CpuTimes {
    /// Everything.
    pub total: u64,
    /// Idle and waiting for I/O.
    pub idle: u64,
    /// Taken by the hypervisor.
    pub steal: u64,
    /// CPUs that are on line.
    pub cpus: u32,
}

/// Parses /proc/stat.
pub fn parse_cpu(text: &str) -> Option<CpuTimes> {
    let mut lines = text.lines();
    let mut fields = lines.next()?.strip_prefix("cpu ")?.split_ascii_whitespace().map(str::parse::<u64>);
    // user nice system idle iowait irq softirq steal; guest time is already part of user time.
    let mut values = [0; 8];
    for value in &mut values {
        *value = fields.next()?.ok()?;
    }
    let [.., idle, iowait, _, _, steal] = values;
    let cpus = lines.take_while(|line| line.starts_with("cpu")).count();
    Some(CpuTimes {
        total: values.iter().fold(0, |sum: u64, value| sum.saturating_add(*value)),
        idle: idle.saturating_add(iowait),
        steal,
        cpus: u32::try_from(cpus).ok().filter(|cpus| *cpus > 0)?,
    })
}

/// Parses the first number of /proc/loadavg.
pub fn parse_load1(text: &str) -> Option<f64> {
    finite(text.split_ascii_whitespace().next()?)
}

/// A line `NAME: 123 kB` of /proc/meminfo or /proc/PID/status, in bytes.
pub fn parse_kib(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    rest.split_ascii_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

/// A line `name 123` of /proc/vmstat and of most cgroup files.
pub fn parse_counter(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?.trim().parse().ok()
}

/// `avg10` of the `some` or `full` line of a pressure file.
pub fn parse_pressure(text: &str, line: &str) -> Option<f64> {
    let rest = text.lines().find_map(|candidate| candidate.strip_prefix(line)?.strip_prefix(' '))?;
    finite(rest.split_ascii_whitespace().find_map(|field| field.strip_prefix("avg10="))?)
}

fn finite(text: &str) -> Option<f64> {
    text.parse::<f64>().ok().filter(|value| value.is_finite())
}

/// What /proc/PID/stat says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcessStat {
    /// The process, so that a reused PID is never taken for it.
    pub id: ProcessId,
    /// Its parent.
    pub parent: u32,
    /// The kernel's letter: `R`, `S`, `Z`, …
    pub state: u8,
    /// CPU time in ticks, user and system.
    pub ticks: u64,
    /// Threads.
    pub threads: u32,
    /// A thread of the kernel.
    pub kernel: bool,
}

impl ProcessStat {
    /// A zombie or dead: it uses nothing and no signal reaches it.
    pub const fn is_gone(&self) -> bool {
        matches!(self.state, b'Z' | b'X')
    }
}

/// Parses /proc/PID/stat. The comm may hold spaces and parentheses, so fields are counted from the last `)`.
pub fn parse_process(text: &[u8]) -> Option<ProcessStat> {
    let close = text.iter().rposition(|byte| *byte == b')')?;
    let open = text.iter().position(|byte| *byte == b'(')?;
    let pid = std::str::from_utf8(text.get(..open)?).ok()?.trim().parse().ok()?;
    let mut fields = std::str::from_utf8(text.get(close + 1..)?).ok()?.split_ascii_whitespace();
    // Numbered as in proc_pid_stat(5): 3 state, 4 ppid, 9 flags, 14 utime, 15 stime, 20 threads, 22 start time.
    let state = *fields.next()?.as_bytes().first()?;
    let parent = fields.next()?.parse().ok()?;
    let flags: u64 = fields.nth(4)?.parse().ok()?;
    let user: u64 = fields.nth(4)?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    let threads = fields.nth(4)?.parse().ok()?;
    let start = fields.nth(1)?.parse().ok()?;
    Some(ProcessStat {
        id: ProcessId { pid, start },
        parent,
        state,
        ticks: user.saturating_add(system),
        threads,
        kernel: flags & KERNEL_THREAD != 0,
    })
}

/// The effective user in /proc/PID/status.
pub fn parse_uid(status: &str) -> Option<u32> {
    let ids = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    ids.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// CPUs in a `Cpus_allowed:` mask of /proc/PID/status.
pub fn parse_cpus_allowed(status: &str) -> Option<u32> {
    let mask = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed:"))?.trim();
    mask.chars().filter(|digit| *digit != ',').map(|digit| Some(digit.to_digit(16)?.count_ones())).sum()
}

/// Every process directory of /proc, as PIDs.
pub fn pids(root: &Path) -> impl Iterator<Item = u32> + use<> {
    std::fs::read_dir(root).into_iter().flatten().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str = "cpu  100 5 50 800 20 3 2 20 7 0\ncpu0 50 0 25 400 10 1 1 10 3 0\ncpu1 50 5 25 400 10 2 1 10 4 0\nintr 12345 0\n";

    #[test]
    fn the_machines_cpu_time_is_read_without_counting_guests_twice() {
        assert_eq!(parse_cpu(STAT), Some(CpuTimes { total: 1000, idle: 820, steal: 20, cpus: 2 }));
        assert_eq!(parse_cpu("cpu  1 2 3\n"), None);
        assert_eq!(parse_cpu(""), None);
    }

    #[test]
    fn memory_and_counters_are_found_by_their_whole_name() {
        let meminfo = "MemTotal:        2048 kB\nMemFree:          100 kB\nMemAvailable:     512 kB\n";
        assert_eq!(parse_kib(meminfo, "MemAvailable"), Some(512 << 10));
        assert_eq!(parse_kib(meminfo, "Mem"), None);
        assert_eq!(parse_counter("pswpin 4\npswpout 9\noom_kill 2\n", "pswpout"), Some(9));
        assert_eq!(parse_counter("oom_kill_disable 0\nunder_oom 0\noom_kill 3\n", "oom_kill"), Some(3));
    }

    #[test]
    fn pressure_is_read_by_line() {
        let text =
            "some avg10=4.79 avg60=2.81 avg300=0.78 total=7477660\nfull avg10=0.50 avg60=2.78 avg300=0.77 total=1\n";
        assert_eq!(parse_pressure(text, "some"), Some(4.79));
        assert_eq!(parse_pressure(text, "full"), Some(0.5));
        assert_eq!(parse_pressure("some avg10=NaN\n", "some"), None);
    }

    #[test]
    fn a_process_name_full_of_parentheses_shifts_no_field() {
        let line = b"4242 (a) S 1 (b\xff) R 17 4242 4242 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 3 0 987654 1 2 3\n";
        let stat = parse_process(line).unwrap();
        assert_eq!(stat.id, ProcessId { pid: 4242, start: 987_654 });
        assert_eq!((stat.parent, stat.ticks, stat.threads, stat.kernel), (17, 300, 3, false));
        assert!(parse_process(b"7 (kworker) I 2 0 0 0 -1 69238880 0 0 0 0 0 0 0 0 20 0 1 0 9 0").unwrap().kernel);
        assert_eq!(parse_process(b"12 (x) R 1"), None);
    }

    #[test]
    fn the_user_is_the_effective_one() {
        assert_eq!(parse_uid("Name:\tx\nUid:\t1000\t61101\t1000\t1000\nGid:\t1\t1\t1\t1\n"), Some(61_101));
        assert_eq!(parse_uid("Name:\tx\n"), None);
        assert_eq!(Reader::live().uid(std::process::id()), Some(rustix::process::geteuid().as_raw()));
    }

    #[test]
    fn an_affinity_mask_is_counted_over_its_commas() {
        assert_eq!(parse_cpus_allowed("Name:\tx\nCpus_allowed:\tff,00000003\n"), Some(10));
        assert_eq!(parse_cpus_allowed("Name:\tx\n"), None);
    }

    #[test]
    fn the_running_machine_can_be_read() {
        let mut reader = Reader::live();
        assert!(parse_cpu(reader.read(format_args!("stat")).unwrap()).unwrap().total > 0);
        assert!(parse_load1(reader.read(format_args!("loadavg")).unwrap()).is_some());
        assert!(parse_kib(reader.read(format_args!("meminfo")).unwrap(), "MemAvailable").unwrap() > 0);
        let own = reader.process(std::process::id()).unwrap();
        assert_eq!(own.id.pid, std::process::id());
        assert!(!own.kernel && own.id.start > 0);
        assert!(parse_cpus_allowed(reader.read(format_args!("self/status")).unwrap()).unwrap() >= 1);
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_a_parser_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
            let _ = parse_process(&bytes);
            let text = String::from_utf8_lossy(&bytes);
            let _ = (parse_cpu(&text), parse_kib(&text, "a"), parse_pressure(&text, "some"), parse_cpus_allowed(&text));
        }
    }
}
