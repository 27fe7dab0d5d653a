//! The processes of a unit, a cgroup or a user, and what they use together.
//!
//! Members are looked up when they are asked for and named by PID and start time. PID 1, the kernel's threads, this process and
//! its ancestors are never members of anything, and neither are our other daemons, so that no verb on a group can reach them.

use std::collections::BTreeMap;

use theriac_model::call::GroupUsage;
use theriac_model::effect::GroupId;
use theriac_model::id::UnitName;
use theriac_model::unit::ProcessId;
use theriac_model::units::Permille;

use crate::cgroup::{MAX_PROCESSES, Tree};
use crate::facts::Facts;
use crate::kin::Kin;
use crate::proc::{self, ProcessStat, Reader, USER_HZ};

/// The longest chain of parents that is followed.
const MAX_ANCESTORS: usize = 64;

/// Why a group's members can't be told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MembersError {
    /// Nobody has told the state of that unit.
    #[error("the state of unit `{0}` is not known")]
    UnknownUnit(UnitName),
    /// The unit is in no cgroup and its backend names no process.
    #[error("unit `{0}` has no cgroup and no known process")]
    NoProcesses(UnitName),
    /// There is no such cgroup, or it is a root.
    #[error("`{}` is no cgroup below a root", .0.escape_debug())]
    NoCgroup(String),
    /// Root's processes are the machine.
    #[error("the processes of root are the machine, not a group")]
    Root,
}

/// Reads groups of this machine. Keep one: it holds its buffers.
#[derive(Debug)]
pub struct Groups {
    proc: Reader,
    tree: Tree,
    own: u32,
}

impl Groups {
    /// Of the running machine.
    pub fn live() -> Self {
        Self { proc: Reader::live(), tree: Tree::live(), own: std::process::id() }
    }

    /// The cgroup hierarchies it reads.
    pub const fn tree(&self) -> &Tree {
        &self.tree
    }

    /// The members at this moment, lowest PID first, at most [`MAX_PROCESSES`]. A unit that is down has none.
    pub fn members(&mut self, group: &GroupId, facts: &Facts) -> Result<Vec<ProcessId>, MembersError> {
        let spared = self.spared();
        let stats = self.stats(group, facts, &spared)?;
        Ok(self.without_kin(group, stats).into_iter().map(|stat| stat.id).collect())
    }

    /// In rootless mode our daemons share the user with everything else; anywhere they can lie in a cgroup that is granted.
    fn without_kin(&mut self, group: &GroupId, stats: Vec<ProcessStat>) -> Vec<ProcessStat> {
        let kin = Kin::of(self.own, &mut self.proc);
        let is_unit = matches!(group, GroupId::Unit(_));
        let stays = |stat: &ProcessStat, proc: &mut Reader| {
            // A unit's processes are named by its manager; a worker is none of them.
            (is_unit || !kin.is_child(stat)) && !kin.is_sibling(stat, proc)
        };
        stats.into_iter().filter(|stat| stays(stat, &mut self.proc)).collect()
    }

    fn stats(&mut self, group: &GroupId, facts: &Facts, spared: &Spared) -> Result<Vec<ProcessStat>, MembersError> {
        let candidates = match group {
            GroupId::Unit(name) => self.pids_of_unit(name, facts)?,
            GroupId::Cgroup(path) => self.tree.pids(path).ok_or_else(|| MembersError::NoCgroup(path.clone()))?,
            GroupId::User(uid) => self.pids_of_user(*uid)?,
        };
        let mut stats: Vec<_> = candidates
            .into_iter()
            .filter(|pid| !spared.0.contains(pid))
            .filter_map(|pid| self.proc.process(pid))
            .filter(|stat| !stat.kernel && !stat.is_gone())
            .take(MAX_PROCESSES)
            .collect();
        stats.sort_unstable_by_key(|stat| stat.id);
        Ok(stats)
    }

    fn pids_of_unit(&self, name: &UnitName, facts: &Facts) -> Result<Vec<u32>, MembersError> {
        let state = facts.units.get(name).ok_or_else(|| MembersError::UnknownUnit(name.clone()))?;
        if !state.pids.is_empty() {
            return Ok(state.pids.clone());
        }
        match self.tree.pids(&state.cgroup) {
            Some(pids) => Ok(pids),
            None if !state.is_up() => Ok(Vec::new()),
            None => Err(MembersError::NoProcesses(name.clone())),
        }
    }

    fn pids_of_user(&mut self, uid: u32) -> Result<Vec<u32>, MembersError> {
        if uid == 0 {
            return Err(MembersError::Root);
        }
        let root = self.proc.root().to_owned();
        Ok(proc::pids(&root).filter(|pid| self.proc.uid(*pid) == Some(uid)).collect())
    }

    /// Who is spared now: a read for each ancestor, so one look serves all groups of a tick.
    pub(crate) fn spared(&mut self) -> Spared {
        let mut spared = vec![0, 1, self.own];
        let mut pid = self.own;
        for _ in 0..MAX_ANCESTORS {
            let Some(stat) = self.proc.process(pid) else { break };
            if spared.contains(&stat.parent) {
                break;
            }
            spared.push(stat.parent);
            pid = stat.parent;
        }
        Spared(spared)
    }

    /// Everything that is needed to tell, with another reading, what the group uses.
    pub fn read(&mut self, group: &GroupId, facts: &Facts) -> Result<Reading, MembersError> {
        let spared = self.spared();
        self.read_sparing(&spared, group, facts)
    }

    /// The same, where who is spared was looked up a moment ago.
    pub(crate) fn read_sparing(
        &mut self,
        spared: &Spared,
        group: &GroupId,
        facts: &Facts,
    ) -> Result<Reading, MembersError> {
        let at_ns = monotonic_ns();
        let mut stats = self.stats(group, facts, spared)?;
        // A unit is read at each tick, and its manager knows what is in it.
        if !matches!(group, GroupId::Unit(_)) {
            stats = self.without_kin(group, stats);
        }
        let cgroup = match group {
            GroupId::Unit(name) => {
                facts.units.get(name).filter(|state| state.pids.is_empty()).map(|state| state.cgroup.as_str())
            }
            GroupId::Cgroup(path) => Some(path.as_str()),
            GroupId::User(_) => None,
        };
        let (cgroup_cpu_ns, anonymous) =
            cgroup.map_or((None, None), |cgroup| (self.tree.cpu_ns(cgroup), self.tree.anonymous(cgroup)));
        let (resident, cpus_allowed) = self.memory_and_cpus(&stats);
        Ok(Reading {
            at_ns,
            cgroup_cpu_ns,
            ticks: stats.iter().map(|stat| (stat.id, stat.ticks)).collect(),
            memory: anonymous.unwrap_or(resident),
            cpus_allowed,
        })
    }

    /// The sum of `RssAnon`, and the most CPUs any main thread may use.
    fn memory_and_cpus(&mut self, stats: &[ProcessStat]) -> (u64, u32) {
        let mut sums = (0_u64, 0_u32);
        for stat in stats {
            let Some(status) = self.proc.read(format_args!("{}/status", stat.id.pid)) else { continue };
            sums.0 = sums.0.saturating_add(proc::parse_kib(status, "RssAnon").unwrap_or(0));
            sums.1 = sums.1.max(proc::parse_cpus_allowed(status).unwrap_or(0));
        }
        sums
    }
}

/// Processes that are members of nothing: PID 1, this process and its ancestors.
#[derive(Debug)]
pub(crate) struct Spared(Vec<u32>);

/// A group's counters at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// Monotonic time: the wall clock may jump between two readings.
    pub at_ns: u64,
    /// CPU time by the cgroup, where it is counted.
    pub cgroup_cpu_ns: Option<u64>,
    /// CPU time by process, in ticks.
    pub ticks: BTreeMap<ProcessId, u64>,
    /// Anonymous memory in bytes.
    pub memory: u64,
    /// The most CPUs any of them may use; 0 when there is none.
    pub cpus_allowed: u32,
}

impl Reading {
    /// How many processes.
    pub fn processes(&self) -> u32 {
        u32::try_from(self.ticks.len()).unwrap_or(u32::MAX)
    }

    /// CPU since the earlier reading in thousandths of one core; `None` when no time has passed.
    pub fn millicores_since(&self, earlier: &Self) -> Option<u32> {
        let elapsed = self.at_ns.checked_sub(earlier.at_ns).filter(|elapsed| *elapsed > 0)?;
        let by_cgroup = earlier.cgroup_cpu_ns.zip(self.cgroup_cpu_ns).and_then(|(before, now)| now.checked_sub(before));
        // A cgroup that was made anew counts from zero again: add up processes for that one interval.
        let used = by_cgroup.unwrap_or_else(|| self.process_ns_since(earlier));
        u32::try_from(u128::from(used) * 1000 / u128::from(elapsed)).ok()
    }

    fn process_ns_since(&self, earlier: &Self) -> u64 {
        let ticks = self.ticks.iter().map(|(id, now)| now.saturating_sub(earlier.ticks.get(id).copied().unwrap_or(0)));
        ticks.sum::<u64>().saturating_mul(1_000_000_000 / USER_HZ)
    }

    /// As a remedy sees it.
    pub fn usage_since(&self, earlier: &Self, machine_cpus: u32) -> Option<GroupUsage> {
        let cpu = self.millicores_since(earlier)?;
        Some(GroupUsage {
            cpu,
            cpu_share: Permille::clamped(u64::from(cpu) / u64::from(machine_cpus.max(1))),
            memory: self.memory,
            processes: self.processes(),
            cpus_allowed: self.cpus_allowed,
            assumed: false,
        })
    }
}

/// Time since boot in nanoseconds, not counting suspend.
pub(crate) fn monotonic_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(u64::try_from(now.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command, Stdio};

    use super::*;
    use crate::facts::tests::unit;

    /// A real process that ends with the test.
    struct Spinner(Child);

    impl Spinner {
        fn start(script: &str) -> Self {
            Self(Command::new("/bin/sh").args(["-c", script]).stdin(Stdio::null()).spawn().unwrap())
        }
    }

    impl Drop for Spinner {
        fn drop(&mut self) {
            drop(self.0.kill());
            drop(self.0.wait());
        }
    }

    fn facts(pids: Vec<u32>) -> (Facts, GroupId) {
        let mut state = unit("web");
        state.pids = pids;
        let name = state.name.clone();
        (Facts { units: [(name.clone(), state)].into(), ..Facts::default() }, GroupId::Unit(name))
    }

    // PR01.
    #[test]
    fn a_units_process_is_a_member_and_this_process_pid_1_and_a_kernel_thread_are_not() {
        let child = Spinner::start("read x < /dev/zero");
        let (facts, group) = facts(vec![child.0.id(), std::process::id(), 1, 2]);
        let members = Groups::live().members(&group, &facts).unwrap();
        assert_eq!(members.iter().map(|id| id.pid).collect::<Vec<_>>(), [child.0.id()]);
        assert!(members[0].start > 0);
    }

    // PR03.
    #[test]
    fn a_name_like_ours_makes_nobody_one_of_us() {
        use std::os::unix::process::CommandExt as _;
        let dir = tempfile::tempdir().unwrap();
        let named = dir.path().join("theriac-agent");
        std::fs::copy("/bin/sleep", &named).unwrap();
        std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let own = rustix::process::geteuid().as_raw();
        let user = if own == 0 { 61_199 } else { own };
        // Not a child of this process, which would be a worker: of a shell that waits for it.
        let script = format!("{} 60 & echo $!; wait", named.display());
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", &script]).stdout(Stdio::piped()).process_group(0);
        if own == 0 {
            shell.uid(user).gid(user);
        }
        let mut shell = shell.spawn().unwrap();
        let mut line = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(shell.stdout.take().unwrap()), &mut line).unwrap();
        let pid: u32 = line.trim().parse().unwrap();
        let members = Groups::live().members(&GroupId::User(user), &Facts::default()).unwrap();
        let found = (members.iter().any(|id| id.pid == pid), members.iter().any(|id| id.pid == shell.id()));
        let group = rustix::process::Pid::from_child(&shell);
        rustix::process::kill_process_group(group, rustix::process::Signal::KILL).unwrap();
        shell.wait().unwrap();
        assert_eq!(found, (true, false), "the namesake is a member, and a child of ours is not");
    }

    // PR06.
    #[test]
    fn the_processes_of_root_are_no_group_and_an_unknown_unit_has_an_error() {
        let mut groups = Groups::live();
        assert_eq!(groups.members(&GroupId::User(0), &Facts::default()), Err(MembersError::Root));
        let other = UnitName::parse("other").unwrap();
        let unknown = groups.members(&GroupId::Unit(other.clone()), &Facts::default());
        assert_eq!(unknown, Err(MembersError::UnknownUnit(other)));
        assert!(groups.members(&GroupId::Cgroup("/".into()), &Facts::default()).is_err());
    }

    #[test]
    fn a_unit_that_is_down_has_no_processes_rather_than_an_error() {
        let (mut facts, group) = facts(Vec::new());
        assert!(Groups::live().members(&group, &facts).is_err());
        facts.units.values_mut().for_each(|state| state.active = theriac_model::unit::ActiveState::Failed);
        assert_eq!(Groups::live().members(&group, &facts), Ok(Vec::new()));
    }

    #[test]
    fn a_spinning_process_is_seen_to_spin() {
        let child = Spinner::start("while :; do :; done");
        let (facts, group) = facts(vec![child.0.id()]);
        let mut groups = Groups::live();
        let first = groups.read(&group, &facts).unwrap();
        // The thing itself is waited for: CPU time of the child, not a guess at how long it takes on a busy machine.
        let used = loop {
            let now = groups.read(&group, &facts).unwrap();
            if now.ticks.values().sum::<u64>() >= first.ticks.values().sum::<u64>() + 5 {
                break now.usage_since(&first, 2).unwrap();
            }
            assert!(now.at_ns - first.at_ns < 60_000_000_000, "the child got no CPU for a minute");
            std::thread::yield_now();
        };
        assert!(used.cpu > 0 && used.processes == 1 && used.memory > 0 && used.cpus_allowed >= 1, "{used:?}");
    }

    // PR02.
    #[test]
    fn a_reused_pid_is_another_process() {
        let reading = |start, ticks, at_ns| Reading {
            at_ns,
            cgroup_cpu_ns: None,
            ticks: [(ProcessId { pid: 7, start }, ticks)].into(),
            memory: 0,
            cpus_allowed: 1,
        };
        let before = reading(1, 1_000, 0);
        assert_eq!(reading(1, 1_050, 1_000_000_000).millicores_since(&before), Some(500));
        assert_eq!(reading(2, 10, 1_000_000_000).millicores_since(&before), Some(100));
        assert_eq!(reading(1, 1_050, 0).millicores_since(&before), None);
    }

    #[test]
    fn a_cgroup_that_was_made_anew_does_not_count_backwards() {
        let reading = |cpu, at_ns| Reading {
            at_ns,
            cgroup_cpu_ns: Some(cpu),
            ticks: BTreeMap::new(),
            memory: 0,
            cpus_allowed: 0,
        };
        assert_eq!(reading(2_000_000_000, 1_000_000_000).millicores_since(&reading(0, 0)), Some(2_000));
        assert_eq!(reading(5, 1_000_000_000).millicores_since(&reading(9_000_000_000, 0)), Some(0));
    }
}
