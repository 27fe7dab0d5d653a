//! Whether one grant may allow something that another did not. In doubt it does: a glob or a template that is written in another
//! way is another one, and a person reads it.

use std::collections::BTreeSet;

use crate::grant::{FilesGrant, GrantKind, InUse, ProcessesGrant, PropertyBounds, SeriesGrant, UnitsGrant, sentence};

/// `now` may be more than `before`.
pub(super) fn exceeds(now: GrantKind<'_>, before: GrantKind<'_>) -> bool {
    match (now, before) {
        (GrantKind::Files(now), GrantKind::Files(before)) => files(now, before),
        (GrantKind::Units(now), GrantKind::Units(before)) => units(now, before),
        (GrantKind::Processes(now), GrantKind::Processes(before)) => processes(now, before),
        (GrantKind::Series(now), GrantKind::Series(before)) => series(now, before),
        (GrantKind::Probes(_), GrantKind::Probes(_)) => false,
        (
            GrantKind::Files(_)
            | GrantKind::Units(_)
            | GrantKind::Processes(_)
            | GrantKind::Series(_)
            | GrantKind::Probes(_)
            | GrantKind::Programs(_)
            | GrantKind::Http(_)
            | GrantKind::Kernel(_)
            | GrantKind::Certificates(_)
            | GrantKind::Releases(_)
            | GrantKind::Containers(_)
            | GrantKind::Databases(_)
            | GrantKind::Firewall(_),
            _,
        ) => sentence(now) != sentence(before),
    }
}

/// Something is in the first that is not in the second.
fn adds<T: Ord>(now: &BTreeSet<T>, before: &BTreeSet<T>) -> bool {
    !now.is_subset(before)
}

fn adds_glob(now: &[String], before: &[String]) -> bool {
    now.iter().any(|glob| !before.contains(glob))
}

fn files(now: &FilesGrant, before: &FilesGrant) -> bool {
    now.dir != before.dir
        || adds(&now.verbs, &before.verbs)
        || adds_glob(&now.matching, &before.matching)
        || adds_glob(&now.match_deleted, &before.match_deleted)
        // An exception less is a file more.
        || adds_glob(&before.except, &now.except)
        || now.min_age < before.min_age && changes(now)
        || now.max_bytes > before.max_bytes
        || now.max_files > before.max_files
        || now.keep_newest < before.keep_newest && changes(now)
        || now.in_use == InUse::Truncate && before.in_use == InUse::Refuse
}

/// Bounds of change bound nothing where nothing is changed.
fn changes(grant: &FilesGrant) -> bool {
    grant.verbs.iter().any(|verb| verb.changes())
}

fn units(now: &UnitsGrant, before: &UnitsGrant) -> bool {
    now.unit != before.unit
        || adds(&now.verbs, &before.verbs)
        || now.job_timeout > before.job_timeout && now.verbs.iter().any(|verb| verb.waits_for_job())
        || adds(&now.signals, &before.signals)
        || bounds(now.bounds, before.bounds)
}

fn bounds(now: PropertyBounds, before: PropertyBounds) -> bool {
    wider(now.cpu_quota, before.cpu_quota)
        || wider(now.cpu_weight, before.cpu_weight)
        || wider(now.memory_high, before.memory_high)
        || wider(now.tasks_max, before.tasks_max)
}

fn wider<T: PartialOrd>(now: Option<(T, T)>, before: Option<(T, T)>) -> bool {
    match (now, before) {
        (None, _) => false,
        (Some(_), None) => true,
        (Some((least, most)), Some((lower, upper))) => least < lower || most > upper,
    }
}

fn processes(now: &ProcessesGrant, before: &ProcessesGrant) -> bool {
    now.of != before.of || adds(&now.verbs, &before.verbs) || adds(&now.signals, &before.signals)
}

fn series(now: &SeriesGrant, before: &SeriesGrant) -> bool {
    now.metric != before.metric
}
