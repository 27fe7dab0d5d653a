//! The runner is killed with SIGKILL at each named step of each playbook and started again: it finishes or takes back that run,
//! never twice and never half, and the ledger still verifies.
//!
//! A [`Case`] is one rung of one playbook in one way that it can go. Where a run passes is found by letting it pass; the case
//! says which points that has to be, and [`drive`] kills at the first and at the last passing of each.

mod ambiguous;
mod certificate;
mod database;
mod disk;
mod drive;
mod network;
mod own;
mod resource;
mod service;
mod stage;

use std::collections::BTreeSet;

use theriac_model::playbook::Playbook;
use theriac_runner::crash::CRASH_POINTS;

use crate::host::root;
use stage::{Beside, Case, Ends, Need};

/// Until effects may be done.
const BEGINS: &[&str] = &["run.reserved", "run.planned", "run.running"];
/// An effect, whatever it is.
const EFFECT: &[&str] = &["gate.before-intent", "gate.after-intent", "gate.after-apply", "gate.after-done"];
/// It helps.
const HELPS: &[&str] = &["run.verifying", "run.healed", "run.ended"];
/// It does not help.
const TAKEN_BACK: &[&str] =
    &["run.verifying", "run.undoing", "undo.after-intent", "undo.after-apply", "undo.after-done", "run.ended"];
const ARCHIVES: &[&str] = &["files.archive-half", "files.archive-complete"];
const CUTS: &[&str] = &["files.truncated"];
const RENEWS: &[&str] = &[
    "certificates.challenged",
    "certificates.issued",
    "certificates.before-swap",
    "certificates.half",
    "certificates.swapped",
];
const THREADS: &[&str] = &["processes.half-set"];
const THREADS_BACK: &[&str] = &["undo.threads-half"];
/// Reached by a runner that was started again, and by no other.
const RECOVERS: &[&str] = &["recover.settled"];

/// The table, and a test for each of its rows.
macro_rules! cases {
    ($($name:ident: $case:expr;)*) => {
        const CASES: &[Case] = &[$($case),*];
        $(
            #[test]
            fn $name() {
                drive::survives_a_kill_at_each_step(&$case);
            }
        )*
    };
}

cases! {
    service_crash_start:
        Case { reaches: &[BEGINS, EFFECT, HELPS], twice: true, ..Case::of("service-crash", 0, service::crashed) };
    service_crash_restart:
        Case { reaches: &[BEGINS, EFFECT, HELPS], ..Case::of("service-crash", 1, service::crashed) };
    service_unhealthy_restart:
        Case { reaches: &[BEGINS, EFFECT, HELPS], ..Case::of("service-unhealthy", 0, service::hung) };
    service_unhealthy_kill_and_start: Case {
        reaches: &[BEGINS, &["run.asked"], EFFECT, HELPS],
        needs: Need::Root("as one user a consent needs a signed note"),
        ..Case::of("service-unhealthy", 1, service::hung)
    };
    start_limit_hit: Case { reaches: &[BEGINS, EFFECT, HELPS], ..Case::of("start-limit-hit", 0, service::given_up) };
    oom_kill: Case {
        reaches: &[BEGINS, EFFECT, HELPS],
        needs: Need::Root("a cgroup with a limit of its own takes root"),
        ..Case::of("oom-kill", 0, resource::out_of_memory)
    };
    cpu_saturation_throttle: Case { reaches: &[BEGINS, EFFECT, THREADS, HELPS], needs: Need::TwoCpus, beside: Beside::Nothing, ..Case::of("cpu-saturation", 0, resource::spinning) };
    cpu_saturation_throttle_taken_back: Case {
        reaches: &[BEGINS, EFFECT, TAKEN_BACK, THREADS, THREADS_BACK],
        ends: Ends::TakenBack,
        needs: Need::TwoCpus,
        beside: Beside::NoOtherHog,
        ..Case::of("cpu-saturation", 0, resource::spinning_on)
    };
    cpu_saturation_restart: Case { reaches: &[BEGINS, EFFECT, HELPS], beside: Beside::NoOtherHog, ..Case::of("cpu-saturation", 1, resource::spinning_on) };
    memory_leak_throttle: Case {
        // A supervised service has no cgroup of its own: the remedy gives this rung up, and the ladder goes on.
        reaches: &[&["run.reserved", "run.ended"]],
        ends: Ends::GivenUp,
        ..Case::of("memory-leak", 0, resource::leaking)
    };
    memory_leak_restart: Case { reaches: &[BEGINS, EFFECT, HELPS], ..Case::of("memory-leak", 1, resource::leaking) };
    memory_leak_release_before: Case {
        reaches: &[BEGINS, &["run.asked"], EFFECT, HELPS],
        needs: Need::Root("as one user a consent needs a signed note"),
        ..Case::of("memory-leak", 2, resource::leaking_since_its_release)
    };
    certificate_expiry: Case {
        reaches: &[BEGINS, EFFECT, RENEWS, HELPS],
        needs: Need::Programs(crate::certificates::impossible),
        ..Case::of("certificate-expiry", 0, certificate::expired)
    };
    disk_full_archive: Case { reaches: &[BEGINS, EFFECT, ARCHIVES, HELPS], ..disk::case("disk-full", 0, disk::full_of_logs) };
    disk_full_cut_deleted: Case { reaches: &[BEGINS, EFFECT, CUTS, HELPS], ..disk::case("disk-full", 1, disk::full_of_a_deleted_log) };
    disk_full_remove: Case { reaches: &[BEGINS, EFFECT, HELPS], ..disk::case("disk-full", 1, disk::full_of_reproducible_logs) };
    disk_filling_archive: Case { reaches: &[BEGINS, EFFECT, ARCHIVES, HELPS], ..disk::case("disk-filling", 0, disk::filling) };
    inode_exhaustion_archive:
        Case { reaches: &[BEGINS, EFFECT, ARCHIVES, HELPS], ..disk::case("inode-exhaustion", 0, disk::out_of_inodes) };
    inode_exhaustion_remove:
        Case { reaches: &[BEGINS, EFFECT, HELPS], ..disk::case("inode-exhaustion", 1, disk::out_of_inodes) };
    db_connections_exhausted: Case {
        reaches: &[BEGINS, EFFECT, HELPS],
        needs: Need::Postgres,
        ..Case::of("db-connections-exhausted", 0, database::exhausted)
    };
    own_replace: Case {
        reaches: &[BEGINS, EFFECT, &["files.replace-before-rename"], TAKEN_BACK, &["undo.file-half"]],
        twice: true,
        ..own::case(own::MISGUIDED, own::replaces)
    };
    own_truncate: Case { reaches: &[BEGINS, EFFECT, CUTS, TAKEN_BACK, &["undo.file-half"]], ..own::case(own::verb!("truncate"), own::truncates) };
    own_copy_truncate: Case {
        reaches: &[BEGINS, EFFECT, ARCHIVES, CUTS, TAKEN_BACK, &["undo.file-half"]],
        needs: Need::Root("a second device takes root"),
        ..own::case(own::verb!("copy-truncate"), own::copy_truncates)
    };
    own_set_aside: Case { reaches: &[BEGINS, EFFECT, TAKEN_BACK], ..own::case(own::verb!("set-aside"), own::sets_aside) };
    own_renice: Case {
        reaches: &[BEGINS, EFFECT, THREADS, TAKEN_BACK, THREADS_BACK],
        needs: Need::Root("only root can lower a nice value again"),
        twice: true,
        ..own::case(own::verb!("renice"), own::renices)
    };
    own_set_knob: Case {
        reaches: &[BEGINS, EFFECT, TAKEN_BACK],
        twice: true,
        ..network::SETS_A_NUMBER
    };
    own_add_to_firewall: Case {
        reaches: &[BEGINS, &["run.asked"], EFFECT, TAKEN_BACK],
        needs: Need::Network,
        ..own::case(own::verb!("add"), network::keeps_an_address_out)
    };
}

#[test]
fn every_rung_of_every_shipped_playbook_has_a_case() {
    let shipped: BTreeSet<(String, u32)> = shipped()
        .into_iter()
        .flat_map(|playbook| (0..).zip(playbook.rungs).map(move |(rung, _)| (playbook.name.to_string(), rung)))
        .collect();
    let covered: BTreeSet<(String, u32)> =
        CASES.iter().filter(|case| case.is_shipped()).map(|case| (case.playbook.to_owned(), case.rung)).collect();
    assert_eq!(covered, shipped, "left: rungs with a case, right: rungs that ship");
}

#[test]
fn every_named_point_is_one_at_which_some_case_is_killed() {
    let reached: BTreeSet<&str> = CASES.iter().flat_map(Case::points).chain(RECOVERS.iter().copied()).collect();
    assert_eq!(reached, CRASH_POINTS.iter().copied().collect());
}

#[test]
fn only_the_times_of_a_shipped_playbook_are_changed_for_a_case() {
    for shipped in shipped() {
        let text = stage::shipped_text(shipped.name.as_str());
        let mut quick = theriac_authority::playbook::parse(&stage::quick(&text, "3s")).unwrap();
        assert_ne!(quick, shipped, "its times are shorter");
        for (quick, shipped) in quick.rungs.iter_mut().zip(&shipped.rungs) {
            (quick.healed_within, quick.stable_for) = (shipped.healed_within, shipped.stable_for);
            let is_age = |name: &str| stage::AGES.iter().any(|(age, _)| age.trim_end_matches(": ") == name);
            for (name, age) in shipped.params.iter().filter(|(name, _)| is_age(name.as_str())) {
                quick.params.insert(name.clone(), age.clone());
            }
        }
        assert_eq!(quick, shipped);
    }
}

fn shipped() -> Vec<Playbook> {
    let files = std::fs::read_dir(root().join("policies/playbooks")).unwrap();
    let text = |file: std::io::Result<std::fs::DirEntry>| std::fs::read_to_string(file.unwrap().path()).unwrap();
    files.map(|file| theriac_authority::playbook::parse(&text(file)).unwrap()).collect()
}
