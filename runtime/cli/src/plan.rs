//! A plan as a person reads it before saying yes: every effect with the state before it and whether it can be taken back.

use theriac_model::effect::UndoClass;
use theriac_model::plan::{Guard, Plan, PlannedEffect};
use theriac_model::record::{Action, Decision};

use crate::text::outside;

/// The plan, without its decision.
pub fn describe(plan: &Plan) -> String {
    let mut text = format!("plan {}\n", plan.hash());
    let mut line = |written: String| text.push_str(&format!("  {written}\n"));
    line(format!("fault    {} at {}", plan.kind, plan.target));
    line(format!("remedy   {} serial {}", outside(&plan.remedy.to_string()), plan.remedy.serial));
    if let Some((playbook, rung)) = &plan.rung {
        line(format!("rung     {rung} of playbook {playbook}"));
    }
    let params: Vec<String> = plan.params.iter().map(|(name, value)| format!("{name}={value}")).collect();
    if !params.is_empty() {
        line(format!("params   {}", outside(&params.join(", "))));
    }
    line(format!("says     {}", outside(&plan.report)));
    line(format!("risk     {}", plan.risk()));
    for (index, planned) in plan.effects.iter().enumerate() {
        text.push_str(&effect(index, planned));
    }
    let lost = plan.irreversible().count();
    if lost > 0 {
        text.push_str(&format!("  {lost} of these can't be taken back\n"));
    }
    text
}

fn effect(index: usize, planned: &PlannedEffect) -> String {
    let mut text = format!("  {}. {}\n", index + 1, outside(&planned.effect.to_string()));
    let mut line = |written: String| text.push_str(&format!("     {written}\n"));
    line(format!("before: {}", outside(&planned.before.to_string())));
    let reproducible = if planned.reproducible { ", data classed as reproducible" } else { "" };
    line(format!("undo:   {}{reproducible}", undo(&planned.undo)));
    line(format!("risk:   {}", planned.risk));
    if !planned.guards.is_empty() {
        line(format!("only if {}", planned.guards.iter().map(guard).collect::<Vec<_>>().join(", ")));
    }
    text
}

fn undo(class: &UndoClass) -> String {
    match class {
        UndoClass::Exact => "exact: put back as it was".to_owned(),
        UndoClass::Compensated { inverse } => format!("compensated: {}", outside(inverse)),
        UndoClass::Irreversible { reason } => format!("IRREVERSIBLE: {}", outside(reason)),
    }
}

fn guard(guard: &Guard) -> String {
    match guard {
        Guard::MinAge { seconds } => format!("it is at least {seconds} s old"),
        Guard::NotOpen => "no process has it open".to_owned(),
        Guard::AppendedOnly => "every writer appends".to_owned(),
        Guard::OneLink => "it has one name only".to_owned(),
        Guard::SameInvocation => "it was not started anew since".to_owned(),
        Guard::NotAskedFor { seconds } => format!("nobody has asked for it within {seconds} s"),
        Guard::SameContainer => "it is the same container, and was not started anew since".to_owned(),
        Guard::TrustedProgram => "the program is root's, in every part of its path".to_owned(),
        Guard::SameValue => "its value is still the one before".to_owned(),
        Guard::NotNeeded => "the operator does not need the address".to_owned(),
        Guard::SameSession => "it is the same session, and still waits".to_owned(),
        Guard::NotStoppedOnPurpose => "nobody stopped it on purpose".to_owned(),
        Guard::NotRestartingItself => "it does not restart by itself".to_owned(),
        Guard::FaultPresent => "the fault is still there".to_owned(),
    }
}

/// What policy decided about it.
pub fn decision(decision: &Decision) -> String {
    format!(
        "policy   {} (level {}, risk {}): {}\n         by {}\n",
        action(decision.action),
        decision.level.get(),
        decision.risk,
        outside(&decision.summary),
        outside(&decision.rules.join(", "))
    )
}

/// The word for what policy lets happen.
pub const fn action(action: Action) -> &'static str {
    match action {
        Action::Run => "run",
        Action::RunAndTell => "run and tell",
        Action::RunWithConsent => "run with consent",
        Action::Defer => "defer",
        Action::Refuse => "refuse",
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use expect_test::expect;
    use theriac_model::effect::{Effect, Observed, UnitVerb};
    use theriac_model::fault::FaultKind;
    use theriac_model::id::{Digest, IncidentId, Label, PlaybookName, RemedyName, UnitName};
    use theriac_model::remedy::RemedyRef;
    use theriac_model::unit::ActiveState;
    use theriac_model::units::Permille;

    use super::*;

    pub(crate) fn restart() -> Plan {
        let (label, unit) = (Label::parse("target").unwrap(), UnitName::parse("web").unwrap());
        let invocation = "a1".to_owned();
        Plan {
            incident: IncidentId::parse("i-1").unwrap(),
            kind: FaultKind::ServiceCrash,
            target: "unit:web".parse().unwrap(),
            remedy: RemedyRef {
                name: RemedyName::parse("service-recover").unwrap(),
                version: "1.0.0".into(),
                serial: 1,
                component: Digest::of(b"x"),
            },
            params: std::collections::BTreeMap::new(),
            rung: Some((PlaybookName::parse("service-crash").unwrap(), 0)),
            effects: vec![PlannedEffect {
                effect: Effect::Unit { label, unit, invocation: invocation.clone(), verb: UnitVerb::Start },
                undo: UndoClass::Compensated { inverse: "stop".into() },
                guards: vec![Guard::SameInvocation, Guard::NotStoppedOnPurpose],
                before: Observed::Unit { active: ActiveState::Failed, invocation, sub: "failed".into() },
                reproducible: false,
                risk: Permille::new(120).unwrap(),
            }],
            report: "started \u{1b}[1mweb".into(),
        }
    }

    #[test]
    fn a_plan_is_shown_with_before_values_undo_and_guards() {
        let shown = describe(&restart());
        // Everything after the hash stands two to the right, which `expect!` can't show.
        let lines = shown.lines().skip(1).map(|line| line.strip_prefix("  ").unwrap());
        let shown: String = lines.map(|line| format!("{line}\n")).collect();
        expect![[r#"
              fault    service-crash at unit:web
              remedy   service-recover 1.0.0 (2d711642b726) serial 1
              rung     0 of playbook service-crash
              says     started \u{1b}[1mweb
              risk     120‰
              1. start web
                 before: Failed (failed)
                 undo:   compensated: stop
                 risk:   120‰
                 only if it was not started anew since, nobody stopped it on purpose
        "#]]
        .assert_eq(&shown);
    }
}
