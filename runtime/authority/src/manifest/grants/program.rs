//! Reads `[grants.programs.LABEL]`.

use std::collections::{BTreeMap, BTreeSet};

use theriac_model::id::Label;
use theriac_model::program::{MAX_OUTPUT, MAX_TIMEOUT, Network};
use theriac_model::target::MountPath;
use theriac_model::time::Span;
use theriac_model::units::Bytes;

use super::{idle, why};
use crate::document::{Field, Mistake};
use crate::effective::template::{self, Template};
use crate::grant::{ProgramsGrant, SlotSpec};

/// Arguments of one template: a reviewer reads them.
const MAX_ARGUMENTS: usize = 32;
const MAX_ARGUMENT: usize = 1024;
/// Values of one slot.
const MAX_VALUES: usize = 64;
/// Paths of one jail.
const MAX_PATHS: usize = 32;
const DEFAULT_TIMEOUT: Span = Span::from_secs(30);
const DEFAULT_OUTPUT: Bytes = Bytes(16 << 10);

const KEYS: &[&str] =
    &["run", "slots", "changes", "idempotent", "undo", "read", "write", "network", "timeout", "output", "why"];

pub(super) fn parse(field: Field) -> Result<ProgramsGrant, Mistake> {
    let mut table = field.table(KEYS)?;
    let why = why(&mut table)?;
    let slots = table.optional("slots").map_or_else(|| Ok(BTreeMap::new()), slots)?;
    let run_field =
        table.required("run", "the absolute path and the arguments, such as [\"/usr/sbin/nginx\", \"-t\"]")?;
    let run = arguments(&run_field, &slots)?;
    if let Some(unused) = slots.keys().find(|slot| !run.iter().any(|argument| template::uses(argument, slot))) {
        return Err(run_field.mistake(format!("the slot `{unused}` is used by no argument"), "leave it out of `slots`"));
    }
    let changes = table.required("changes", "`changes = false` for a program that only looks")?.flag()?;
    let (mut idempotent, mut undo, mut write) = (false, None, Vec::new());
    if changes {
        idempotent = table.optional("idempotent").map_or(Ok(false), |field| field.flag())?;
        undo = table.optional("undo").map(|field| arguments(&field, &slots)).transpose()?;
        write = table.optional("write").map_or_else(|| Ok(Vec::new()), paths)?;
    } else {
        for key in ["idempotent", "undo", "write"] {
            idle(&mut table, key, "`changes = true`")?;
        }
    }
    Ok(ProgramsGrant {
        run,
        slots,
        changes,
        idempotent,
        undo,
        read: table.optional("read").map_or_else(|| Ok(Vec::new()), paths)?,
        write,
        network: table.optional("network").map_or(Ok(Network::None), |field| network(&field))?,
        timeout: table
            .optional("timeout")
            .map_or(Ok(DEFAULT_TIMEOUT), |field| field.span(Span::from_millis(100), MAX_TIMEOUT))?,
        output: table.optional("output").map_or(Ok(DEFAULT_OUTPUT), |field| field.bytes(Bytes(0), MAX_OUTPUT))?,
        why,
    })
}

/// `none` or `host`.
pub(crate) fn network(field: &Field) -> Result<Network, Mistake> {
    match field.text()? {
        "none" => Ok(Network::None),
        "host" => Ok(Network::Host),
        _ => Err(field.mistake("there is no such network", "write \"none\" or \"host\"")),
    }
}

/// Absolute paths. Which of them may be bound is the operator's to say.
pub(crate) fn paths(field: Field) -> Result<Vec<MountPath>, Mistake> {
    let too_many = field.mistake(format!("more than {MAX_PATHS} paths"), "");
    let paths: Vec<MountPath> =
        field.list()?.iter().map(|item| item.parse_with(MountPath::parse)).collect::<Result<_, _>>()?;
    if paths.len() > MAX_PATHS { Err(too_many) } else { Ok(paths) }
}

fn slots(field: Field) -> Result<BTreeMap<Label, SlotSpec>, Mistake> {
    let mut slots = BTreeMap::new();
    for (name, field) in field.named()? {
        let name = Label::parse(&name).map_err(|error| field.mistake(error, ""))?;
        slots.insert(name, slot(field)?);
    }
    Ok(slots)
}

fn slot(field: Field) -> Result<SlotSpec, Mistake> {
    let one =
        field.mistake("it is neither a range nor a list", "write { min = 1, max = 9 } or { one_of = [\"a\", \"b\"] }");
    let whole = field.clone();
    let mut table = field.table(&["min", "max", "one_of"])?;
    match (table.optional("min"), table.optional("max"), table.optional("one_of")) {
        (Some(_), Some(_), None) => {
            // Not negative: an argument that begins with a hyphen is an option.
            let (min, max) = super::range(whole, |field| field.integer(0, i64::MAX))?;
            Ok(SlotSpec::Integer { min, max })
        }
        (None, None, Some(values)) => one_of(values).map(SlotSpec::OneOf),
        _ => Err(one),
    }
}

fn one_of(field: Field) -> Result<Vec<String>, Mistake> {
    let wrong = field.mistake(format!("1 to {MAX_VALUES} values are possible"), "");
    let mut seen = BTreeSet::new();
    for item in field.list()? {
        let text = item.text()?;
        if text.is_empty() || text.len() > MAX_ARGUMENT || text.starts_with('-') || text.chars().any(char::is_control) {
            return Err(item.mistake(
                "it can't be an argument's value",
                "write printable text that does not begin with `-`, which would be an option",
            ));
        }
        seen.insert(text.to_owned());
    }
    if seen.is_empty() || seen.len() > MAX_VALUES { Err(wrong) } else { Ok(seen.into_iter().collect()) }
}

/// An argument template: an absolute path without slots, then arguments with or without.
fn arguments(field: &Field, slots: &BTreeMap<Label, SlotSpec>) -> Result<Vec<String>, Mistake> {
    let items = field.clone().list()?;
    let Some((program, rest)) = items.split_first() else {
        return Err(field.mistake("it names no program", "write its absolute path first"));
    };
    if rest.len() > MAX_ARGUMENTS {
        return Err(field.mistake(format!("more than {MAX_ARGUMENTS} arguments"), ""));
    }
    let mut arguments = vec![program.parse_with(MountPath::parse)?.to_string()];
    if arguments.iter().any(|path| path.contains(['{', '}'])) {
        return Err(program.mistake("the program itself can't be a slot", "write its absolute path"));
    }
    for item in rest {
        let text = item.text()?;
        if text.len() > MAX_ARGUMENT || text.contains('\0') {
            return Err(item.mistake("it can't be an argument", "write at most 1024 bytes without NUL"));
        }
        let parsed = Template::parse(text)
            .ok_or_else(|| item.mistake("a brace is not closed, or its slot has no name", "write `{name}`"))?;
        if let Some(unknown) = parsed.slots().find(|slot| !slots.contains_key(*slot)) {
            let hint = format!("add `slots.{unknown} = {{ one_of = [\"…\"] }}`");
            return Err(item.mistake(format!("there is no slot `{unknown}`"), hint));
        }
        arguments.push(text.to_owned());
    }
    Ok(arguments)
}
