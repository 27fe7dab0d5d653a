//! A bound endpoint: which requests it admits, and what they look like on the wire.

use std::collections::BTreeSet;

use theriac_model::call::Interface;
use theriac_model::denial::{Denial, DenialCause};
use theriac_model::http::{HttpCall, HttpEffect, HttpMethod, Origin, Reach};
use theriac_model::id::Label;
use theriac_model::plan::PlannedEffect;
use theriac_model::units::{Blob, Bytes};

use super::missing::Missing;
use super::{suggest, unbound};
use crate::grant::HttpGrant;
use crate::host::HostConfig;

/// Longest path and query together; servers allow 8 KiB, and nobody reads that in a plan.
const MAX_TARGET: usize = 1024;

/// An endpoint with what one run may send to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BoundEndpoint {
    /// The label.
    pub label: Label,
    /// What the manifest asks for.
    pub grant: HttpGrant,
    /// Which addresses its name may stand for.
    pub reach: Reach,
    /// What a request changes there can be made again.
    pub reproducible: bool,
    left: BTreeSet<HttpMethod>,
}

/// Segments of unreserved characters (RFC 3986, 2.3), none of them empty, `.` or `..`: there is nothing to decode, so that two
/// parsers can't read it differently.
pub(crate) fn is_path_below(path: &str) -> bool {
    let segment = |segment: &str| {
        !matches!(segment, "" | "." | "..")
            && segment.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~".contains(&b))
    };
    path.split('/').all(segment)
}

const fn has_body(method: HttpMethod) -> bool {
    matches!(method, HttpMethod::Post | HttpMethod::Put | HttpMethod::Patch)
}

/// Everything but unreserved characters as `%XX`.
fn encode(text: &str, into: &mut String) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            into.push(char::from(byte));
        } else {
            into.push_str(&format!("%{byte:02X}"));
        }
    }
}

fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        if *first == b'%' {
            let (digits, after) = rest.split_first_chunk::<2>()?;
            bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
            rest = after;
        } else {
            bytes.push(*first);
        }
    }
    String::from_utf8(bytes).ok()
}

impl BoundEndpoint {
    pub(super) fn bind(label: &Label, grant: &HttpGrant, host: &HostConfig) -> Result<Self, Denial> {
        let entry = host.endpoints.iter().find(|entry| entry.origin == grant.origin).ok_or_else(|| {
            let origin = grant.origin.to_string();
            let changing = grant.methods.iter().filter(|method| method.changes()).map(|method| method.as_str());
            let line = suggest::runner("endpoint", ("origin", &origin), "methods", suggest::list(changing));
            unbound(Interface::Http, label, DenialCause::NotGranted, "runner.endpoint").suggest(line)
        })?;
        Ok(Self {
            label: label.clone(),
            grant: grant.clone(),
            reach: entry.reach,
            reproducible: entry.reproducible,
            left: entry.methods.clone(),
        })
    }

    /// Where it leads.
    pub fn origin(&self) -> &Origin {
        &self.grant.origin
    }

    /// A request: path and query as they are sent, if it is admitted.
    pub fn admits(&self, call: &HttpCall) -> Result<String, Denial> {
        let HttpCall::Send { method, path, query, body } = call;
        let target = self.target(*method, path, query)?;
        self.admits_method(*method, &target)?;
        for (name, value) in query {
            self.admits_parameter(*method, &target, name, value)?;
        }
        self.admits_body(*method, &target, body.0.len() as u64)?;
        Ok(target)
    }

    fn attempted(&self, method: HttpMethod, target: &str) -> String {
        let shown: String = target.chars().take(200).collect();
        format!("{} {}{}", method.as_str(), self.grant.origin, shown.escape_debug())
    }

    fn no(&self, rule: &str, method: HttpMethod, target: &str) -> Denial {
        Denial::new(DenialCause::NotGranted, &self.label, rule, self.attempted(method, target))
    }

    fn target(&self, method: HttpMethod, path: &str, query: &[(String, String)]) -> Result<String, Denial> {
        let mut target = format!("{}{path}", self.grant.prefix);
        if !path.is_empty() && !is_path_below(path) {
            return Err(self.no("path", method, &target));
        }
        for (index, (name, value)) in query.iter().enumerate() {
            target.push(if index == 0 { '?' } else { '&' });
            encode(name, &mut target);
            target.push('=');
            encode(value, &mut target);
        }
        let twice =
            query.iter().enumerate().any(|(at, (name, _))| query.iter().skip(at + 1).any(|(other, _)| other == name));
        if target.len() > MAX_TARGET || twice {
            return Err(self.no("path", method, &target));
        }
        Ok(target)
    }

    fn admits_method(&self, method: HttpMethod, target: &str) -> Result<(), Denial> {
        let with = |methods| suggest::list_with(methods, method, HttpMethod::as_str);
        let manifest = |key, value| suggest::manifest(Interface::Http, &self.label, key, value);
        let mut missing = Missing::default();
        if !self.grant.methods.contains(&method) {
            missing.add("methods", manifest("methods", with(&self.grant.methods)));
            if has_body(method) && !self.grant.methods.iter().any(|method| has_body(*method)) {
                // The parser wants to know how much, once there is a method with a body.
                missing.add("methods", manifest("max_body", suggest::text("0B")));
            }
        }
        if method.changes() && !self.left.contains(&method) {
            let line =
                suggest::runner("endpoint", ("origin", &self.grant.origin.to_string()), "methods", with(&self.left));
            missing.add("runner.endpoint.methods", line);
        }
        missing.answer(&self.label, self.attempted(method, target))
    }

    fn admits_parameter(&self, method: HttpMethod, target: &str, name: &str, value: &str) -> Result<(), Denial> {
        let values = Label::parse(name).ok().and_then(|name| self.grant.query.get(&name));
        if values.is_some_and(|values| values.iter().any(|known| known == value)) {
            return Ok(());
        }
        let denial = self.no("query", method, target);
        if Label::parse(name).is_err() || value.len() > 256 {
            return Err(denial);
        }
        let values = values.into_iter().flatten().map(String::as_str).chain([value]);
        Err(denial.suggest(suggest::manifest(
            Interface::Http,
            &self.label,
            &format!("query.{name}"),
            suggest::list(values),
        )))
    }

    fn admits_body(&self, method: HttpMethod, target: &str, bytes: u64) -> Result<(), Denial> {
        let most = if has_body(method) { self.grant.max_body.0 } else { 0 };
        if bytes <= most {
            return Ok(());
        }
        let denial = self.no("max_body", method, target);
        if !has_body(method) || Bytes(bytes) > Bytes(256 << 10) {
            return Err(denial);
        }
        let line = suggest::manifest(Interface::Http, &self.label, "max_body", suggest::text(&format!("{bytes}B")));
        Err(denial.suggest(line))
    }

    /// A planned effect still lies within the grant, whatever the plan says of itself.
    pub(crate) fn admits_effect(&self, planned: &PlannedEffect, effect: &HttpEffect) -> Result<(), Denial> {
        let wrong = |cause, rule| Err(Denial::new(cause, &self.label, rule, &planned.effect));
        if effect.origin != self.grant.origin {
            return wrong(DenialCause::StaleTarget, "identity");
        }
        let Some((path, query)) = self.parts(&effect.target) else {
            return wrong(DenialCause::NotGranted, "path");
        };
        let call = HttpCall::Send { method: effect.method, path, query, body: Blob::default() };
        if self.admits(&call)? != effect.target {
            return wrong(DenialCause::NotGranted, "path");
        }
        self.admits_body(effect.method, &effect.target, effect.bytes)
    }

    /// Path below the prefix and query of a target that [`Self::admits`] made.
    fn parts(&self, target: &str) -> Option<(String, Vec<(String, String)>)> {
        let below = target.strip_prefix(self.grant.prefix.as_str())?;
        let (path, query) = below.split_once('?').map_or((below, None), |(path, query)| (path, Some(query)));
        let pair = |pair: &str| {
            let (name, value) = pair.split_once('=')?;
            Some((decode(name)?, decode(value)?))
        };
        let query = query.map_or(Some(Vec::new()), |query| query.split('&').map(pair).collect())?;
        Some((path.to_owned(), query))
    }

    /// What it comes to here, in words.
    pub(crate) fn words(&self) -> String {
        let allowed = self.grant.methods.iter().filter(|method| !method.changes() || self.left.contains(method));
        let methods = allowed.map(|method| method.as_str()).collect::<Vec<_>>().join(", ");
        format!("{methods} to {}{}", self.grant.origin, self.grant.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::effective::tests::{applied, bound, rule};

    const MANIFEST: &str = r#"
[remedy]
name = "x"
version = "1.0.0"
serial = 1
summary = "s"
handles = ["log-explosion"]

[grants.http.admin]
origin = "http://127.0.0.1:9000"
prefix = "/admin/"
methods = ["GET", "PUT"]
query = { level = ["info", "a b&c=d"] }
max_body = "8B"
why = "w"
"#;
    const HOST: &str =
        "[[endpoint]]\norigin = \"http://127.0.0.1:9000\"\nmethods = [\"PUT\"]\naddresses = [\"loopback\"]\n";

    fn call(method: HttpMethod, path: &str, query: &[(&str, &str)], bytes: usize) -> HttpCall {
        let query = query.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        HttpCall::Send { method, path: path.to_owned(), query, body: Blob(vec![b'x'; bytes]) }
    }

    fn admits(manifest: &str, host: &str, call: &HttpCall) -> Result<String, Denial> {
        bound(manifest, host, "host").endpoint("admin").and_then(|endpoint| endpoint.admits(call))
    }

    // NW12.
    #[test]
    fn a_request_is_admitted_by_method_path_query_and_size() {
        let target = |call: &HttpCall| admits(MANIFEST, HOST, call).unwrap();
        assert_eq!(target(&call(HttpMethod::Get, "", &[], 0)), "/admin/");
        assert_eq!(target(&call(HttpMethod::Get, "log/level", &[], 0)), "/admin/log/level");
        let encoded = call(HttpMethod::Put, "log", &[("level", "a b&c=d")], 8);
        assert_eq!(target(&encoded), "/admin/log?level=a%20b%26c%3Dd");
        for (call, wanted) in [
            (call(HttpMethod::Delete, "log", &[], 0), "methods"),
            (call(HttpMethod::Put, "log", &[("level", "debug")], 0), "query"),
            (call(HttpMethod::Put, "log", &[("other", "info")], 0), "query"),
            (call(HttpMethod::Put, "log", &[("level", "info"), ("level", "info")], 0), "path"),
            (call(HttpMethod::Put, "log", &[], 9), "max_body"),
            (call(HttpMethod::Get, "log", &[], 1), "max_body"),
        ] {
            assert_eq!(rule(admits(MANIFEST, HOST, &call)), wanted, "{call:?}");
        }
        assert_eq!(rule(admits(MANIFEST, "", &call(HttpMethod::Get, "", &[], 0))), "runner.endpoint");
        let reads = HOST.replace("methods = [\"PUT\"]\n", "");
        assert!(admits(MANIFEST, &reads, &call(HttpMethod::Get, "", &[], 0)).is_ok());
        assert_eq!(rule(admits(MANIFEST, &reads, &call(HttpMethod::Put, "", &[], 0))), "runner.endpoint.methods");
    }

    // NW05, NW06, NW07: what another parser could read differently never leaves.
    #[test]
    fn no_path_climbs_smuggles_or_leads_to_another_host() {
        for path in [
            "..",
            "../x",
            "a/../b",
            "./a",
            "a//b",
            "/a",
            "a/",
            "a?b",
            "a#b",
            "a b",
            "a%2e%2e",
            "a\r\nHost: evil",
            "a\\b",
            "a;b",
            "http://evil/",
            "@evil",
            "a:b",
            "ä",
            "a\u{0}b",
        ] {
            let denied = admits(MANIFEST, HOST, &call(HttpMethod::Get, path, &[], 0)).unwrap_err();
            assert_eq!((denied.rule.as_str(), denied.suggestion), ("path", None), "{path:?}");
        }
        let long = "a".repeat(MAX_TARGET);
        assert_eq!(rule(admits(MANIFEST, HOST, &call(HttpMethod::Get, &long, &[], 0))), "path");
    }

    #[test]
    fn a_suggestion_allows_exactly_the_call_it_was_made_for() {
        let calls = [
            call(HttpMethod::Head, "log", &[], 0),
            call(HttpMethod::Post, "log", &[], 0),
            call(HttpMethod::Delete, "log", &[], 0),
            call(HttpMethod::Put, "log", &[("level", "debug")], 0),
            call(HttpMethod::Put, "log", &[("since", "1h")], 0),
            call(HttpMethod::Put, "log", &[], 100),
        ];
        for asked in &calls {
            let denial = admits(MANIFEST, HOST, asked).unwrap_err();
            let (manifest, host) = applied(&denial.suggestion.unwrap(), MANIFEST, HOST);
            assert!(admits(&manifest, &host, asked).is_ok(), "{asked:?}");
            for other in calls.iter().filter(|other| *other != asked) {
                assert!(admits(&manifest, &host, other).is_err(), "{asked:?} also allowed {other:?}");
            }
        }
    }

    #[test]
    fn a_target_is_read_back_as_it_was_made() {
        let effective = bound(MANIFEST, HOST, "host");
        let endpoint = effective.endpoint("admin").unwrap();
        let sent = call(HttpMethod::Put, "log", &[("level", "a b&c=d")], 3);
        let (path, query) = endpoint.parts(&endpoint.admits(&sent).unwrap()).unwrap();
        assert_eq!(
            call(HttpMethod::Put, "log", &[("level", "a b&c=d")], 3),
            HttpCall::Send { method: HttpMethod::Put, path, query, body: Blob(vec![b'x'; 3]) }
        );
    }
}
