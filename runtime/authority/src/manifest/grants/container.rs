//! Reads `[grants.containers.LABEL]`.

use std::collections::BTreeSet;

use theriac_model::container::{ContainerLabel, ContainerName, ContainerSelector};

use super::{from, job_timeout, verbs, why};
use crate::document::{Field, Mistake};
use crate::grant::{ContainerSource, ContainersGrant, ContainersVerb, never};

pub(super) fn parse(field: Field) -> Result<ContainersGrant, Mistake> {
    let mut table = field.table(&["container", "verbs", "job_timeout", "why"])?;
    let why = why(&mut table)?;
    let hint = "a name, { docker_label = \"key=value\" } or { from = \"incident\" }";
    let container = source(table.required("container", hint)?)?;
    let verbs: BTreeSet<ContainersVerb> = verbs(&mut table, ContainersVerb::ALL.iter().map(|verb| verb.as_str()))?;
    let changes = verbs.iter().any(|verb| verb.changes());
    let job_timeout = job_timeout(&mut table, changes, "the verb `start`, `stop` or `restart`")?;
    Ok(ContainersGrant { container, verbs, job_timeout, why })
}

fn source(field: Field) -> Result<ContainerSource, Mistake> {
    if !field.is_table() {
        return selector(Some(&field), None, &field).map(ContainerSource::Selected);
    }
    let whole = field.clone();
    let mut table = field.table(&["docker_label", "from"])?;
    match table.optional("docker_label") {
        Some(label) if table.optional("from").is_none() => {
            selector(None, Some(&label), &whole).map(ContainerSource::Selected)
        }
        Some(_) => Err(whole.mistake("it names a container twice", "leave `docker_label` or `from` out")),
        None => from(whole, "incident").map(|()| ContainerSource::Incident),
    }
}

/// A container by name or by label: one of them, and one that can be granted at all.
pub(crate) fn selector(
    name: Option<&Field>,
    label: Option<&Field>,
    whole: &Field,
) -> Result<ContainerSelector, Mistake> {
    let (field, selector) = match (name, label) {
        (Some(field), None) => (field, ContainerSelector::Name(field.parse_with(ContainerName::parse)?)),
        (None, Some(field)) => (field, ContainerSelector::Label(field.parse_with(ContainerLabel::parse)?)),
        (Some(_), Some(_)) | (None, None) => {
            return Err(whole.mistake("it names no container, or names one twice", "write one of name, docker_label"));
        }
    };
    match never::container(&selector) {
        Some(reason) => Err(field.mistake(format!("`{selector}` can never be granted: {reason}"), "")),
        None => Ok(selector),
    }
}
