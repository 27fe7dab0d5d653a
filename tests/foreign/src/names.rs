//! Every newtype of the model that is parsed from a text.

use std::fmt::{Debug, Display};
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

use serde::Serialize;
use serde::de::DeserializeOwned;
use theriac_model::fault::FaultKind;
use theriac_model::id::{Digest, EvidenceId, IncidentId, KeyName, Label, PlaybookName, RemedyName, RunId, UnitName};
use theriac_model::target::{MountPath, Target};
use theriac_model::time::Span;
use theriac_model::units::{Blob, Bytes};

use crate::{Answer, refused};

/// What is a name of one sort has what that sort promises.
pub(crate) fn check(bytes: &[u8]) -> Answer {
    let Ok(text) = std::str::from_utf8(bytes) else { return Answer::Refused };
    let slugs = [
        name(text, RemedyName::parse),
        name(text, PlaybookName::parse),
        name(text, IncidentId::parse),
        name(text, RunId::parse),
        name(text, Label::parse),
        name(text, EvidenceId::parse),
    ];
    // These become parts of paths and of command lines: no dot, no slash, no leading hyphen.
    let plain = !text.contains(['.', '/']) && !text.starts_with('-');
    assert!(plain || !slugs.contains(&Answer::Taken), "{text:?}");
    let unit = name(text, UnitName::parse);
    let exact = !text.contains(['/', '*', '?', '[', '%']) && !text.starts_with(['-', '.']);
    assert!(exact || unit == Answer::Refused, "{text:?}");
    let key = name(text, KeyName::parse);
    assert!(!text.contains(['+', ' ']) || key == Answer::Refused, "{text:?}");
    let path = name(text, MountPath::parse);
    assert!(is_normal(text) || path == Answer::Refused, "{text:?}");
    let others = [name(text, Digest::parse), name(text, Target::from_str), name(text, FaultKind::from_str)];
    numbers(text);
    let all = [&slugs[..], &others, &[unit, key, path]].concat();
    if all.contains(&Answer::Taken) { Answer::Taken } else { Answer::Refused }
}

fn is_normal(text: &str) -> bool {
    let path = Path::new(text);
    let normal: PathBuf = path.components().collect();
    path.is_absolute()
        && normal.as_os_str() == path.as_os_str()
        && !path.components().any(|part| part == Component::ParentDir)
}

fn numbers(text: &str) {
    match Span::parse(text) {
        Ok(span) => assert_eq!(Span::parse(&span.to_string()), Ok(span), "{text:?}"),
        Err(error) => drop(refused(&error)),
    }
    match Bytes::parse(text) {
        Ok(bytes) => assert!(text.starts_with(|c: char| c.is_ascii_digit()), "{text:?} is {bytes}"),
        Err(error) => drop(refused(&error)),
    }
    if let Ok(blob) = Blob::try_from(text.to_owned()) {
        assert_eq!(String::from(blob), text, "one blob, one text");
    }
}

/// Taken or not; if taken, it is written as it was read, shown in one line, and serde says the same as `parse`.
fn name<T, E>(text: &str, parse: fn(&str) -> Result<T, E>) -> Answer
where
    T: Display + Debug + PartialEq + Serialize + DeserializeOwned,
    E: Display,
{
    let json = serde_json::Value::String(text.to_owned());
    let through_serde = serde_json::from_value::<T>(json.clone()).ok();
    match parse(text) {
        Ok(value) => {
            assert_eq!(value.to_string(), text, "a name is written as it was read");
            assert_eq!(serde_json::to_value(&value).ok(), Some(json), "{text:?}");
            assert_eq!(through_serde, Some(value), "serde takes what `parse` takes");
            Answer::Taken
        }
        Err(error) => {
            assert_eq!(through_serde, None, "serde refuses what `parse` refuses");
            refused(&error)
        }
    }
}
