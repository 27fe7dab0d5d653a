//! Runs that do not help, made by the tests' own remedies: every verb that no shipped remedy uses, and its undo.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::process::{Pid, getpriority_process};
use theriac_model::run::RunState;

use super::disk::Volume;
use super::stage::{Case, Ends, Stage, Whole};
use crate::host::{Host, Service, Setup};

pub(super) const MISGUIDED: &str =
    "  - remedy: misguided\n    level: 1\n    healed_within: 1s\n    stable_for: 300ms\n";

/// The rung for one verb of the remedy `verbs`.
macro_rules! verb {
    ($verb:literal) => {
        concat!(
            "  - remedy: verbs\n    params: { verb: ",
            $verb,
            " }\n    level: 1\n    healed_within: 1s\n    stable_for: 300ms\n"
        )
    };
}
pub(super) use verb;

pub(super) const fn case(rung: &'static str, set: fn() -> Stage) -> Case {
    Case { own: Some(rung), ends: Ends::TakenBack, ..Case::of("own", 0, set) }
}

/// A service that lacks something no remedy can give it: it answers 503 whatever is done.
pub(super) fn sick(dir: tempfile::TempDir, rules: String, fault: impl FnOnce(&Host) -> Whole + 'static) -> Stage {
    let mut sick = Service::new("sick");
    sick.args = vec!["--needs".into(), dir.path().join("missing").display().to_string()];
    sick.rules = "processes = [\"renice\"]".into();
    let mine = sick.clone();
    Stage {
        dir,
        setup: Setup { services: vec![sick], rules, ..Setup::default() },
        kind: "service-unhealthy",
        target: "unit:sick".to_owned(),
        fault: Box::new(move |host| {
            Host::wait_for_status(&mine, "503");
            fault(host)
        }),
        keep: Vec::new(),
    }
}

/// Names, contents, modes, owners and modification times, with everything of ours that was left behind.
fn everything(dir: &Path) -> Vec<String> {
    let mut all = Vec::new();
    for file in fs::read_dir(dir).unwrap().map(|file| file.unwrap().path()) {
        let (content, meta) = (fs::read(&file).unwrap(), fs::metadata(&file).unwrap());
        let times = (meta.mtime(), meta.mtime_nsec());
        all.push(format!("{} {:?} {:o} {} {times:?}", file.display(), content, meta.mode(), meta.uid()));
    }
    all.sort();
    all
}

/// A stage with two files and the directories that a verb may need beside them.
fn files(label: &str, name: &str, rest: impl FnOnce(&Path) -> String) -> Stage {
    let dir = Host::scratch();
    let granted = dir.path().join("granted");
    fs::create_dir(&granted).unwrap();
    for (n, content) in [b"workers = 4\n".repeat(9000), b"answer = 200\n".to_vec()].into_iter().enumerate() {
        fs::write(granted.join(name.replace('*', &n.to_string())), content).unwrap();
    }
    let rules =
        format!("\n[[directory]]\npath = \"{}\"\nlabel = \"{label}\"\n{}\n", granted.display(), rest(dir.path()));
    sick(dir, rules, move |_| {
        let before = everything(&granted);
        Box::new(move |_, state| {
            assert!(matches!(state, RunState::Undone | RunState::Superseded), "{state}");
            assert_eq!(everything(&granted), before, "{state}");
        })
    })
}

pub(super) fn replaces() -> Stage {
    files("config", "app*.conf", |_| "verbs = [\"replace\"]".to_owned())
}

pub(super) fn truncates() -> Stage {
    files("logs", "app*.log", |_| "verbs = [\"truncate\"]".to_owned())
}

pub(super) fn sets_aside() -> Stage {
    files("logs", "app*.log", |dir| {
        let aside = dir.join("aside");
        fs::create_dir(&aside).unwrap();
        format!("verbs = [\"set-aside\"]\nset_aside = \"{}\"", aside.display())
    })
}

pub(super) fn copy_truncates() -> Stage {
    let mut archive = None;
    let mut stage = files("logs", "app*.log", |dir| {
        let volume = archive.insert(Volume::mount(&dir.join("archive"), "size=16m"));
        format!("verbs = [\"copy-truncate\"]\narchive_to = \"{}\"", volume.path.display())
    });
    stage.keep.push(Box::new(archive));
    stage
}

pub(super) fn renices() -> Stage {
    sick(Host::scratch(), String::new(), |host| {
        let pid = host.main_pid("sick");
        let before = nice_of(pid);
        Box::new(move |_, state| assert_eq!(nice_of(pid), before, "{state}"))
    })
}

/// Of each of its threads.
fn nice_of(pid: Pid) -> Vec<i32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let ids = tasks.map(|task| Pid::from_raw(task.unwrap().file_name().to_str().unwrap().parse().unwrap()));
    ids.map(|thread| getpriority_process(thread).unwrap()).collect()
}
