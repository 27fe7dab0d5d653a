//! The bound certificate: which calls it admits.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use theriac_model::call::Interface;
use theriac_model::certificate::{CertificateCall, CertificateEffect, CertificatePlace, DnsName};
use theriac_model::denial::{Denial, DenialCause};
use theriac_model::id::{Label, UnitName};
use theriac_model::plan::PlannedEffect;
use theriac_model::target::Target;
use theriac_model::time::Span;
use theriac_model::units::Permille;

use super::missing::{Missing, Verbs};
use super::{suggest, unbound};
use crate::grant::{CertificateSource, CertificatesGrant, CertificatesVerb};
use crate::host::HostConfig;

/// A certificate with what one run may do with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BoundCertificate {
    /// The label.
    pub label: Label,
    /// Which, by the operator's name.
    pub certificate: Label,
    /// Where it is.
    pub place: CertificatePlace,
    /// The names it is for.
    pub names: Vec<DnsName>,
    /// Where it is served.
    pub address: Option<SocketAddr>,
    /// Who serves it.
    pub unit: Option<UnitName>,
    /// Between two attempts to renew it lies at least that much.
    pub between: Span,
    /// Share of the traffic of who serves it.
    pub traffic_share: Option<Permille>,
    /// What the manifest asks for and the operator leaves.
    pub verbs: BTreeSet<CertificatesVerb>,
    asked: BTreeSet<CertificatesVerb>,
    left: BTreeSet<CertificatesVerb>,
}

impl BoundCertificate {
    pub(super) fn bind(
        label: &Label,
        grant: &CertificatesGrant,
        host: &HostConfig,
        target: &Target,
    ) -> Result<Self, Denial> {
        let missing = |rule: &str| unbound(Interface::Certificates, label, DenialCause::NotGranted, rule);
        let name = match (&grant.certificate, target) {
            (CertificateSource::Name(name), _) | (CertificateSource::Incident, Target::Certificate(name)) => name,
            (
                CertificateSource::Incident,
                Target::Unit(_) | Target::Mount(_) | Target::Pool(_) | Target::Container(_) | Target::Host,
            ) => return Err(missing("incident.certificate")),
        };
        // Where it lies and whom it is for can't be guessed, so there is no line to add.
        let entry = host.certificate(name).ok_or_else(|| missing("runner.certificate"))?;
        let places = [Some(&entry.place.certificate), Some(&entry.place.key), entry.place.webroot.as_ref()];
        if places.into_iter().flatten().any(|path| host.is_own(path)) {
            return Err(missing("runner.own-state"));
        }
        Ok(Self {
            label: label.clone(),
            certificate: name.clone(),
            place: entry.place.clone(),
            names: entry.names.clone(),
            address: entry.address,
            unit: entry.unit.clone(),
            between: entry.between,
            traffic_share: entry.unit.as_ref().and_then(|unit| host.units.get(unit)?.traffic_share),
            verbs: grant.verbs.iter().filter(|verb| !verb.changes() || entry.verbs.contains(verb)).copied().collect(),
            asked: grant.verbs.clone(),
            left: entry.verbs.clone(),
        })
    }

    const fn all_verbs(&self) -> Verbs<'_, CertificatesVerb> {
        Verbs { granted: &self.verbs, asked: &self.asked, left: &self.left }
    }

    /// A call on the certificate.
    pub fn admits(&self, call: CertificateCall) -> Result<(), Denial> {
        let verb = match call {
            CertificateCall::Inspect => CertificatesVerb::Inspect,
            CertificateCall::Served => CertificatesVerb::Served,
            CertificateCall::Renew => CertificatesVerb::Renew,
        };
        let with = |verbs| suggest::list_with(verbs, verb, CertificatesVerb::as_str);
        let mut missing = Missing::default();
        if self.all_verbs().not_asked(&verb) {
            missing.add("verbs", suggest::manifest(Interface::Certificates, &self.label, "verbs", with(&self.asked)));
        }
        if self.all_verbs().not_left(&verb, verb.changes()) {
            let entry = |key, value| suggest::runner("certificate", ("name", self.certificate.as_str()), key, value);
            missing.add("runner.certificate.verbs", entry("verbs", with(&self.left)));
            // The parser wants to know where, once a renewal is allowed.
            missing.add("runner.certificate.verbs", entry("webroot", suggest::text("/var/www/html")));
        }
        missing.answer(&self.label, format_args!("{verb} of certificate {}", self.certificate))
    }

    /// A planned effect still lies within the grant, whatever the plan says of itself.
    pub(crate) fn admits_effect(&self, planned: &PlannedEffect, effect: &CertificateEffect) -> Result<(), Denial> {
        let same = effect.certificate == self.certificate
            && effect.place == self.place
            && effect.names == self.names
            && effect.unit == self.unit;
        if same {
            self.admits(CertificateCall::Renew)
        } else {
            Err(Denial::new(DenialCause::StaleTarget, &self.label, "identity", &planned.effect))
        }
    }

    /// What it comes to here, in words.
    pub(crate) fn words(&self) -> String {
        let verbs = self.verbs.iter().map(|verb| verb.as_str()).collect::<Vec<_>>().join(", ");
        format!("{verbs} of certificate {} ({})", self.certificate, self.place.certificate)
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
handles = ["certificate-expiry"]

[grants.certificates.web]
certificate = { from = "incident" }
verbs = ["inspect", "renew"]
why = "w"

[grants.units.server]
unit = { from = "incident" }
verbs = ["reload"]
why = "w"
"#;
    const HOST: &str = r#"
[[unit]]
name = "nginx.service"
traffic_share = 0.4
verbs = ["reload"]

[[certificate]]
name = "site"
certificate = "/etc/ssl/site/cert.pem"
key = "/etc/ssl/site/key.pem"
names = ["a.test"]
unit = "nginx.service"
verbs = ["renew"]
webroot = "/srv/www"
"#;
    const CALLS: [CertificateCall; 3] = [CertificateCall::Inspect, CertificateCall::Served, CertificateCall::Renew];

    fn observed() -> String {
        HOST.replace("verbs = [\"renew\"]\nwebroot = \"/srv/www\"\n", "")
    }

    fn admits(manifest: &str, host: &str, call: CertificateCall) -> Result<(), Denial> {
        bound(manifest, host, "certificate:site").certificate("web").and_then(|bound| bound.admits(call))
    }

    #[test]
    fn a_verb_needs_the_manifest_and_a_renewal_needs_the_operator_too() {
        assert!(admits(MANIFEST, HOST, CertificateCall::Inspect).is_ok());
        assert!(admits(MANIFEST, HOST, CertificateCall::Renew).is_ok());
        assert_eq!(rule(admits(MANIFEST, HOST, CertificateCall::Served)), "verbs");
        assert!(admits(MANIFEST, &observed(), CertificateCall::Inspect).is_ok());
        assert_eq!(rule(admits(MANIFEST, &observed(), CertificateCall::Renew)), "runner.certificate.verbs");
    }

    #[test]
    fn a_label_stands_for_the_incidents_certificate_or_for_a_listed_one() {
        let certificate = |manifest: &str, target: &str| {
            bound(manifest, HOST, target).certificate("web").map(|bound| bound.certificate.to_string())
        };
        assert_eq!(certificate(MANIFEST, "certificate:site").unwrap(), "site");
        assert_eq!(rule(certificate(MANIFEST, "certificate:other")), "runner.certificate");
        assert_eq!(rule(certificate(MANIFEST, "unit:nginx.service")), "incident.certificate");
        let named = MANIFEST.replacen("{ from = \"incident\" }", "\"site\"", 1);
        assert_eq!(certificate(&named, "unit:nginx.service").unwrap(), "site");
    }

    #[test]
    fn the_unit_of_a_certificates_incident_is_the_one_that_serves_it() {
        let effective = bound(MANIFEST, HOST, "certificate:site");
        assert_eq!(effective.unit("server").unwrap().unit.as_str(), "nginx.service");
        assert_eq!(effective.certificate("web").unwrap().traffic_share.unwrap().get(), 400);
        let unserved = HOST.replace("unit = \"nginx.service\"\n", "");
        assert_eq!(rule(bound(MANIFEST, &unserved, "certificate:site").unit("server")), "incident.unit");
    }

    #[test]
    fn a_suggestion_allows_exactly_the_call_it_was_made_for() {
        let observed = observed();
        let narrow = MANIFEST.replace("[\"inspect\", \"renew\"]", "[\"inspect\"]");
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
