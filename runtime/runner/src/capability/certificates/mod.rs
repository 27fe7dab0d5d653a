//! `certificates`: what a certificate's file says, what its address serves, and a new one from an ACME authority.
//!
//! The runner makes the key and the request, puts the answers to challenges into the operator's webroot, looks at the chain that
//! comes back, and puts key and certificate in the places of the old ones. The courier, which alone speaks to the authority, sees
//! neither key. Who serves the certificate is not told: that is a verb of `units`. The undo alone tells
//! whom the same run has told.
//!
//! What was put there by a run is recognised by the public key that it made, which stands in the intent: no one else can have a
//! certificate for it.

mod pair;
mod renew;
mod request;
mod swap;
mod webroot;

pub(crate) use renew::{observe, settle_down, take_back};

use theriac_authority::effective::BoundCertificate;
use theriac_authority::host::CertificateConfig;
use theriac_model::call::Reply;
use theriac_model::certificate::{
    CertificateCall, CertificateFacts, CertificateInfo, CertificateReading, ServedReading, seconds_left,
};
use theriac_model::denial::{Denial, DenialCause};
use theriac_model::id::{Digest, Label};
use theriac_model::time::{Span, Timestamp};
use theriac_probe::certificate::Certificate;
use theriac_protocol::courier::Look;

use crate::exchange::chain;
use crate::gate::{Mode, perform};
use crate::hands::Tls;
use crate::session::Scene;
use pair::{Held, Pair, PairError};
use renew::Renew;

/// A handshake with a server on this host.
const LOOK: Span = Span::from_secs(5);

impl PairError {
    fn denial(&self, label: &Label, attempted: impl std::fmt::Display) -> Denial {
        let (cause, rule) = match self {
            Self::Place { .. } | Self::Links { .. } => (DenialCause::Unavailable, "file"),
            Self::Read { .. } => (DenialCause::Failed, "file"),
            Self::Certificate { .. } => (DenialCause::Unavailable, "certificate"),
            Self::Key { .. } => (DenialCause::Unavailable, "key"),
        };
        Denial::new(cause, label, rule, format!("{attempted}: {}", chain(self)))
    }
}

/// A verb of a certificate.
pub(crate) fn serve(
    scene: &mut Scene<'_>,
    mode: &mut dyn Mode,
    label: &Label,
    call: CertificateCall,
) -> Result<Reply, Denial> {
    let bound = scene.grants.certificate(label.as_str())?;
    match call {
        CertificateCall::Inspect => {
            bound.admits(call)?;
            inspect(scene, bound).map(Reply::Certificate)
        }
        CertificateCall::Served => {
            bound.admits(call)?;
            served(scene, bound).map(Reply::Certificate)
        }
        CertificateCall::Renew => perform(scene, mode, &mut Renew::new(label.clone())).map(|_| Reply::Done),
    }
}

fn info(scene: &Scene<'_>, facts: CertificateFacts, key_matches: bool) -> CertificateInfo {
    let left_s = seconds_left(facts.not_after, scene.world.senses.now());
    CertificateInfo { facts, left_s, key_matches, assumed: false }
}

fn inspect(scene: &Scene<'_>, bound: &BoundCertificate) -> Result<CertificateInfo, Denial> {
    let attempted = || format!("inspect certificate {}", bound.certificate);
    let failed = |error: PairError| error.denial(&bound.label, attempted());
    let pair = Pair::find(&bound.place).map_err(failed)?;
    let certificate = pair.certificate.certificate().map_err(failed)?;
    let matches = pair.key.is_key_of(&certificate).map_err(failed)?;
    if scene.overlay.is_renewed(&bound.certificate) {
        return Ok(renewed(scene, bound, &certificate.facts));
    }
    Ok(info(scene, certificate.facts, matches))
}

/// What a dry run assumes of a new one: the names of the configuration, and as long a life as the old one's.
fn renewed(scene: &Scene<'_>, bound: &BoundCertificate, old: &CertificateFacts) -> CertificateInfo {
    let now = scene.world.senses.now().0 / 1000;
    let facts = CertificateFacts {
        names: bound.names.iter().map(ToString::to_string).collect(),
        self_signed: false,
        not_before: now,
        not_after: now.saturating_add(old.not_after.saturating_sub(old.not_before)),
        // Another one, and which is not known yet.
        fingerprint: Digest::of(old.fingerprint.as_bytes()),
        issuer: old.issuer.clone(),
    };
    CertificateInfo { assumed: true, ..info(scene, facts, true) }
}

fn served(scene: &Scene<'_>, bound: &BoundCertificate) -> Result<CertificateInfo, Denial> {
    let attempted = format!("see what certificate {} is served", bound.certificate);
    let no = |rule: &str| Denial::new(DenialCause::Unavailable, &bound.label, rule, &attempted);
    let address = bound.address.ok_or_else(|| no("runner.certificate.address"))?;
    let name = bound.names.first().ok_or_else(|| no("runner.certificate.names"))?;
    let hand = scene.world.hands.tls.as_deref().ok_or_else(|| no("courier"))?;
    let look = Look { address, name: name.clone(), timeout: LOOK };
    let looked = hand.look(&look).map_err(|error| error.denial(&bound.label, "courier", &attempted))?;
    let certificate = Certificate::parse(&looked.certificate.0).map_err(|error| {
        Denial::new(DenialCause::Failed, &bound.label, "certificate", format!("{attempted}: {}", chain(&error)))
    })?;
    Ok(info(scene, certificate.facts, looked.key_shown))
}

/// What the runner measures of a listed certificate by itself.
pub(crate) fn reading(config: &CertificateConfig, tls: Option<&dyn Tls>, at: Timestamp) -> CertificateReading {
    let file = Held::find(&config.place.certificate).and_then(|held| held.certificate());
    let file =
        file.inspect_err(|error| tracing::debug!(certificate = %config.name, error = %chain(error), "not read")).ok();
    let served = match (config.address, config.names.first()) {
        (Some(address), Some(name)) => {
            let look = Look { address, name: name.clone(), timeout: LOOK };
            let looked = tls.and_then(|tls| tls.look(&look).ok());
            let parsed = looked.and_then(|looked| Certificate::parse(&looked.certificate.0).ok());
            parsed.map_or(ServedReading::NotSeen, |served| ServedReading::Until {
                not_after: served.facts.not_after,
                of_file: file.as_ref().is_some_and(|file| file.facts.fingerprint == served.facts.fingerprint),
            })
        }
        (None, _) | (_, None) => ServedReading::NotAsked,
    };
    CertificateReading { at, file_until: file.map(|file| file.facts.not_after), served }
}
