//! Which release of each service is in use, and which one was before it.
//!
//! The runner looks at the links and tags that root's configuration lists and journals each change it sees, so that *previous* is what
//! was really in use on this machine and nothing that a file name suggests. Going back to an earlier release forgets the later
//! ones: what was left because it was bad is never *previous* again.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use theriac_authority::host::ReleaseConfig;
use theriac_journal::Durability;
use theriac_model::record::{Entry, Record};
use theriac_model::release::{ReleaseName, ReleasePlace};
use theriac_model::time::Timestamp;

use crate::capability::releases::in_use;
use crate::clock;
use crate::world::World;
use crate::writer::WriteError;

/// Releases remembered for one service: nobody goes back further.
const REMEMBERED: usize = 32;

/// A release, and when it was first seen in use.
pub(crate) type Seen = (ReleaseName, Timestamp);

/// What was in use when, by place.
#[derive(Debug, Default)]
pub struct Releases {
    seen: Mutex<BTreeMap<ReleasePlace, Vec<Seen>>>,
}

impl Releases {
    /// What the journal says.
    pub fn of(entries: &[Entry]) -> Self {
        let releases = Self::default();
        for entry in entries {
            if let Record::ReleaseSeen { place, release, .. } = &entry.record {
                releases.note(place, release, entry.at);
            }
        }
        releases
    }

    /// Takes note of the release in use; `true` when it is another one than before.
    pub fn note(&self, place: &ReleasePlace, release: &ReleaseName, at: Timestamp) -> bool {
        let mut seen = self.lock();
        let known = seen.entry(place.clone()).or_default();
        if known.last().is_some_and(|(last, _)| last == release) {
            return false;
        }
        match known.iter().position(|(earlier, _)| earlier == release) {
            Some(index) => known.truncate(index),
            None if known.len() == REMEMBERED => {
                known.remove(0);
            }
            None => {}
        }
        known.push((release.clone(), at));
        true
    }

    /// When this one came into use, if it is the newest.
    pub(crate) fn since(&self, place: &ReleasePlace, release: &ReleaseName) -> Option<Timestamp> {
        self.lock().get(place)?.last().filter(|(last, _)| last == release).map(|(_, at)| *at)
    }

    /// The one that was in use before this one, if this is the newest.
    pub(crate) fn before(&self, place: &ReleasePlace, release: &ReleaseName) -> Option<Seen> {
        let seen = self.lock();
        let known = seen.get(place)?;
        match known.as_slice() {
            [.., before, (last, _)] if last == release => Some(before.clone()),
            _ => None,
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ReleasePlace, Vec<Seen>>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Looks at every listed link and tag, and journals what is new.
pub(crate) fn look(listed: &[ReleaseConfig], world: &World) -> Result<(), WriteError> {
    for ReleaseConfig { unit, place, verbs: _ } in listed {
        // What can't be read says nothing; a remedy that asks is told why.
        let Ok(release) = in_use(world, place) else { continue };
        if world.releases.note(place, &release, clock::wall()) {
            let seen = Record::ReleaseSeen { unit: unit.clone(), place: place.clone(), release };
            world.writer.write(seen, Durability::Buffered)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use theriac_model::release::LinkPlace;
    use theriac_model::target::MountPath;

    use super::*;

    fn place() -> ReleasePlace {
        let path = |text| MountPath::parse(text).unwrap();
        ReleasePlace::Link(LinkPlace { link: path("/opt/app/current"), releases: path("/opt/app/releases") })
    }

    fn name(text: &str) -> ReleaseName {
        ReleaseName::parse(text).unwrap()
    }

    fn seen(names: &[&str]) -> Releases {
        let releases = Releases::default();
        for (at, text) in (0..).zip(names) {
            releases.note(&place(), &name(text), Timestamp(at));
        }
        releases
    }

    fn previous(names: &[&str]) -> Option<String> {
        let last = name(names.last().unwrap());
        seen(names).before(&place(), &last).map(|(release, _)| release.to_string())
    }

    #[test]
    fn the_previous_release_is_the_one_that_was_in_use_before() {
        assert_eq!(previous(&["v1"]), None);
        assert_eq!(previous(&["v1", "v2", "v2"]), Some("v1".into()));
        assert_eq!(previous(&["v1", "v2", "v3"]), Some("v2".into()));
    }

    #[test]
    fn a_release_that_was_left_is_never_previous_again() {
        assert_eq!(previous(&["v1", "v2", "v1"]), None);
        assert_eq!(previous(&["v0", "v1", "v2", "v1"]), Some("v0".into()));
        assert_eq!(previous(&["v0", "v1", "v2", "v1", "v3"]), Some("v1".into()));
    }

    #[test]
    fn of_a_release_that_is_not_the_newest_nothing_is_known() {
        let releases = seen(&["v1", "v2"]);
        assert_eq!(releases.before(&place(), &name("v1")), None);
        assert_eq!(releases.since(&place(), &name("v2")), Some(Timestamp(1)));
        assert_eq!(releases.since(&place(), &name("v1")), None);
    }

    #[test]
    fn no_more_than_so_many_are_remembered() {
        let names: Vec<String> = (0..100).map(|n| format!("v{n}")).collect();
        let releases = seen(&names.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(releases.lock().get(&place()).unwrap().len(), REMEMBERED);
        assert_eq!(releases.before(&place(), &name("v99")).unwrap().0, name("v98"));
    }
}
