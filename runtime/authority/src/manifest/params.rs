//! `[params.X]`: bounded or enumerated, never free text.

use std::collections::BTreeMap;

use theriac_model::id::Label;
use theriac_model::remedy::ParamSpec;

use super::MAX_PARAMS;
use crate::document::{Field, Mistake};

const MAX_CHOICES: usize = 32;

pub(super) fn parse(field: Field) -> Result<BTreeMap<Label, ParamSpec>, Mistake> {
    let too_many = field.mistake(format!("more than {MAX_PARAMS} parameters"), "");
    let mut params = BTreeMap::new();
    for (name, field) in field.named()? {
        let label = Label::parse(&name).map_err(|error| field.mistake(error, ""))?;
        params.insert(label, spec(field)?);
    }
    if params.len() > MAX_PARAMS { Err(too_many) } else { Ok(params) }
}

/// The keys depend on the type, so the type is read first: `min` of a flag is an unknown key, with the valid ones named.
fn spec(field: Field) -> Result<ParamSpec, Mistake> {
    let kind = field
        .clone()
        .table(&["type", "min", "max", "default", "choices"])?
        .required("type", "\"integer\", \"choice\" or \"flag\"")?;
    match kind.text()? {
        "integer" => integer(field),
        "choice" => choice(field),
        "flag" => {
            let mut table = field.table(&["type", "default"])?;
            Ok(ParamSpec::Flag { default: table.required("default", "true or false")?.flag()? })
        }
        _ => Err(kind.mistake("there is no such type", "write \"integer\", \"choice\" or \"flag\"")),
    }
}

fn integer(field: Field) -> Result<ParamSpec, Mistake> {
    let mut table = field.table(&["type", "min", "max", "default"])?;
    let min = table.required("min", "the smallest number allowed")?.integer(i64::MIN, i64::MAX)?;
    let max_field = table.required("max", "the largest number allowed")?;
    let max = max_field.integer(i64::MIN, i64::MAX)?;
    if min > max {
        return Err(max_field.mistake(format!("{max} is below `min`, which is {min}"), ""));
    }
    let default = table.required("default", "the number when nobody gives one")?.integer(min, max)?;
    Ok(ParamSpec::Integer { min, max, default })
}

fn choice(field: Field) -> Result<ParamSpec, Mistake> {
    let mut table = field.table(&["type", "choices", "default"])?;
    let choices = table.required("choices", "a list of words")?;
    let wrong = choices.mistake(format!("1 to {MAX_CHOICES} choices are possible"), "");
    // Choices are labels, so that no path and no option can hide in one.
    let words = choices.list()?.iter().map(Field::parse::<Label>).collect::<Result<Vec<_>, _>>()?;
    if words.is_empty() || words.len() > MAX_CHOICES {
        return Err(wrong);
    }
    let default = table.required("default", "one of the choices")?;
    let chosen: Label = default.parse()?;
    if !words.contains(&chosen) {
        let list = words.iter().map(Label::as_str).collect::<Vec<_>>().join(", ");
        return Err(default.mistake(format!("`{chosen}` is not a choice"), format!("write one of {list}")));
    }
    Ok(ParamSpec::Choice { choices: words.into_iter().map(String::from).collect(), default: chosen.into() })
}
