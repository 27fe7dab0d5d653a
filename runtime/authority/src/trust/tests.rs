//! Each test is one row of the threat catalogue (SG…) or the reading of `trust.toml`; each refusal has its positive twin.

use expect_test::{Expect, expect};

use super::*;
use crate::key::Signer;

/// 2026-11-22T00:00:00Z.
pub(crate) const BEGIN: Timestamp = Timestamp(1_795_305_600_000);
/// In the middle of [`year`].
pub(crate) const NOON: Timestamp = Timestamp(1_800_000_000_000);

pub(crate) fn year() -> Validity {
    Validity { from: BEGIN, until: Timestamp(BEGIN.0 + 365 * 86_400_000) }
}

pub(crate) fn disk_manifest() -> Manifest {
    Manifest::parse(
        r#"
        [remedy]
        name = "disk-reclaim"
        version = "1.2.0"
        serial = 7
        summary = "Frees disk space"
        handles = ["disk-full", "service-unhealthy"]

        [params.keep_days]
        type = "integer"
        min = 1
        max = 365
        default = 7

        [grants.files.logs]
        dir = "/var/log"
        match = ["**/*.gz"]
        verbs = ["list", "stat", "remove"]
        min_age = "7d"
        max_bytes = "1MiB"
        max_files = 2
        why = "rotated logs are the usual cause"

        [grants.units.target]
        unit = { from = "incident" }
        verbs = ["status", "restart"]
        job_timeout = "30s"
        why = "the unit holds the log open"
        "#,
    )
    .unwrap()
}

pub(crate) fn signer(name: &str) -> Signer {
    Signer::generate(KeyName::parse(name).unwrap()).unwrap()
}

pub(crate) const ALL_CLASSES: &str = r#"["observe", "files-read", "files-change", "units-observe", "units-change", "processes-observe", "processes-change"]"#;

pub(crate) fn entry(signer: &Signer, remedies: &str, classes: &str) -> String {
    let key = signer.public();
    format!("[[signer]]\nname = \"{}\"\nkey = \"{key}\"\nremedies = {remedies}\nclasses = {classes}\n", key.name())
}

pub(crate) fn component() -> Digest {
    Digest::of(b"component")
}

pub(crate) fn approve(manifest: &Manifest, valid: Validity, signers: &[&Signer]) -> Vec<u8> {
    let mut note = Note::unsigned(&Approval::of(manifest, component(), valid).unwrap().to_string()).unwrap();
    for signer in signers {
        note.sign(signer).unwrap();
    }
    note.to_string().into_bytes()
}

fn now() -> Moment {
    Moment::new(NOON, Timestamp(0))
}

fn judge(store: &str, manifest: &Manifest, note: Option<&[u8]>) -> Result<Approved, Refusal> {
    let store = TrustStore::parse(store).unwrap();
    store.judge(&Candidate { manifest, component: component(), note }, now(), |_| Some(7))
}

/// The sentence and its cause, as the operator reads them.
fn sentence(refused: &Refusal) -> String {
    let cause = std::error::Error::source(refused).map_or_else(String::new, |cause| format!(": {cause}"));
    format!("{refused}{cause}")
}

fn check(judged: Result<Approved, Refusal>, expected: &Expect) {
    expected.assert_eq(&judged.map_or_else(
        |refused| sentence(&refused),
        |approved| {
            format!("approved by {}", approved.signers().iter().map(KeyName::as_str).collect::<Vec<_>>().join(", "))
        },
    ));
}

#[test]
fn what_the_right_people_signed_is_approved_and_what_nobody_signed_is_not() {
    let (alice, eve) = (signer("alice"), signer("eve"));
    let (store, manifest) = (entry(&alice, r#"["disk-*"]"#, ALL_CLASSES), disk_manifest());
    let by = |signer| approve(&manifest, year(), &[signer]);
    check(judge(&store, &manifest, Some(&by(&alice))), &expect!["approved by alice"]);
    check(judge(&store, &manifest, None), &expect!["`disk-reclaim` is unsigned: there is no approval beside it"]);
    check(
        judge(&store, &manifest, Some(&by(&eve))),
        &expect!["`disk-reclaim` is signed by nobody the trust store knows; the approval names: eve"],
    );
    check(
        judge("", &manifest, Some(&by(&alice))),
        &expect!["`disk-reclaim` is signed by nobody the trust store knows; the approval names: alice"],
    );
}

// SG01, SG02.
#[test]
fn an_altered_approval_is_refused() {
    let alice = signer("alice");
    let (store, manifest) = (entry(&alice, r#"["*"]"#, ALL_CLASSES), disk_manifest());
    let note = approve(&manifest, year(), &[&alice]);
    for index in 0..note.len() {
        let mut altered = note.clone();
        altered[index] ^= 1;
        assert!(judge(&store, &manifest, Some(&altered)).is_err(), "byte {index}");
        assert!(judge(&store, &manifest, Some(&note[..index])).is_err(), "cut at {index}");
    }
    assert!(judge(&store, &manifest, Some(&note)).is_ok());
}

// SG04.
#[test]
fn the_approval_of_one_remedy_is_none_of_another() {
    let alice = signer("alice");
    let store = TrustStore::parse(&entry(&alice, r#"["*"]"#, ALL_CLASSES)).unwrap();
    let manifest = disk_manifest();
    let note = approve(&manifest, year(), &[&alice]);
    let with = |manifest: &Manifest, component| {
        store.judge(&Candidate { manifest, component, note: Some(&note) }, now(), |_| None)
    };
    assert!(with(&manifest, component()).is_ok());
    assert!(matches!(with(&manifest, Digest::of(b"other")), Err(Refusal::Altered { .. })));
    let mut other = manifest.clone();
    other.name = RemedyName::parse("disk-other").unwrap();
    assert!(matches!(with(&other, component()), Err(Refusal::Altered { .. })));
}

// SG05, SG06.
#[test]
fn an_older_remedy_is_refused_and_the_same_one_is_not() {
    let alice = signer("alice");
    let store = TrustStore::parse(&entry(&alice, r#"["*"]"#, ALL_CLASSES)).unwrap();
    let manifest = disk_manifest();
    let note = approve(&manifest, year(), &[&alice]);
    let seen = |serial| {
        store.judge(&Candidate { manifest: &manifest, component: component(), note: Some(&note) }, now(), |_| serial)
    };
    assert!(seen(None).is_ok() && seen(Some(6)).is_ok() && seen(Some(7)).is_ok());
    check(
        seen(Some(8)),
        &expect!["`disk-reclaim` has serial 7, and serial 8 was loaded here before: older remedies are refused"],
    );
}

// SG07.
#[test]
fn a_revoked_signer_or_file_counts_no_more() {
    let (alice, bob) = (signer("alice"), signer("bob"));
    let entries = entry(&alice, r#"["*"]"#, ALL_CLASSES) + &entry(&bob, r#"["*"]"#, ALL_CLASSES);
    let manifest = disk_manifest();
    let revoked = format!("{entries}[revoked]\nkeys = [\"{}\"]\n", alice.public());
    let by = |signers: &[&Signer]| approve(&manifest, year(), signers);
    assert!(judge(&entries, &manifest, Some(&by(&[&alice]))).is_ok());
    check(
        judge(&revoked, &manifest, Some(&by(&[&alice]))),
        &expect!["everybody who signed `disk-reclaim` is revoked: alice"],
    );
    check(judge(&revoked, &manifest, Some(&by(&[&alice, &bob]))), &expect!["approved by bob"]);
    let file = format!("{entries}[revoked]\ncomponents = [\"{}\"]\n", component());
    assert!(matches!(judge(&file, &manifest, Some(&by(&[&bob]))), Err(Refusal::Revoked { .. })));
}

// SG06, SG08.
#[test]
fn an_approval_holds_in_its_time_and_a_clock_set_back_revives_none() {
    let alice = signer("alice");
    let store = TrustStore::parse(&entry(&alice, r#"["*"]"#, ALL_CLASSES)).unwrap();
    let manifest = disk_manifest();
    let note = approve(&manifest, year(), &[&alice]);
    let at = |clock, last_seen| {
        let candidate = Candidate { manifest: &manifest, component: component(), note: Some(&note) };
        store.judge(&candidate, Moment::new(clock, last_seen), |_| None)
    };
    let (first, end) = (year().from, year().until);
    assert!(at(first, Timestamp(0)).is_ok());
    assert!(at(Timestamp(end.0 - 1), Timestamp(0)).is_ok());
    check(
        at(Timestamp(first.0 - 1), Timestamp(0)),
        &expect!["the approval of `disk-reclaim` holds only from 2026-11-22T00:00:00Z"],
    );
    check(at(end, Timestamp(0)), &expect!["the approval of `disk-reclaim` expired at 2027-11-22T00:00:00Z"]);
    assert!(matches!(at(first, end), Err(Refusal::Expired { .. })), "the journal has seen a later time");
    let approved = at(first, Timestamp(0)).unwrap();
    assert!(approved.check_valid(Moment::new(end, Timestamp(0))).is_err(), "it may expire while a run waits");
}

// SG11.
#[test]
fn a_threshold_counts_keys() {
    let (alice, bob, carol) = (signer("alice"), signer("bob"), signer("carol"));
    let all = r#"["*"]"#;
    let store = entry(&alice, all, ALL_CLASSES)
        + &entry(&bob, all, ALL_CLASSES)
        + &entry(&carol, all, r#"["files-read"]"#)
        + "[[threshold]]\nclass = \"units-change\"\nk = 2\n";
    let manifest = disk_manifest();
    let by = |signers: &[&Signer]| judge(&store, &manifest, Some(&approve(&manifest, year(), signers)));
    check(by(&[&alice, &bob]), &expect!["approved by alice, bob"]);
    check(
        by(&[&alice]),
        &expect!["`disk-reclaim` needs 2 signatures for `units-change`: alice signed and may, bob could"],
    );
    check(
        by(&[&alice, &carol]),
        &expect!["`disk-reclaim` needs 2 signatures for `units-change`: alice signed and may, bob could"],
    );
    // The same line twice is one signature.
    let note = String::from_utf8(approve(&manifest, year(), &[&alice])).unwrap();
    let line = note.lines().last().unwrap().to_owned();
    let doubled = format!("{note}{line}\n");
    assert!(matches!(judge(&store, &manifest, Some(doubled.as_bytes())), Err(Refusal::Threshold { .. })));
}

// SG12.
#[test]
fn a_signer_counts_within_his_scope_only() {
    let alice = signer("alice");
    let manifest = disk_manifest();
    let note = approve(&manifest, year(), &[&alice]);
    let with = |remedies: &str, classes: &str| judge(&entry(&alice, remedies, classes), &manifest, Some(&note));
    assert!(with(r#"["disk-reclaim"]"#, ALL_CLASSES).is_ok());
    check(
        with(r#"["service-*", "disk"]"#, ALL_CLASSES),
        &expect!["alice signed `disk-reclaim`, and may not approve remedies of that name"],
    );
    check(
        with(r#"["disk-*"]"#, r#"["files-read", "files-change", "units-observe"]"#),
        &expect!["`disk-reclaim` needs 1 signature for `units-change`: nobody signed and may, nobody could"],
    );
}

// SG13.
#[test]
fn a_manifest_that_asks_for_more_than_was_signed_is_refused() {
    let alice = signer("alice");
    let store = entry(&alice, r#"["*"]"#, ALL_CLASSES);
    let manifest = disk_manifest();
    let note = approve(&manifest, year(), &[&alice]);
    let mut wider = manifest.clone();
    wider.limits.host_calls += 1;
    check(
        judge(&store, &wider, Some(&note)),
        &expect![
            "`disk-reclaim` is not what was approved: the approval's grant lines are not the manifest's: `grant limits: 16 MiB memory, 30s time, 10001 host calls, 64 handles, 16 KiB of log`"
        ],
    );
    assert!(judge(&store, &manifest, Some(&note)).is_ok());
}

#[test]
fn what_only_people_read_is_signed_too() {
    let alice = signer("alice");
    let store = TrustStore::parse(&entry(&alice, r#"["*"]"#, ALL_CLASSES)).unwrap();
    let text = "[remedy]\nname = \"disk-x\"\nversion = \"1.2.0\"\nserial = 7\nsummary = \"Frees space\"\n\
                handles = [\"disk-full\"]\n[grants.series.room]\nmetric = \"disk_available\"\nwhy = \"it looks first\"\n\
                [params.careful]\ntype = \"flag\"\ndefault = true\n";
    // The manifest lies in the file whose digest is signed.
    let judged = |text: &str, note: &[u8]| {
        let manifest = Manifest::parse(text).unwrap();
        store.judge(
            &Candidate { manifest: &manifest, component: Digest::of(text.as_bytes()), note: Some(note) },
            now(),
            |_| None,
        )
    };
    let approval = Approval::of(&Manifest::parse(text).unwrap(), Digest::of(text.as_bytes()), year()).unwrap();
    let mut note = Note::unsigned(&approval.to_string()).unwrap();
    note.sign(&alice).unwrap();
    let note = note.to_string().into_bytes();
    assert!(judged(text, &note).is_ok());
    for (from, to) in
        [("1.2.0", "1.2.1"), ("Frees space", "Frees memory"), ("it looks first", "no reason"), ("true", "false")]
    {
        assert!(matches!(judged(&text.replace(from, to), &note), Err(Refusal::Altered { .. })), "{to}");
    }
}

// SG15.
#[test]
fn a_signature_made_for_something_else_is_no_approval() {
    let alice = signer("alice");
    let store = entry(&alice, r#"["*"]"#, ALL_CLASSES);
    let manifest = disk_manifest();
    let text = Approval::of(&manifest, component(), year()).unwrap().to_string();
    let mut note = Note::unsigned(&text.replace("theriac.approval/v1", "theriac.checkpoint/v1")).unwrap();
    note.sign(&alice).unwrap();
    check(
        judge(&store, &manifest, Some(note.to_string().as_bytes())),
        &expect![
            "what was signed for `disk-reclaim` is no approval: the signed text is no `theriac.approval/v1` but `theriac.checkpoint/v1`"
        ],
    );
}

#[test]
fn the_classes_follow_from_the_verbs() {
    let classes: Vec<&str> = Class::of(&disk_manifest()).into_iter().map(Class::as_str).collect();
    assert_eq!(classes, ["files-read", "files-change", "units-observe", "units-change"]);
}

// SG11.
#[test]
fn a_trust_store_with_a_mistake_is_refused_with_its_line() {
    let (alice, bob) = (signer("alice"), signer("bob"));
    let right = entry(&alice, r#"["*"]"#, ALL_CLASSES);
    assert!(TrustStore::parse(&right).is_ok());
    let problem = |text: &str| TrustStore::parse(text).unwrap_err().to_string();
    let renamed = entry(&alice, r#"["*"]"#, ALL_CLASSES).replace("name = \"alice\"", "name = \"bob\"");
    for (wrong, part) in [
        (format!("{right}{right}"), "the same key is listed for `alice`"),
        (renamed, "it is not the name in the key"),
        (format!("{right}colour = 1\n"), "line 6: `signer[0].colour`: there is no such key"),
        (format!("{right}[[threshold]]\nclass = \"observe\"\nk = 0\n"), "0 is out of bounds"),
        (format!("{right}[[threshold]]\nclass = \"observe\"\nk = 2\n"), "2 signers must agree, and 1 of those listed"),
        (format!("{right}[[threshold]]\nclass = \"all\"\nk = 1\n"), "is not a capability class"),
        (right.replace(r#"["*"]"#, r#"["Disk*"]"#), "is no remedy name"),
        (right.replace("key = \"alice+", "key = \"bob+"), "belongs to another key or name"),
        (format!("[operators]\nkeys = [\"{k}\", \"{k}\"]", k = bob.public()), "listed twice"),
    ] {
        assert!(problem(&wrong).contains(part), "{} is not: {part}", problem(&wrong));
    }
    // SG11: one key under two names.
    let twin = crate::key::tests::renamed(&alice, "alice-two");
    assert!(problem(&format!("{right}{}", entry(&twin, r#"["*"]"#, ALL_CLASSES))).contains("one key is one signer"));
}

// SG10.
#[test]
fn a_weak_key_is_refused_when_the_store_is_read() {
    // The identity point, under its right hash.
    let weak = crate::key::tests::weak_key("mallory");
    let store = format!("[operators]\nkeys = [\"{weak}\"]\n");
    assert!(TrustStore::parse(&store).unwrap_err().to_string().contains("weak or malformed"));
}

#[test]
fn a_revoked_operator_consents_no_more() {
    let alice = signer("alice");
    let text = format!("[operators]\nkeys = [\"{k}\"]\n", k = alice.public());
    assert_eq!(TrustStore::parse(&text).unwrap().operators().count(), 1);
    let revoked = format!("{text}[revoked]\nkeys = [\"{}\"]\n", alice.public());
    assert_eq!(TrustStore::parse(&revoked).unwrap().operators().count(), 0);
}

// SG17.
#[test]
fn bytes_are_vouched_for_before_anything_in_them_is_looked_at() {
    let (alice, eve) = (signer("alice"), signer("eve"));
    let store = TrustStore::parse(&entry(&alice, r#"["disk-*"]"#, ALL_CLASSES)).unwrap();
    let name = RemedyName::parse("disk-reclaim").unwrap();
    let by = |signer| approve(&disk_manifest(), year(), &[signer]);
    assert_eq!(store.vouch(&name, component(), Some(&by(&alice))), Ok(()));
    assert!(matches!(store.vouch(&name, component(), None), Err(Refusal::Unsigned { .. })));
    assert!(matches!(store.vouch(&name, component(), Some(&by(&eve))), Err(Refusal::Strangers { .. })));
    let other = Digest::of(b"another component");
    assert!(matches!(store.vouch(&name, other, Some(&by(&alice))), Err(Refusal::Altered { .. })));
}
