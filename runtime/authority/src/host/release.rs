//! `[[release]]` of `runner.toml`: where a service's releases lie, and whether remedies may switch between them.

use std::collections::BTreeSet;

use theriac_model::id::UnitName;
use theriac_model::release::{ImageTag, LinkPlace, ReleasePlace};

use super::targets::place;
use crate::document::{Field, Mistake, Table};
use crate::grant::{ReleasesVerb, never};

/// The releases of one listed unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReleaseConfig {
    /// Of which unit; it has to be listed itself.
    pub unit: UnitName,
    /// Where they are.
    pub place: ReleasePlace,
    /// What remedies may change.
    pub verbs: BTreeSet<ReleasesVerb>,
}

pub(super) fn parse(field: Field) -> Result<ReleaseConfig, Mistake> {
    let mut table = field.table(&["unit", "link", "releases", "image", "verbs"])?;
    let unit = table.required("unit", "the name of a listed unit or service")?.parse_with(UnitName::parse)?;
    let place = match table.optional("image") {
        Some(image) => {
            for key in ["link", "releases"] {
                if let Some(field) = table.optional(key) {
                    return Err(field.mistake("it is beside `image`", "leave one of the two out"));
                }
            }
            ReleasePlace::Image(image.parse_with(ImageTag::parse)?)
        }
        None => ReleasePlace::Link(directories(&mut table)?),
    };
    let verbs = table.optional("verbs").map(Field::set).transpose()?.unwrap_or_default();
    Ok(ReleaseConfig { unit, place, verbs })
}

fn directories(table: &mut Table) -> Result<LinkPlace, Mistake> {
    let hint = "the symbolic link to the release in use, such as \"/opt/app/current\"; or `image`, such as \"shop/api:current\"";
    let link_field = table.required("link", hint)?;
    let link = place(&link_field)?;
    let hint = "the directory that holds all releases, such as \"/opt/app/releases\"";
    let releases = place(&table.required("releases", hint)?)?;
    if link == releases || never::lies_below(link.as_str(), releases.as_str()) {
        return Err(
            link_field.mistake("the link lies among the releases it chooses from", "put it beside their directory")
        );
    }
    Ok(LinkPlace { link, releases })
}
