//! `courier-docker.toml`, read before the courier seals itself.

use std::path::Path;

use serde::Deserialize;
use theriac_model::id::NameError;
use theriac_model::target::MountPath;
use theriac_trusted::{self as trusted, TrustedError};

/// The commented reference that `theriac init` writes.
pub const DEFAULT: &str = include_str!("courier-docker.toml");

const MAX_FILE: u64 = 16 << 10;
/// Each holds a connection and what its answer may take.
const MAX_REQUESTS: u16 = 64;
/// What a Unix socket's address holds, without the closing NUL.
const SUN_PATH: usize = 107;

/// What the courier needs to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DockerConfig {
    /// Where the engine listens.
    pub socket: MountPath,
    /// Requests at once.
    pub max_requests: u16,
}

/// Why a configuration was not taken.
#[derive(Debug, thiserror::Error)]
pub enum DockerConfigError {
    /// It can't be read, or somebody else could have written it.
    #[error(transparent)]
    File(#[from] TrustedError),
    /// Not TOML, a wrong type, or an unknown key.
    #[error("line {line}: {message}")]
    Toml { line: usize, message: String },
    /// Out of range.
    #[error("`max_requests` must be 1 to {MAX_REQUESTS}")]
    MaxRequests,
    /// No path.
    #[error("`socket`")]
    Socket(#[source] NameError),
    /// A path that no socket can have.
    #[error("`socket` is longer than {SUN_PATH} bytes")]
    TooLong,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawConfig {
    #[serde(default = "docker")]
    socket: String,
    #[serde(default = "eight")]
    max_requests: u16,
}

fn docker() -> String {
    "/run/docker.sock".to_owned()
}

const fn eight() -> u16 {
    8
}

impl DockerConfig {
    /// Reads the file if it is there; without it the defaults hold.
    pub fn load(path: &Path) -> Result<Self, DockerConfigError> {
        Self::parse(&trusted::read_if_there(path, MAX_FILE)?.unwrap_or_default())
    }

    /// Parses the text.
    pub fn parse(text: &str) -> Result<Self, DockerConfigError> {
        let raw: RawConfig = toml::from_str(text).map_err(|error| {
            let start = error.span().map_or(0, |span| span.start);
            let line = text.bytes().take(start).filter(|byte| *byte == b'\n').count() + 1;
            DockerConfigError::Toml { line, message: error.message().replace('\n', "; ") }
        })?;
        if !(1..=MAX_REQUESTS).contains(&raw.max_requests) {
            return Err(DockerConfigError::MaxRequests);
        }
        if raw.socket.len() > SUN_PATH {
            return Err(DockerConfigError::TooLong);
        }
        let socket = MountPath::parse(&raw.socket).map_err(DockerConfigError::Socket)?;
        Ok(Self { socket, max_requests: raw.max_requests })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_embedded_default_says_what_a_missing_file_means() {
        let default = DockerConfig::parse(DEFAULT).unwrap();
        assert_eq!((default.socket.as_str(), default.max_requests), ("/run/docker.sock", 8));
        let set = |line: &&str| line.starts_with("# socket =") || line.starts_with("# max_requests =");
        let uncommented: Vec<_> = DEFAULT.lines().filter(set).map(|line| line.trim_start_matches("# ")).collect();
        assert_eq!(uncommented.len(), 2);
        assert_eq!(DockerConfig::parse(&uncommented.join("\n")).unwrap(), default);
    }

    #[test]
    fn what_can_not_be_meant_is_refused_by_line_or_key() {
        let error = DockerConfig::parse("max_requests = 2\nhost = \"tcp://x\"").unwrap_err().to_string();
        assert!(error.starts_with("line 2: unknown field `host`, expected `socket` or `max_requests`"), "{error}");
        assert!(matches!(DockerConfig::parse("max_requests = 0"), Err(DockerConfigError::MaxRequests)));
        for wrong in ["docker.sock", "tcp://127.0.0.1:2375", "/run/../x"] {
            let text = format!("socket = \"{wrong}\"");
            assert!(matches!(DockerConfig::parse(&text), Err(DockerConfigError::Socket(_))), "{wrong}");
        }
        let long = format!("socket = \"/{}\"", "x".repeat(SUN_PATH));
        assert!(matches!(DockerConfig::parse(&long), Err(DockerConfigError::TooLong)));
    }
}
