//! Where a cgroup's numbers are, on version 1, version 2 and the hybrid of both.
//!
//! systemd names a unit's cgroup by one path, but only the hierarchies whose controller is on for the unit have that
//! directory. So every number is looked for where it is exact and is `None` where it is not kept: the caller then adds up
//! processes instead. The root of a hierarchy is never read for a unit: it is the whole machine.

use std::path::{Path, PathBuf};

use crate::proc::{Reader, parse_counter};

/// The deepest nesting below a unit that is walked, and the most processes that are listed.
const MAX_DEPTH: usize = 8;
/// More processes than this in one group are not listed one by one.
pub const MAX_PROCESSES: usize = 4096;

/// One mounted hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Hierarchy {
    mounted: PathBuf,
    /// What of the hierarchy the mount shows; `/` but in a container without a cgroup namespace.
    root: String,
}

impl Hierarchy {
    fn dir(&self, cgroup: &str) -> Option<PathBuf> {
        let below = if self.root == "/" {
            cgroup
        } else {
            let below = cgroup.strip_prefix(self.root.as_str())?;
            if !below.starts_with('/') {
                return None;
            }
            below
        };
        let below = below.trim_matches('/');
        let plain = !below.is_empty() && below.split('/').all(|part| !matches!(part, "" | "." | ".."));
        let dir = plain.then(|| self.mounted.join(below))?;
        dir.is_dir().then_some(dir)
    }
}

/// The hierarchies of this machine.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tree {
    unified: Option<Hierarchy>,
    cpu: Option<Hierarchy>,
    memory: Option<Hierarchy>,
    /// `name=systemd`, and any other hierarchy of version 1: enough to find members.
    others: Vec<Hierarchy>,
}

/// Which version's controllers count here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// No cgroup filesystem is mounted.
    None,
    /// Version 1 only.
    V1,
    /// Version 1 controllers and an empty version 2 hierarchy.
    Hybrid,
    /// Version 2 only.
    V2,
}

impl Version {
    /// The word shown by `doctor`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::V1 => "v1",
            Self::Hybrid => "v1 with an empty v2",
            Self::V2 => "v2",
        }
    }
}

impl Tree {
    /// The hierarchies of the running machine.
    pub fn live() -> Self {
        Reader::live().read(format_args!("self/mountinfo")).map(Self::parse).unwrap_or_default()
    }

    /// Finds the hierarchies in a mountinfo file.
    pub fn parse(mountinfo: &str) -> Self {
        let mut tree = Self::default();
        for line in mountinfo.lines() {
            let Some((mount, filesystem)) = line.split_once(" - ") else { continue };
            let mut mount = mount.split(' ').skip(3);
            let (Some(root), Some(mounted)) = (mount.next(), mount.next()) else { continue };
            let mut filesystem = filesystem.split(' ');
            let (kind, options) = (filesystem.next(), filesystem.nth(1).unwrap_or_default());
            let hierarchy = Hierarchy { mounted: PathBuf::from(mounted), root: root.to_owned() };
            match kind {
                Some("cgroup2") if tree.unified.is_none() => tree.unified = Some(hierarchy),
                Some("cgroup") => tree.add_v1(options, hierarchy),
                Some(_) | None => {}
            }
        }
        tree
    }

    fn add_v1(&mut self, options: &str, hierarchy: Hierarchy) {
        let has = |name: &str| options.split(',').any(|option| option == name);
        if has("cpuacct") && self.cpu.is_none() {
            self.cpu = Some(hierarchy);
        } else if has("memory") && self.memory.is_none() {
            self.memory = Some(hierarchy);
        } else if has("name=systemd") {
            self.others.insert(0, hierarchy);
        } else {
            self.others.push(hierarchy);
        }
    }

    /// Which version's controllers count here.
    pub const fn version(&self) -> Version {
        let v1 = self.cpu.is_some() || self.memory.is_some() || !self.others.is_empty();
        match (self.unified.is_some(), v1) {
            (false, false) => Version::None,
            (false, true) => Version::V1,
            (true, true) => Version::Hybrid,
            (true, false) => Version::V2,
        }
    }

    /// The version 2 controllers that are on at the root, as the kernel lists them.
    pub fn unified_controllers(&self) -> Vec<String> {
        let Some(unified) = &self.unified else { return Vec::new() };
        let mut reader = Reader::new(&unified.mounted);
        let text = reader.read(format_args!("cgroup.controllers")).unwrap_or_default();
        text.split_ascii_whitespace().map(str::to_owned).collect()
    }

    /// CPU time of the cgroup and all below it, in nanoseconds.
    pub fn cpu_ns(&self, cgroup: &str) -> Option<u64> {
        let v2 = read_below(self.unified.as_ref(), cgroup, "cpu.stat", |text| {
            parse_counter(text, "usage_usec")?.checked_mul(1000)
        });
        v2.or_else(|| read_below(self.cpu.as_ref(), cgroup, "cpuacct.usage", |text| text.trim().parse().ok()))
    }

    /// Anonymous memory of the cgroup and all below it, in bytes. Page cache is not in it: it is given back when asked for.
    pub fn anonymous(&self, cgroup: &str) -> Option<u64> {
        let v2 = read_below(self.unified.as_ref(), cgroup, "memory.stat", |text| parse_counter(text, "anon"));
        v2.or_else(|| read_below(self.memory.as_ref(), cgroup, "memory.stat", |text| parse_counter(text, "total_rss")))
    }

    /// OOM kills in the cgroup since it was made.
    pub fn oom_kills(&self, cgroup: &str) -> Option<u64> {
        let v2 = read_below(self.unified.as_ref(), cgroup, "memory.events", |text| parse_counter(text, "oom_kill"));
        v2.or_else(|| {
            read_below(self.memory.as_ref(), cgroup, "memory.oom_control", |text| parse_counter(text, "oom_kill"))
        })
    }

    /// PIDs in the cgroup and all below it; `None` when no hierarchy has such a cgroup, or it is a root.
    pub fn pids(&self, cgroup: &str) -> Option<Vec<u32>> {
        let hierarchies = self.unified.iter().chain(&self.others).chain(&self.cpu).chain(&self.memory);
        // A unit's cgroup may exist in the unified tree and hold its processes elsewhere: take the first that has any.
        let mut found = None;
        for dir in hierarchies.filter_map(|hierarchy| hierarchy.dir(cgroup)) {
            let mut pids = Vec::new();
            collect_pids(&dir, MAX_DEPTH, &mut pids);
            if !pids.is_empty() {
                pids.sort_unstable();
                pids.dedup();
                return Some(pids);
            }
            found = Some(pids);
        }
        found
    }
}

fn read_below<T>(
    hierarchy: Option<&Hierarchy>,
    cgroup: &str,
    file: &str,
    parse: impl Fn(&str) -> Option<T>,
) -> Option<T> {
    let dir = hierarchy?.dir(cgroup)?;
    Reader::new(dir).read(format_args!("{file}")).and_then(parse)
}

fn collect_pids(dir: &Path, depth: usize, pids: &mut Vec<u32>) {
    if let Some(text) = Reader::new(dir).read(format_args!("cgroup.procs")) {
        let room = MAX_PROCESSES.saturating_sub(pids.len());
        // PID 0 stands for a process of another PID namespace.
        pids.extend(text.lines().filter_map(|line| line.parse::<u32>().ok()).filter(|pid| *pid > 0).take(room));
    }
    if depth == 0 || pids.len() >= MAX_PROCESSES {
        return;
    }
    let children = std::fs::read_dir(dir).into_iter().flatten().flatten();
    for child in children.filter(|child| child.file_type().is_ok_and(|kind| kind.is_dir())) {
        collect_pids(&child.path(), depth - 1, pids);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fixture(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        dir
    }

    fn v2(dir: &Path) -> Tree {
        Tree::parse(&format!("29 23 0:26 / {} rw,nosuid shared:4 - cgroup2 cgroup2 rw\n", dir.display()))
    }

    fn v1(dir: &Path) -> Tree {
        let dir = dir.display();
        Tree::parse(&format!(
            "1 0 0:1 / {dir}/cpu rw - cgroup cgroup rw,cpu,cpuacct\n2 0 0:2 / {dir}/memory rw - cgroup cgroup rw,memory\n3 0 0:3 / {dir}/systemd rw - cgroup cgroup rw,name=systemd\n"
        ))
    }

    #[test]
    fn version_2_numbers_are_read() {
        let dir = fixture(&[
            ("system.slice/web.service/cpu.stat", "usage_usec 1500\nuser_usec 1000\nsystem_usec 500\n"),
            ("system.slice/web.service/memory.stat", "anon 4096\nfile 999999\nanon_thp 1\n"),
            ("system.slice/web.service/memory.events", "low 0\nhigh 4\nmax 2\noom 1\noom_kill 1\n"),
            ("system.slice/web.service/cgroup.procs", "12\n0\n"),
            ("system.slice/web.service/nested/cgroup.procs", "11\n12\n"),
        ]);
        let tree = v2(dir.path());
        let web = "/system.slice/web.service";
        assert_eq!(tree.version(), Version::V2);
        assert_eq!(tree.cpu_ns(web), Some(1_500_000));
        assert_eq!(tree.anonymous(web), Some(4096));
        assert_eq!(tree.oom_kills(web), Some(1));
        assert_eq!(tree.pids(web), Some(vec![11, 12]));
    }

    #[test]
    fn version_1_numbers_are_read_from_their_own_hierarchies() {
        let dir = fixture(&[
            ("cpu/system.slice/web.service/cpuacct.usage", "77\n"),
            ("memory/system.slice/web.service/memory.stat", "rss 1\ntotal_cache 9\ntotal_rss 8192\n"),
            ("memory/system.slice/web.service/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"),
            ("systemd/system.slice/web.service/cgroup.procs", "5\n"),
        ]);
        let tree = v1(dir.path());
        let web = "/system.slice/web.service";
        assert_eq!(tree.version(), Version::V1);
        assert_eq!((tree.cpu_ns(web), tree.anonymous(web), tree.oom_kills(web)), (Some(77), Some(8192), Some(2)));
        assert_eq!(tree.pids(web), Some(vec![5]));
        assert_eq!(tree.pids("/system.slice/other.service"), None);
    }

    #[test]
    fn neither_the_root_nor_a_climbing_path_is_a_units_cgroup() {
        let dir = fixture(&[("cpu.stat", "usage_usec 1\n"), ("cgroup.procs", "1\n"), ("a/cgroup.procs", "2\n")]);
        let tree = v2(dir.path());
        for wrong in ["", "/", "//", "/a/..", "/../x", "/./a"] {
            assert_eq!((tree.cpu_ns(wrong), tree.pids(wrong)), (None, None), "{wrong:?}");
        }
        assert_eq!(tree.pids("/a"), Some(vec![2]));
    }

    #[test]
    fn a_mount_that_shows_only_a_part_is_read_by_what_follows_that_part() {
        let dir = fixture(&[("web/cgroup.procs", "3\n")]);
        let line = format!("29 23 0:26 /docker/abc {} rw - cgroup2 cgroup2 rw\n", dir.path().display());
        let tree = Tree::parse(&line);
        assert_eq!(tree.pids("/docker/abc/web"), Some(vec![3]));
        assert_eq!(tree.pids("/docker/abcd/web"), None);
        assert_eq!(tree.pids("/web"), None);
    }

    #[test]
    fn this_machine_has_some_cgroup_version_or_none_without_panicking() {
        let tree = Tree::live();
        assert!(!tree.version().as_str().is_empty());
    }
}
