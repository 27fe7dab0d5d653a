//! `processes`: groups of processes and their members.

use theriac_model::call::{Call, GroupCall, Interface, ProcessCall, Reply};
use wasmtime::component::Resource;

use super::units::signal;
use super::{Answer, State, ask, handle};
use crate::bindings::{Group, Process, processes, types};

impl processes::Host for State {}

impl processes::HostGroup for State {
    fn open(&mut self, label: String) -> Answer<Resource<Group>> {
        State::open(self, Interface::Processes, label)
    }

    fn list(&mut self, group: Resource<Group>) -> Answer<Vec<Resource<Process>>> {
        let call = Call::Group { handle: handle(&group), verb: GroupCall::List };
        let members = match ask!(self, call, Reply::Processes(members) => members)? {
            Ok(members) => members,
            Err(denial) => return Ok(Err(denial)),
        };
        let held = members.into_iter().map(|member| self.hold(member.handle, None)).collect::<Result<_, _>>()?;
        Ok(Ok(held))
    }

    fn usage(&mut self, group: Resource<Group>) -> Answer<processes::Usage> {
        let call = Call::Group { handle: handle(&group), verb: GroupCall::Usage };
        ask!(self, call, Reply::Usage(usage) => processes::Usage {
            cpu: usage.cpu,
            cpu_share: u32::from(usage.cpu_share.get()),
            memory: usage.memory,
            processes: usage.processes,
            cpus_allowed: usage.cpus_allowed,
            assumed: usage.assumed,
        })
    }

    fn set_affinity(&mut self, group: Resource<Group>, cpus: u32) -> Answer<()> {
        ask!(self, Call::Group { handle: handle(&group), verb: GroupCall::SetAffinity { cpus } }, Reply::Done => ())
    }

    fn renice(&mut self, group: Resource<Group>, nice: i32) -> Answer<()> {
        ask!(self, Call::Group { handle: handle(&group), verb: GroupCall::Renice { nice } }, Reply::Done => ())
    }

    fn drop(&mut self, group: Resource<Group>) -> wasmtime::Result<()> {
        self.give_back(&group)
    }
}

impl processes::HostProcess for State {
    fn info(&mut self, process: Resource<Process>) -> Answer<processes::Info> {
        let call = Call::Process { handle: handle(&process), verb: ProcessCall::Info };
        ask!(self, call, Reply::Process(info) => processes::Info {
            name: info.name,
            cpu: info.cpu,
            memory: info.memory,
            threads: info.threads,
            age: info.age_s,
        })
    }

    fn signal(&mut self, process: Resource<Process>, sent: types::Signal) -> Answer<()> {
        let verb = ProcessCall::Signal { signal: signal(sent) };
        ask!(self, Call::Process { handle: handle(&process), verb }, Reply::Done => ())
    }

    fn drop(&mut self, process: Resource<Process>) -> wasmtime::Result<()> {
        self.give_back(&process)
    }
}
