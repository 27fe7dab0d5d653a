//! `observe`: series and probes, read only.

use theriac_model::call::{self, Call, Interface, ProbeCall, Reply, SeriesCall};
use wasmtime::component::Resource;

use super::{Answer, State, ask, handle};
use crate::bindings::{Probe, Series, observe};
use crate::ending::Stop;

impl State {
    fn readings(&mut self, series: &Resource<Series>, verb: SeriesCall) -> Answer<Vec<observe::Reading>> {
        let reading = |reading: &call::Reading| observe::Reading { age: reading.age_s, value: reading.value };
        ask!(self, Call::Series { handle: handle(series), verb },
            Reply::Readings(readings) => readings.iter().map(reading).collect())
    }
}

impl observe::Host for State {}

impl observe::HostSeries for State {
    fn open(&mut self, label: String) -> Answer<Resource<Series>> {
        State::open(self, Interface::Series, label)
    }

    fn now(&mut self, series: Resource<Series>) -> Answer<observe::Reading> {
        match self.readings(&series, SeriesCall::Now)? {
            Ok(readings) => Ok(Ok(*readings.last().ok_or(Stop::WrongReply)?)),
            Err(denial) => Ok(Err(denial)),
        }
    }

    fn range(&mut self, series: Resource<Series>, seconds: u32) -> Answer<Vec<observe::Reading>> {
        self.readings(&series, SeriesCall::Range { seconds })
    }

    fn drop(&mut self, series: Resource<Series>) -> wasmtime::Result<()> {
        self.give_back(&series)
    }
}

impl observe::HostProbe for State {
    fn open(&mut self, label: String) -> Answer<Resource<Probe>> {
        State::open(self, Interface::Probes, label)
    }

    fn check(&mut self, probe: Resource<Probe>) -> Answer<observe::Answer> {
        let call = Call::Probe { handle: handle(&probe), verb: ProbeCall::Check };
        ask!(self, call, Reply::Probe(probe) => observe::Answer {
            ok: probe.ok,
            latency_ms: probe.latency_ms,
            detail: probe.detail,
        })
    }

    fn drop(&mut self, probe: Resource<Probe>) -> wasmtime::Result<()> {
        self.give_back(&probe)
    }
}
