//! What the kernel really enforces on a unit's cgroup. systemd accepts a property whose controller is missing, and nothing happens:
//! only the kernel's own file tells, on cgroup v2, on v1, and on machines that mix both.

use std::fs;
use std::path::{Path, PathBuf};

use theriac_model::unit::Property;

/// How the kernel's file compares with what was set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ReadBack {
    /// It is in force.
    Same,
    /// The file says something else.
    Other(String),
    /// There is no such file.
    Missing,
}

/// Compares; `root` is where the cgroup filesystems are, `cgroup` the unit's ControlGroup.
pub(super) fn read_back(root: &Path, cgroup: &str, property: Property) -> ReadBack {
    // `unified` is where v2 is mounted beside v1 controllers.
    let v2 = [root.to_owned(), root.join("unified")];
    let found = v2.iter().find_map(|tree| read(&dir(tree, cgroup), v2_files(property)));
    let found = found.map(|text| (text, Version::Two)).or_else(|| {
        let (controller, files) = v1_files(property)?;
        read(&dir(&root.join(controller), cgroup), files).map(|text| (text, Version::One))
    });
    match found {
        // systemd takes a unit out of a controller that nothing limits any more, and its files go with that.
        None if is_no_limit(property) => ReadBack::Same,
        None => ReadBack::Missing,
        Some((text, version)) if in_force(property, version, &text) => ReadBack::Same,
        Some((text, _)) => ReadBack::Other(text),
    }
}

const fn is_no_limit(property: Property) -> bool {
    matches!(
        property,
        Property::CpuQuota(None) | Property::CpuWeight(None) | Property::MemoryHigh(None) | Property::TasksMax(None)
    )
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

fn dir(tree: &Path, cgroup: &str) -> PathBuf {
    tree.join(cgroup.trim_start_matches('/'))
}

const fn v2_files(property: Property) -> &'static [&'static str] {
    match property {
        Property::CpuQuota(_) => &["cpu.max"],
        Property::CpuWeight(_) => &["cpu.weight"],
        Property::MemoryHigh(_) => &["memory.high"],
        Property::TasksMax(_) => &["pids.max"],
    }
}

const fn v1_files(property: Property) -> Option<(&'static str, &'static [&'static str])> {
    match property {
        Property::CpuQuota(_) => Some(("cpu", &["cpu.cfs_quota_us", "cpu.cfs_period_us"])),
        Property::CpuWeight(_) => Some(("cpu", &["cpu.shares"])),
        // v1 has no throttling threshold: memory.soft_limit_in_bytes throttles nobody.
        Property::MemoryHigh(_) => None,
        Property::TasksMax(_) => Some(("pids", &["pids.max"])),
    }
}

/// All the files in one line, or nothing if one is missing.
fn read(dir: &Path, files: &[&str]) -> Option<String> {
    let texts: Option<Vec<String>> = files.iter().map(|file| fs::read_to_string(dir.join(file)).ok()).collect();
    Some(texts?.iter().map(|text| text.trim()).collect::<Vec<_>>().join(" "))
}

fn in_force(property: Property, version: Version, text: &str) -> bool {
    let mut words = text.split_ascii_whitespace();
    let first = words.next().unwrap_or_default();
    let number = |word: &str| word.parse::<u64>().ok();
    match (property, version) {
        (Property::CpuQuota(None), _) => first == "max" || first == "-1",
        (Property::CpuQuota(Some(permille)), _) => {
            let Some((quota, period)) = number(first).zip(words.next().and_then(number)) else { return false };
            // The kernel's quota is in whole microseconds of its period, so it may be off by less than a thousandth.
            (quota * 1000).abs_diff(u64::from(permille) * period) <= period
        }
        (Property::CpuWeight(weight), Version::Two) => number(first) == Some(u64::from(weight.unwrap_or(100))),
        // systemd's conversion: 100 is the kernel's default of 1024, within 2 and 262144.
        (Property::CpuWeight(weight), Version::One) => {
            number(first) == Some((u64::from(weight.unwrap_or(100)) * 1024 / 100).clamp(2, 262_144))
        }
        (Property::MemoryHigh(None) | Property::TasksMax(None), _) => first == "max",
        // Rounded down to whole pages by the kernel, and pages may be 64 KiB.
        (Property::MemoryHigh(Some(bytes)), _) => {
            number(first).is_some_and(|high| high <= bytes && bytes - high < 64 << 10)
        }
        (Property::TasksMax(Some(tasks)), _) => number(first) == Some(tasks),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CGROUP: &str = "/system.slice/nginx.service";

    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    fn check(files: &[(&str, &str)], property: Property, expected: &ReadBack) {
        assert_eq!(read_back(tree(files).path(), CGROUP, property), *expected, "{files:?} {property:?}");
    }

    #[test]
    fn a_limit_counts_only_when_the_kernel_has_it() {
        let v2 = |file: &'static str, text| [(format!("system.slice/nginx.service/{file}"), text)];
        for (file, text, property) in [
            ("cpu.max", "50000 100000\n", Property::CpuQuota(Some(500))),
            ("cpu.max", "max 100000\n", Property::CpuQuota(None)),
            ("cpu.weight", "20\n", Property::CpuWeight(Some(20))),
            ("memory.high", "67108864\n", Property::MemoryHigh(Some((64 << 20) + 100))),
            ("memory.high", "max\n", Property::MemoryHigh(None)),
            ("pids.max", "33\n", Property::TasksMax(Some(33))),
        ] {
            let files = v2(file, text);
            let files = [(files[0].0.as_str(), files[0].1)];
            check(&files, property, &ReadBack::Same);
        }
        check(
            &[("system.slice/nginx.service/cpu.max", "max 100000\n")],
            Property::CpuQuota(Some(500)),
            &ReadBack::Other("max 100000".to_owned()),
        );
    }

    #[test]
    fn v1_controllers_are_found_beside_a_unified_tree_without_any() {
        let unified = ("unified/system.slice/nginx.service/cgroup.procs", "");
        let quota = ("cpu/system.slice/nginx.service/cpu.cfs_quota_us", "20000\n");
        let period = ("cpu/system.slice/nginx.service/cpu.cfs_period_us", "100000\n");
        check(&[unified, quota, period], Property::CpuQuota(Some(200)), &ReadBack::Same);
        check(&[unified, quota], Property::CpuQuota(Some(200)), &ReadBack::Missing);
        let shares = ("cpu/system.slice/nginx.service/cpu.shares", "204\n");
        check(&[shares], Property::CpuWeight(Some(20)), &ReadBack::Same);
    }

    #[test]
    fn a_limit_that_was_taken_away_is_gone_with_its_file() {
        check(&[], Property::CpuQuota(None), &ReadBack::Same);
        check(&[], Property::CpuQuota(Some(500)), &ReadBack::Missing);
    }

    #[test]
    fn memory_high_does_not_exist_on_v1() {
        let v1 = ("memory/system.slice/nginx.service/memory.limit_in_bytes", "67108864\n");
        check(&[v1], Property::MemoryHigh(Some(64 << 20)), &ReadBack::Missing);
    }
}
