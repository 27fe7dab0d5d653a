//! What processes cost the machine: proportional set size and CPU time, from /proc.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use anyhow::Context as _;

/// What one process has used so far.
#[derive(Debug, Clone)]
pub struct Usage {
    /// The kernel's name for it (15 characters at most).
    pub name: String,
    /// `None` where the kernel does not tell us.
    pub memory: Option<Memory>,
    /// Time on a CPU, user and system, of all its threads that ever were.
    pub cpu: Duration,
    /// How often its present threads were switched to: each time they were woken, and each time they lost the CPU.
    pub switches: u64,
}

/// Bytes of memory, shared pages counted by their share.
#[derive(Debug, Clone, Copy, Default)]
pub struct Memory {
    /// All.
    pub pss: u64,
    /// Of that, what is nobody else's and no file's. The rest is mostly the program itself.
    pub anonymous: u64,
}

/// A process and all that came of it, by pid.
pub fn tree(root: u32) -> BTreeMap<u32, Usage> {
    let mut parents = BTreeMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        if let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok())
            && let Ok(parent) = stat(pid).map(|stat| stat.parent)
        {
            parents.insert(pid, parent);
        }
    }
    let descends = |mut pid: u32| loop {
        if pid == root {
            return true;
        }
        match parents.get(&pid) {
            Some(parent) => pid = *parent,
            None => return false,
        }
    };
    // One that ends while it is looked at is not there.
    parents.keys().filter(|pid| descends(**pid)).filter_map(|pid| Some((*pid, usage(*pid).ok()?))).collect()
}

/// One process.
pub fn usage(pid: u32) -> anyhow::Result<Usage> {
    let stat = stat(pid)?;
    let tick = Duration::from_secs(1) / u32::try_from(rustix::param::clock_ticks_per_second())?;
    Ok(Usage { name: stat.name, memory: memory(pid), cpu: tick * u32::try_from(stat.ticks)?, switches: switches(pid) })
}

struct Stat {
    name: String,
    parent: u32,
    ticks: u64,
}

fn stat(pid: u32) -> anyhow::Result<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name may hold anything, brackets too: the last one ends it.
    let (head, tail) = text.rsplit_once(')').context("no name")?;
    let name = head.split_once('(').context("no name")?.1.to_owned();
    let fields: Vec<&str> = tail.split_whitespace().collect();
    let field = |at: usize| fields.get(at).context("too short")?.parse::<u64>().context("no number");
    Ok(Stat { name, parent: u32::try_from(field(1)?)?, ticks: field(11)? + field(12)? })
}

fn memory(pid: u32) -> Option<Memory> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let bytes = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? << 10)
    };
    Some(Memory { pss: bytes("Pss")?, anonymous: bytes("Pss_Anon")? })
}

fn switches(pid: u32) -> u64 {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let of = |status: String| -> u64 {
        let counts = status.lines().filter_map(|line| line.split_once("ctxt_switches:")?.1.trim().parse::<u64>().ok());
        counts.sum()
    };
    // A thread that ends while it is looked at has none.
    tasks.filter_map(|task| fs::read_to_string(task.path().join("status")).ok()).map(of).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_its_own_tree_and_uses_something() {
        let own = std::process::id();
        let tree = tree(own);
        let memory = tree[&own].memory.unwrap();
        assert!(memory.anonymous > 100 << 10 && memory.pss >= memory.anonymous && tree[&own].switches > 0);
        assert!(!tree.contains_key(&1));
    }
}
