//! `releases`: the releases of one service.

use theriac_model::call::{Call, Interface, Reply};
use theriac_model::release::ReleaseCall;
use wasmtime::component::Resource;

use super::{Answer, State, ask, handle};
use crate::bindings::{Release, releases};

impl State {
    fn version(&mut self, release: &Resource<Release>, verb: ReleaseCall) -> Answer<releases::Version> {
        ask!(self, Call::Release { handle: handle(release), verb }, Reply::Release(info) => releases::Version {
            name: info.name,
            since: info.since_s,
            assumed: info.assumed,
        })
    }
}

impl releases::Host for State {}

impl releases::HostRelease for State {
    fn open(&mut self, label: String) -> Answer<Resource<Release>> {
        State::open(self, Interface::Releases, label)
    }

    fn current(&mut self, release: Resource<Release>) -> Answer<releases::Version> {
        self.version(&release, ReleaseCall::Current)
    }

    fn previous(&mut self, release: Resource<Release>) -> Answer<releases::Version> {
        self.version(&release, ReleaseCall::Previous)
    }

    fn switch_back(&mut self, release: Resource<Release>) -> Answer<()> {
        let call = Call::Release { handle: handle(&release), verb: ReleaseCall::SwitchBack };
        ask!(self, call, Reply::Done => ())
    }

    fn drop(&mut self, release: Resource<Release>) -> wasmtime::Result<()> {
        self.give_back(&release)
    }
}
