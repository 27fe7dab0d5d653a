//! The releases of a scenario's unit: real directories, a real link to the last one, and what the runner has seen in use.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use theriac_model::release::{LinkPlace, ReleaseName, ReleasePlace};
use theriac_model::target::MountPath;
use theriac_model::time::{Timestamp, millis};
use theriac_runner::clock;
use theriac_runner::world::World;

use crate::error::ScenarioError;
use crate::scenario;

/// Between one release and the next.
const APART: Duration = Duration::from_secs(600);

pub(crate) struct Releases {
    pub(crate) place: LinkPlace,
    seen: Vec<ReleaseName>,
}

impl Releases {
    pub(crate) fn make(app: &Path, asked: &scenario::Releases) -> Result<Self, ScenarioError> {
        let (link, releases) = (app.join("current"), app.join("releases"));
        let doing = || ScenarioError::io(format!("making the releases in `{}`", app.display()));
        for name in &asked.names {
            fs::create_dir_all(releases.join(name.as_str())).map_err(doing())?;
        }
        if let Some(last) = asked.names.last() {
            symlink(Path::new("releases").join(last.as_str()), &link).map_err(doing())?;
        }
        let path =
            |path: &Path| MountPath::parse(&path.to_string_lossy()).map_err(ScenarioError::part("naming the releases"));
        let unseen = asked.seen.map_or(0, |seen| asked.names.len().saturating_sub(seen));
        Ok(Self {
            place: LinkPlace { link: path(&link)?, releases: path(&releases)? },
            seen: asked.names.iter().skip(unseen).cloned().collect(),
        })
    }

    /// As if the runner had watched while they came into use, the last one just now.
    pub(crate) fn note(&self, world: &World) {
        let now = clock::wall();
        for (back, name) in self.seen.iter().rev().enumerate().collect::<Vec<_>>().into_iter().rev() {
            let ago = millis(APART).saturating_mul(back as u64);
            world.releases.note(&ReleasePlace::Link(self.place.clone()), name, Timestamp(now.0.saturating_sub(ago)));
        }
    }

    /// The release that the link names.
    pub(crate) fn in_use(&self) -> Option<String> {
        let target = fs::read_link(self.place.link.as_str()).ok()?;
        Some(target.file_name()?.to_string_lossy().into_owned())
    }
}
