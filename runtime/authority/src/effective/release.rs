//! The bound releases of a service: which calls they admit.

use std::collections::BTreeSet;

use theriac_model::call::Interface;
use theriac_model::denial::{Denial, DenialCause};
use theriac_model::id::{Label, UnitName};
use theriac_model::plan::PlannedEffect;
use theriac_model::release::{ReleaseCall, ReleaseEffect, ReleasePlace};
use theriac_model::target::Target;
use theriac_model::units::Permille;

use super::missing::{Missing, Verbs};
use super::{suggest, unbound};
use crate::grant::{ReleasesGrant, ReleasesVerb, UnitSource};
use crate::host::HostConfig;

/// A service's releases with what one run may do to them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BoundRelease {
    /// The label.
    pub label: Label,
    /// Of which service.
    pub unit: UnitName,
    /// Where they are.
    pub place: ReleasePlace,
    /// Share of the traffic that depends on the service.
    pub traffic_share: Option<Permille>,
    /// What the manifest asks for and the operator leaves.
    pub verbs: BTreeSet<ReleasesVerb>,
    asked: BTreeSet<ReleasesVerb>,
    left: BTreeSet<ReleasesVerb>,
}

impl BoundRelease {
    pub(super) fn bind(
        label: &Label,
        grant: &ReleasesGrant,
        host: &HostConfig,
        target: &Target,
    ) -> Result<Self, Denial> {
        let source = match &grant.unit {
            UnitSource::Name(name) => Some(name),
            UnitSource::Incident => None,
        };
        let missing =
            |rule: &str, _: Option<&UnitName>| unbound(Interface::Releases, label, DenialCause::NotGranted, rule);
        let (unit, config) = super::unit::listed(source, host, target, missing)?;
        // Where the releases lie can't be guessed, so there is no line to add.
        let entry =
            host.releases.iter().find(|entry| entry.unit == unit).ok_or_else(|| missing("runner.release", None))?;
        if let ReleasePlace::Link(at) = &entry.place
            && (host.is_own(&at.link) || host.is_own(&at.releases))
        {
            return Err(missing("runner.own-state", None));
        }
        Ok(Self {
            label: label.clone(),
            unit,
            place: entry.place.clone(),
            traffic_share: config.traffic_share,
            verbs: grant.verbs.iter().filter(|verb| !verb.changes() || entry.verbs.contains(verb)).copied().collect(),
            asked: grant.verbs.clone(),
            left: entry.verbs.clone(),
        })
    }

    const fn all_verbs(&self) -> Verbs<'_, ReleasesVerb> {
        Verbs { granted: &self.verbs, asked: &self.asked, left: &self.left }
    }

    /// A call on the releases.
    pub fn admits(&self, call: ReleaseCall) -> Result<(), Denial> {
        let verb = match call {
            ReleaseCall::Current => ReleasesVerb::Current,
            ReleaseCall::Previous => ReleasesVerb::Previous,
            ReleaseCall::SwitchBack => ReleasesVerb::SwitchBack,
        };
        let with = |verbs| suggest::list_with(verbs, verb, ReleasesVerb::as_str);
        let mut missing = Missing::default();
        if self.all_verbs().not_asked(&verb) {
            missing.add("verbs", suggest::manifest(Interface::Releases, &self.label, "verbs", with(&self.asked)));
        }
        if self.all_verbs().not_left(&verb, verb.changes()) {
            let line = suggest::runner("release", ("unit", self.unit.as_str()), "verbs", with(&self.left));
            missing.add("runner.release.verbs", line);
        }
        missing.answer(&self.label, format_args!("{verb} of the releases of {}", self.unit))
    }

    /// A planned effect still lies within the grant, whatever the plan says of itself.
    pub(crate) fn admits_effect(&self, planned: &PlannedEffect, effect: &ReleaseEffect) -> Result<(), Denial> {
        if effect.unit != self.unit || effect.place != self.place {
            return Err(Denial::new(DenialCause::StaleTarget, &self.label, "identity", &planned.effect));
        }
        self.admits(ReleaseCall::SwitchBack)
    }

    /// What it comes to here, in words.
    pub(crate) fn words(&self) -> String {
        let verbs = self.verbs.iter().map(|verb| verb.as_str()).collect::<Vec<_>>().join(", ");
        match &self.place {
            ReleasePlace::Link(at) => {
                format!("{verbs} of the releases of {} ({} in {})", self.unit, at.link, at.releases)
            }
            ReleasePlace::Image(tag) => format!("{verbs} of the releases of {} (images, by the tag {tag})", self.unit),
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
handles = ["bad-release"]

[grants.releases.app]
unit = { from = "incident" }
verbs = ["current", "switch-back"]
why = "w"
"#;
    const HOST: &str = r#"
[[unit]]
name = "app.service"

[[release]]
unit = "app.service"
link = "/opt/app/current"
releases = "/opt/app/releases"
verbs = ["switch-back"]
"#;
    const CALLS: [ReleaseCall; 3] = [ReleaseCall::Current, ReleaseCall::Previous, ReleaseCall::SwitchBack];

    fn admits(manifest: &str, host: &str, call: ReleaseCall) -> Result<(), Denial> {
        bound(manifest, host, "unit:app.service").release("app").and_then(|release| release.admits(call))
    }

    #[test]
    fn a_verb_needs_the_manifest_and_a_change_needs_the_operator_too() {
        assert!(admits(MANIFEST, HOST, ReleaseCall::Current).is_ok());
        assert!(admits(MANIFEST, HOST, ReleaseCall::SwitchBack).is_ok());
        assert_eq!(rule(admits(MANIFEST, HOST, ReleaseCall::Previous)), "verbs");
        let observed = HOST.replace("verbs = [\"switch-back\"]", "");
        assert!(admits(MANIFEST, &observed, ReleaseCall::Current).is_ok());
        assert_eq!(rule(admits(MANIFEST, &observed, ReleaseCall::SwitchBack)), "runner.release.verbs");
        assert_eq!(
            rule(admits(MANIFEST, "[[unit]]\nname = \"app.service\"\n", ReleaseCall::Current)),
            "runner.release"
        );
        assert_eq!(rule(bound(MANIFEST, HOST, "unit:db.service").release("app")), "runner.unit");
    }

    #[test]
    fn a_suggestion_allows_exactly_the_call_it_was_made_for() {
        let observed = HOST.replace("verbs = [\"switch-back\"]", "");
        let narrow = MANIFEST.replace("[\"current\", \"switch-back\"]", "[\"current\"]");
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
}
