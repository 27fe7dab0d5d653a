//! Reads `[grants.http.LABEL]`.

use std::collections::{BTreeMap, BTreeSet};

use theriac_model::http::{HttpMethod, Origin};
use theriac_model::id::Label;
use theriac_model::time::Span;
use theriac_model::units::Bytes;

use super::{idle, why};
use crate::document::{Field, Mistake, Table};
use crate::effective::is_path_below;
use crate::grant::{HttpGrant, InverseRequest, WordError};

/// Bodies travel in frames of the couriers, and are kept for the record.
const MAX_BODY: Bytes = Bytes(256 << 10);
/// When nothing is written.
const DEFAULT_ANSWER: Bytes = Bytes(64 << 10);
const DEFAULT_TIMEOUT: Span = Span::from_secs(10);
/// A remedy waits as long, and the target is locked meanwhile.
const MAX_TIMEOUT: Span = Span::from_secs(60);
/// Values of one query parameter: a reviewer reads them.
const MAX_VALUES: usize = 32;

const KEYS: &[&str] = &["origin", "prefix", "methods", "query", "max_body", "max_answer", "timeout", "undo", "why"];

pub(super) fn parse(field: Field) -> Result<HttpGrant, Mistake> {
    let mut table = field.table(KEYS)?;
    let why = why(&mut table)?;
    let origin = table.required("origin", "such as \"http://127.0.0.1:9000\"")?.parse_with(Origin::parse)?;
    let prefix = prefix(&table.required("prefix", "what every path begins with, such as \"/admin/\"")?)?;
    let methods = methods(&mut table)?;
    let query = table.optional("query").map_or_else(|| Ok(BTreeMap::new()), query)?;
    let max_body = if methods.iter().any(|method| has_body(*method)) {
        let hint = "`max_body = \"1KiB\"`: POST, PUT and PATCH need it";
        table.required("max_body", hint)?.bytes(Bytes(0), MAX_BODY)?
    } else {
        idle(&mut table, "max_body", "the method POST, PUT or PATCH")?;
        Bytes(0)
    };
    let max_answer =
        table.optional("max_answer").map_or(Ok(DEFAULT_ANSWER), |field| field.bytes(Bytes(0), MAX_BODY))?;
    let timeout = table
        .optional("timeout")
        .map_or(Ok(DEFAULT_TIMEOUT), |field| field.span(Span::from_millis(100), MAX_TIMEOUT))?;
    let undo = if methods.iter().any(|method| method.changes()) {
        table.optional("undo").map(inverse).transpose()?
    } else {
        idle(&mut table, "undo", "a method that changes something")?;
        None
    };
    Ok(HttpGrant { origin, prefix, methods, query, max_body, max_answer, timeout, undo, why })
}

/// RFC 9110 gives a body of the others no meaning.
const fn has_body(method: HttpMethod) -> bool {
    matches!(method, HttpMethod::Post | HttpMethod::Put | HttpMethod::Patch)
}

fn prefix(field: &Field) -> Result<String, Mistake> {
    let text = field.text()?;
    let inner = text.strip_prefix('/').and_then(|rest| if rest.is_empty() { Some("") } else { rest.strip_suffix('/') });
    if inner.is_some_and(|inner| inner.is_empty() || is_path_below(inner)) {
        Ok(text.to_owned())
    } else {
        Err(field.mistake("it is not a path prefix", "begin and end with `/`, such as \"/admin/\", or write \"/\""))
    }
}

fn method(field: &Field) -> Result<HttpMethod, Mistake> {
    field.parse_with(|word| {
        let known = HttpMethod::ALL.into_iter().find(|method| method.as_str() == word);
        known.ok_or_else(|| WordError::new("a method", word, HttpMethod::ALL.iter().map(|method| method.as_str())))
    })
}

/// `["GET", "POST"]`, at least one.
fn methods(table: &mut Table) -> Result<BTreeSet<HttpMethod>, Mistake> {
    let field = table.required("methods", "a list of GET, HEAD, POST, PUT, PATCH, DELETE")?;
    let empty = field.mistake("a grant without methods permits nothing", "write a list such as [\"GET\"]");
    let methods: BTreeSet<HttpMethod> = field.list()?.iter().map(method).collect::<Result<_, _>>()?;
    if methods.is_empty() { Err(empty) } else { Ok(methods) }
}

fn query(field: Field) -> Result<BTreeMap<Label, Vec<String>>, Mistake> {
    let mut query = BTreeMap::new();
    for (name, field) in field.named()? {
        let name = Label::parse(&name).map_err(|error| field.mistake(error, ""))?;
        let wrong = field.mistake(format!("1 to {MAX_VALUES} values are possible"), "");
        let values: Vec<String> =
            field.list()?.iter().map(|item| item.text().map(str::to_owned)).collect::<Result<_, _>>()?;
        if values.is_empty() || values.len() > MAX_VALUES || values.iter().any(|value| value.len() > 256) {
            return Err(wrong);
        }
        query.insert(name, values);
    }
    Ok(query)
}

fn inverse(field: Field) -> Result<InverseRequest, Mistake> {
    let mut table = field.table(&["method", "path", "body"])?;
    let method = method(&table.required("method", "the method of the inverse request")?)?;
    let path_field = table.required("path", "its path below the prefix; \"\" is the prefix itself")?;
    let path = path_field.text()?.to_owned();
    if !path.is_empty() && !is_path_below(&path) {
        return Err(path_field.mistake("it is not a path below the prefix", "write it without `/` at the start"));
    }
    let body = match table.optional("body") {
        None => String::new(),
        Some(field) if !has_body(method) => {
            return Err(field.mistake(format!("{} has no body", method.as_str()), "leave it out"));
        }
        Some(field) => field.text()?.to_owned(),
    };
    Ok(InverseRequest { method, path, body })
}
