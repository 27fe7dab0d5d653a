//! The two places that releases can be at, as one: what is in use there, whether another one can be, and the switch.

use theriac_model::denial::{Denial, DenialCause};
use theriac_model::id::{Label, NameError};
use theriac_model::release::{ImageId, ReleaseName, ReleasePlace};

use super::link::{Link, LinkError, usable as usable_directory};
use crate::exchange::chain;
use crate::hands::{HandError, Images};
use crate::world::World;

/// Why a place can't be read or switched.
#[derive(Debug, thiserror::Error)]
pub(super) enum PlaceError {
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error(transparent)]
    Engine(#[from] HandError),
    /// Releases of an image are images.
    #[error(transparent)]
    Name(#[from] NameError),
    /// It moved between two looks.
    #[error("{now} is in use by now")]
    Moved { now: ReleaseName },
}

impl PlaceError {
    pub(super) fn denial(&self, label: &Label, attempted: impl std::fmt::Display) -> Denial {
        let (cause, rule) = match self {
            Self::Link(LinkError::Missing { .. } | LinkError::Elsewhere { .. }) => (DenialCause::StaleTarget, "link"),
            Self::Link(LinkError::Release { .. }) | Self::Name(_) => (DenialCause::Unavailable, "release"),
            Self::Link(LinkError::Io { .. }) => (DenialCause::Failed, "link"),
            Self::Engine(HandError::Stale { .. }) => (DenialCause::StaleTarget, "image"),
            Self::Engine(HandError::Unavailable { .. } | HandError::Refused { .. }) => {
                (DenialCause::Unavailable, "image")
            }
            Self::Engine(HandError::Failed { .. } | HandError::Unknown { .. }) => (DenialCause::Failed, "image"),
            Self::Moved { .. } => (DenialCause::Conflict, "same-value"),
        };
        Denial::new(cause, label, rule, format!("{attempted}: {}", chain(self)))
    }

    /// The place is there no more, or has become something else.
    pub(super) const fn is_somebody_elses(&self) -> bool {
        matches!(
            self,
            Self::Link(LinkError::Missing { .. } | LinkError::Elsewhere { .. }) | Self::Engine(HandError::Stale { .. })
        )
    }
}

fn engine(world: &World) -> Result<&dyn Images, HandError> {
    let missing = || HandError::Unavailable { reason: "there is no docker courier".to_owned() };
    world.hands.images.as_deref().ok_or_else(missing)
}

pub(super) fn in_use(world: &World, place: &ReleasePlace) -> Result<ReleaseName, PlaceError> {
    match place {
        ReleasePlace::Link(place) => Ok(Link::read(place)?.release),
        ReleasePlace::Image(tag) => Ok(engine(world)?.image(tag)?.into()),
    }
}

/// It is there and can be used.
pub(super) fn usable(world: &World, place: &ReleasePlace, release: &ReleaseName) -> Result<(), PlaceError> {
    match place {
        ReleasePlace::Link(place) => Ok(usable_directory(place, release)?),
        ReleasePlace::Image(_) => Ok(engine(world)?.has_image(&ImageId::try_from(release)?)?),
    }
}

/// From one release to another. `own` names the new link until it takes the old one's place.
pub(super) fn switch(
    world: &World,
    place: &ReleasePlace,
    (from, to): (&ReleaseName, &ReleaseName),
    own: &str,
) -> Result<(), PlaceError> {
    match place {
        ReleasePlace::Link(place) => {
            let link = Link::read(place)?;
            if link.release != *from {
                return Err(PlaceError::Moved { now: link.release });
            }
            Ok(link.switch(to, own)?)
        }
        ReleasePlace::Image(tag) => {
            Ok(engine(world)?.point_tag(tag, &ImageId::try_from(from)?, &ImageId::try_from(to)?)?)
        }
    }
}
