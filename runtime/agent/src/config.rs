//! `agent.toml`: where the agent listens, whom it tells, and rules added to the built-in ones.
//!
//! Targets, thresholds, playbooks and remedies are not here: the runner tells them from root's configuration.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Deserialize;
use theriac_model::time::Span;

/// The commented default, which is the reference.
pub const DEFAULT: &str = include_str!("agent.default.toml");

/// The shortest token that is taken: 128 bits in hex.
const MIN_TOKEN: usize = 32;

/// Everything `agent.toml` says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentConfig {
    /// Where alerts and `/metrics` are served.
    pub listen: Option<Listen>,
    /// Whom to tell.
    #[serde(default)]
    pub notify: Vec<Notify>,
    /// A URL that is called while all is well.
    pub heartbeat: Option<Heartbeat>,
    /// Files with rules that are added to the built-in ones.
    #[serde(default)]
    pub rules: Vec<PathBuf>,
}

/// Where alerts and `/metrics` are served.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listen {
    /// Address and port.
    pub address: SocketAddr,
    /// The file that holds the bearer token for alerts; needed to take alerts at all.
    pub token_file: Option<PathBuf>,
    /// Names this machine has in alerts' `instance` and `host` labels, besides its host name.
    #[serde(default)]
    pub names: Vec<String>,
}

/// Whom to tell: a URL that gets a JSON body by POST.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Notify {
    /// `http` or `https`.
    pub url: String,
    /// Only of what needs a person.
    #[serde(default)]
    pub only_escalations: bool,
}

/// A URL that is called while all is well, so that somebody elsewhere notices when it is not.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Heartbeat {
    /// `http` or `https`.
    pub url: String,
    /// How often.
    pub every: Span,
}

/// Why `agent.toml` is refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Not TOML, an unknown key, a value of the wrong type: with its line.
    #[error("agent.toml, line {line}: {message}")]
    Syntax { line: usize, message: String },
    /// It listens to the world without a token.
    #[error("agent.toml: `listen.address` {address} is not loopback: set `listen.token_file`, or listen on 127.0.0.1")]
    OpenToTheWorld { address: SocketAddr },
    /// Too easy to guess.
    #[error("the token in `{}` is shorter than {MIN_TOKEN} characters: make one with `openssl rand -hex 32`", path.display())]
    ShortToken { path: PathBuf },
    /// Not http or https.
    #[error("agent.toml: `{url}` is not an http or https URL")]
    Url { url: String },
}

impl AgentConfig {
    /// Reads `agent.toml`.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let config: Self = toml::from_str(text).map_err(|error| ConfigError::Syntax {
            line: error
                .span()
                .map_or(1, |span| 1 + text.bytes().take(span.start).filter(|byte| *byte == b'\n').count()),
            message: error.message().lines().next().unwrap_or_default().to_owned(),
        })?;
        if let Some(listen) = &config.listen
            && !listen.address.ip().is_loopback()
            && listen.token_file.is_none()
        {
            return Err(ConfigError::OpenToTheWorld { address: listen.address });
        }
        let urls =
            config.notify.iter().map(|notify| &notify.url).chain(config.heartbeat.as_ref().map(|beat| &beat.url));
        for url in urls {
            let parsed = reqwest::Url::parse(url).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
            if parsed.is_none() {
                return Err(ConfigError::Url { url: url.chars().take(200).collect() });
            }
        }
        Ok(config)
    }
}

/// The token that alerts must carry. It has no `Debug` and no `Display`.
pub struct Token(Vec<u8>);

impl Token {
    /// Takes the content of the token file.
    pub fn parse(path: &std::path::Path, text: &str) -> Result<Self, ConfigError> {
        let token = text.trim_end_matches(['\n', '\r']);
        if token.len() < MIN_TOKEN {
            return Err(ConfigError::ShortToken { path: path.to_owned() });
        }
        Ok(Self(token.as_bytes().to_vec()))
    }

    /// Compares in a time that does not depend on where they differ.
    pub fn is(&self, given: &[u8]) -> bool {
        use subtle::ConstantTimeEq as _;
        self.0.ct_eq(given).into()
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_what_holds_without_a_file() {
        assert_eq!(AgentConfig::parse(DEFAULT).unwrap(), AgentConfig::default());
    }

    #[test]
    fn the_examples_in_the_default_are_true() {
        let uncommented: String = DEFAULT
            .lines()
            .map(|line| {
                line.strip_prefix("# ").filter(|rest| rest.starts_with('[') || rest.contains(" = ")).unwrap_or(line)
            })
            .fold(String::new(), |text, line| text + line + "\n");
        let config = AgentConfig::parse(&uncommented).unwrap();
        assert!(config.listen.is_some() && config.heartbeat.is_some() && !config.notify.is_empty());
    }

    #[test]
    fn the_world_is_listened_to_only_with_a_token() {
        let open = "[listen]\naddress = \"0.0.0.0:9099\"\n";
        assert!(matches!(AgentConfig::parse(open), Err(ConfigError::OpenToTheWorld { .. })));
        assert!(AgentConfig::parse(&format!("{open}token_file = \"/etc/theriac/token\"\n")).is_ok());
        assert!(AgentConfig::parse("[listen]\naddress = \"127.0.0.1:9099\"\n").is_ok());
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line() {
        let error = AgentConfig::parse("\n[heartbeat]\nurl = \"http://127.0.0.1/\"\nevery = \"1m\"\nretries = 3\n")
            .unwrap_err();
        assert!(error.to_string().starts_with("agent.toml, line 5: unknown field `retries`"), "{error}");
    }

    #[test]
    fn a_token_is_compared_whole() {
        let text = "0123456789abcdef0123456789abcdef\n";
        let token = Token::parse(std::path::Path::new("t"), text).unwrap();
        assert!(token.is(text.trim().as_bytes()));
        assert!(!token.is(&text.as_bytes()[..31]) && !token.is(b""));
        assert!(Token::parse(std::path::Path::new("t"), "short").is_err());
    }
}
