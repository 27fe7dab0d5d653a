//! A bound group of processes: which calls it admits.

use std::collections::BTreeSet;

use theriac_model::call::{GroupCall, Interface, ProcessCall};
use theriac_model::denial::{Denial, DenialCause};
use theriac_model::effect::GroupId;
use theriac_model::id::Label;
use theriac_model::target::Target;
use theriac_model::unit::{Backend, Signal};

use super::missing::{Missing, Verbs};
use super::{suggest, unbound};
use crate::grant::{GroupSource, ProcessesGrant, ProcessesVerb};
use crate::host::HostConfig;

/// Processes with what one run may do to them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BoundGroup {
    /// The label.
    pub label: Label,
    /// Whose processes.
    pub group: GroupId,
    /// Which service manager knows them; `None` for a user's or a cgroup's.
    pub backend: Option<Backend>,
    /// What the manifest asks for and the operator leaves.
    pub verbs: BTreeSet<ProcessesVerb>,
    /// What `signal` may send.
    pub signals: BTreeSet<Signal>,
    asked: BTreeSet<ProcessesVerb>,
    left: BTreeSet<ProcessesVerb>,
}

impl BoundGroup {
    pub(super) fn bind(
        label: &Label,
        grant: &ProcessesGrant,
        host: &HostConfig,
        target: &Target,
    ) -> Result<Self, Denial> {
        let (group, backend, left) = match &grant.of {
            GroupSource::Incident => unit(label, None, grant, host, target)?,
            GroupSource::Unit(name) => unit(label, Some(name), grant, host, target)?,
            GroupSource::User(uid) => listed(label, GroupId::User(*uid), grant, host)?,
            GroupSource::Cgroup(path) => listed(label, GroupId::Cgroup(path.to_string()), grant, host)?,
        };
        let verbs = grant.verbs.iter().copied().filter(|verb| !verb.changes() || left.contains(verb)).collect();
        Ok(Self {
            label: label.clone(),
            group,
            backend,
            verbs,
            signals: grant.signals.clone(),
            asked: grant.verbs.clone(),
            left,
        })
    }

    const fn all_verbs(&self) -> Verbs<'_, ProcessesVerb> {
        Verbs { granted: &self.verbs, asked: &self.asked, left: &self.left }
    }

    /// A call on the group.
    pub fn admits_group(&self, call: &GroupCall) -> Result<(), Denial> {
        let verb = match call {
            GroupCall::List => ProcessesVerb::List,
            GroupCall::Usage => ProcessesVerb::Usage,
            GroupCall::SetAffinity { .. } => ProcessesVerb::SetAffinity,
            GroupCall::Renice { .. } => ProcessesVerb::Renice,
        };
        self.admits(verb, None)
    }

    /// A call on one process of the group.
    pub fn admits_process(&self, call: &ProcessCall) -> Result<(), Denial> {
        match call {
            ProcessCall::Info => self.admits(ProcessesVerb::Info, None),
            ProcessCall::Signal { signal } => self.admits(ProcessesVerb::Signal, Some(*signal)),
        }
    }

    fn admits(&self, verb: ProcessesVerb, signal: Option<Signal>) -> Result<(), Denial> {
        let manifest = |key, list| suggest::manifest(Interface::Processes, &self.label, key, list);
        let mut missing = Missing::default();
        if self.all_verbs().not_asked(&verb) {
            missing.add("verbs", manifest("verbs", suggest::list_with(&self.asked, verb, ProcessesVerb::as_str)));
        }
        if self.all_verbs().not_left(&verb, verb.changes()) {
            let list = suggest::list_with(&self.left, verb, ProcessesVerb::as_str);
            missing.add("runner.processes", host_line(&self.group, list));
        }
        if let Some(signal) = signal.filter(|signal| !self.signals.contains(signal)) {
            let list = suggest::list_with(&self.signals, signal, Signal::as_str);
            missing.add("signals", manifest("signals", list));
        }
        let what = signal.map_or_else(String::new, |signal| format!(" {}", signal.as_str()));
        missing.answer(&self.label, format_args!("{verb}{what} for {}", self.group))
    }
}

type Bound = (GroupId, Option<Backend>, BTreeSet<ProcessesVerb>);

/// The line of `runner.toml` that leaves these verbs to the group.
fn host_line(group: &GroupId, verbs: String) -> String {
    match group {
        GroupId::Unit(name) => suggest::runner(suggest::unit_table(name), ("name", name.as_str()), "processes", verbs),
        GroupId::Cgroup(path) => suggest::runner("group", ("cgroup", path), "verbs", verbs),
        GroupId::User(uid) => format!("runner.toml: in [[group]] user = {uid}: verbs = {verbs}"),
    }
}

fn changing(grant: &ProcessesGrant) -> String {
    suggest::list(grant.verbs.iter().filter(|verb| verb.changes()).map(|verb| verb.as_str()))
}

fn unit(
    label: &Label,
    name: Option<&theriac_model::id::UnitName>,
    grant: &ProcessesGrant,
    host: &HostConfig,
    target: &Target,
) -> Result<Bound, Denial> {
    let (name, config) = super::unit::listed(name, host, target, |rule, name| {
        let denial = unbound(Interface::Processes, label, DenialCause::NotGranted, rule);
        match name {
            Some(name) => denial.suggest(host_line(&GroupId::Unit(name.clone()), changing(grant))),
            None => denial,
        }
    })?;
    Ok((GroupId::Unit(name), Some(config.backend), config.processes.clone()))
}

fn listed(label: &Label, group: GroupId, grant: &ProcessesGrant, host: &HostConfig) -> Result<Bound, Denial> {
    match host.groups.iter().find(|entry| entry.of == group) {
        Some(entry) => Ok((group, None, entry.verbs.clone())),
        None => Err(unbound(Interface::Processes, label, DenialCause::NotGranted, "runner.group")
            .suggest(host_line(&group, changing(grant)))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::effective::tests::{bound, rule};

    const MANIFEST: &str = r#"
[remedy]
name = "x"
version = "1.0.0"
serial = 1
summary = "s"
handles = ["cpu-saturation"]

[grants.processes.them]
of = { from = "incident" }
verbs = ["usage", "renice"]
why = "w"
"#;
    const HOST: &str = r#"
[[unit]]
name = "web.service"
processes = ["renice"]

[[unit]]
name = "db.service"

[[group]]
user = 1000
verbs = ["renice"]

[[group]]
cgroup = "/system.slice/batch.service"
"#;
    const RENICE: GroupCall = GroupCall::Renice { nice: 5 };

    fn group(of: &str, target: &str) -> Result<BoundGroup, Denial> {
        let manifest = MANIFEST.replace("{ from = \"incident\" }", of);
        bound(&manifest, HOST, target).group("them").cloned()
    }

    #[test]
    fn a_group_is_the_one_that_manifest_and_operator_both_name() {
        for (of, target, wanted) in [
            ("{ from = \"incident\" }", "unit:web.service", GroupId::Unit("web.service".parse().unwrap())),
            ("{ unit = \"web.service\" }", "host", GroupId::Unit("web.service".parse().unwrap())),
            ("{ user = 1000 }", "host", GroupId::User(1000)),
            (
                "{ cgroup = \"/system.slice/batch.service\" }",
                "host",
                GroupId::Cgroup("/system.slice/batch.service".to_owned()),
            ),
        ] {
            assert_eq!(group(of, target).unwrap().group, wanted, "{of}");
        }
        for (of, target, wanted) in [
            ("{ from = \"incident\" }", "host", "incident.unit"),
            ("{ from = \"incident\" }", "unit:mail.service", "runner.unit"),
            ("{ unit = \"mail.service\" }", "unit:web.service", "runner.unit"),
            ("{ user = 1001 }", "host", "runner.group"),
            ("{ cgroup = \"/system.slice/batch.service/sub\" }", "host", "runner.group"),
        ] {
            assert_eq!(rule(group(of, target)), wanted, "{of}");
        }
    }

    #[test]
    fn a_change_needs_the_operator_too() {
        assert_eq!(group("{ user = 1000 }", "host").unwrap().admits_group(&RENICE), Ok(()));
        let only_listed = ["{ cgroup = \"/system.slice/batch.service\" }", "{ unit = \"db.service\" }"];
        for of in only_listed {
            let found = group(of, "host").unwrap();
            assert_eq!(found.admits_group(&GroupCall::Usage), Ok(()), "{of}");
            assert_eq!(rule(found.admits_group(&RENICE)), "runner.processes", "{of}");
        }
    }
}
