//! `fault`: what goes in, and what comes back.

use theriac_model::call::{FaultInput, Opinion, Report};
use theriac_model::fault::Severity;
use theriac_model::remedy::ParamValue;

use super::{State, cut, returned};
use crate::bindings::{fault, types};

/// Characters of a report that are kept.
const REPORT_CHARS: usize = 2_000;

impl fault::Host for State {}

/// The fault in the contract's types.
pub(crate) fn input(from: FaultInput) -> fault::Input {
    fault::Input {
        kind: from.kind.as_str().to_owned(),
        severity: match from.severity {
            Severity::Info => fault::Severity::Info,
            Severity::Warning => fault::Severity::Warning,
            Severity::Critical => fault::Severity::Critical,
        },
        target: from.target,
        summary: from.summary,
        numbers: from
            .numbers
            .into_iter()
            .map(|number| fault::Number { name: number.name, value: number.value, unit: number.unit })
            .collect(),
        evidence: from
            .evidence
            .into_iter()
            .map(|(id, summary)| fault::Evidence { id: id.to_string(), summary })
            .collect(),
        params: from
            .params
            .into_iter()
            .map(|(name, value)| fault::Param { name: name.to_string(), value: param(value) })
            .collect(),
    }
}

fn param(value: ParamValue) -> fault::Value {
    match value {
        ParamValue::Integer(value) => fault::Value::Integer(value),
        ParamValue::Choice(value) => fault::Value::Choice(value),
        ParamValue::Flag(value) => fault::Value::Flag(value),
    }
}

/// What `remediate` answered.
pub(crate) fn report(answer: Result<fault::Report, types::Denial>) -> Report {
    match answer {
        Ok(fault::Report::Treated(text)) => Report::Treated(cut(text, REPORT_CHARS)),
        Ok(fault::Report::NothingToDo(text)) => Report::NothingToDo(cut(text, REPORT_CHARS)),
        Ok(fault::Report::GaveUp(text)) => Report::GaveUp(cut(text, REPORT_CHARS)),
        Err(denial) => Report::Denied(returned(denial)),
    }
}

/// What `check` answered. A check that was denied something can't tell.
pub(crate) fn opinion(answer: Result<fault::Opinion, types::Denial>) -> Opinion {
    match answer {
        Ok(fault::Opinion::Satisfied) => Opinion::Satisfied,
        Ok(fault::Opinion::Unsure(text)) => Opinion::Unsure(cut(text, REPORT_CHARS)),
        Ok(fault::Opinion::NotImproved(text)) => Opinion::NotImproved(cut(text, REPORT_CHARS)),
        Err(denial) => Opinion::Unsure(returned(denial).to_string()),
    }
}
