//! One renewal, as the gate wants it; and what is known of it after a crash.

use rustix::fs::{Access, AtFlags, CWD, accessat};
use theriac_authority::effective::BoundCertificate;
use theriac_model::certificate::{CertificateCall, CertificateEffect, CertificateUndo, DnsName, KeptFile, date};
use theriac_model::denial::{Denial, DenialCause};
use theriac_model::effect::{Effect, Observed, Undo, UndoClass, UndoOutcome};
use theriac_model::id::Label;
use theriac_model::plan::Guard;
use theriac_probe::certificate::Certificate;
use theriac_protocol::acme::Challenge;

use super::pair::{Held, MAX_KEPT, Pair, PairError, split};
use super::request::FreshKey;
use super::swap::{self, SwapError};
use super::webroot::{Placed, sweep};
use crate::crash::crash_point;
use crate::exchange::chain;
use crate::gate::{Applied, ApplyError, Change, Draft, Kept, Place};
use crate::hands::{Acme, HandError};
use crate::recover::Happened;
use crate::session::{Assumption, Scene};
use crate::undo::Intent;
use crate::world::World;

/// Clocks of authorities and of this host may differ by so many seconds.
const SKEW: u64 = 300;

/// A new key and a new certificate.
pub(super) struct Renew {
    label: Label,
    found: Option<CertificateEffect>,
    place: Option<Place>,
    key: Option<FreshKey>,
}

impl Renew {
    pub(super) const fn new(label: Label) -> Self {
        Self { label, found: None, place: None, key: None }
    }

    fn denial(&self, cause: DenialCause, rule: &str, attempted: impl std::fmt::Display) -> Denial {
        Denial::new(cause, &self.label, rule, attempted)
    }

    fn effect(&self) -> Result<&CertificateEffect, Denial> {
        self.found.as_ref().ok_or_else(|| self.denial(DenialCause::Failed, "draft", "renew without a draft"))
    }

    /// Authorities count attempts.
    fn admits_now(&self, scene: &Scene<'_>, bound: &BoundCertificate) -> Result<(), Denial> {
        let now = scene.world.senses.now();
        match scene.world.renewals.wait(&bound.certificate, bound.between.duration(), now) {
            None => Ok(()),
            Some(left) => {
                let attempted = format!(
                    "ask for certificate {} again within {} (another {} s)",
                    bound.certificate,
                    bound.between,
                    left.as_secs()
                );
                Err(self.denial(DenialCause::OverBudget, "between", attempted))
            }
        }
    }

    /// The certificate is the one that was found.
    fn pair(&self) -> Result<(Pair, Certificate), Denial> {
        let effect = self.effect()?;
        let failed = |error: PairError| error.denial(&self.label, effect);
        let pair = Pair::find(&effect.place).map_err(failed)?;
        let now = pair.certificate.certificate().map_err(failed)?;
        if now.facts.fingerprint == effect.from {
            Ok((pair, now))
        } else {
            let attempted = format!("{effect}, and another one is there by now");
            Err(self.denial(DenialCause::Conflict, "same-value", attempted))
        }
    }

    fn hand<'w>(&self, world: &'w World, attempted: impl std::fmt::Display) -> Result<&'w dyn Acme, Denial> {
        world.hands.acme.as_deref().ok_or_else(|| self.denial(DenialCause::Unavailable, "courier", attempted))
    }

    /// Everything that will be written can be, as far as the kernel tells without trying.
    fn writable(&self, bound: &BoundCertificate) -> Result<(), Denial> {
        let parents = [&bound.place.certificate, &bound.place.key].into_iter().filter_map(|path| Some(split(path)?.0));
        for directory in parents.chain(bound.place.webroot.clone()) {
            if let Err(errno) = accessat(CWD, directory.as_path(), Access::WRITE_OK, AtFlags::empty()) {
                let attempted =
                    format!("renew certificate {}: `{directory}` can't be written: {errno}", bound.certificate);
                return Err(self.denial(DenialCause::Unavailable, "writable", attempted));
            }
        }
        Ok(())
    }

    fn keep_file(&self, scene: &Scene<'_>, held: &Held) -> Result<KeptFile, Denial> {
        let attempted = || format!("keep {} for the undo", held.path);
        let state = held.state().map_err(|error| error.denial(&self.label, attempted()))?;
        if state.size > MAX_KEPT {
            return Err(self.denial(DenialCause::Unavailable, "undo.size", attempted()));
        }
        let mut file = held.file().map_err(|error| error.denial(&self.label, attempted()))?;
        // Both apart from the record: records are exported, and one of the two is a private key.
        let preimage = scene.world.undo_store().put_apart(&mut file).map_err(|error| {
            self.denial(DenialCause::Unavailable, "undo.store", format!("{}: {error}", attempted()))
        })?;
        Ok(KeptFile { state, preimage })
    }
}

impl Change for Renew {
    fn draft(&mut self, scene: &mut Scene<'_>) -> Result<Draft, Denial> {
        let bound = scene.grants.certificate(self.label.as_str())?;
        bound.admits(CertificateCall::Renew)?;
        if scene.overlay.is_renewed(&bound.certificate) {
            let attempted = format!("renew certificate {} twice in one run", bound.certificate);
            return Err(self.denial(DenialCause::OverBudget, "between", attempted));
        }
        self.admits_now(scene, bound)?;
        self.hand(scene.world, format_args!("renew certificate {}", bound.certificate))?;
        self.writable(bound)?;
        let attempted = || format!("renew certificate {}", bound.certificate);
        let failed = |error: PairError| error.denial(&self.label, attempted());
        let pair = Pair::find(&bound.place).map_err(failed)?;
        let now = pair.certificate.certificate().map_err(failed)?;
        let effect = CertificateEffect {
            label: self.label.clone(),
            certificate: bound.certificate.clone(),
            place: bound.place.clone(),
            unit: bound.unit.clone(),
            names: bound.names.clone(),
            from: now.facts.fingerprint,
        };
        self.found = Some(effect.clone());
        Ok(Draft {
            effect: Effect::Certificate(effect.clone()),
            bound: Effect::Certificate(effect),
            class: UndoClass::Exact,
            guards: vec![Guard::NotAskedFor { seconds: bound.between.duration().as_secs() }, Guard::SameValue],
            before: observed(&now),
            reproducible: false,
            traffic_share: bound.traffic_share,
            count: 0,
            assumption: Assumption::Renewed { certificate: bound.certificate.clone() },
        })
    }

    fn recheck(&mut self, scene: &mut Scene<'_>) -> Result<(), Denial> {
        let bound = scene.grants.certificate(self.label.as_str())?;
        self.admits_now(scene, bound)?;
        self.pair().map(|_| ())
    }

    fn keep(&mut self, scene: &mut Scene<'_>, place: &Place) -> Result<Kept, Denial> {
        let effect = self.effect()?.clone();
        let (pair, now) = self.pair()?;
        let hand = self.hand(scene.world, &effect)?;
        let account = hand.account().map_err(|error| error.denial(&self.label, "courier", &effect.to_string()))?;
        let key = FreshKey::generate()
            .map_err(|error| self.denial(DenialCause::Failed, "key", format!("{effect}: {}", chain(&error))))?;
        let undo = CertificateUndo {
            certificate: self.keep_file(scene, &pair.certificate)?,
            key: self.keep_file(scene, &pair.key)?,
            made: key.digest(),
            place: effect.place,
            account,
        };
        self.place = Some(place.clone());
        self.key = Some(key);
        Ok(Kept { before: observed(&now), undo: Undo::RestoreCertificate(Box::new(undo)) })
    }

    fn apply(&mut self, scene: &mut Scene<'_>, kept: &Kept) -> Result<Applied, ApplyError> {
        let effect = self.effect().map_err(ApplyError::Denied)?;
        let (Undo::RestoreCertificate(undo), Some(key), Some(place)) = (&kept.undo, &self.key, &self.place) else {
            return Err(ApplyError::Denied(self.denial(DenialCause::Failed, "undo", effect)));
        };
        // Before anything is asked: an attempt that ends in the middle was one.
        scene.world.renewals.note(&effect.certificate, scene.world.senses.now());
        let chain = self.issued(scene.world, effect, undo, key).map_err(ApplyError::Denied)?;
        crash_point("certificates.issued");
        let (pair, before) = self.pair().map_err(ApplyError::Denied)?;
        let now = scene.world.senses.now().0 / 1000;
        let leaf = sound(&chain, &undo.made, &effect.names, (before.facts.not_after, now)).map_err(|reason| {
            ApplyError::Denied(self.denial(DenialCause::Failed, "issued", format!("{effect}: {reason}")))
        })?;
        let text: String = chain.iter().map(Certificate::pem).collect();
        let secret = key.pem().map_err(|error| {
            ApplyError::Denied(self.denial(
                DenialCause::Failed,
                "key",
                format!("{effect}: {}", crate::exchange::chain(&error)),
            ))
        })?;
        match swap::replace(&pair, undo, place, (text.as_bytes(), secret.as_bytes())) {
            Ok(()) => Ok(Applied { after: observed(leaf), bytes: 0 }),
            Err(error) => Err(self.not_swapped(effect, &error)),
        }
    }
}

impl Renew {
    fn not_swapped(&self, effect: &CertificateEffect, error: &SwapError) -> ApplyError {
        let denial = |cause| self.denial(cause, "swap", format!("{effect}: {}", chain(error)));
        match error {
            SwapError::Half(_) => ApplyError::Ambiguous(denial(DenialCause::Failed)),
            SwapError::Changed { .. } => ApplyError::Denied(denial(DenialCause::Conflict)),
            SwapError::Pair(_) | SwapError::Place { .. } | SwapError::Kept { .. } => {
                ApplyError::Denied(denial(DenialCause::Failed))
            }
        }
    }

    /// The chain that the authority gives for the request. The answers to its challenges are gone when this returns.
    fn issued(
        &self,
        world: &World,
        effect: &CertificateEffect,
        undo: &CertificateUndo,
        key: &FreshKey,
    ) -> Result<Vec<Certificate>, Denial> {
        let attempted = effect.to_string();
        let failed =
            |rule: &str, reason: String| self.denial(DenialCause::Failed, rule, format!("{attempted}: {reason}"));
        let request = key.request(&effect.names).map_err(|error| failed("key", chain(&error)))?;
        let webroot = effect.place.webroot.as_ref();
        let webroot = webroot.ok_or_else(|| self.denial(DenialCause::Unavailable, "webroot", &attempted))?;
        let mut placed = None;
        let mut answer = |challenges: &[Challenge]| {
            let written = Placed::write(webroot, challenges, &undo.account, effect.names.len());
            placed = Some(written.map_err(|error| HandError::Refused { reason: chain(&error) })?);
            crash_point("certificates.challenged");
            Ok(())
        };
        let hand = self.hand(world, &attempted)?;
        let text = hand.order(&effect.names, &request, &mut answer);
        drop(placed);
        let text = text.map_err(|error| error.denial(&self.label, "courier", &attempted))?;
        Certificate::chain(&text).map_err(|error| failed("issued", chain(&error)))
    }
}

fn observed(certificate: &Certificate) -> Observed {
    Observed::Certificate { fingerprint: certificate.facts.fingerprint, not_after: certificate.facts.not_after }
}

/// What an authority may have sent: for our key and our names, longer than the old one, now, and a chain in order. Whether
/// anybody trusts it is not asked here; which authority is asked is root's to say.
fn sound<'c>(
    chain: &'c [Certificate],
    made: &theriac_model::id::Digest,
    names: &[DnsName],
    (old, now): (u64, u64),
) -> Result<&'c Certificate, String> {
    let leaf = chain.first().ok_or("there is no certificate")?;
    let facts = &leaf.facts;
    let mut asked: Vec<&str> = names.iter().map(DnsName::as_str).collect();
    let mut named: Vec<&str> = facts.names.iter().map(String::as_str).collect();
    asked.sort_unstable();
    named.sort_unstable();
    if leaf.key != *made {
        return Err("the certificate is for another key".to_owned());
    }
    if !leaf.only_dns_names || asked != named {
        return Err(format!("the certificate is for other names: {}", facts.names.join(", ")));
    }
    if facts.not_after <= old {
        return Err(format!("the certificate ends on {}, no later than the old one", date(facts.not_after)));
    }
    if facts.not_before > now.saturating_add(SKEW) || facts.not_after <= now {
        let (from, to) = (date(facts.not_before), date(facts.not_after));
        return Err(format!("the certificate is good from {from} to {to}, and not today"));
    }
    let in_order = chain.windows(2).all(|pair| matches!(pair, [below, above] if below.issuer == above.subject));
    if in_order { Ok(leaf) } else { Err("the certificates of the chain are not in order".to_owned()) }
}

/// What is in the two files.
struct Now {
    pair: Pair,
    certificate: Option<Certificate>,
    /// As it was kept.
    before: (bool, bool),
    /// Put there by the run.
    ours: (bool, bool),
}

impl Now {
    fn look(undo: &CertificateUndo) -> Result<Self, PairError> {
        let pair = Pair::find(&undo.place)?;
        let certificate = pair.certificate.certificate().ok();
        let same = |held: &Held, kept: &KeptFile| {
            held.state().map(|state| crate::capability::files::state::same(&state, &kept.state))
        };
        let before = (same(&pair.certificate, &undo.certificate)?, same(&pair.key, &undo.key)?);
        let ours = (
            certificate.as_ref().is_some_and(|certificate| certificate.key == undo.made),
            !before.1 && pair.key.is_made(&undo.made),
        );
        Ok(Self { pair, certificate, before, ours })
    }
}

/// Asks the files whether the intent's effect happened. Changes nothing.
pub(crate) fn observe(intent: &Intent<'_>) -> Happened {
    let unknown = |reason: &str| Happened::Unknown { reason: reason.to_owned() };
    let Undo::RestoreCertificate(undo) = intent.undo else { return unknown("the record has no kept certificate") };
    match Now::look(undo) {
        Ok(Now { ours: (true, true), certificate: Some(certificate), .. }) => Happened::Yes(observed(&certificate)),
        Ok(Now { before: (true, true), .. }) => Happened::No,
        Ok(_) => unknown("key and certificate are neither those of before nor those of the run"),
        Err(error) => unknown(&chain(&error)),
    }
}

/// Removes what a crash in the middle left outside of the two files: answers to challenges, and halves with a private key in them.
pub(crate) fn settle_down(intent: &Intent<'_>) {
    let Undo::RestoreCertificate(undo) = intent.undo else { return };
    if let Some(webroot) = &undo.place.webroot {
        sweep(webroot, &undo.account);
    }
    if let Ok(pair) = Pair::find(&undo.place) {
        swap::discard_leftovers(&pair, &intent.place());
    }
}

/// Puts key and certificate back, unless somebody has put others there since.
pub(crate) fn take_back(world: &World, intent: &Intent<'_>, undo: &CertificateUndo) -> UndoOutcome {
    settle_down(intent);
    let now = match Now::look(undo) {
        Ok(now) => now,
        Err(error @ (PairError::Place { .. } | PairError::Links { .. })) => {
            return UndoOutcome::ChangedSince { found: chain(&error) };
        }
        Err(error) => return UndoOutcome::Failed { reason: chain(&error) },
    };
    if now.before == (true, true) {
        return UndoOutcome::Restored;
    }
    let known = (now.before.0 || now.ours.0) && (now.before.1 || now.ours.1);
    if !known {
        let found = now.certificate.map_or_else(
            || format!("`{}` holds something else", undo.place.certificate),
            |certificate| observed(&certificate).to_string(),
        );
        return UndoOutcome::ChangedSince { found };
    }
    let replaced = (now.ours.0 && !now.before.0, now.ours.1 && !now.before.1);
    match swap::restore(world, intent, &now.pair, undo, replaced) {
        Ok(()) => UndoOutcome::Restored,
        Err(SwapError::Changed { path }) => UndoOutcome::ChangedSince { found: format!("`{path}` was changed") },
        Err(error) => UndoOutcome::Failed { reason: chain(&error) },
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

    use super::*;

    struct Authority(CertificateParams, KeyPair);

    fn authority() -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, "authority");
        Authority(params, KeyPair::generate().unwrap())
    }

    const NOW: u64 = 1_800_000_000;

    fn chain_for(names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Vec<Certificate> {
        let Authority(root, root_key) = authority();
        let mut params =
            CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap();
        params.not_before = rcgen::date_time_ymd(2027, 1, 1);
        params.not_after = rcgen::date_time_ymd(2027, 4, 1);
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let leaf = params.signed_by(&key, &Issuer::from_params(&root, &root_key)).unwrap();
        let own = root.self_signed(&root_key).unwrap();
        Certificate::chain(&format!("{}{}", leaf.pem(), own.pem())).unwrap()
    }

    fn judge(chain: &[Certificate], old: u64) -> Result<(), String> {
        let names = ["a.test", "b.test"].map(|name| DnsName::parse(name).unwrap());
        sound(chain, &chain[0].key, &names, (old, NOW)).map(|_| ())
    }

    #[test]
    fn an_authority_may_send_what_was_asked_for_and_nothing_else() {
        assert_eq!(
            judge(&chain_for(&["b.test", "a.test"], |_| {}), NOW - 1),
            Ok(()),
            "the order of names is nobody's business"
        );
        for (names, wanted) in [
            (&["a.test"][..], "other names"),
            (&["a.test", "b.test", "evil.test"][..], "other names"),
            (&["a.test", "*.test"][..], "other names"),
            (&["a.test", "b.test", "127.0.0.1"][..], "other names"),
        ] {
            let refused = judge(&chain_for(names, |_| {}), NOW - 1).unwrap_err();
            assert!(refused.contains(wanted), "{names:?}: {refused}");
        }
        let good = chain_for(&["a.test", "b.test"], |_| {});
        assert!(judge(&good, good[0].facts.not_after).unwrap_err().contains("no later than the old one"));
        let names = ["a.test", "b.test"].map(|name| DnsName::parse(name).unwrap());
        let other = theriac_model::id::Digest::of(b"another key");
        assert!(sound(&good, &other, &names, (0, NOW)).unwrap_err().contains("another key"));
        let swapped: Vec<Certificate> = [&good[0], &good[0]].into_iter().cloned().collect();
        assert!(judge(&swapped, 0).unwrap_err().contains("not in order"));
    }

    #[test]
    fn a_certificate_of_another_time_is_not_put_in_place() {
        let of = |from: i32, to: i32| {
            chain_for(&["a.test", "b.test"], |params| {
                params.not_before = rcgen::date_time_ymd(from, 1, 1);
                params.not_after = rcgen::date_time_ymd(to, 1, 1);
            })
        };
        assert!(judge(&of(2020, 2030), 0).is_ok());
        assert!(judge(&of(2020, 2026), 0).unwrap_err().contains("not today"));
        assert!(judge(&of(2029, 2030), 0).unwrap_err().contains("not today"));
    }
}
