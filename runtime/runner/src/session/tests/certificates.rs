//! Renewals of real files, with an authority of the tests' own that signs what it is asked to, or does what a hostile one would.
//! The wire is tested with the courier, and the whole with a real authority in the end-to-end tests.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, PublicKeyData, SignatureAlgorithm};
use theriac_model::call::{Call, Interface, Reply, UnitCall};
use theriac_model::certificate::{CertificateCall, CertificateInfo, DnsName};
use theriac_model::effect::{Observed, UndoClass, UndoOutcome};
use theriac_model::record::{Entry, Record};
use theriac_model::units::Blob;
use theriac_protocol::acme::Challenge;
use theriac_protocol::courier::{Look, Looked};
use x509_cert::der::Decode as _;

use super::world::*;
use crate::hands::{Acme, HandError, Tls};
use crate::recover::{Happened, observe, settle};
use crate::undo::Intent;

const GRANTS: &str = r#"
[grants.certificates.site]
certificate = "site"
verbs = ["inspect", "served", "renew"]
why = "tests"
"#;
const ACCOUNT: &str = "9jg46WB3rR_AHD-EBXdN7cBkH1WOu0tA3M9fm21mqTI";
const TOKEN: &str = "LoqXcYV8q5ONbJQxbmR7SCTNo3tiAXDfowyjxAjEuX0";

/// The key of a request, as far as a signer needs it.
struct Asked(Vec<u8>);

impl PublicKeyData for Asked {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

/// What the authority does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    Honest,
    SignsAnotherKey,
    AddsAName,
    LeavesANameOut,
    EndsBeforeTheOldOne,
    SendsGarbage,
    SendsFarTooMuch,
    SendsNothing,
    WantsAnotherFile,
    WantsAnotherAnswer,
    WantsTooMuch,
    Refuses,
}

struct Authority {
    manner: Mutex<Manner>,
    webroot: PathBuf,
    /// What it saw at the challenge's address, once for each order.
    seen: Mutex<Vec<String>>,
}

fn root() -> (CertificateParams, KeyPair) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(rcgen::DnType::CommonName, "authority");
    (params, KeyPair::generate().unwrap())
}

/// The tests' clock stands at the beginning of 1970.
fn params(names: &[String], until: i32) -> CertificateParams {
    let mut params = CertificateParams::new(names.to_vec()).unwrap();
    params.not_before = rcgen::date_time_ymd(1970, 1, 1);
    params.not_after = rcgen::date_time_ymd(until, 1, 1);
    params
}

impl Authority {
    fn issue(&self, manner: Manner, names: &[DnsName], request: &[u8]) -> String {
        let request = x509_cert::request::CertReq::from_der(request).unwrap();
        let point = request.info.public_key.subject_public_key.raw_bytes().to_vec();
        let mut names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut until = 2040;
        let (root, key) = root();
        let issuer = Issuer::from_params(&root, &key);
        match manner {
            Manner::AddsAName => names.push("evil.test".into()),
            Manner::LeavesANameOut => drop(names.pop()),
            Manner::EndsBeforeTheOldOne => until = 2029,
            Manner::SendsGarbage => return "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".into(),
            Manner::SendsNothing => return String::new(),
            Manner::SignsAnotherKey => {
                return params(&names, until).signed_by(&KeyPair::generate().unwrap(), &issuer).unwrap().pem();
            }
            _ => {}
        }
        let leaf = params(&names, until).signed_by(&Asked(point), &issuer).unwrap().pem();
        let chain = format!("{leaf}{}", root.self_signed(&key).unwrap().pem());
        if manner == Manner::SendsFarTooMuch { chain.repeat(1_000) } else { chain }
    }
}

impl Acme for Authority {
    fn account(&self) -> Result<String, HandError> {
        Ok(ACCOUNT.to_owned())
    }

    fn order(
        &self,
        names: &[DnsName],
        request: &[u8],
        answer: &mut dyn FnMut(&[Challenge]) -> Result<(), HandError>,
    ) -> Result<String, HandError> {
        let manner = *self.manner.lock().unwrap();
        if manner == Manner::Refuses {
            return Err(HandError::Failed { reason: "too many certificates already issued".into() });
        }
        let token = if manner == Manner::WantsAnotherFile { "../../../../tmp/theriac-escaped" } else { TOKEN };
        let answered = if manner == Manner::WantsAnotherAnswer { "<?php".into() } else { format!("{token}.{ACCOUNT}") };
        let challenge = Challenge { token: token.to_owned(), answer: answered };
        let times = if manner == Manner::WantsTooMuch { 50 } else { 1 };
        answer(&vec![challenge; times])?;
        let path = self.webroot.join(".well-known/acme-challenge").join(TOKEN);
        self.seen.lock().unwrap().push(std::fs::read_to_string(path).unwrap());
        Ok(self.issue(manner, names, request))
    }
}

struct Site {
    dir: tempfile::TempDir,
    place: Place,
    authority: Arc<Authority>,
}

fn site() -> Site {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path();
    let names = ["a.test".to_owned(), "www.a.test".to_owned()];
    let key = KeyPair::generate().unwrap();
    let old = params(&names, 2030).self_signed(&key).unwrap();
    for (name, text, mode) in [("cert.pem", old.pem(), 0o644), ("key.pem", key.serialize_pem(), 0o640)] {
        std::fs::write(at.join(name), text).unwrap();
        std::fs::set_permissions(at.join(name), std::fs::Permissions::from_mode(mode)).unwrap();
    }
    std::fs::create_dir(at.join("www")).unwrap();
    let shown = at.display();
    let host = format!(
        "[[certificate]]\nname = \"site\"\ncertificate = \"{shown}/cert.pem\"\nkey = \"{shown}/key.pem\"\nnames = [\"a.test\", \"www.a.test\"]\naddress = \"127.0.0.1:1\"\nunit = \"web\"\nverbs = [\"renew\"]\nwebroot = \"{shown}/www\"\n"
    );
    let authority = Arc::new(Authority {
        manner: Mutex::new(Manner::Honest),
        webroot: at.join("www"),
        seen: Mutex::new(Vec::new()),
    });
    let mut place = place_granting(GRANTS, &host);
    place.world.hands.acme = Some(Arc::clone(&authority) as Arc<dyn Acme>);
    Site { dir, place, authority }
}

impl Site {
    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    fn mode(&self, name: &str) -> u32 {
        self.path(name).metadata().unwrap().permissions().mode() & 0o7777
    }

    /// Everything that is in the directory, webroot included.
    fn files(&self) -> Vec<String> {
        snapshot(self.dir.path())
    }

    fn intent(entries: &[Entry]) -> Intent<'_> {
        entries.iter().find_map(|entry| Intent::of(&entry.record)).unwrap()
    }
}

fn ask_for(ask: Ask<'_>, verb: CertificateCall) -> Reply {
    let handle = open(ask, Interface::Certificates, "site");
    ask(Call::Certificate { handle, verb })
}

fn info(reply: Reply) -> CertificateInfo {
    let Reply::Certificate(info) = reply else { panic!("{reply:?}") };
    info
}

fn renew(ask: Ask<'_>) {
    assert_eq!(ask_for(ask, CertificateCall::Renew), Reply::Done);
}

#[test]
fn a_new_key_and_certificate_take_the_old_ones_places_and_the_undo_puts_both_back() {
    let site = site();
    let before = (site.text("cert.pem"), site.text("key.pem"));
    let done = site.place.both(|ask| renew(ask));
    assert!(!done.must_undo(), "{done:?}");
    let after = (site.text("cert.pem"), site.text("key.pem"));
    assert!(after.0 != before.0 && after.1 != before.1);
    assert_eq!((site.mode("cert.pem"), site.mode("key.pem")), (0o644, 0o640));
    assert_eq!(*site.authority.seen.lock().unwrap(), [format!("{TOKEN}.{ACCOUNT}")], "it was there to be seen");
    assert!(snapshot(&site.path("www")).is_empty(), "and is gone");
    site.place.plan(|ask| {
        let now = info(ask_for(ask, CertificateCall::Inspect));
        assert!(now.key_matches && !now.assumed && !now.facts.self_signed);
        assert_eq!(now.facts.names, ["a.test", "www.a.test"]);
    });
    assert_eq!(site.place.undo(), [UndoOutcome::Restored]);
    assert_eq!((site.text("cert.pem"), site.text("key.pem")), before);
    assert_eq!((site.mode("cert.pem"), site.mode("key.pem")), (0o644, 0o640));
    assert_eq!(site.place.undo(), [UndoOutcome::Restored], "twice is harmless");
}

#[test]
fn who_was_made_to_load_the_new_one_loads_the_old_one_again_and_nobody_else_is_touched() {
    let invocation = |site: &Site| site.place.units.state.lock().unwrap().invocation.clone();
    let site = site();
    let before = site.files();
    site.place.units.up();
    site.place.both(|ask| renew(ask));
    site.place.undo();
    assert_eq!(invocation(&site), "i2", "nobody had loaded it");

    let site = self::site();
    site.place.units.up();
    let done = site.place.both(|ask| {
        renew(ask);
        on_unit(ask, UnitCall::Restart);
    });
    assert!(!done.must_undo(), "{done:?}");
    assert_eq!(invocation(&site), "i3");
    let undone = site.place.undo();
    assert!(matches!(undone[..], [UndoOutcome::NotNeeded { .. }, UndoOutcome::Restored]), "{undone:?}");
    assert_eq!((invocation(&site).as_str(), site.files().len()), ("i4", before.len()));
}

#[test]
fn a_dry_run_asks_nobody_leaves_no_trace_and_is_assumed() {
    let site = site();
    let before = site.files();
    let plan = site.place.plan(|ask| {
        let old = info(ask_for(ask, CertificateCall::Inspect));
        assert!(old.key_matches && old.facts.self_signed);
        renew(ask);
        let new = info(ask_for(ask, CertificateCall::Inspect));
        assert!(new.assumed && new.facts.fingerprint != old.facts.fingerprint);
        assert_eq!(denied(ask_for(ask, CertificateCall::Renew)).rule, "between", "once is enough");
    });
    assert_eq!(site.files(), before);
    assert!(site.authority.seen.lock().unwrap().is_empty());
    let [planned] = &plan.effects[..] else { panic!("{plan:?}") };
    assert_eq!(planned.undo, UndoClass::Exact);
    assert!(matches!(planned.before, Observed::Certificate { .. }));
    assert!(planned.before.to_string().ends_with("until 2030-01-01"), "{}", planned.before);
    assert!(planned.effect.to_string().ends_with("for a.test, www.a.test"), "{}", planned.effect);
}

#[test]
fn what_a_hostile_authority_sends_is_refused_and_nothing_is_swapped() {
    for (manner, rule, said) in [
        (Manner::SignsAnotherKey, "issued", "another key"),
        (Manner::AddsAName, "issued", "other names"),
        (Manner::LeavesANameOut, "issued", "other names"),
        (Manner::EndsBeforeTheOldOne, "issued", "no later than the old one"),
        (Manner::SendsGarbage, "issued", "not"),
        (Manner::SendsFarTooMuch, "issued", "more than"),
        (Manner::SendsNothing, "issued", "no certificate"),
        (Manner::WantsAnotherFile, "courier", "not the answer to a challenge"),
        (Manner::WantsAnotherAnswer, "courier", "not the answer to a challenge"),
        (Manner::WantsTooMuch, "courier", "50 answers for 2 names"),
        (Manner::Refuses, "courier", "too many certificates"),
    ] {
        let site = site();
        let before = site.files();
        *site.authority.manner.lock().unwrap() = manner;
        let plan = site.place.plan(|ask| renew(ask));
        let mut session = site.place.live(&plan);
        let refused =
            denied(ask_for(&mut |call| crate::session::Host::answer(&mut session, call), CertificateCall::Renew));
        assert_eq!(refused.rule, rule, "{manner:?}: {refused}");
        assert!(refused.attempted.contains(said), "{manner:?}: {refused}");
        assert!(session.finish().must_undo(), "{manner:?}");
        assert!(matches!(site.place.undo()[..], [UndoOutcome::NotNeeded { .. }]), "{manner:?}");
        // The directory for challenges may be there now; no file is.
        assert_eq!(site.files(), before, "{manner:?}");
        assert!(!Path::new("/tmp/theriac-escaped").exists());
    }
}

#[test]
fn an_authority_is_not_asked_twice_within_the_bound_whatever_came_of_the_first_time() {
    let site = site();
    *site.authority.manner.lock().unwrap() = Manner::Refuses;
    site.place.both(|ask| drop(ask_for(ask, CertificateCall::Renew)));
    *site.authority.manner.lock().unwrap() = Manner::Honest;
    let again = |ask: Ask<'_>| denied(ask_for(ask, CertificateCall::Renew)).rule;
    site.place.plan(|ask| assert_eq!(again(ask), "between"));
    // The journal knows, after a restart too.
    let mut restarted = self::site();
    restarted.place.world.renewals = crate::renewals::Renewals::of(&site.place.entries());
    restarted.place.plan(|ask| assert_eq!(again(ask), "between"));
    restarted.place.world.renewals = crate::renewals::Renewals::default();
    let done = restarted.place.both(|ask| renew(ask));
    assert!(!done.must_undo(), "{done:?}");
}

#[test]
fn a_certificate_that_somebody_else_put_there_since_is_never_overwritten() {
    let site = site();
    site.place.both(|ask| renew(ask));
    let key = KeyPair::generate().unwrap();
    let theirs = params(&["a.test".to_owned()], 2041).self_signed(&key).unwrap().pem();
    std::fs::write(site.path("cert.pem"), &theirs).unwrap();
    std::fs::write(site.path("key.pem"), key.serialize_pem()).unwrap();
    let ours = site.files();
    assert!(matches!(site.place.undo()[..], [UndoOutcome::ChangedSince { .. }]));
    assert_eq!((site.text("cert.pem"), site.files()), (theirs.clone(), ours));

    // Nor one that came between the plan and the run.
    let site = self::site();
    let plan = site.place.plan(|ask| renew(ask));
    std::fs::write(site.path("cert.pem"), &theirs).unwrap();
    std::fs::write(site.path("key.pem"), key.serialize_pem()).unwrap();
    let mut session = site.place.live(&plan);
    let reply = ask_for(&mut |call| crate::session::Host::answer(&mut session, call), CertificateCall::Renew);
    assert_eq!(denied(reply).rule, "plan.effects");
    drop(session);
    assert_eq!(site.text("cert.pem"), theirs);
    assert!(site.authority.seen.lock().unwrap().is_empty(), "and nobody was asked");
}

#[test]
fn after_a_crash_the_files_say_whether_it_happened_and_half_of_it_is_put_back() {
    let site = site();
    let before = (site.text("cert.pem"), site.text("key.pem"));
    site.place.both(|ask| renew(ask));
    let entries = site.place.without_outcomes();
    let happened = || observe(&site.place.world, &Site::intent(&entries));
    assert!(matches!(happened(), Happened::Yes(Observed::Certificate { .. })));
    let made = (site.text("cert.pem"), site.text("key.pem"));
    // The new key is in its place, the new certificate is not yet.
    std::fs::write(site.path("cert.pem"), &before.0).unwrap();
    assert!(matches!(happened(), Happened::Unknown { .. }));
    assert_eq!(site.place.undo_with(&entries, theriac_model::verdict::Verdict::Unknown), [UndoOutcome::Restored]);
    assert_eq!((site.text("cert.pem"), site.text("key.pem")), before);
    assert_eq!(happened(), Happened::No);
    std::fs::write(site.path("cert.pem"), &made.0).unwrap();
    std::fs::write(site.path("key.pem"), "somebody's").unwrap();
    assert!(matches!(happened(), Happened::Unknown { .. }));
    let undone = site.place.undo_with(&entries, theriac_model::verdict::Verdict::Unknown);
    assert!(matches!(undone[..], [UndoOutcome::ChangedSince { .. }]), "{undone:?}");
}

#[test]
fn what_a_crash_left_outside_of_the_files_is_cleaned_up() {
    let site = site();
    site.place.both(|ask| renew(ask));
    let entries = site.place.without_outcomes();
    let run = run();
    let half = site.path(&format!(".theriac-new-key-{run}-0"));
    std::fs::write(&half, "-----BEGIN PRIVATE KEY-----").unwrap();
    let answers = site.path("www/.well-known/acme-challenge");
    std::fs::create_dir_all(&answers).unwrap();
    std::fs::write(answers.join(TOKEN), format!("{TOKEN}.{ACCOUNT}")).unwrap();
    std::fs::write(answers.join("somebody"), "else's").unwrap();
    settle(&site.place.world, &run, &entries).unwrap();
    assert!(!half.exists() && !answers.join(TOKEN).exists());
    assert!(answers.join("somebody").exists());
}

#[test]
fn no_private_key_is_in_the_journal_and_the_old_one_is_kept_for_root_alone() {
    let site = site();
    let old = site.text("key.pem");
    site.place.both(|ask| renew(ask));
    let new = site.text("key.pem");
    let written: String =
        site.place.entries().iter().map(|entry| serde_json::to_string(&entry.record).unwrap()).collect();
    for key in [old, new] {
        assert!(!written.contains("PRIVATE KEY"));
        let body: String = key.lines().filter(|line| !line.starts_with('-')).collect();
        let raw = serde_json::to_string(&Blob(key.into_bytes())).unwrap();
        assert!(!written.contains(&body) && !written.contains(raw.trim_matches('"')));
    }
    assert!(site.place.entries().iter().any(|entry| matches!(entry.record, Record::Intent { .. })));
    for file in std::fs::read_dir(site.place.disk.path().join("undo")).unwrap().map(Result::unwrap) {
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o077, 0, "{:?}", file.path());
    }
}

/// A server that shows some certificate.
struct Shows(Vec<u8>, bool);

impl Tls for Shows {
    fn look(&self, _look: &Look) -> Result<Looked, HandError> {
        Ok(Looked { certificate: Blob(self.0.clone()), key_shown: self.1 })
    }
}

#[test]
fn an_expired_certificate_of_a_server_is_described_and_garbage_is_not() {
    let mut site = site();
    let served = params(&["old.test".to_owned()], 1971).self_signed(&KeyPair::generate().unwrap()).unwrap();
    site.place.plan(|ask| assert_eq!(denied(ask_for(ask, CertificateCall::Served)).rule, "courier"));
    site.place.world.hands.tls = Some(Arc::new(Shows(served.der().to_vec(), true)));
    site.place.plan(|ask| {
        let seen = info(ask_for(ask, CertificateCall::Served));
        assert!(seen.key_matches && seen.facts.self_signed);
        assert_eq!((seen.facts.names, seen.left_s), (vec!["old.test".to_owned()], 365 * 86_400));
    });
    site.place.world.hands.tls = Some(Arc::new(Shows(vec![0x30, 0x80, 0xff], false)));
    site.place.plan(|ask| assert_eq!(denied(ask_for(ask, CertificateCall::Served)).rule, "certificate"));
}

#[test]
fn without_a_courier_or_with_files_that_are_no_pair_nothing_is_renewed() {
    let mut site = site();
    let other = KeyPair::generate().unwrap().serialize_pem();
    std::fs::write(site.path("key.pem"), other).unwrap();
    site.place.plan(|ask| assert!(!info(ask_for(ask, CertificateCall::Inspect)).key_matches));
    std::fs::write(site.path("cert.pem"), "no certificate").unwrap();
    site.place.plan(|ask| {
        for verb in [CertificateCall::Inspect, CertificateCall::Renew] {
            assert_eq!(denied(ask_for(ask, verb)).rule, "certificate");
        }
    });
    site.place.world.hands.acme = None;
    site.place.plan(|ask| assert_eq!(denied(ask_for(ask, CertificateCall::Renew)).rule, "courier"));
}
