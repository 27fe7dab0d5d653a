//! Releases of a service: directories beside each other and the symbolic link that names the one in use, or images of the machine's
//! container engine and the tag that does.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::id::{Label, NameError};
use crate::target::MountPath;

/// The name of one release: a directory's name, no path; or an image's id, which is a digest of all that is in it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ReleaseName(String);

impl ReleaseName {
    /// Parses the name of a directory or the id of an image.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let good = (1..=128).contains(&text.len())
            && !text.starts_with(['.', '-'])
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-+:".contains(&b));
        if good {
            Ok(Self(text.to_owned()))
        } else {
            Err(NameError::new(
                "release",
                text,
                "use 1 to 128 of letters, digits, `.`, `_`, `-`, `+`, `:`, starting with a letter or digit",
            ))
        }
    }

    /// The name as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ReleaseName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for ReleaseName {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        Self::parse(&text)
    }
}

impl From<ReleaseName> for String {
    fn from(name: ReleaseName) -> String {
        name.0
    }
}

/// Where the releases of one service are, by root's configuration.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReleasePlace {
    /// Directories beside each other.
    Link(LinkPlace),
    /// Images of the machine's container engine: the tag that the service is started from.
    Image(ImageTag),
}

impl fmt::Display for ReleasePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Link(place) => place.link.fmt(f),
            Self::Image(tag) => write!(f, "the image {tag}"),
        }
    }
}

/// Directories, and what names the one in use.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinkPlace {
    /// The symbolic link to the one in use.
    pub link: MountPath,
    /// The directory that holds them all.
    pub releases: MountPath,
}

/// A repository and a tag, as in `registry.example:5000/shop/api:current`. It is to images what a link is to directories.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ImageTag {
    repository: String,
    tag: String,
}

impl ImageTag {
    /// Parses it. The tag has to be there: engines take its absence for `latest`.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let rule = "write `repository:tag` in lower case with the tag, such as `shop/api:current`";
        let wrong = || NameError::new("image", text, rule);
        let (repository, tag) = text.rsplit_once(':').ok_or_else(wrong)?;
        let part = |part: &str| {
            part.starts_with(|first: char| first.is_ascii_lowercase() || first.is_ascii_digit())
                && part.ends_with(|last: char| last.is_ascii_lowercase() || last.is_ascii_digit())
                && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b))
        };
        let mut parts = repository.split('/');
        // Only the first can be a registry, with its port.
        let first = parts.next().is_some_and(|first| match first.split_once(':') {
            Some((host, port)) => part(host) && port.parse::<u16>().is_ok() && repository.contains('/'),
            None => part(first),
        });
        let tagged = (1..=128).contains(&tag.len())
            && !tag.starts_with(['.', '-'])
            && tag.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
        if first && parts.all(part) && tagged && repository.len() <= 255 {
            Ok(Self { repository: repository.to_owned(), tag: tag.to_owned() })
        } else {
            Err(wrong())
        }
    }

    /// What stands before the tag.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag.
    pub fn tag(&self) -> &str {
        &self.tag
    }
}

impl fmt::Display for ImageTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.repository, self.tag)
    }
}

impl TryFrom<String> for ImageTag {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        Self::parse(&text)
    }
}

impl From<ImageTag> for String {
    fn from(tag: ImageTag) -> String {
        tag.to_string()
    }
}

/// The id of one image: `sha256:` and a digest of its configuration, which holds the digests of its layers.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ImageId(String);

impl ImageId {
    /// Parses a whole id.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let digits = text.strip_prefix("sha256:").unwrap_or_default();
        if digits.len() == 64 && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            Ok(Self(text.to_owned()))
        } else {
            Err(NameError::new("image id", text, "use `sha256:` and 64 lower-case hex digits"))
        }
    }

    /// With `sha256:`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ImageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for ImageId {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        Self::parse(&text)
    }
}

impl From<ImageId> for String {
    fn from(id: ImageId) -> String {
        id.0
    }
}

impl From<ImageId> for ReleaseName {
    fn from(id: ImageId) -> Self {
        Self(id.0)
    }
}

impl TryFrom<&ReleaseName> for ImageId {
    type Error = NameError;
    fn try_from(name: &ReleaseName) -> Result<Self, NameError> {
        Self::parse(name.as_str())
    }
}

/// Verbs of granted releases.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReleaseCall {
    /// The one in use.
    Current,
    /// The one before it.
    Previous,
    /// Back to the one before it.
    SwitchBack,
}

/// A release as a remedy sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReleaseInfo {
    /// Its name, for log lines.
    pub name: String,
    /// Seconds since it was switched to, where the runner saw that.
    pub since_s: Option<u64>,
    /// Includes effects that the dry run only recorded.
    pub assumed: bool,
}

/// One switch to another release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReleaseEffect {
    /// The grant's label.
    pub label: Label,
    /// Of which service.
    pub unit: crate::id::UnitName,
    /// Where.
    pub place: ReleasePlace,
    /// The one in use.
    pub from: ReleaseName,
    /// The one that is to be in use.
    pub to: ReleaseName,
}

impl ReleaseEffect {
    /// The verb in the manifest's word.
    pub const fn verb(&self) -> &'static str {
        "switch-back"
    }

    /// The same switch.
    pub fn is_within(&self, planned: &Self) -> bool {
        self == planned
    }
}

impl fmt::Display for ReleaseEffect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "switch {} of {} from {} back to {}", self.place, self.unit, self.from, self.to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_named_with_its_tag_and_in_no_other_way() {
        let tag = ImageTag::parse("registry.example:5000/shop/api:v2.3.1").unwrap();
        assert_eq!((tag.repository(), tag.tag()), ("registry.example:5000/shop/api", "v2.3.1"));
        for right in ["api:current", "shop/api:1", "localhost/test:latest", "a.b/c-d_e:A"] {
            assert_eq!(ImageTag::parse(right).unwrap().to_string(), right);
        }
        let digest = format!("api@sha256:{}", "0".repeat(64));
        for wrong in [
            "",
            "api",
            "api:",
            ":x",
            "Shop:x",
            "registry:5000/api",
            "api:5000:x",
            "a//b:x",
            "/a:x",
            "a/../b:x",
            "a b:x",
            "a:b/c",
            &digest,
        ] {
            assert!(ImageTag::parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
