//! `kernel`: one number of the kernel's configuration.

use theriac_model::call::{Call, Interface, Reply};
use theriac_model::kernel::KnobCall;
use wasmtime::component::Resource;

use super::{Answer, State, ask, handle};
use crate::bindings::{Knob, kernel};

impl kernel::Host for State {}

impl kernel::HostKnob for State {
    fn open(&mut self, label: String) -> Answer<Resource<Knob>> {
        State::open(self, Interface::Kernel, label)
    }

    fn get(&mut self, knob: Resource<Knob>) -> Answer<kernel::Reading> {
        let call = Call::Knob { handle: handle(&knob), verb: KnobCall::Get };
        ask!(self, call, Reply::Knob(info) => kernel::Reading { value: info.value, assumed: info.assumed })
    }

    fn set(&mut self, knob: Resource<Knob>, value: i64) -> Answer<()> {
        ask!(self, Call::Knob { handle: handle(&knob), verb: KnobCall::Set { value } }, Reply::Done => ())
    }

    fn drop(&mut self, knob: Resource<Knob>) -> wasmtime::Result<()> {
        self.give_back(&knob)
    }
}
