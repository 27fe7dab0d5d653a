//! `containers`: one container of the machine's engine.

use theriac_model::call::{Call, Interface, Reply};
use theriac_model::container::{ContainerCall, ContainerHealth, RunState};
use wasmtime::component::Resource;

use super::{Answer, State, ask, handle};
use crate::bindings::{Container, containers};

impl State {
    fn container_done(&mut self, container: &Resource<Container>, verb: ContainerCall) -> Answer<()> {
        ask!(self, Call::Container { handle: handle(container), verb }, Reply::Done => ())
    }
}

const fn run(run: RunState) -> containers::State {
    match run {
        RunState::Created => containers::State::Created,
        RunState::Running => containers::State::Running,
        RunState::Paused => containers::State::Paused,
        RunState::Restarting => containers::State::Restarting,
        RunState::Exited => containers::State::Exited,
        RunState::Dead => containers::State::Dead,
        RunState::Other => containers::State::Other,
    }
}

const fn health(health: ContainerHealth) -> containers::Health {
    match health {
        ContainerHealth::None => containers::Health::None,
        ContainerHealth::Starting => containers::Health::Starting,
        ContainerHealth::Healthy => containers::Health::Healthy,
        ContainerHealth::Unhealthy => containers::Health::Unhealthy,
    }
}

impl containers::Host for State {}

impl containers::HostContainer for State {
    fn open(&mut self, label: String) -> Answer<Resource<Container>> {
        State::open(self, Interface::Containers, label)
    }

    fn name(&mut self, container: Resource<Container>) -> wasmtime::Result<String> {
        let call = Call::Container { handle: handle(&container), verb: ContainerCall::Name };
        let name = ask!(self, call, Reply::Text(name) => name)?;
        // The contract has no denial here: a name is for log lines only.
        Ok(name.unwrap_or_else(|_denial| "(name denied)".to_owned()))
    }

    fn inspect(&mut self, container: Resource<Container>) -> Answer<containers::Info> {
        let call = Call::Container { handle: handle(&container), verb: ContainerCall::Inspect };
        ask!(self, call, Reply::Container(info) => containers::Info {
            state: run(info.run),
            health: health(info.health),
            failing_streak: info.failing_streak,
            restarts: info.restarts,
            exit_code: info.exit_code,
            oom_killed: info.oom_killed,
            since: info.since_s,
            will_restart: info.will_restart,
            stopped_on_purpose: info.stopped_on_purpose,
            assumed: info.assumed,
        })
    }

    fn log_tail(&mut self, container: Resource<Container>, lines: u32) -> Answer<Vec<String>> {
        let verb = ContainerCall::LogTail { lines };
        ask!(self, Call::Container { handle: handle(&container), verb }, Reply::Lines(lines) => lines)
    }

    fn start(&mut self, container: Resource<Container>) -> Answer<()> {
        self.container_done(&container, ContainerCall::Start)
    }

    fn stop(&mut self, container: Resource<Container>) -> Answer<()> {
        self.container_done(&container, ContainerCall::Stop)
    }

    fn restart(&mut self, container: Resource<Container>) -> Answer<()> {
        self.container_done(&container, ContainerCall::Restart)
    }

    fn drop(&mut self, container: Resource<Container>) -> wasmtime::Result<()> {
        self.give_back(&container)
    }
}
