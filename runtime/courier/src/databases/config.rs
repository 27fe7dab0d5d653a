//! `courier-databases.toml`, and the passwords and certificates it names, all read before the courier seals itself.

use std::fmt;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use serde::Deserialize;
use theriac_model::database::DatabaseKind;
use theriac_model::id::Label;
use theriac_trusted::{self as trusted, TrustedError};
use zeroize::Zeroizing;

use crate::config::tls;

/// The commented reference that `theriac init` writes.
pub const DEFAULT: &str = include_str!("courier-databases.toml");

const MAX_FILE: u64 = 64 << 10;
/// PostgreSQL takes no longer ones in a message.
const MAX_PASSWORD: u64 = 1 << 10;
/// Each holds a connection for good.
const MAX_SERVERS: usize = 32;

/// What the courier needs to know.
#[derive(Debug, Default)]
pub struct DatabasesConfig {
    /// The servers.
    pub(super) servers: Vec<Server>,
}

/// One server, with what it takes to get in.
pub(super) struct Server {
    pub(super) listed: Listed,
    pub(super) password: Option<Password>,
    pub(super) tls: Option<Tls>,
}

/// One server as it is written down.
#[derive(Debug, Clone)]
pub struct Listed {
    /// What runner.toml calls it.
    pub name: Label,
    /// Which sort.
    pub kind: DatabaseKind,
    /// Where it listens.
    pub place: Place,
    /// Who the courier is there.
    pub user: String,
    /// Which database it connects to; PostgreSQL only.
    pub database: String,
}

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// On a Unix socket.
    Socket(PathBuf),
    /// On TCP.
    Address(SocketAddr),
}

/// TLS to one server: trusted roots, and the name its certificate must have.
#[derive(Clone)]
pub(super) struct Tls {
    pub(super) config: Arc<ClientConfig>,
    pub(super) name: ServerName<'static>,
}

/// It is not printed, and is wiped when it is dropped.
#[derive(Clone)]
pub(super) struct Password(Zeroizing<String>);

impl Password {
    pub(super) fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("listed", &self.listed).finish_non_exhaustive()
    }
}

/// Why a configuration was not taken.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It can't be read, or somebody else could have written it.
    #[error(transparent)]
    File(#[from] TrustedError),
    /// Not TOML, a wrong type, or an unknown key.
    #[error("line {line}: {message}")]
    Toml { line: usize, message: String },
    /// Something in it can't be meant.
    #[error("server `{name}`: {problem}")]
    Server { name: Label, problem: &'static str },
    /// A password that others can read is none.
    #[error("`{}` can be read by others (mode {mode:o}): run `chmod 600 {}`", path.display(), path.display())]
    PasswordOpen { path: PathBuf, mode: u32 },
    /// A CA file that can't be used.
    #[error("server `{name}`")]
    Tls {
        name: Label,
        #[source]
        source: crate::config::ConfigError,
    },
    /// Each holds a connection for good.
    #[error("more than {MAX_SERVERS} servers are listed")]
    TooMany,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawConfig {
    #[serde(default)]
    server: Vec<RawServer>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawServer {
    name: Label,
    kind: DatabaseKind,
    socket: Option<PathBuf>,
    address: Option<SocketAddr>,
    user: String,
    password_file: Option<PathBuf>,
    database: Option<String>,
    tls: Option<RawTls>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
enum RawTls {
    /// On purpose: the connection is in clear text.
    Off,
    /// The certificate must have this name.
    Verify { name: String, ca_file: Option<PathBuf> },
}

impl DatabasesConfig {
    /// Reads the file if it is there; without it there is no server.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        Self::parse(&trusted::read_if_there(path, MAX_FILE)?.unwrap_or_default())
    }

    /// Parses the text and reads passwords and certificates.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let raw: RawConfig = toml::from_str(text).map_err(|error| {
            let start = error.span().map_or(0, |span| span.start);
            let line = text.bytes().take(start).filter(|byte| *byte == b'\n').count() + 1;
            ConfigError::Toml { line, message: error.message().replace('\n', "; ") }
        })?;
        if raw.server.len() > MAX_SERVERS {
            return Err(ConfigError::TooMany);
        }
        let mut servers: Vec<Server> = Vec::new();
        for raw in raw.server {
            let new = server(raw)?;
            if servers.iter().any(|old| old.listed.name == new.listed.name) {
                return Err(ConfigError::Server { name: new.listed.name, problem: "it is listed twice" });
            }
            servers.push(new);
        }
        Ok(Self { servers })
    }

    /// The servers as they are written down.
    pub fn servers(&self) -> impl Iterator<Item = &Listed> {
        self.servers.iter().map(|server| &server.listed)
    }
}

fn server(raw: RawServer) -> Result<Server, ConfigError> {
    let name = raw.name.clone();
    let wrong = |problem| ConfigError::Server { name: name.clone(), problem };
    let word = |text: &str| !text.is_empty() && text.len() <= 128 && !text.chars().any(char::is_control);
    if !word(&raw.user) {
        return Err(wrong("`user` must be 1 to 128 printable bytes"));
    }
    let database = match (raw.kind, raw.database) {
        (DatabaseKind::Postgres, None) => "postgres".to_owned(),
        (DatabaseKind::Postgres, Some(database)) if word(&database) => database,
        (DatabaseKind::Postgres, Some(_)) => return Err(wrong("`database` must be 1 to 128 printable bytes")),
        (DatabaseKind::Mysql, None) => String::new(),
        (DatabaseKind::Mysql, Some(_)) => return Err(wrong("`database` changes nothing with MySQL: leave it out")),
    };
    let (place, tls) = match (raw.socket, raw.address, raw.tls) {
        (Some(path), None, None) if path.is_absolute() => (Place::Socket(path), None),
        (Some(_), None, None) => return Err(wrong("`socket` must be an absolute path")),
        (Some(_), None, Some(_)) => return Err(wrong("a Unix socket needs no `tls`: leave it out")),
        (None, Some(address), Some(RawTls::Off)) => (Place::Address(address), None),
        (None, Some(address), Some(RawTls::Verify { name: host, ca_file })) => {
            (Place::Address(address), Some(verified(&name, &host, ca_file)?))
        }
        // What nobody thought of is not sent in clear text.
        (None, Some(_), None) => {
            return Err(wrong(
                "an `address` needs `tls`: { verify = { name = \"db.example.com\" } }, or \"off\" on purpose",
            ));
        }
        (Some(_), Some(_), _) | (None, None, _) => return Err(wrong("write one of `socket` and `address`")),
    };
    let password = raw.password_file.as_deref().map(password).transpose()?;
    let listed = Listed { name: raw.name, kind: raw.kind, place, user: raw.user, database };
    Ok(Server { listed, password, tls })
}

fn verified(server: &Label, host: &str, ca_file: Option<PathBuf>) -> Result<Tls, ConfigError> {
    let Ok(name) = ServerName::try_from(host.to_owned()) else {
        return Err(ConfigError::Server { name: server.clone(), problem: "`tls.verify.name` is no host name" });
    };
    // With a CA of one's own the public ones are not trusted beside it: the server is one's own, too.
    let public = ca_file.is_none();
    let files: Vec<PathBuf> = ca_file.into_iter().collect();
    let config = tls(&files, public).map_err(|source| ConfigError::Tls { name: server.clone(), source })?;
    Ok(Tls { config: Arc::new(config), name })
}

/// The first line; a line feed at its end is an editor's.
fn password(path: &Path) -> Result<Password, ConfigError> {
    let text = Zeroizing::new(trusted::read(path, MAX_PASSWORD)?);
    let meta = std::fs::metadata(path).map_err(|source| TrustedError::Open { path: path.to_owned(), source })?;
    if meta.mode() & 0o077 != 0 {
        return Err(ConfigError::PasswordOpen { path: path.to_owned(), mode: meta.mode() & 0o7777 });
    }
    Ok(Password(Zeroizing::new(text.lines().next().unwrap_or_default().to_owned())))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const SOCKET: &str = "[[server]]\nname = \"main\"\nkind = \"postgres\"\nsocket = \"/run/postgresql/.s.PGSQL.5432\"\nuser = \"theriac\"\n";

    #[test]
    fn the_embedded_default_lists_nothing_and_its_examples_are_taken() {
        assert_eq!(DatabasesConfig::parse(DEFAULT).unwrap().servers().count(), 0);
        let examples: String = DEFAULT.lines().map(|line| format!("{}\n", example(line))).collect();
        let config = DatabasesConfig::parse(&examples).unwrap();
        let kinds: Vec<_> = config.servers().map(|server| server.kind).collect();
        assert_eq!(kinds, [DatabaseKind::Postgres, DatabaseKind::Mysql]);
    }

    /// A password that is not there can't be read here.
    fn example(line: &str) -> &str {
        match line.strip_prefix('#') {
            Some(rest) if !rest.starts_with(' ') && !rest.starts_with("password_file") => rest,
            _ => line,
        }
    }

    #[test]
    fn over_an_address_clear_text_has_to_be_written_down() {
        let with = |line: &str| SOCKET.replace("socket = \"/run/postgresql/.s.PGSQL.5432\"", line);
        let problem = |text: &str| DatabasesConfig::parse(text).unwrap_err().to_string();
        assert!(problem(&with("address = \"10.0.0.5:5432\"")).contains("needs `tls`"));
        let off = DatabasesConfig::parse(&with("address = \"10.0.0.5:5432\"\ntls = \"off\"")).unwrap();
        assert!(off.servers[0].tls.is_none());
        let verified = with("address = \"10.0.0.5:5432\"\ntls = { verify = { name = \"db.example.com\" } }");
        assert!(DatabasesConfig::parse(&verified).unwrap().servers[0].tls.is_some());
        assert!(problem(&with("address = \"db.example.com:5432\"\ntls = \"off\"")).starts_with("line 4"));
    }

    #[test]
    fn what_can_not_be_meant_is_refused() {
        let problem = |text: &str| DatabasesConfig::parse(text).unwrap_err().to_string();
        assert!(problem(&format!("{SOCKET}{SOCKET}")).contains("listed twice"));
        assert!(problem(&format!("{SOCKET}address = \"127.0.0.1:5432\"\n")).contains("write one of"));
        assert!(problem(&format!("{SOCKET}query = \"x\"\n")).contains("unknown field `query`"));
        assert!(
            problem(&SOCKET.replace("postgres\"\nsocket", "mysql\"\ndatabase = \"x\"\nsocket"))
                .contains("changes nothing")
        );
        assert!(problem(&SOCKET.replace("/run", "run")).contains("absolute path"));
    }

    #[test]
    fn a_password_that_others_can_read_is_refused_and_a_private_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("password");
        std::fs::write(&path, "s3cret\n").unwrap();
        let text = format!("{SOCKET}password_file = {path:?}\n");
        let mode = |mode| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        mode(0o640);
        assert!(matches!(DatabasesConfig::parse(&text), Err(ConfigError::PasswordOpen { .. })));
        mode(0o600);
        let config = DatabasesConfig::parse(&text).unwrap();
        assert_eq!(config.servers[0].password.as_ref().unwrap().as_bytes(), b"s3cret");
        assert!(!format!("{config:?}").contains("s3cret"), "it is not printed");
    }
}
