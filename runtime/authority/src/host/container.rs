//! `[[container]]` of `runner.toml`: the containers that may be looked at and healed, through the `docker` courier.

use std::collections::BTreeSet;

use theriac_model::catalog::Thresholds;
use theriac_model::container::ContainerSelector;
use theriac_model::id::Label;
use theriac_model::time::Span;
use theriac_model::units::Permille;

use crate::document::{Field, Mistake};
use crate::grant::ContainersVerb;
use crate::manifest::container_selector;

/// The sampler keeps ten minutes.
const LONGEST_LOOP: Span = Span::from_secs(600);

/// One listed container.
#[derive(Debug, Clone, PartialEq)]
pub struct ContainerConfig {
    /// What targets and records call it.
    pub label: Label,
    /// How it is found.
    pub selector: ContainerSelector,
    /// What remedies may change.
    pub verbs: BTreeSet<ContainersVerb>,
    /// Share of the traffic that depends on it.
    pub traffic_share: Option<Permille>,
    /// What is abnormal for it.
    pub thresholds: Thresholds,
}

const KEYS: &[&str] = &["label", "name", "docker_label", "verbs", "traffic_share", "loop_restarts", "loop_within"];

pub(super) fn list(field: Option<Field>) -> Result<Vec<ContainerConfig>, Mistake> {
    let mut listed: Vec<ContainerConfig> = Vec::new();
    for field in field.map_or_else(|| Ok(Vec::new()), Field::list)? {
        let whole = field.clone();
        let new = entry(field)?;
        // One container under two labels would have two locks, two cooldowns and two breakers.
        if listed.iter().any(|old| old.label == new.label || old.selector == new.selector) {
            return Err(whole.mistake("this container is listed twice", "leave one out"));
        }
        listed.push(new);
    }
    Ok(listed)
}

fn entry(field: Field) -> Result<ContainerConfig, Mistake> {
    let whole = field.clone();
    let mut table = field.table(KEYS)?;
    let label: Label = table.required("label", "what targets and records call it, such as \"api\"")?.parse()?;
    let selector =
        container_selector(table.optional("name").as_ref(), table.optional("docker_label").as_ref(), &whole)?;
    let mut thresholds = Thresholds::default();
    if let Some(field) = table.optional("loop_restarts") {
        thresholds.loop_restarts = field.integer(1, 1000)?;
    }
    if let Some(field) = table.optional("loop_within") {
        thresholds.loop_within = field.span(Span::from_secs(10), LONGEST_LOOP)?;
    }
    Ok(ContainerConfig {
        label,
        selector,
        verbs: table.optional("verbs").map(Field::set).transpose()?.unwrap_or_default(),
        traffic_share: table.optional("traffic_share").map(|field| field.share()).transpose()?,
        thresholds,
    })
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use crate::host::HostConfig;

    fn check(text: &str, expected: &Expect) {
        expected.assert_eq(&HostConfig::parse(text).map_or_else(|error| error.to_string(), |_| "accepted".to_owned()));
    }

    #[test]
    fn a_container_is_one_name_or_one_label_and_listed_once() {
        check("[[container]]\nlabel = 'api'\nname = 'shop-api'", &expect!["accepted"]);
        check("[[container]]\nlabel = 'api'\ndocker_label = 'app=api'", &expect!["accepted"]);
        check(
            "[[container]]\nlabel = 'api'",
            &expect![
                "line 1: `container[0]`: it names no container, or names one twice; write one of name, docker_label"
            ],
        );
        check(
            "[[container]]\nlabel = 'api'\nname = 'a1'\ndocker_label = 'a=b'",
            &expect![
                "line 1: `container[0]`: it names no container, or names one twice; write one of name, docker_label"
            ],
        );
        check(
            "[[container]]\nlabel = 'api'\nname = 'a1'\n[[container]]\nlabel = 'web'\nname = 'a1'",
            &expect!["line 4: `container[1]`: this container is listed twice; leave one out"],
        );
        check(
            "[[container]]\nlabel = 'api'\nname = 'theriac-runner'",
            &expect![
                "line 3: `container[0].name`: `container theriac-runner` can never be granted: it is a part of Theriac: a healer that can stop itself hides its own traces"
            ],
        );
        check(
            "[[container]]\nlabel = 'api'\nname = 'a1'\nverbs = ['exec']",
            &expect![
                "line 4: `container[0].verbs[0]`: `exec` is not a verb of `containers`; valid: inspect, log-tail, start, stop, restart"
            ],
        );
    }
}
