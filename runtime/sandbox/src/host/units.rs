//! `units`: one unit of the service manager.

use theriac_model::call::{Call, Interface, Reply, UnitCall};
use theriac_model::unit::{ActiveState, KillWhom, Property, Signal};
use wasmtime::component::Resource;

use super::{Answer, State, ask, handle};
use crate::bindings::{Unit, types, units};

impl State {
    fn unit_done(&mut self, unit: &Resource<Unit>, verb: UnitCall) -> Answer<()> {
        ask!(self, Call::Unit { handle: handle(unit), verb }, Reply::Done => ())
    }
}

/// A signal of the contract.
pub(super) const fn signal(signal: types::Signal) -> Signal {
    match signal {
        types::Signal::Term => Signal::Term,
        types::Signal::Kill => Signal::Kill,
        types::Signal::Hup => Signal::Hup,
        types::Signal::Usr1 => Signal::Usr1,
    }
}

const fn active(active: ActiveState) -> units::Active {
    match active {
        ActiveState::Active => units::Active::Active,
        ActiveState::Activating => units::Active::Activating,
        ActiveState::Deactivating => units::Active::Deactivating,
        ActiveState::Inactive => units::Active::Inactive,
        ActiveState::Failed => units::Active::Failed,
        ActiveState::Reloading => units::Active::Reloading,
        ActiveState::Other => units::Active::Other,
    }
}

impl units::Host for State {}

impl units::HostUnit for State {
    fn open(&mut self, label: String) -> Answer<Resource<Unit>> {
        State::open(self, Interface::Units, label)
    }

    fn name(&mut self, unit: Resource<Unit>) -> wasmtime::Result<String> {
        let name = ask!(self, Call::Unit { handle: handle(&unit), verb: UnitCall::Name }, Reply::Text(name) => name)?;
        // The contract has no denial here: a name is for log lines only.
        Ok(name.unwrap_or_else(|_denial| "(name denied)".to_owned()))
    }

    fn status(&mut self, unit: Resource<Unit>) -> Answer<units::Status> {
        ask!(self, Call::Unit { handle: handle(&unit), verb: UnitCall::Status }, Reply::Status(unit) => units::Status {
            active: active(unit.active),
            sub: unit.sub,
            result: unit.result,
            restarts: unit.restarts,
            since: unit.since_s,
            will_restart: unit.will_restart,
            stopped_on_purpose: unit.stopped_on_purpose,
            healthy: unit.healthy,
            assumed: unit.assumed,
        })
    }

    fn start(&mut self, unit: Resource<Unit>) -> Answer<()> {
        self.unit_done(&unit, UnitCall::Start)
    }

    fn stop(&mut self, unit: Resource<Unit>) -> Answer<()> {
        self.unit_done(&unit, UnitCall::Stop)
    }

    fn restart(&mut self, unit: Resource<Unit>) -> Answer<()> {
        self.unit_done(&unit, UnitCall::Restart)
    }

    fn reload(&mut self, unit: Resource<Unit>) -> Answer<()> {
        self.unit_done(&unit, UnitCall::Reload)
    }

    fn kill(&mut self, unit: Resource<Unit>, whom: units::Whom, sent: types::Signal) -> Answer<()> {
        let whom = match whom {
            units::Whom::Main => KillWhom::Main,
            units::Whom::All => KillWhom::All,
        };
        self.unit_done(&unit, UnitCall::Kill { whom, signal: signal(sent) })
    }

    fn reset_failed(&mut self, unit: Resource<Unit>) -> Answer<()> {
        self.unit_done(&unit, UnitCall::ResetFailed)
    }

    fn set_property(&mut self, unit: Resource<Unit>, property: units::Property) -> Answer<()> {
        let property = match property {
            units::Property::CpuQuota(value) => Property::CpuQuota(value),
            units::Property::CpuWeight(value) => Property::CpuWeight(value),
            units::Property::MemoryHigh(value) => Property::MemoryHigh(value),
            units::Property::TasksMax(value) => Property::TasksMax(value),
        };
        self.unit_done(&unit, UnitCall::SetProperty { property })
    }

    fn log_tail(&mut self, unit: Resource<Unit>, lines: u32) -> Answer<Vec<String>> {
        let verb = UnitCall::LogTail { lines };
        ask!(self, Call::Unit { handle: handle(&unit), verb }, Reply::Lines(lines) => lines)
    }

    fn drop(&mut self, unit: Resource<Unit>) -> wasmtime::Result<()> {
        self.give_back(&unit)
    }
}
