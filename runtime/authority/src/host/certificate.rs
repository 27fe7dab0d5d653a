//! `[[certificate]]` of `runner.toml`: certificates that are watched, and how one may be renewed.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use theriac_model::catalog::Thresholds;
use theriac_model::certificate::{CertificatePlace, DnsName};
use theriac_model::id::{Label, UnitName};
use theriac_model::target::MountPath;
use theriac_model::time::Span;

use super::targets::place;
use crate::document::{Field, Mistake, Table};
use crate::grant::{CertificatesVerb, never};

/// One listed certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateConfig {
    /// What manifests and targets call it.
    pub name: Label,
    /// Where it is.
    pub place: CertificatePlace,
    /// The names it is for, exactly; the first is asked for at the address.
    pub names: Vec<DnsName>,
    /// Where it is served.
    pub address: Option<SocketAddr>,
    /// Who serves it; it has to be listed itself.
    pub unit: Option<UnitName>,
    /// What remedies may change.
    pub verbs: BTreeSet<CertificatesVerb>,
    /// Between two attempts to renew it lies at least that much.
    pub between: Span,
    /// What is abnormal for it.
    pub thresholds: Thresholds,
}

/// Names of one certificate: an authority proves each of them.
const MAX_NAMES: usize = 20;
/// Authorities count failed attempts by the hour (five of them, where most sites get theirs), and other clients of the same
/// account may have used some.
const LEAST_BETWEEN: Span = Span::from_secs(1_800);
const DEFAULT_BETWEEN: Span = Span::from_secs(3_600);
const YEAR: Span = Span::from_secs(365 * 86_400);
const KEYS: &[&str] =
    &["name", "certificate", "key", "names", "address", "unit", "webroot", "verbs", "between", "expires_within"];

pub(super) fn list(field: Option<Field>) -> Result<Vec<CertificateConfig>, Mistake> {
    let mut listed: Vec<CertificateConfig> = Vec::new();
    for field in field.map_or_else(|| Ok(Vec::new()), Field::list)? {
        let whole = field.clone();
        let new = parse(field)?;
        for old in &listed {
            if old.name == new.name {
                return Err(whole.mistake(format!("the certificate `{}` is listed twice", new.name), "leave one out"));
            }
            let files = |entry: &CertificateConfig| [entry.place.certificate.clone(), entry.place.key.clone()];
            if let Some(shared) = files(&new).into_iter().find(|file| files(old).contains(file)) {
                return Err(whole.mistake(format!("`{shared}` belongs to the certificate `{}` already", old.name), ""));
            }
        }
        listed.push(new);
    }
    Ok(listed)
}

fn parse(field: Field) -> Result<CertificateConfig, Mistake> {
    let mut table = field.table(KEYS)?;
    let name: Label = table.required("name", "what manifests call it, such as \"web\"")?.parse()?;
    let certificate = file(&table.required("certificate", "the file with the certificate and its chain (PEM)")?)?;
    let key_field = table.required("key", "the file with its private key (PEM)")?;
    let key = file(&key_field)?;
    if key == certificate {
        return Err(key_field.mistake("certificate and key are in one file", "give the key a file of its own"));
    }
    let names = names(table.required("names", "a list such as [\"www.example.com\"]")?)?;
    let address = table.optional("address").map(|field| address(&field)).transpose()?;
    let unit = table.optional("unit").map(|field| unit(&field)).transpose()?;
    let verbs: BTreeSet<CertificatesVerb> = table.optional("verbs").map(Field::set).transpose()?.unwrap_or_default();
    let (webroot, between) = renewal(&mut table, verbs.contains(&CertificatesVerb::Renew))?;
    let mut thresholds = Thresholds::default();
    if let Some(field) = table.optional("expires_within") {
        thresholds.expires_within = field.span(Span::from_secs(3_600), YEAR)?;
    }
    let place = CertificatePlace { certificate, key, webroot };
    Ok(CertificateConfig { name, place, names, address, unit, verbs, between, thresholds })
}

/// What only a renewal needs.
fn renewal(table: &mut Table, may: bool) -> Result<(Option<MountPath>, Span), Mistake> {
    if may {
        let hint = "`webroot = \"/var/www/html\"`: what the web server shows over plain HTTP; `renew` needs it";
        let webroot = place(&table.required("webroot", hint)?)?;
        let between = table.optional("between").map_or(Ok(DEFAULT_BETWEEN), |field| field.span(LEAST_BETWEEN, YEAR))?;
        return Ok((Some(webroot), between));
    }
    for key in ["webroot", "between"] {
        if let Some(field) = table.optional(key) {
            return Err(field.mistake("it changes nothing without the verb `renew`", "leave it out"));
        }
    }
    Ok((None, DEFAULT_BETWEEN))
}

fn file(field: &Field) -> Result<MountPath, Mistake> {
    let path = field.parse_with(MountPath::parse)?;
    match never::certificate_file(&path) {
        Some(reason) => Err(field.mistake(format!("`{path}` can never be a certificate or a key: {reason}"), "")),
        None => Ok(path),
    }
}

fn names(field: Field) -> Result<Vec<DnsName>, Mistake> {
    let wrong = field.mistake(format!("1 to {MAX_NAMES} different names are possible"), "");
    let names: Vec<DnsName> =
        field.list()?.iter().map(|item| item.parse_with(DnsName::parse)).collect::<Result<_, _>>()?;
    let different: BTreeSet<&DnsName> = names.iter().collect();
    if names.is_empty() || names.len() > MAX_NAMES || different.len() != names.len() { Err(wrong) } else { Ok(names) }
}

fn address(field: &Field) -> Result<SocketAddr, Mistake> {
    match field.text()?.parse::<SocketAddr>() {
        Ok(parsed) if parsed.port() != 0 => Ok(parsed),
        Ok(_) | Err(_) => {
            Err(field.mistake("it is not an address with a port", "write \"127.0.0.1:443\" or \"[::1]:443\""))
        }
    }
}

fn unit(field: &Field) -> Result<UnitName, Mistake> {
    let name = field.parse_with(UnitName::parse)?;
    match never::unit(&name) {
        Some(reason) => Err(field.mistake(format!("`{name}` can never be healed: {reason}"), "leave it out")),
        None => Ok(name),
    }
}

#[cfg(test)]
mod tests {
    use crate::host::HostConfig;

    const WEB: &str = "[[certificate]]\nname = 'web'\ncertificate = '/etc/ssl/web/cert.pem'\nkey = '/etc/ssl/web/key.pem'\nnames = ['a.test']\n";

    fn problem(text: &str) -> String {
        HostConfig::parse(text).unwrap_err().to_string()
    }

    #[test]
    fn a_listed_certificate_is_a_target_and_may_only_be_looked_at() {
        let config = HostConfig::parse(WEB).unwrap();
        assert!(config.target(&"certificate:web".parse().unwrap()).is_some());
        assert!(config.certificates[0].verbs.is_empty() && !config.needs_courier_acme());
        let renewed = HostConfig::parse(&format!("{WEB}verbs = ['renew']\nwebroot = '/srv/www'\n")).unwrap();
        assert!(renewed.needs_courier_acme());
    }

    #[test]
    fn what_a_renewal_needs_is_asked_for_and_refused_without_one() {
        assert!(problem(&format!("{WEB}verbs = ['renew']\n")).contains("webroot"));
        assert!(problem(&format!("{WEB}webroot = '/srv/www'\n")).contains("changes nothing without the verb `renew`"));
        assert!(problem(&format!("{WEB}between = '1h'\n")).contains("changes nothing"));
        let often = format!("{WEB}verbs = ['renew']\nwebroot = '/srv/www'\nbetween = '1m'\n");
        assert!(problem(&often).contains("between"), "{}", problem(&often));
    }

    #[test]
    fn no_file_of_the_systems_is_taken_for_a_certificate() {
        for path in [
            "/etc/passwd",
            "/etc/ssh/key.pem",
            "/etc/sudoers.d/x",
            "/proc/1/mem",
            "/usr/lib/x.pem",
            "/root/k.pem",
            "/dev/sda",
        ] {
            let text = WEB.replace("/etc/ssl/web/key.pem", path);
            assert!(problem(&text).contains("can never be a certificate or a key"), "{path}");
        }
        assert!(problem(&WEB.replace("key.pem", "cert.pem")).contains("in one file"));
    }

    #[test]
    fn a_file_belongs_to_one_certificate_and_a_name_stands_once() {
        assert!(problem(&format!("{WEB}{WEB}")).contains("listed twice"));
        let other = WEB.replace("'web'", "'other'");
        assert!(problem(&format!("{WEB}{other}")).contains("belongs to the certificate `web` already"));
        assert!(problem(&WEB.replace("['a.test']", "['a.test', 'a.test']")).contains("different names"));
        assert!(problem(&WEB.replace("['a.test']", "['*.a.test']")).contains("without `*`"));
        assert!(problem(&WEB.replace("['a.test']", "[]")).contains("1 to 20"));
    }
}
