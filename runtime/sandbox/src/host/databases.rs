//! `databases`: one database server.

use theriac_model::call::{Call, Interface, Reply};
use theriac_model::database::{DatabaseCall, DatabaseUsage, SessionState, SettingInfo};
use wasmtime::component::Resource;

use super::{Answer, State, ask, handle};
use crate::bindings::{Server, databases};

const fn state(state: SessionState) -> databases::State {
    match state {
        SessionState::Active => databases::State::Active,
        SessionState::Idle => databases::State::Idle,
        SessionState::IdleInTransaction => databases::State::IdleInTransaction,
        SessionState::Other => databases::State::Other,
    }
}

fn usage(usage: DatabaseUsage) -> databases::Usage {
    let of_state = |(of, sessions)| databases::StateCount { state: state(of), sessions };
    let of_application = |(application, sessions)| databases::ApplicationCount { application, sessions };
    databases::Usage {
        used: usage.used,
        max: usage.max,
        reserved: usage.reserved,
        by_state: usage.by_state.into_iter().map(of_state).collect(),
        by_application: usage.by_application.into_iter().map(of_application).collect(),
        oldest_idle_in_transaction: usage.oldest_idle_in_transaction_s,
        assumed: usage.assumed,
    }
}

fn setting(info: SettingInfo) -> databases::Setting {
    databases::Setting { name: info.setting.as_str().to_owned(), value: info.value, assumed: info.assumed }
}

impl databases::Host for State {}

impl databases::HostServer for State {
    fn open(&mut self, label: String) -> Answer<Resource<Server>> {
        State::open(self, Interface::Databases, label)
    }

    fn sessions(&mut self, server: Resource<Server>) -> Answer<databases::Usage> {
        let call = Call::Database { handle: handle(&server), verb: DatabaseCall::Sessions };
        ask!(self, call, Reply::Database(found) => usage(found))
    }

    fn terminate_idle(
        &mut self,
        server: Resource<Server>,
        older_than_s: u64,
        application: String,
        at_most: u32,
    ) -> Answer<u32> {
        let verb = DatabaseCall::TerminateIdle { older_than_s, application, at_most };
        let call = Call::Database { handle: handle(&server), verb };
        ask!(self, call, Reply::Count(ended) => u32::try_from(ended).unwrap_or(u32::MAX))
    }

    fn settings(&mut self, server: Resource<Server>) -> Answer<Vec<databases::Setting>> {
        let call = Call::Database { handle: handle(&server), verb: DatabaseCall::Settings };
        ask!(self, call, Reply::Settings(found) => found.into_iter().map(setting).collect())
    }

    fn set(&mut self, server: Resource<Server>, setting: String, value: i64) -> Answer<()> {
        let call = Call::Database { handle: handle(&server), verb: DatabaseCall::Set { setting, value } };
        ask!(self, call, Reply::Done => ())
    }

    fn drop(&mut self, server: Resource<Server>) -> wasmtime::Result<()> {
        self.give_back(&server)
    }
}
