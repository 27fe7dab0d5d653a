//! `programs`: one program of the host.

use theriac_model::call::{Call, Interface, Reply};
use theriac_model::program::{ProgramCall, ProgramEnding, SlotValue};
use wasmtime::component::Resource;

use super::{Answer, State, ask, handle};
use crate::bindings::{Program, programs};

const fn ending(ending: ProgramEnding) -> programs::Ending {
    match ending {
        ProgramEnding::Exited { code } => programs::Ending::Exited(code),
        ProgramEnding::Signalled { signal } => programs::Ending::Signalled(signal),
        ProgramEnding::TimedOut => programs::Ending::TimedOut,
    }
}

fn slot(slot: programs::Slot) -> (String, SlotValue) {
    let value = match slot.value {
        programs::Value::Integer(value) => SlotValue::Integer(value),
        programs::Value::Choice(value) => SlotValue::Choice(value),
    };
    (slot.name, value)
}

impl programs::Host for State {}

impl programs::HostProgram for State {
    fn open(&mut self, label: String) -> Answer<Resource<Program>> {
        State::open(self, Interface::Programs, label)
    }

    fn run(&mut self, program: Resource<Program>, slots: Vec<programs::Slot>) -> Answer<programs::Output> {
        let verb = ProgramCall::Run { slots: slots.into_iter().map(slot).collect() };
        ask!(self, Call::Program { handle: handle(&program), verb }, Reply::Program(output) => programs::Output {
            ending: ending(output.ending),
            stdout: output.stdout.0,
            stderr: output.stderr.0,
            cut: output.cut,
            assumed: output.assumed,
        })
    }

    fn drop(&mut self, program: Resource<Program>) -> wasmtime::Result<()> {
        self.give_back(&program)
    }
}
