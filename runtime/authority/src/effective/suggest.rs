//! Suggestions: the smallest lines that would have allowed exactly one call.
//!
//! Each line begins with the file it belongs to, then either a dotted key that takes the place of the present one, or the entry
//! of a list and the key in it. A test reads these lines and applies them.

use std::collections::BTreeSet;
use std::fmt::Display;

use theriac_model::call::Interface;
use theriac_model::id::{Label, UnitName};
use theriac_model::target::MountPath;

use crate::grant::FilesGrant;

/// `remedy.toml: grants.files.logs.verbs = ["list", "remove"]`.
pub(super) fn manifest(interface: Interface, label: &Label, key: &str, value: impl Display) -> String {
    format!("remedy.toml: grants.{}.{label}.{key} = {value}", interface.grant_table())
}

/// `runner.toml: in [[unit]] name = "nginx.service": verbs = ["restart"]`.
pub(super) fn runner(table: &str, id: (&str, &str), key: &str, value: impl Display) -> String {
    format!("runner.toml: in [[{table}]] {} = {}: {key} = {value}", id.0, text(id.1))
}

/// A TOML string.
pub(super) fn text(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// A TOML list of strings.
pub(super) fn list<T: AsRef<str>>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<String> = items.into_iter().map(|item| text(item.as_ref())).collect();
    format!("[{}]", items.join(", "))
}

/// The list of these words and one more, each in its place.
pub(super) fn list_with<T: Copy + Ord>(words: &BTreeSet<T>, more: T, text: impl Fn(T) -> &'static str) -> String {
    let words: BTreeSet<T> = words.iter().copied().chain([more]).collect();
    list(words.into_iter().map(text))
}

/// The table a unit is listed in: systemd's names have a dot, the launcher's have none.
pub(super) fn unit_table(name: &UnitName) -> &'static str {
    if name.as_str().contains('.') { "unit" } else { "service" }
}

/// The entry that would bind a directory, with the changing verbs of the grant.
pub(super) fn directory(label: &Label, path: &MountPath, grant: &FilesGrant) -> String {
    let id = ("path", path.as_str());
    let labelled = runner("directory", id, "label", text(label.as_str()));
    let mut changing = grant.verbs.iter().filter(|verb| verb.changes()).map(|verb| verb.as_str()).peekable();
    if changing.peek().is_none() {
        return labelled;
    }
    [labelled, runner("directory", id, "verbs", list(changing))].join("\n")
}

/// A directory of that name below a mount.
pub(super) fn below(mount: &MountPath, label: &Label) -> Option<MountPath> {
    let path = if mount.as_str() == "/" { format!("/srv/{label}") } else { format!("{mount}/{label}") };
    MountPath::parse(&path).ok()
}

/// A place-holder where nothing says which directory is meant: a label is always a good path.
pub(super) fn example(label: &Label) -> MountPath {
    #[expect(clippy::expect_used, reason = "a label has no slash and no dot")]
    MountPath::parse(&format!("/srv/{label}")).expect("a label below /srv is a path")
}

/// A whole grant for a label that has none.
pub(super) fn new_grant(interface: Interface, label: &Label) -> String {
    let rest = match interface {
        Interface::Files => r#"{ dir = { from = "operator" }, match = ["**"], verbs = ["list"], why = "…" }"#,
        Interface::Units => r#"{ unit = { from = "incident" }, verbs = ["status"], why = "…" }"#,
        Interface::Processes => r#"{ of = { from = "incident" }, verbs = ["usage"], why = "…" }"#,
        Interface::Series => r#"{ metric = "host_cpu", why = "…" }"#,
        Interface::Probes => r#"{ check = { from = "incident" }, why = "…" }"#,
        Interface::Certificates => r#"{ certificate = { from = "incident" }, verbs = ["inspect"], why = "…" }"#,
        Interface::Programs => r#"{ run = ["/usr/bin/true"], changes = false, why = "…" }"#,
        Interface::Http => r#"{ origin = "http://127.0.0.1:80", prefix = "/", methods = ["GET"], why = "…" }"#,
        Interface::Kernel => r#"{ knob = "vm.swappiness", verbs = ["get"], why = "…" }"#,
        Interface::Releases => r#"{ unit = { from = "incident" }, verbs = ["current"], why = "…" }"#,
        Interface::Containers => r#"{ container = { from = "incident" }, verbs = ["inspect"], why = "…" }"#,
        Interface::Firewall => r#"{ set = { from = "operator" }, verbs = ["list"], why = "…" }"#,
        Interface::Databases => r#"{ server = { from = "incident" }, verbs = ["sessions"], why = "…" }"#,
    };
    format!("remedy.toml: grants.{}.{label} = {rest}", interface.grant_table())
}
