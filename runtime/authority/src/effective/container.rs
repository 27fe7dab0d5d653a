//! A bound container: which calls it admits. Which container of the engine that is, is found out when it is looked at.

use std::collections::BTreeSet;

use theriac_model::call::Interface;
use theriac_model::container::{ContainerCall, ContainerEffect, ContainerSelector, ContainerVerb};
use theriac_model::denial::{Denial, DenialCause};
use theriac_model::id::Label;
use theriac_model::plan::PlannedEffect;
use theriac_model::target::Target;
use theriac_model::time::Span;
use theriac_model::units::Permille;

use super::missing::{Missing, Verbs};
use super::{suggest, unbound};
use crate::grant::{ContainerSource, ContainersGrant, ContainersVerb};
use crate::host::{ContainerConfig, HostConfig};

/// A container with what one run may do to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BoundContainer {
    /// The label.
    pub label: Label,
    /// What the operator calls it.
    pub target: Label,
    /// How it is found.
    pub selector: ContainerSelector,
    /// Share of the traffic that depends on it.
    pub traffic_share: Option<Permille>,
    /// How long a change is waited for.
    pub job_timeout: Span,
    /// What the manifest asks for and the operator leaves.
    pub verbs: BTreeSet<ContainersVerb>,
    asked: BTreeSet<ContainersVerb>,
    left: BTreeSet<ContainersVerb>,
}

/// The verb of a call; `None` for what every handle can do.
const fn verb_of(call: ContainerCall) -> Option<ContainersVerb> {
    Some(match call {
        ContainerCall::Name => return None,
        ContainerCall::Inspect => ContainersVerb::Inspect,
        ContainerCall::LogTail { .. } => ContainersVerb::LogTail,
        ContainerCall::Start => ContainersVerb::Start,
        ContainerCall::Stop => ContainersVerb::Stop,
        ContainerCall::Restart => ContainersVerb::Restart,
    })
}

/// The entry of `runner.toml` by what it is found by.
const fn entry_id(selector: &ContainerSelector) -> &'static str {
    match selector {
        ContainerSelector::Name(_) => "name",
        ContainerSelector::Label(_) => "docker_label",
    }
}

fn entry_value(selector: &ContainerSelector) -> String {
    match selector {
        ContainerSelector::Name(name) => name.to_string(),
        ContainerSelector::Label(label) => label.to_string(),
    }
}

fn runner_line(selector: &ContainerSelector, key: &str, value: String) -> String {
    suggest::runner("container", (entry_id(selector), &entry_value(selector)), key, value)
}

impl BoundContainer {
    pub(super) fn bind(
        label: &Label,
        grant: &ContainersGrant,
        host: &HostConfig,
        target: &Target,
    ) -> Result<Self, Denial> {
        let entry = listed(label, grant, host, target)?;
        Ok(Self {
            label: label.clone(),
            target: entry.label.clone(),
            selector: entry.selector.clone(),
            traffic_share: entry.traffic_share,
            job_timeout: grant.job_timeout,
            verbs: grant.verbs.iter().filter(|verb| !verb.changes() || entry.verbs.contains(verb)).copied().collect(),
            asked: grant.verbs.clone(),
            left: entry.verbs.clone(),
        })
    }

    const fn all_verbs(&self) -> Verbs<'_, ContainersVerb> {
        Verbs { granted: &self.verbs, asked: &self.asked, left: &self.left }
    }

    /// A call on the container.
    pub fn admits(&self, call: ContainerCall) -> Result<(), Denial> {
        let Some(verb) = verb_of(call) else { return Ok(()) };
        let with = |verbs| suggest::list_with(verbs, verb, ContainersVerb::as_str);
        let mut missing = Missing::default();
        if self.all_verbs().not_asked(&verb) {
            missing.add("verbs", suggest::manifest(Interface::Containers, &self.label, "verbs", with(&self.asked)));
        }
        if self.all_verbs().not_left(&verb, verb.changes()) {
            missing.add("runner.container.verbs", runner_line(&self.selector, "verbs", with(&self.left)));
        }
        missing.answer(&self.label, format_args!("{verb} {}", self.selector))
    }

    /// A planned effect still lies within the grant, whatever the plan says of itself.
    pub(crate) fn admits_effect(&self, planned: &PlannedEffect, effect: &ContainerEffect) -> Result<(), Denial> {
        if effect.target != self.target || effect.selector != self.selector {
            return Err(Denial::new(DenialCause::StaleTarget, &self.label, "identity", &planned.effect));
        }
        self.admits(match effect.verb {
            ContainerVerb::Start => ContainerCall::Start,
            ContainerVerb::Stop => ContainerCall::Stop,
            ContainerVerb::Restart => ContainerCall::Restart,
        })
    }

    /// What it comes to here, in words.
    pub(crate) fn words(&self) -> String {
        let verbs = self.verbs.iter().map(|verb| verb.as_str()).collect::<Vec<_>>().join(", ");
        let verbs = if verbs.is_empty() { "nothing" } else { &verbs };
        format!("{verbs} of {}", self.selector)
    }
}

/// The operator's entry; what is not listed is not touched.
fn listed<'h>(
    label: &Label,
    grant: &ContainersGrant,
    host: &'h HostConfig,
    target: &Target,
) -> Result<&'h ContainerConfig, Denial> {
    let missing = |rule| unbound(Interface::Containers, label, DenialCause::NotGranted, rule);
    match (&grant.container, target) {
        (ContainerSource::Selected(selector), _) => {
            host.containers.iter().find(|entry| entry.selector == *selector).ok_or_else(|| {
                let mut lines = vec![runner_line(selector, "label", suggest::text(label.as_str()))];
                let changing: Vec<_> =
                    grant.verbs.iter().filter(|verb| verb.changes()).map(|verb| verb.as_str()).collect();
                if !changing.is_empty() {
                    lines.push(runner_line(selector, "verbs", suggest::list(changing)));
                }
                missing("runner.container").suggest(lines.join("\n"))
            })
        }
        (ContainerSource::Incident, Target::Container(name)) => {
            host.containers.iter().find(|entry| entry.label == *name).ok_or_else(|| missing("runner.container"))
        }
        (
            ContainerSource::Incident,
            Target::Unit(_) | Target::Mount(_) | Target::Certificate(_) | Target::Pool(_) | Target::Host,
        ) => Err(missing("incident.container")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::effective::tests::{applied, bound, rule};

    const MANIFEST: &str = r#"
[remedy]
name = "x"
version = "1.0.0"
serial = 1
summary = "s"
handles = ["container-unhealthy"]

[grants.containers.app]
container = { from = "incident" }
verbs = ["inspect", "restart"]
job_timeout = "20s"
why = "w"
"#;
    const HOST: &str = r#"
[[container]]
label = "api"
name = "shop-api"
verbs = ["restart"]

[[container]]
label = "worker"
docker_label = "app=worker"
verbs = ["restart"]
"#;
    const CALLS: [ContainerCall; 5] = [
        ContainerCall::Inspect,
        ContainerCall::LogTail { lines: 1 },
        ContainerCall::Start,
        ContainerCall::Stop,
        ContainerCall::Restart,
    ];

    fn admits(manifest: &str, host: &str, call: ContainerCall) -> Result<(), Denial> {
        bound(manifest, host, "container:api").container("app").and_then(|container| container.admits(call))
    }

    #[test]
    fn a_label_binds_to_the_incidents_container_or_to_the_one_that_is_named() {
        let found = |manifest: &str, target| {
            bound(manifest, HOST, target).container("app").map(|bound| bound.selector.to_string())
        };
        assert_eq!(found(MANIFEST, "container:api").unwrap(), "container shop-api");
        assert_eq!(found(MANIFEST, "container:worker").unwrap(), "the container labelled app=worker");
        assert_eq!(rule(found(MANIFEST, "container:db")), "runner.container");
        assert_eq!(rule(found(MANIFEST, "unit:a.service")), "incident.container");
        let named = |source: &str| MANIFEST.replace(r#"{ from = "incident" }"#, source);
        assert_eq!(found(&named("\"shop-api\""), "host").unwrap(), "container shop-api");
        assert_eq!(
            found(&named(r#"{ docker_label = "app=worker" }"#), "host").unwrap(),
            "the container labelled app=worker"
        );
        assert_eq!(rule(found(&named("\"shop-db\""), "host")), "runner.container");
        // A name that the operator lists by a label is another entry: which of them was meant is not for a manifest to say.
        assert_eq!(rule(found(&named(r#"{ docker_label = "app=api" }"#), "host")), "runner.container");
    }

    #[test]
    fn a_verb_needs_the_manifest_and_a_change_needs_the_operator_too() {
        assert!(admits(MANIFEST, HOST, ContainerCall::Inspect).is_ok());
        assert!(admits(MANIFEST, HOST, ContainerCall::Restart).is_ok());
        assert!(admits(MANIFEST, HOST, ContainerCall::Name).is_ok());
        assert_eq!(rule(admits(MANIFEST, HOST, ContainerCall::Stop)), "verbs");
        assert_eq!(rule(admits(MANIFEST, HOST, ContainerCall::LogTail { lines: 1 })), "verbs");
        let observed = HOST.replace("verbs = [\"restart\"]", "");
        assert!(admits(MANIFEST, &observed, ContainerCall::Inspect).is_ok());
        assert_eq!(rule(admits(MANIFEST, &observed, ContainerCall::Restart)), "runner.container.verbs");
    }

    #[test]
    fn a_suggestion_allows_exactly_the_call_it_was_made_for() {
        let observed = HOST.replace("verbs = [\"restart\"]", "");
        let narrow =
            MANIFEST.replace(r#"["inspect", "restart"]"#, r#"["inspect"]"#).replace("job_timeout = \"20s\"\n", "");
        for (manifest, host) in [(MANIFEST, HOST), (MANIFEST, &*observed), (&*narrow, HOST), (&*narrow, &*observed)] {
            for call in CALLS {
                let Err(denial) = admits(manifest, host, call) else { continue };
                let (wider, left) = applied(&denial.suggestion.unwrap(), manifest, host);
                assert!(admits(&wider, &left, call).is_ok(), "{call:?}");
                for other in CALLS.into_iter().filter(|other| *other != call) {
                    assert_eq!(
                        admits(manifest, host, other).is_ok(),
                        admits(&wider, &left, other).is_ok(),
                        "{other:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_named_container_that_is_not_listed_comes_with_the_lines_that_list_it() {
        let named = MANIFEST.replace(r#"{ from = "incident" }"#, "\"shop-db\"");
        let denial = bound(&named, HOST, "host").container("app").unwrap_err().clone();
        let (manifest, host) = applied(&denial.suggestion.unwrap(), &named, HOST);
        let effective = bound(&manifest, &host, "host");
        let container = effective.container("app").unwrap();
        assert!(container.admits(ContainerCall::Restart).is_ok() && container.admits(ContainerCall::Stop).is_err());
    }

    #[test]
    fn what_no_container_grant_can_say_is_refused_by_the_manifest() {
        let refused = |from: &str, to: &str| {
            crate::manifest::Manifest::parse(&MANIFEST.replace(from, to)).unwrap_err().to_string()
        };
        for verb in ["exec", "create", "remove", "pull", "kill"] {
            let text = refused(r#""restart"]"#, &format!("\"{verb}\"]"));
            assert!(text.contains("valid: inspect, log-tail, start, stop, restart"), "{text}");
        }
        assert!(refused(r#"{ from = "incident" }"#, "\"theriac-agent\"").contains("can never be granted"));
        assert!(refused(r#"{ from = "incident" }"#, "\"shop*\"").contains("container name"));
        assert!(refused(r#"{ from = "incident" }"#, r#"{ docker_label = "app" }"#).contains("container label"));
        let idle = refused("verbs = [\"inspect\", \"restart\"]", "verbs = [\"inspect\"]");
        assert!(idle.contains("changes nothing without the verb"), "{idle}");
    }
}
