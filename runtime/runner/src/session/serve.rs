//! From a call to its reply: budget, handle, capability. Denials are journalled here, whoever made them.

use theriac_model::call::{Call, Handle, Interface, Reply};
use theriac_model::denial::{Denial, DenialCause};
use theriac_model::record::Record;

use super::scene::Scene;
use super::table::Held;
use crate::capability::{containers, databases, files, http, kernel, observe, processes, programs, releases, units};
use crate::gate::Mode;

pub(crate) fn answer(scene: &mut Scene<'_>, mode: &mut dyn Mode, call: Call) -> Reply {
    let served = if scene.budget.call() {
        serve(scene, mode, call)
    } else {
        Err(Denial::new(DenialCause::OverBudget, "limits", "host_calls", "another host call"))
    };
    served.unwrap_or_else(|denial| {
        note(scene, mode.is_dry(), &denial);
        Reply::Denied(denial)
    })
}

fn serve(scene: &mut Scene<'_>, mode: &mut dyn Mode, call: Call) -> Result<Reply, Denial> {
    match call {
        Call::Log { severity, text } => Ok(log(scene, mode.is_dry(), &format!("{}: {text}", severity.as_str()))),
        Call::Panicked { message, file, line } => {
            Ok(log(scene, mode.is_dry(), &format!("panicked at {file}:{line}: {message}")))
        }
        Call::Open { interface, label } => open(scene, interface, &label).map(Reply::Opened),
        Call::Drop { handle } => {
            scene.table.drop(handle);
            Ok(Reply::Done)
        }
        Call::Dir { handle, verb } => {
            let Held::Dir(label) = held(scene, handle)? else { return Err(mismatch(handle, "a directory")) };
            files::dir(scene, &label, verb)
        }
        Call::Entry { handle, verb } => {
            let Held::Entry(entry) = held(scene, handle)? else { return Err(mismatch(handle, "an entry")) };
            files::entry(scene, mode, entry, verb)
        }
        Call::Unit { handle, verb } => {
            let Held::Unit(label) = held(scene, handle)? else { return Err(mismatch(handle, "a unit")) };
            units::unit(scene, mode, &label, verb)
        }
        Call::Group { handle, verb } => {
            let Held::Group(label) = held(scene, handle)? else { return Err(mismatch(handle, "a group")) };
            processes::group(scene, mode, &label, verb)
        }
        Call::Process { handle, verb } => {
            let Held::Process(label, process) = held(scene, handle)? else { return Err(mismatch(handle, "a process")) };
            processes::process(scene, mode, &label, process, verb)
        }
        Call::Series { handle, verb } => {
            let Held::Series(label) = held(scene, handle)? else { return Err(mismatch(handle, "a series")) };
            observe::series(scene, &label, verb)
        }
        Call::Probe { handle, verb: theriac_model::call::ProbeCall::Check } => {
            let Held::Probe(label) = held(scene, handle)? else { return Err(mismatch(handle, "a probe")) };
            observe::probe(scene, &label)
        }
        Call::Program { handle, verb } => {
            let Held::Program(label) = held(scene, handle)? else { return Err(mismatch(handle, "a program")) };
            programs::serve(scene, mode, &label, verb)
        }
        Call::Http { handle, verb } => {
            let Held::Http(label) = held(scene, handle)? else { return Err(mismatch(handle, "an endpoint")) };
            http::serve(scene, mode, &label, &verb)
        }
        Call::Knob { handle, verb } => {
            let Held::Knob(label) = held(scene, handle)? else {
                return Err(mismatch(handle, "a number of the kernel's"));
            };
            kernel::serve(scene, mode, &label, &verb)
        }
        Call::Release { handle, verb } => {
            let Held::Release(label) = held(scene, handle)? else {
                return Err(mismatch(handle, "the releases of a service"));
            };
            releases::serve(scene, mode, &label, verb)
        }
        Call::Container { handle, verb } => {
            let Held::Container(label) = held(scene, handle)? else { return Err(mismatch(handle, "a container")) };
            containers::serve(scene, mode, &label, verb)
        }
        Call::Database { handle, verb } => {
            let Held::Database(label) = held(scene, handle)? else { return Err(mismatch(handle, "a database server")) };
            databases::serve(scene, mode, &label, &verb)
        }
    }
}

fn held(scene: &Scene<'_>, handle: Handle) -> Result<Held, Denial> {
    let unknown = || Denial::new(DenialCause::NotGranted, "handle", "handle", format!("use handle {}", handle.0));
    scene.table.get(handle).cloned().ok_or_else(unknown)
}

/// Only a worker that was taken over can send this: the bindings' types keep resources apart.
fn mismatch(handle: Handle, wanted: &str) -> Denial {
    Denial::new(DenialCause::NotGranted, "handle", "handle", format!("use handle {} as {wanted}", handle.0))
}

fn open(scene: &mut Scene<'_>, interface: Interface, text: &str) -> Result<Handle, Denial> {
    let grants = scene.grants;
    let held = match interface {
        Interface::Files => {
            let label = grants.dir(text)?.label.clone();
            files::root(scene, &label)?;
            Held::Dir(label)
        }
        Interface::Units => Held::Unit(grants.unit(text)?.label.clone()),
        Interface::Processes => Held::Group(grants.group(text)?.label.clone()),
        Interface::Series => Held::Series(grants.series(text)?.label.clone()),
        Interface::Probes => Held::Probe(grants.probe(text)?.label.clone()),
        Interface::Programs => Held::Program(grants.program(text)?.label.clone()),
        Interface::Http => Held::Http(grants.endpoint(text)?.label.clone()),
        Interface::Kernel => Held::Knob(grants.knob(text)?.label.clone()),
        Interface::Releases => Held::Release(grants.release(text)?.label.clone()),
        Interface::Containers => Held::Container(grants.container(text)?.label.clone()),
        Interface::Databases => Held::Database(grants.server(text)?.label.clone()),
    };
    scene.table.open(held, &format!("open {} `{text}`", interface.grant_table()))
}

/// A record that fails is remembered by the scene: nothing is changed from then on.
fn log(scene: &mut Scene<'_>, dry: bool, text: &str) -> Reply {
    if let Some(line) = scene.budget.line(text).map(str::to_owned) {
        let record = Record::RemedyLog { run: scene.run.clone(), dry, text: line };
        scene.note(record);
    }
    Reply::Done
}

fn note(scene: &mut Scene<'_>, dry: bool, denial: &Denial) {
    if scene.budget.denial() {
        let (run, remedy) = (Some(scene.run.clone()), scene.remedy.clone());
        let record = Record::Denied { run, remedy, dry, denial: denial.clone() };
        scene.note(record);
    }
}

/// At the end: how many denials got no record of their own.
pub(crate) fn note_unrecorded(scene: &mut Scene<'_>, dry: bool) {
    let more = scene.budget.unrecorded();
    if more > 0 {
        let text = format!("{more} more denials were not recorded one by one");
        let record = Record::RemedyLog { run: scene.run.clone(), dry, text };
        scene.note(record);
    }
}
