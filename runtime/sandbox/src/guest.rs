//! One remedy, loaded: linked with exactly the interfaces that its grants cover, and called in a store that is thrown away.

use theriac_model::call::{Export, FaultInput, Opinion, Report};
use theriac_protocol::worker::{EndReason, WorkerLimits};
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, HasSelf, Linker};
use wasmtime::{Engine, Store, UpdateDeadline};

use crate::bindings::{
    Remedy, RemedyPre, certificates, containers, databases, fault, files, firewall, http, kernel, log, observe,
    processes, programs, releases, types, units,
};
use crate::clock::Clock;
use crate::compile::Artefact;
use crate::ending::{Broken, Ending, translate};
use crate::host::{self, State};
use crate::interfaces::{Import, ImportError, Interface, shown};
use crate::limits::HOSTCALL_BYTES;
use crate::port::{Port, PortError};

/// A loaded remedy. Each call gets a fresh store: a store that trapped can't be entered again, and nothing a remedy keeps in
/// memory outlives its run.
pub struct Guest {
    pre: RemedyPre<State>,
    limits: WorkerLimits,
}

impl std::fmt::Debug for Guest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Guest").field("limits", &self.limits).finish_non_exhaustive()
    }
}

/// Why an artefact was not loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// It is of another engine, or no artefact.
    #[error("the cached artefact is not of this engine: {problem}")]
    Artefact { problem: String },
    /// It imports what no grant covers.
    #[error(transparent)]
    Import(#[from] ImportError),
    /// It imports the right names with other types.
    #[error("its imports are not those of the contract: {problem}")]
    ImportTypes { problem: String },
    /// It exports the right names with other types.
    #[error("its exports are not those of the world `remedy`: {problem}")]
    World { problem: String },
}

impl LoadError {
    /// The class for the runner.
    pub const fn reason(&self) -> EndReason {
        match self {
            Self::Artefact { .. } => EndReason::Malformed,
            Self::Import(_) | Self::ImportTypes { .. } => EndReason::Import,
            Self::World { .. } => EndReason::World,
        }
    }
}

/// What came of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// `remediate` returned.
    Remediated(Report),
    /// `check` returned.
    Checked(Opinion),
    /// The guest did not return.
    Ended(Ending),
}

impl Guest {
    /// Links and type-checks; runs nothing of the guest's. `granted` has the names of the imports that the manifest covers.
    pub fn load(
        engine: &Engine,
        artefact: &Artefact,
        granted: &[String],
        limits: WorkerLimits,
    ) -> Result<Self, LoadError> {
        #[expect(unsafe_code, reason = "the bytes of an `Artefact` are trusted by construction")]
        // SAFETY: an `Artefact` comes from our own compiler or from a caller that promised so.
        let component = unsafe { Component::deserialize(engine, artefact.bytes()) }
            .map_err(|error| LoadError::Artefact { problem: problem(&error) })?;
        let mut linker = Linker::new(engine);
        for (name, item) in component.component_type().imports(engine) {
            // A type's second name, from the world's `use`.
            if matches!(item.ty, ComponentItem::Type(_)) {
                continue;
            }
            let linked = match (Import::granted(name, granted)?, &item.ty) {
                (Import::Contract(interface), _) => link(&mut linker, interface),
                (Import::Wasi, ComponentItem::ComponentInstance(wanted)) => {
                    host::wasi::seal(&mut linker, engine, name, wanted)
                }
                // The structural check let nothing else through.
                (Import::Wasi, _) => Err(wasmtime::Error::msg("it is no interface")),
            };
            linked.map_err(|error| LoadError::ImportTypes { problem: problem(&error) })?;
        }
        let pre =
            linker.instantiate_pre(&component).map_err(|error| LoadError::ImportTypes { problem: problem(&error) })?;
        let pre = RemedyPre::new(pre).map_err(|error| LoadError::World { problem: problem(&error) })?;
        Ok(Self { pre, limits })
    }

    /// Instantiates and calls one export, within the limits.
    pub fn call(&self, port: &Port, clock: &Clock, export: Export, fault: FaultInput) -> Result<Outcome, PortError> {
        let mut store = Store::new(self.pre.engine(), State::new(port.clone(), clock.clone(), self.limits));
        store.limiter(|state| &mut state.meter);
        store.set_hostcall_fuel(HOSTCALL_BYTES);
        // The runner's handles, the same number lent out in calls, and a few of the guest's own.
        store.set_max_component_handles(self.limits.handles.saturating_mul(2).saturating_add(64) as usize);
        // Before anything of the guest runs: its start function may loop.
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(|context| {
            Ok(if context.data().is_late() { UpdateDeadline::Interrupt } else { UpdateDeadline::Continue(1) })
        });
        let answer = self.enter(&mut store, export, &host::input(fault));
        // What it printed last, without a line's end, often says why it ended.
        let printed = store.data_mut().print_rest();
        clock.disarm();
        let answer = answer.and_then(|outcome| printed.map(|()| outcome));
        match answer {
            Ok(outcome) => Ok(outcome),
            Err(error) => match translate(error, store.data(), self.limits) {
                Broken::Ended(ending) => Ok(Outcome::Ended(ending)),
                Broken::Port(error) => Err(error),
            },
        }
    }

    fn enter(&self, store: &mut Store<State>, export: Export, input: &fault::Input) -> wasmtime::Result<Outcome> {
        let remedy: Remedy = self.pre.instantiate(&mut *store)?;
        Ok(match export {
            Export::Remediate => Outcome::Remediated(host::report(remedy.call_remediate(&mut *store, input)?)),
            Export::Check => Outcome::Checked(host::opinion(remedy.call_check(&mut *store, input)?)),
        })
    }
}

fn itself(state: &mut State) -> &mut State {
    state
}

fn link(linker: &mut Linker<State>, interface: Interface) -> wasmtime::Result<()> {
    match interface {
        Interface::Types => types::add_to_linker::<_, HasSelf<State>>(linker, itself),
        Interface::Fault => fault::add_to_linker::<_, HasSelf<State>>(linker, itself),
        Interface::Log => log::add_to_linker::<_, HasSelf<State>>(linker, itself),
        Interface::Files => files::add_to_linker::<_, HasSelf<State>>(linker, itself),
        Interface::Units => units::add_to_linker::<_, HasSelf<State>>(linker, itself),
        Interface::Processes => processes::add_to_linker::<_, HasSelf<State>>(linker, itself),
        Interface::Observe => observe::add_to_linker::<_, HasSelf<State>>(linker, itself),
        Interface::Certificates => certificates::add_to_linker::<_, HasSelf<State>>(linker, itself),
        Interface::Programs => programs::add_to_linker::<_, HasSelf<State>>(linker, itself),
        Interface::Http => http::add_to_linker::<_, HasSelf<State>>(linker, itself),
        Interface::Kernel => kernel::add_to_linker::<_, HasSelf<State>>(linker, itself),
        Interface::Releases => releases::add_to_linker::<_, HasSelf<State>>(linker, itself),
        Interface::Containers => containers::add_to_linker::<_, HasSelf<State>>(linker, itself),
        Interface::Firewall => firewall::add_to_linker::<_, HasSelf<State>>(linker, itself),
        Interface::Databases => databases::add_to_linker::<_, HasSelf<State>>(linker, itself),
    }
}

fn problem(error: &wasmtime::Error) -> String {
    shown(&format!("{error:#}"))
}
