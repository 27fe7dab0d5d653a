//! The symbolic link to the release in use: read, and switched so that at every moment it names one release or the other.

use std::fs::File;
use std::io;
use std::path::Path;

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, RawMode, ResolveFlags, chownat, openat2, readlinkat, renameat, statat,
};
use rustix::fs::{symlinkat, unlinkat};
use rustix::io::Errno;
use theriac_model::release::{LinkPlace, ReleaseName};
use theriac_model::target::MountPath;

/// Why the link can't be read or switched.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkError {
    /// There is none.
    #[error("there is no symbolic link `{link}`")]
    Missing { link: MountPath },
    /// It names something else than a release.
    #[error("`{link}` leads to `{to}`, which is no release in `{releases}`")]
    Elsewhere { link: MountPath, to: String, releases: MountPath },
    /// The release is not there, or is not a directory that only its owner can write.
    #[error("`{releases}/{release}` can't be used: {why}")]
    Release { releases: MountPath, release: ReleaseName, why: &'static str },
    /// The filesystem said no.
    #[error("`{path}` can't be reached")]
    Io {
        path: MountPath,
        #[source]
        source: io::Error,
    },
}

/// The link, held by the directory it lies in.
#[derive(Debug)]
pub(crate) struct Link<'p> {
    place: &'p LinkPlace,
    parent: File,
    name: &'p str,
    /// It is written relative to its own directory.
    relative: bool,
    uid: u32,
    gid: u32,
    /// The release it names.
    pub(crate) release: ReleaseName,
}

fn directory(path: &MountPath) -> Result<File, LinkError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    // A link among the parents could be turned by whoever owns it.
    let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    openat2(CWD, path.as_path(), flags, Mode::empty(), resolve)
        .map(File::from)
        .map_err(|errno| LinkError::Io { path: path.clone(), source: errno.into() })
}

fn parent_and_name(link: &MountPath) -> Option<(MountPath, &str)> {
    let (parent, name) = link.as_str().rsplit_once('/')?;
    let parent = if parent.is_empty() { "/" } else { parent };
    Some((MountPath::parse(parent).ok()?, name)).filter(|(_, name)| !name.is_empty())
}

impl<'p> Link<'p> {
    /// Reads it.
    pub(crate) fn read(place: &'p LinkPlace) -> Result<Self, LinkError> {
        let missing = || LinkError::Missing { link: place.link.clone() };
        let io = |errno: Errno| LinkError::Io { path: place.link.clone(), source: errno.into() };
        let (above, name) = parent_and_name(&place.link).ok_or_else(missing)?;
        let parent = directory(&above)?;
        let stat = match statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Err(missing()),
            Err(errno) => return Err(io(errno)),
        };
        if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
            return Err(missing());
        }
        let to = readlinkat(&parent, name, Vec::new()).map_err(io)?;
        let to = String::from_utf8_lossy(to.as_bytes()).into_owned();
        let elsewhere = || LinkError::Elsewhere {
            link: place.link.clone(),
            to: to.chars().take(200).collect::<String>().escape_debug().to_string(),
            releases: place.releases.clone(),
        };
        let relative = !to.starts_with('/');
        let whole = if relative { Path::new(above.as_str()).join(&to) } else { Path::new(&to).to_owned() };
        let below = whole.strip_prefix(place.releases.as_str()).map_err(|_outside| elsewhere())?;
        let release = below.to_str().and_then(|name| ReleaseName::parse(name).ok()).ok_or_else(elsewhere)?;
        Ok(Self { place, parent, name, relative, uid: stat.st_uid, gid: stat.st_gid, release })
    }

    /// Points it at another release of the same place. `own` names the new link until it takes the old one's place.
    pub(crate) fn switch(self, release: &ReleaseName, own: &str) -> Result<(), LinkError> {
        usable(self.place, release)?;
        let io = |errno: Errno| LinkError::Io { path: self.place.link.clone(), source: errno.into() };
        let to = self.target_of(release);
        // Left by a runner that died between the two steps.
        match unlinkat(&self.parent, own, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(io(errno)),
        }
        symlinkat(to.as_str(), &self.parent, own).map_err(io)?;
        let (uid, gid) = (rustix::process::Uid::from_raw(self.uid), rustix::process::Gid::from_raw(self.gid));
        let switched = chownat(&self.parent, own, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
            .and_then(|()| renameat(&self.parent, own, &self.parent, self.name));
        if let Err(errno) = switched {
            // Nothing names it; what can't be removed does no harm.
            let _left_over = unlinkat(&self.parent, own, AtFlags::empty());
            return Err(io(errno));
        }
        self.parent.sync_all().map_err(|source| LinkError::Io { path: self.place.link.clone(), source })
    }

    /// In the way the link is written now.
    fn target_of(&self, release: &ReleaseName) -> String {
        let whole = format!("{}/{release}", self.place.releases);
        if !self.relative {
            return whole;
        }
        let above = self.place.link.as_str().rsplit_once('/').map_or("", |(above, _)| above);
        let below = whole.strip_prefix(above).map(|rest| rest.trim_start_matches('/').to_owned());
        below.unwrap_or(whole)
    }
}

/// A directory, not a link to one, that nobody but its owner can write.
pub(crate) fn usable(place: &LinkPlace, release: &ReleaseName) -> Result<(), LinkError> {
    let no = |why| LinkError::Release { releases: place.releases.clone(), release: release.clone(), why };
    let releases = directory(&place.releases)?;
    let stat = match statat(&releases, release.as_str(), AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => stat,
        Err(Errno::NOENT) => return Err(no("it is not there any more")),
        Err(errno) => return Err(LinkError::Io { path: place.releases.clone(), source: errno.into() }),
    };
    const OTHERS_WRITE: RawMode = 0o002;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
        Err(no("it is no directory"))
    } else if stat.st_mode & OTHERS_WRITE != 0 {
        Err(no("everybody can write in it"))
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    struct App(tempfile::TempDir, LinkPlace);

    fn app(to: &str) -> App {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| MountPath::parse(dir.path().join(name).to_str().unwrap()).unwrap();
        for release in ["v1", "v2"] {
            std::fs::create_dir_all(dir.path().join("releases").join(release)).unwrap();
        }
        let place = LinkPlace { link: path("current"), releases: path("releases") };
        symlink(to.replace("ROOT", dir.path().to_str().unwrap()), dir.path().join("current")).unwrap();
        App(dir, place)
    }

    fn name(text: &str) -> ReleaseName {
        ReleaseName::parse(text).unwrap()
    }

    #[test]
    fn a_link_keeps_the_way_it_is_written() {
        for (to, after) in [("releases/v2", "releases/v1"), ("ROOT/releases/v2", "ROOT/releases/v1")] {
            let App(dir, place) = &app(to);
            let link = Link::read(place).unwrap();
            assert_eq!(link.release, name("v2"));
            link.switch(&name("v1"), ".own").unwrap();
            let now = std::fs::read_link(dir.path().join("current")).unwrap();
            assert_eq!(now.to_str().unwrap(), after.replace("ROOT", dir.path().to_str().unwrap()));
            assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2, "nothing is left over");
        }
    }

    #[test]
    fn a_link_that_leads_elsewhere_is_no_release() {
        for to in
            ["/etc", "releases", "releases/v1/bin", "releases/../releases/v1", "../releases/v1", "v1", "releases/.v1"]
        {
            let App(_dir, place) = &app(to);
            assert!(matches!(Link::read(place), Err(LinkError::Elsewhere { .. })), "{to}");
        }
        let App(dir, place) = &app("releases/v1");
        std::fs::remove_file(dir.path().join("current")).unwrap();
        assert!(matches!(Link::read(place), Err(LinkError::Missing { .. })));
        std::fs::create_dir(dir.path().join("current")).unwrap();
        assert!(matches!(Link::read(place), Err(LinkError::Missing { .. })));
    }

    #[test]
    fn a_release_that_is_gone_a_link_or_open_to_everybody_is_not_switched_to() {
        let App(dir, place) = &app("releases/v2");
        symlink("/etc", dir.path().join("releases/v3")).unwrap();
        std::fs::write(dir.path().join("releases/v4"), "").unwrap();
        let open = dir.path().join("releases/v1");
        std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o777)).unwrap();
        for release in ["v0", "v1", "v3", "v4"] {
            let refused = Link::read(place).unwrap().switch(&name(release), ".own");
            assert!(matches!(refused, Err(LinkError::Release { .. })), "{release}");
        }
        std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o755)).unwrap();
        Link::read(place).unwrap().switch(&name("v1"), ".own").unwrap();
    }
}
