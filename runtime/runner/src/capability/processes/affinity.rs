//! CPU masks and nice values of threads, read and set. A thread is named by its id and start time.

use std::fmt::Write as _;

use rustix::process::Pid;
use rustix::thread::CpuSet;
use theriac_model::unit::ProcessId;
use theriac_probe::proc::Reader;

/// A set of CPUs, written as in /proc/PID/status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CpuMask(CpuSet);

/// The threads of a group with a value of each.
pub(crate) type Threads<T> = Vec<(ProcessId, T)>;

impl CpuMask {
    /// Reads hex digits with or without the kernel's commas.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut set = CpuSet::new();
        let digits = text.trim().chars().rev().filter(|c| *c != ',');
        for (place, digit) in digits.enumerate() {
            let bits = digit.to_digit(16)?;
            for bit in (0..4).filter(|bit| bits >> bit & 1 == 1) {
                let cpu = place.checked_mul(4)?.checked_add(bit).filter(|cpu| *cpu < CpuSet::MAX_CPU)?;
                set.set(cpu);
            }
        }
        Some(Self(set))
    }

    pub(crate) fn text(&self) -> String {
        let cpus: Vec<usize> = self.cpus().collect();
        let mut text = String::new();
        for place in (0..=cpus.last().copied().unwrap_or(0) / 4).rev() {
            let digit = (0..4).filter(|bit| cpus.contains(&(place * 4 + bit))).fold(0, |digit, bit| digit | 1 << bit);
            // Writing to a String can't fail.
            let _infallible = write!(text, "{digit:x}");
        }
        text
    }

    pub(crate) fn count(&self) -> u32 {
        self.0.count()
    }

    /// Its first CPUs.
    pub(crate) fn first(&self, most: u32) -> Self {
        let mut set = CpuSet::new();
        self.cpus().take(most as usize).for_each(|cpu| set.set(cpu));
        Self(set)
    }

    pub(crate) fn union(self, other: &Self) -> Self {
        let mut set = self.0;
        other.cpus().for_each(|cpu| set.set(cpu));
        Self(set)
    }

    fn cpus(&self) -> impl Iterator<Item = usize> {
        (0..CpuSet::MAX_CPU).filter(|cpu| self.0.is_set(*cpu))
    }
}

fn same_thread(thread: ProcessId) -> Option<Pid> {
    let stat = Reader::live().process(thread.pid)?;
    let id = i32::try_from(thread.pid).ok().and_then(Pid::from_raw)?;
    (stat.id == thread && !stat.is_gone()).then_some(id)
}

/// The CPUs a thread may use; `None` when it is gone.
pub(crate) fn mask_of(thread: ProcessId) -> Option<CpuMask> {
    rustix::thread::sched_getaffinity(Some(same_thread(thread)?)).ok().map(CpuMask)
}

/// Sets them. A thread that is gone has them.
pub(crate) fn set_mask(thread: ProcessId, mask: &CpuMask) -> rustix::io::Result<()> {
    let Some(id) = same_thread(thread) else { return Ok(()) };
    ignore_gone(rustix::thread::sched_setaffinity(Some(id), &mask.0))
}

/// A thread's nice value; `None` when it is gone.
pub(crate) fn nice_of(thread: ProcessId) -> Option<i32> {
    rustix::process::getpriority_process(Some(same_thread(thread)?)).ok()
}

/// Sets it. A thread that is gone has it.
pub(crate) fn set_nice(thread: ProcessId, nice: i32) -> rustix::io::Result<()> {
    let Some(id) = same_thread(thread) else { return Ok(()) };
    ignore_gone(rustix::process::setpriority_process(Some(id), nice))
}

fn ignore_gone(result: rustix::io::Result<()>) -> rustix::io::Result<()> {
    match result {
        Err(rustix::io::Errno::SRCH) => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_are_written_as_the_kernel_writes_them() {
        for (text, count) in [("3", 2), ("f0", 4), ("10001", 2), ("1", 1), ("ffffffff", 32)] {
            let mask = CpuMask::parse(text).unwrap();
            assert_eq!((mask.text().as_str(), mask.count()), (text, count));
        }
        assert_eq!(CpuMask::parse("00000000,00000003").unwrap().text(), "3");
        assert_eq!(CpuMask::parse("f0").unwrap().first(2).text(), "30");
        assert!(CpuMask::parse("xyz").is_none());
    }
}
