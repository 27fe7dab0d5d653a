//! The cases: what is broken, how, and what must come of it.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use anyhow::{Context as _, ensure};
use rustix::process::{Pid, Signal};
use serde_json::Value;

use super::case::{Case, Watched, now};
use super::scratch::{Scratch, write_noise};
use super::theriac::Theriac;

/// Every case, in the order in which they are shown. The disk comes after two others: its rotated logs have to be older than
/// the ten seconds that the remedy's grant leaves them alone.
pub(crate) fn all(scratch: &Scratch) -> Vec<Case> {
    vec![crash(), hang(), disk(scratch), spin(), leak(), misguided(), hostile()]
}

fn nothing(_: &Theriac<'_>) -> anyhow::Result<()> {
    Ok(())
}

/// The run that stayed is the last one, and the incident is over.
fn healed(watched: &Watched) -> anyhow::Result<()> {
    ensure!(watched.state() == "closed", "the incident is {}", watched.state());
    ensure!(watched.run_states().last() == Some(&"committed"), "the runs ended as {:?}", watched.run_states());
    Ok(())
}

fn disk(scratch: &Scratch) -> Case {
    let mount = scratch.volume();
    Case {
        name: "full disk",
        fault: "disk-full",
        target: format!("mount:{}", mount.display()),
        mission: Some(5.0),
        impossible: (!scratch.mounted).then(|| "no filesystem of our own to fill".to_owned()),
        break_it: Box::new(|theriac| {
            // A runaway writer takes every block that is left.
            let mut file = fs::File::create(theriac.scratch().volume().join("runaway.data"))?;
            match write_noise(&mut file, usize::MAX, 99) {
                Err(error) if error.kind() == std::io::ErrorKind::StorageFull => Ok(now()),
                Err(error) => Err(error.into()),
                Ok(()) => anyhow::bail!("the volume did not get full"),
            }
        }),
        check: Box::new(|theriac, watched| {
            healed(watched)?;
            let archived = fs::read_dir(theriac.scratch().dir().join("archive"))?.count();
            ensure!(archived > 0, "nothing was archived");
            Ok(format!("{archived} rotated logs archived to another device"))
        }),
        clean_up: Box::new(|theriac| Ok(fs::remove_file(theriac.scratch().volume().join("runaway.data"))?)),
    }
}

fn crash() -> Case {
    Case {
        name: "killed service",
        fault: "service-crash",
        target: "unit:web".to_owned(),
        mission: Some(3.0),
        impossible: None,
        break_it: Box::new(|theriac| signal(theriac, "web", Signal::KILL)),
        check: Box::new(|_, watched| healed(watched).map(|()| "started again".to_owned())),
        clean_up: Box::new(nothing),
    }
}

fn hang() -> Case {
    Case {
        name: "hung service",
        fault: "service-unhealthy",
        target: "unit:stuck".to_owned(),
        mission: Some(3.0),
        impossible: None,
        // The kernel still accepts its connections; nobody ever answers them.
        break_it: Box::new(|theriac| signal(theriac, "stuck", Signal::STOP)),
        check: Box::new(|_, watched| healed(watched).map(|()| "restarted".to_owned())),
        clean_up: Box::new(nothing),
    }
}

fn spin() -> Case {
    Case {
        name: "spinning process",
        fault: "cpu-saturation",
        target: "unit:hog".to_owned(),
        mission: Some(30.0),
        impossible: None,
        break_it: Box::new(|theriac| {
            fs::write(theriac.scratch().trigger("hog"), "")?;
            Ok(now())
        }),
        check: Box::new(|_, watched| {
            healed(watched)?;
            let throttled = watched.records().any(|record| {
                record.pointer("/intent/effect/group").is_some()
                    || record.pointer("/intent/effect/unit/verb/set-property").is_some()
            });
            Ok(if throttled { "throttled" } else { "restarted" }.to_owned())
        }),
        clean_up: Box::new(nothing),
    }
}

fn leak() -> Case {
    Case {
        name: "leaking process",
        fault: "memory-leak",
        target: "unit:leaker".to_owned(),
        mission: Some(10.0),
        impossible: None,
        break_it: Box::new(|theriac| {
            fs::write(theriac.scratch().trigger("leaker"), "")?;
            Ok(now())
        }),
        check: Box::new(|_, watched| {
            healed(watched)?;
            let rungs = watched.runs().count();
            Ok(if rungs > 1 { "no MemoryHigh here, restarted" } else { "throttled" }.to_owned())
        }),
        clean_up: Box::new(nothing),
    }
}

/// What an undo has to bring back.
#[derive(Debug, PartialEq, Eq)]
struct Before {
    content: Vec<u8>,
    mode: u32,
    owner: (u32, u32),
    mtime: (i64, i64),
}

fn state_of(path: &Path) -> anyhow::Result<Before> {
    let meta = fs::metadata(path)?;
    Ok(Before {
        content: fs::read(path)?,
        mode: meta.mode(),
        owner: (meta.uid(), meta.gid()),
        mtime: (meta.mtime(), meta.mtime_nsec()),
    })
}

fn misguided() -> Case {
    let before = std::rc::Rc::new(std::cell::RefCell::new(None));
    let remembered = std::rc::Rc::clone(&before);
    Case {
        name: "wrong repair",
        fault: "service-unhealthy",
        target: "unit:app".to_owned(),
        mission: None,
        impossible: None,
        break_it: Box::new(move |theriac| {
            *before.borrow_mut() = Some(state_of(&theriac.scratch().app_config())?);
            fs::remove_file(theriac.scratch().dependency("app"))?;
            Ok(now())
        }),
        check: Box::new(move |theriac, watched| {
            ensure!(watched.state() == "escalated", "the incident is {}, and a person was needed", watched.state());
            ensure!(watched.run_states() == ["undone"], "the runs ended as {:?}", watched.run_states());
            let replaced = watched.records().any(|record| record.pointer("/intent/effect/file").is_some());
            ensure!(replaced, "the remedy changed nothing, so nothing was shown");
            let now = state_of(&theriac.scratch().app_config())?;
            ensure!(remembered.borrow().as_ref() == Some(&now), "the configuration is not as it was: {now:?}");
            Ok("did not help: undone byte for byte, handed to a person".to_owned())
        }),
        clean_up: Box::new(|theriac| Ok(fs::write(theriac.scratch().dependency("app"), "")?)),
    }
}

fn hostile() -> Case {
    Case {
        name: "hostile remedy",
        fault: "service-unhealthy",
        target: "unit:bait".to_owned(),
        mission: None,
        impossible: None,
        break_it: Box::new(|theriac| {
            fs::remove_file(theriac.scratch().dependency("bait"))?;
            Ok(now())
        }),
        check: Box::new(|_, watched| {
            ensure!(watched.state() == "escalated", "the incident is {}", watched.state());
            let count = |name: &str| watched.records().filter(|record| record.get(name).is_some()).count();
            let denied = count("denied");
            ensure!(denied >= 10, "only {denied} attempts were denied");
            ensure!(count("intent") == 0, "it got {} effects through", count("intent"));
            let leaked = watched.records().any(|record| record.to_string().contains("leak: "));
            ensure!(!leaked, "it reports something that came through");
            Ok(format!("{denied} attempts, all denied and in the ledger"))
        }),
        clean_up: Box::new(|theriac| Ok(fs::write(theriac.scratch().dependency("bait"), "")?)),
    }
}

/// Sends a signal to a service's main process, as an accident would.
fn signal(theriac: &Theriac<'_>, service: &str, signal: Signal) -> anyhow::Result<u64> {
    let status = theriac.json(&["status"])?;
    let units = status.get("units").and_then(Value::as_array).context("`theriac status --json` has no units")?;
    let unit = units.iter().find(|unit| unit.get("name").and_then(Value::as_str) == Some(service));
    let pid = unit.and_then(|unit| unit.get("main_pid")).and_then(Value::as_i64).context("no main process")?;
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).context("no main process")?;
    let broken = now();
    rustix::process::kill_process(pid, signal)?;
    Ok(broken)
}
