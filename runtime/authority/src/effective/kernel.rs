//! A bound number of the kernel's: which calls it admits.

use std::collections::BTreeSet;

use theriac_model::call::Interface;
use theriac_model::denial::{Denial, DenialCause};
use theriac_model::id::Label;
use theriac_model::kernel::{KnobCall, KnobEffect, KnobName};
use theriac_model::plan::PlannedEffect;

use super::missing::Missing;
use super::{suggest, unbound};
use crate::grant::{KernelGrant, KernelVerb};
use crate::host::HostConfig;

/// A number with what one run may set it to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BoundKnob {
    /// The label.
    pub label: Label,
    /// Which.
    pub knob: KnobName,
    /// What the manifest asks for and the operator leaves.
    pub verbs: BTreeSet<KernelVerb>,
    asked: BTreeSet<KernelVerb>,
    asked_range: Option<(i64, i64)>,
    left: Option<(i64, i64)>,
}

fn holds(range: Option<(i64, i64)>, value: i64) -> bool {
    range.is_some_and(|(min, max)| (min..=max).contains(&value))
}

/// The smallest range that holds the old one and the value.
fn widened(range: Option<(i64, i64)>, value: i64) -> String {
    let (min, max) = range.map_or((value, value), |(min, max)| (min.min(value), max.max(value)));
    format!("{{ min = {min}, max = {max} }}")
}

impl BoundKnob {
    pub(super) fn bind(label: &Label, grant: &KernelGrant, host: &HostConfig) -> Result<Self, Denial> {
        let entry = host.knobs.iter().find(|entry| entry.name == grant.knob).ok_or_else(|| {
            let id = ("name", grant.knob.as_str());
            let line = match grant.range {
                Some((min, max)) => suggest::runner("knob", id, "range", format!("{{ min = {min}, max = {max} }}")),
                None => suggest::runner("knob", id, "name", suggest::text(grant.knob.as_str())),
            };
            unbound(Interface::Kernel, label, DenialCause::NotGranted, "runner.knob").suggest(line)
        })?;
        let left = |verb: &&KernelVerb| !verb.changes() || entry.range.is_some();
        Ok(Self {
            label: label.clone(),
            knob: grant.knob.clone(),
            verbs: grant.verbs.iter().filter(left).copied().collect(),
            asked: grant.verbs.clone(),
            asked_range: grant.range,
            left: entry.range,
        })
    }

    /// A call on the number.
    pub fn admits(&self, call: &KnobCall) -> Result<(), Denial> {
        let (verb, value) = match call {
            KnobCall::Get => (KernelVerb::Get, None),
            KnobCall::Set { value } => (KernelVerb::Set, Some(*value)),
        };
        let manifest = |key, line| suggest::manifest(Interface::Kernel, &self.label, key, line);
        let mut missing = Missing::default();
        if !self.asked.contains(&verb) {
            missing.add("verbs", manifest("verbs", suggest::list_with(&self.asked, verb, KernelVerb::as_str)));
        }
        if let Some(value) = value {
            if !holds(self.asked_range, value) {
                missing.add("range", manifest("range", widened(self.asked_range, value)));
            }
            if !holds(self.left, value) {
                let range = widened(self.left, value);
                missing.add("runner.knob.range", suggest::runner("knob", ("name", self.knob.as_str()), "range", range));
            }
        }
        let to = value.map_or_else(String::new, |value| format!(" to {value}"));
        missing.answer(&self.label, format_args!("{verb} {}{to}", self.knob))
    }

    /// A planned effect still lies within the grant, whatever the plan says of itself.
    pub(crate) fn admits_effect(&self, planned: &PlannedEffect, effect: &KnobEffect) -> Result<(), Denial> {
        if effect.knob != self.knob {
            return Err(Denial::new(DenialCause::StaleTarget, &self.label, "identity", &planned.effect));
        }
        self.admits(&KnobCall::Set { value: effect.value })
    }

    /// What it comes to here, in words.
    pub(crate) fn words(&self) -> String {
        let verbs = self.verbs.iter().map(|verb| verb.as_str()).collect::<Vec<_>>().join(", ");
        let both = self.asked_range.zip(self.left).map(|(asked, left)| (asked.0.max(left.0), asked.1.min(left.1)));
        match both.filter(|(min, max)| min <= max && self.verbs.contains(&KernelVerb::Set)) {
            Some((min, max)) => format!("{verbs} of {}, {min} to {max}", self.knob),
            None => format!("{verbs} of {}", self.knob),
        }
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
handles = ["traffic-flood"]

[grants.kernel.backlog]
knob = "net.core.somaxconn"
verbs = ["get", "set"]
range = { min = 128, max = 4096 }
why = "w"
"#;
    const HOST: &str = "[[knob]]\nname = \"net.core.somaxconn\"\nrange = { min = 1024, max = 65535 }\n";

    const CALLS: [KnobCall; 6] = [
        KnobCall::Get,
        KnobCall::Set { value: 128 },
        KnobCall::Set { value: 1024 },
        KnobCall::Set { value: 4096 },
        KnobCall::Set { value: 65_535 },
        KnobCall::Set { value: -1 },
    ];

    fn admits(manifest: &str, host: &str, call: &KnobCall) -> Result<(), Denial> {
        bound(manifest, host, "host").knob("backlog").and_then(|knob| knob.admits(call))
    }

    #[test]
    fn a_value_lies_within_both_ranges() {
        for call in [KnobCall::Get, KnobCall::Set { value: 1024 }, KnobCall::Set { value: 4096 }] {
            assert!(admits(MANIFEST, HOST, &call).is_ok(), "{call:?}");
        }
        for (value, wanted) in [(1023, "runner.knob.range"), (4097, "range"), (127, "range"), (i64::MIN, "range")] {
            assert_eq!(rule(admits(MANIFEST, HOST, &KnobCall::Set { value })), wanted, "{value}");
        }
    }

    #[test]
    fn a_verb_needs_the_manifest() {
        let only = |verb: &str| {
            let manifest = MANIFEST.replace("[\"get\", \"set\"]", &format!("[\"{verb}\"]"));
            if verb == "set" { manifest } else { manifest.replace("range = { min = 128, max = 4096 }\n", "") }
        };
        let (get, set) = (KnobCall::Get, KnobCall::Set { value: 2048 });
        assert!(admits(&only("get"), HOST, &get).is_ok() && admits(&only("set"), HOST, &set).is_ok());
        assert_eq!(rule(admits(&only("get"), HOST, &set)), "verbs");
        assert_eq!(rule(admits(&only("set"), HOST, &get)), "verbs");
    }

    #[test]
    fn what_is_listed_without_a_range_is_read_and_what_is_not_listed_is_nothing() {
        let read_only = "[[knob]]\nname = \"net.core.somaxconn\"\n";
        assert!(admits(MANIFEST, read_only, &KnobCall::Get).is_ok());
        assert_eq!(rule(admits(MANIFEST, read_only, &KnobCall::Set { value: 128 })), "runner.knob.range");
        assert_eq!(rule(admits(MANIFEST, "", &KnobCall::Get)), "runner.knob");
    }

    #[test]
    fn a_suggestion_allows_exactly_the_call_it_was_made_for() {
        let reading =
            MANIFEST.replace("[\"get\", \"set\"]", "[\"get\"]").replace("range = { min = 128, max = 4096 }\n", "");
        for (manifest, host) in [(MANIFEST, HOST), (MANIFEST, ""), (&*reading, HOST), (&*reading, "")] {
            for call in &CALLS {
                let Err(denial) = admits(manifest, host, call) else { continue };
                let (manifest, host) = applied(&denial.suggestion.unwrap(), manifest, host);
                // A label that was bound by the first line may need the line of the call.
                let (manifest, host) = match admits(&manifest, &host, call) {
                    Ok(()) => (manifest, host),
                    Err(denial) => applied(&denial.suggestion.unwrap(), &manifest, &host),
                };
                assert!(admits(&manifest, &host, call).is_ok(), "{call:?}");
                assert!(admits(&manifest, &host, &KnobCall::Set { value: i64::MAX }).is_err(), "{call:?}");
            }
        }
    }
}
