//! The certificates that nginx serves here, by its own configuration: lines for a person to look at and to take the `#` from.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use theriac_model::certificate::DnsName;
use theriac_model::id::Label;
use theriac_model::target::MountPath;

/// Where Debian's and the others' nginx has its servers.
const PLACES: [&str; 3] = ["/etc/nginx/nginx.conf", "/etc/nginx/conf.d", "/etc/nginx/sites-enabled"];
/// A configuration that is longer was made by a program.
const MAX_FILE: u64 = 1 << 20;
/// Files of one directory that are looked at.
const MAX_FILES: usize = 256;

/// One pair of files and the names that are served with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Served {
    certificate: MountPath,
    key: MountPath,
    names: Vec<DnsName>,
    webroot: Option<String>,
}

/// What nginx's configuration names.
pub(super) fn look() -> Vec<Served> {
    let mut found: BTreeMap<MountPath, Served> = BTreeMap::new();
    for text in PLACES.into_iter().flat_map(|place| files(Path::new(place))).filter_map(|path| read(&path)) {
        for served in servers(&text) {
            found.entry(served.certificate.clone()).or_insert(served);
        }
    }
    found.into_values().collect()
}

fn files(place: &Path) -> Vec<PathBuf> {
    match fs::read_dir(place) {
        Ok(entries) => entries.take(MAX_FILES).filter_map(Result::ok).map(|entry| entry.path()).collect(),
        Err(_) => vec![place.to_owned()],
    }
}

fn read(path: &Path) -> Option<String> {
    let known = fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.len() <= MAX_FILE);
    known.then(|| fs::read_to_string(path).ok())?
}

/// Every `server { … }` that has a pair. Directives of the blocks within it count as its own: they are no certificates.
fn servers(text: &str) -> Vec<Served> {
    let mut found = Vec::new();
    let (mut depth, mut of_server) = (0_u32, None);
    let mut directives: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let plain: String =
        text.lines().map(|line| line.split('#').next().unwrap_or_default()).collect::<Vec<_>>().join(" ");
    for part in plain.split_inclusive([';', '{', '}']) {
        let words: Vec<&str> = part.trim_end_matches([';', '{', '}']).split_whitespace().collect();
        match part.chars().last() {
            Some('{') => {
                if words.as_slice() == ["server"] && of_server.is_none() {
                    of_server = Some(depth);
                    directives.clear();
                }
                depth += 1;
            }
            Some('}') => {
                depth = depth.saturating_sub(1);
                if of_server == Some(depth) {
                    of_server = None;
                    found.extend(server(&directives));
                }
            }
            Some(_) | None => {
                if let Some((name, rest)) = words.split_first().filter(|_| of_server.is_some()) {
                    let values = directives.entry((*name).to_owned()).or_default();
                    values.extend(rest.iter().map(|word| (*word).to_owned()));
                }
            }
        }
    }
    found
}

fn server(directives: &BTreeMap<String, Vec<String>>) -> Option<Served> {
    let path = |name: &str| MountPath::parse(directives.get(name)?.first()?).ok();
    let names = directives.get("server_name").into_iter().flatten();
    let names: Vec<DnsName> = names.filter_map(|name| DnsName::parse(name).ok()).collect();
    let webroot = directives.get("root").and_then(|words| words.first()).cloned();
    let served = Served { certificate: path("ssl_certificate")?, key: path("ssl_certificate_key")?, names, webroot };
    (!served.names.is_empty()).then_some(served)
}

/// Lines for runner.toml, none of which does anything yet.
pub(super) fn lines(found: &[Served]) -> String {
    let mut text = String::new();
    for (number, served) in found.iter().enumerate() {
        let quoted: Vec<String> = served.names.iter().map(|name| format!("\"{name}\"")).collect();
        let name = served.names.first().map_or_else(String::new, |name| name.as_str().replace('.', "-"));
        let name = Label::parse(&name).map_or_else(|_| format!("certificate-{}", number + 1), |name| name.to_string());
        let linked = fs::symlink_metadata(served.certificate.as_path()).is_ok_and(|meta| meta.is_symlink());
        let note = if linked {
            "\n# It is a symbolic link, and another program renews it: name the file itself, or leave it out."
        } else {
            ""
        };
        let webroot =
            served.webroot.as_deref().filter(|root| MountPath::parse(root).is_ok()).unwrap_or("/var/www/html");
        let _infallible = write!(
            text,
            "{note}\n#[[certificate]]\n#name        = \"{name}\"\n#certificate = \"{}\"\n#key         = \"{}\"\n#names       = [{}]\n#address     = \"127.0.0.1:443\"\n#unit        = \"nginx.service\"\n#verbs       = [\"renew\"]\n#webroot     = \"{webroot}\"\n",
            served.certificate,
            served.key,
            quoted.join(", "),
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use theriac_authority::host::HostConfig;

    use super::*;

    const NGINX: &str = r#"
http {
  # server { ssl_certificate /commented/out.pem; ssl_certificate_key /k; server_name no.test; }
  server { listen 80; server_name plain.test; root /srv/www; }
  server {
    listen 443 ssl;
    server_name www.a.test a.test *.a.test _;
    root /srv/www;
    ssl_certificate     /etc/ssl/a/fullchain.pem;
    ssl_certificate_key /etc/ssl/a/privkey.pem; # secret
    location / { return 200 ok; }
  }
  server { listen 443 ssl; server_name b.test; ssl_certificate relative.pem; ssl_certificate_key /k.pem; }
}
"#;

    #[test]
    fn a_server_with_a_pair_and_a_name_is_found_and_others_are_not() {
        let found = servers(NGINX);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].certificate.as_str(), "/etc/ssl/a/fullchain.pem");
        assert_eq!(found[0].names.iter().map(DnsName::as_str).collect::<Vec<_>>(), ["www.a.test", "a.test"]);
        assert!(servers("server {").is_empty() && servers("} } ;").is_empty());
    }

    #[test]
    fn the_lines_do_nothing_until_the_hashes_are_taken_away_and_are_right_then() {
        let lines = lines(&servers(NGINX));
        assert!(HostConfig::parse(&lines).unwrap().certificates.is_empty());
        let used: String = lines.lines().map(|line| format!("{}\n", line.trim_start_matches('#'))).collect();
        let host = HostConfig::parse(&used).unwrap_or_else(|error| panic!("{error}\n{used}"));
        assert_eq!(host.certificates[0].name.as_str(), "www-a-test");
        assert!(host.needs_courier_acme());
    }
}
