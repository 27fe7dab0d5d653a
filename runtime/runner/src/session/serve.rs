//! From a call to its reply: budget, handle, capability. Denials are journalled here, whoever made them.

use theriac_model::call::{Call, Handle, Interface, ProbeCall, Reply};
use theriac_model::denial::{Denial, DenialCause};
use theriac_model::id::Label;
use theriac_model::record::Record;

use super::scene::Scene;
use super::table::Held;
use crate::capability::{
    certificates, containers, databases, files, firewall, http, kernel, observe, processes, programs, releases, units,
};
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
        Call::Dir { handle, verb } => files::dir(scene, &granted(scene, handle, Interface::Files)?, verb),
        Call::Entry { handle, verb } => {
            let Held::Entry(entry) = held(scene, handle)? else { return Err(mismatch(handle, "an entry")) };
            files::entry(scene, mode, entry, verb)
        }
        Call::Unit { handle, verb } => units::unit(scene, mode, &granted(scene, handle, Interface::Units)?, verb),
        Call::Group { handle, verb } => {
            processes::group(scene, mode, &granted(scene, handle, Interface::Processes)?, verb)
        }
        Call::Process { handle, verb } => {
            let Held::Process(label, process) = held(scene, handle)? else { return Err(mismatch(handle, "a process")) };
            processes::process(scene, mode, &label, process, verb)
        }
        Call::Series { handle, verb } => observe::series(scene, &granted(scene, handle, Interface::Series)?, verb),
        Call::Probe { handle, verb: ProbeCall::Check } => {
            observe::probe(scene, &granted(scene, handle, Interface::Probes)?)
        }
        Call::Certificate { handle, verb } => {
            certificates::serve(scene, mode, &granted(scene, handle, Interface::Certificates)?, verb)
        }
        Call::Program { handle, verb } => {
            programs::serve(scene, mode, &granted(scene, handle, Interface::Programs)?, verb)
        }
        Call::Http { handle, verb } => http::serve(scene, mode, &granted(scene, handle, Interface::Http)?, &verb),
        Call::Knob { handle, verb } => kernel::serve(scene, mode, &granted(scene, handle, Interface::Kernel)?, &verb),
        Call::Release { handle, verb } => {
            releases::serve(scene, mode, &granted(scene, handle, Interface::Releases)?, verb)
        }
        Call::Container { handle, verb } => {
            containers::serve(scene, mode, &granted(scene, handle, Interface::Containers)?, verb)
        }
        Call::Firewall { handle, verb } => {
            firewall::serve(scene, mode, &granted(scene, handle, Interface::Firewall)?, verb)
        }
        Call::Database { handle, verb } => {
            databases::serve(scene, mode, &granted(scene, handle, Interface::Databases)?, &verb)
        }
    }
}

fn held(scene: &Scene<'_>, handle: Handle) -> Result<Held, Denial> {
    let unknown = || Denial::new(DenialCause::NotGranted, "handle", "handle", format!("use handle {}", handle.0));
    scene.table.get(handle).cloned().ok_or_else(unknown)
}

/// The label that the handle was opened by.
fn granted(scene: &Scene<'_>, handle: Handle, wanted: Interface) -> Result<Label, Denial> {
    match held(scene, handle)? {
        Held::Grant(interface, label) if interface == wanted => Ok(label),
        Held::Grant(..) | Held::Entry(_) | Held::Process(..) => {
            Err(mismatch(handle, &format!("one of `{}`", wanted.grant_table())))
        }
    }
}

/// Only a worker that was taken over can send this: the bindings' types keep resources apart.
fn mismatch(handle: Handle, wanted: &str) -> Denial {
    Denial::new(DenialCause::NotGranted, "handle", "handle", format!("use handle {} as {wanted}", handle.0))
}

fn open(scene: &mut Scene<'_>, interface: Interface, text: &str) -> Result<Handle, Denial> {
    let grants = scene.grants;
    let label = match interface {
        Interface::Files => {
            let label = &grants.dir(text)?.label;
            files::root(scene, label)?;
            label
        }
        Interface::Units => &grants.unit(text)?.label,
        Interface::Processes => &grants.group(text)?.label,
        Interface::Series => &grants.series(text)?.label,
        Interface::Probes => &grants.probe(text)?.label,
        Interface::Certificates => &grants.certificate(text)?.label,
        Interface::Programs => &grants.program(text)?.label,
        Interface::Http => &grants.endpoint(text)?.label,
        Interface::Kernel => &grants.knob(text)?.label,
        Interface::Releases => &grants.release(text)?.label,
        Interface::Containers => &grants.container(text)?.label,
        Interface::Firewall => &grants.set(text)?.label,
        Interface::Databases => &grants.server(text)?.label,
    };
    let held = Held::Grant(interface, label.clone());
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
