//! What came of a run, held against what the scenario says must come of it.

use std::collections::BTreeSet;

use theriac_model::call::Report;
use theriac_model::database::{DatabaseVerb, Setting};
use theriac_model::denial::Denial;
use theriac_model::effect::{Effect, GroupVerb, UnitVerb};
use theriac_model::id::Digest;
use theriac_model::plan::PlannedEffect;
use theriac_model::record::{Entry, Record};
use theriac_model::unit::KillWhom;
use theriac_runner::worker::Ending;

use crate::database::Database;
use crate::perform::Performance;
use crate::scenario::{Afterwards, CertificateWord, Expect, ExpectDatabase, ReportWord};
use crate::snapshot::Snapshot;
use crate::stage::Stage;

/// Every way in which the run was not as expected.
pub(crate) fn problems(
    expect: &Expect,
    performance: &Performance,
    stage: &Stage,
    before: &Snapshot,
    after: &Snapshot,
) -> Vec<String> {
    let mut problems = Vec::new();
    problems.extend(report(expect.report, &performance.dry));
    problems.extend(effects(expect, &performance.plan));
    let denials = denials(&stage.notes.entries());
    if denials != expect.denials {
        problems.push(format!("denials: expected {:?}, there were {denials:?}", expect.denials));
    }
    problems.extend(performance.trouble());
    for file in &expect.file {
        let key = (file.directory.clone(), file.path.clone());
        let (then, now) = (before.files.get(&key), after.files.get(&key));
        let wrong = match file.afterwards() {
            Ok(Afterwards::Unchanged) => (then != now || then.is_none()).then_some("is not as it was"),
            Ok(Afterwards::Absent) => now.is_some().then_some("is still there"),
            Ok(Afterwards::Content(text)) => {
                let same = now.is_some_and(|now| now.content == Digest::of(text.as_bytes()));
                (!same).then_some("has other content")
            }
            Err(_) => Some("has no expectation"),
        };
        problems.extend(wrong.map(|wrong| format!("{}/{} {wrong}", file.directory, file.path)));
    }
    if let Some(word) = expect.certificate {
        let found =
            if after.certificate == before.certificate { CertificateWord::Unchanged } else { CertificateWord::Renewed };
        if found != word {
            problems.push(format!("certificate: expected {word:?}, is {found:?}"));
        }
    }
    if let Some(release) = &expect.release
        && after.release.as_deref() != Some(release.as_str())
    {
        problems.push(format!("release: expected {release}, in use is {:?}", after.release));
    }
    if let (Some(expected), Some(database)) = (&expect.database, &stage.database) {
        problems.extend(pool(expected, database));
    }
    if let (Some(word), Some(service)) = (expect.unit, &stage.service)
        && !service.becomes(word)
    {
        let state = service
            .state()
            .map_or_else(|error| error.to_string(), |state| format!("{:?}, {}", state.active, state.result));
        problems.push(format!("the unit is not {word:?} but {state}"));
    }
    problems
}

fn pool(expected: &ExpectDatabase, database: &Database) -> Vec<String> {
    let connected = database.connected();
    let settings = database.settings();
    let sessions = expected.sessions.filter(|sessions| *sessions != connected);
    let sessions = sessions.map(|sessions| format!("sessions: expected {sessions}, there are {connected}"));
    let differs = |(setting, value): &(&Setting, &i64)| settings.get(setting).map(|state| state.value) != Some(**value);
    let wrong = expected.settings.iter().filter(differs);
    let wrong = wrong.map(|(setting, value)| format!("{setting}: expected {value}, the settings are {settings:?}"));
    sessions.into_iter().chain(wrong).collect()
}

fn report(expected: ReportWord, dry: &Ending) -> Option<String> {
    let as_expected = match (expected, dry) {
        (ReportWord::Treated, Ending::Remediated(Report::Treated(_)))
        | (ReportWord::NothingToDo, Ending::Remediated(Report::NothingToDo(_)))
        | (ReportWord::GaveUp, Ending::Remediated(Report::GaveUp(_)))
        | (ReportWord::Denied, Ending::Remediated(Report::Denied(_))) => true,
        (ReportWord::Treated | ReportWord::NothingToDo | ReportWord::GaveUp | ReportWord::Denied, _) => false,
    };
    (!as_expected).then(|| format!("report: expected {expected:?}, it said: {}", said(dry)))
}

/// How a call ended, for people.
pub(crate) fn said(ending: &Ending) -> String {
    match ending {
        Ending::Remediated(Report::Treated(text)) => format!("treated: {text}"),
        Ending::Remediated(Report::NothingToDo(text)) => format!("nothing to do: {text}"),
        Ending::Remediated(Report::GaveUp(text)) => format!("gave up: {text}"),
        Ending::Remediated(Report::Denied(denial)) => format!("denied: {denial}"),
        Ending::Checked(opinion) => format!("an opinion: {opinion:?}"),
        Ending::Ended { sentence, .. } => format!("it was ended: {sentence}"),
    }
}

fn effects(expect: &Expect, plan: &[PlannedEffect]) -> Vec<String> {
    let planned: Vec<String> = plan.iter().map(|planned| words(&planned.effect)).collect();
    let choices = expect.effects().unwrap_or_default();
    let mut problems = Vec::new();
    if !choices
        .iter()
        .any(|choice| choice.len() == planned.len() && choice.iter().zip(&planned).all(|(e, p)| is_meant(e, p)))
    {
        problems.push(format!("effects: expected {choices:?}, planned {planned:?}"));
    }
    let classes: Vec<String> = plan.iter().map(|planned| planned.undo.as_str().to_owned()).collect();
    if expect.undo.as_ref().is_some_and(|undo| *undo != classes) {
        problems.push(format!("undo: expected {:?}, planned {classes:?}", expect.undo.as_deref().unwrap_or_default()));
    }
    problems
}

/// `set-affinity` means any `set-affinity N`.
fn is_meant(expected: &str, planned: &str) -> bool {
    planned.strip_prefix(expected).is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
}

/// An effect in a scenario's words: the verb, and what tells it from others of its kind.
pub(crate) fn words(effect: &Effect) -> String {
    let verb = effect.verb();
    match effect {
        Effect::File { file, .. } => format!("{verb} {}", file.path),
        Effect::Unit { verb: UnitVerb::SetProperty { property }, .. } => format!("{verb} {}", property.name()),
        Effect::Unit { verb: UnitVerb::Kill { whom, signal }, .. } => {
            let whom = if *whom == KillWhom::Main { "main" } else { "all" };
            format!("{verb} {} {whom}", signal.as_str())
        }
        Effect::Unit { .. } => verb.to_owned(),
        Effect::Group { verb: GroupVerb::SetAffinity { cpus }, .. } => format!("{verb} {cpus}"),
        Effect::Group { verb: GroupVerb::Renice { nice }, .. } => format!("{verb} {nice}"),
        Effect::Process { signal, .. } => format!("{verb} {}", signal.as_str()),
        Effect::Certificate(effect) => format!("{verb} {}", effect.certificate),
        Effect::Program(effect) => format!("{verb} {}", effect.program),
        Effect::Http(effect) => format!("{verb} {}", effect.target),
        Effect::Knob(effect) => format!("{verb} {} {}", effect.knob, effect.value),
        Effect::Release(effect) => format!("{verb} {}", effect.to),
        Effect::Container(effect) => format!("{verb} {}", effect.target),
        Effect::Firewall(effect) => format!("{verb} {}", effect.network),
        Effect::Database(effect) => match &effect.verb {
            DatabaseVerb::Terminate(termination) => format!("{verb} {}", termination.application),
            DatabaseVerb::Set { setting, value } => format!("{verb} {setting} {value}"),
        },
    }
}

/// Cause and rule of every denial, each once, in order.
fn denials(entries: &[Entry]) -> Vec<String> {
    let word = |denial: &Denial| format!("{} {}", denial.cause.as_str(), denial.rule);
    let mut seen = BTreeSet::new();
    let all = entries
        .iter()
        .filter_map(|entry| if let Record::Denied { denial, .. } = &entry.record { Some(word(denial)) } else { None });
    all.filter(|denial| seen.insert(denial.clone())).collect()
}
