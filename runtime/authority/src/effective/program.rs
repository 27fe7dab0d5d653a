//! A bound program: which values its slots take, and what is run in which jail.

use std::collections::BTreeMap;

use theriac_model::call::Interface;
use theriac_model::denial::{Denial, DenialCause};
use theriac_model::id::Label;
use theriac_model::plan::PlannedEffect;
use theriac_model::program::{Jail, ProgramEffect, ProgramSpec, SlotValue};
use theriac_model::target::MountPath;

use super::template::Template;
use super::{suggest, unbound};
use crate::grant::{ProgramsGrant, SlotSpec, never};
use crate::host::{HostConfig, ProgramConfig};

/// A program with what one run may do with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BoundProgram {
    /// The label.
    pub label: Label,
    /// What the manifest asks for.
    pub grant: ProgramsGrant,
    /// The jail.
    pub jail: Jail,
    /// What it changes can be made again.
    pub reproducible: bool,
}

/// Both the program and its undo.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filled {
    /// What is run.
    pub program: ProgramSpec,
    /// What takes it back.
    pub undo: Option<ProgramSpec>,
}

impl BoundProgram {
    pub(super) fn bind(label: &Label, grant: &ProgramsGrant, host: &HostConfig) -> Result<Self, Denial> {
        let no = |rule| unbound(Interface::Programs, label, DenialCause::NotGranted, rule);
        let listed = |argv: &[String]| {
            host.programs.iter().find(|entry| argv.first().is_some_and(|path| *path == entry.path.as_str()))
        };
        // Who it runs as can't be guessed, so there is no line to add for a program that is not listed.
        let entry = listed(&grant.run).ok_or_else(|| no("runner.program"))?;
        let id = ("path", entry.path.as_str());
        if grant.changes && !entry.changes {
            return Err(no("runner.program.changes").suggest(suggest::runner("program", id, "changes", true)));
        }
        if grant.undo.as_ref().is_some_and(|undo| undo.first() != grant.run.first()) {
            return Err(no("undo.program"));
        }
        for (key, asked, left) in [("read", &grant.read, &entry.read), ("write", &grant.write, &entry.write)] {
            if let Some(outside) = asked.iter().find(|path| !left.iter().any(|root| lies_in(path, root))) {
                let rule = if key == "read" { "runner.program.read" } else { "runner.program.write" };
                let paths = left.iter().map(MountPath::as_str).chain([outside.as_str()]);
                return Err(no(rule).suggest(suggest::runner("program", id, key, suggest::list(paths))));
            }
        }
        if grant.read.iter().chain(&grant.write).any(|path| host.is_own(path)) {
            return Err(no("runner.own-state"));
        }
        if grant.network > entry.network {
            let line = suggest::runner("program", id, "network", suggest::text(grant.network.as_str()));
            return Err(no("runner.program.network").suggest(line));
        }
        Ok(Self {
            label: label.clone(),
            grant: grant.clone(),
            jail: jail(grant, entry),
            reproducible: entry.reproducible,
        })
    }

    /// The program with its slots filled, if the values are admitted.
    pub fn fill(&self, values: &[(String, SlotValue)]) -> Result<Filled, Denial> {
        let attempted = || {
            let values: Vec<String> = values.iter().take(8).map(|(name, value)| shown(name, value)).collect();
            format!("run {} with {}", self.grant.run.first().map_or("", String::as_str), values.join(", "))
        };
        let no = |rule: &str| Denial::new(DenialCause::NotGranted, &self.label, rule, attempted());
        let mut filled: BTreeMap<&Label, String> = BTreeMap::new();
        for (name, value) in values {
            let Some((slot, spec)) = self.grant.slots.iter().find(|(slot, _)| slot.as_str() == name) else {
                return Err(no("slots"));
            };
            if !admits(spec, value) {
                let denial = no("slots");
                let widened = widened(spec, value);
                return Err(match widened {
                    Some(spec) => denial.suggest(suggest::manifest(
                        Interface::Programs,
                        &self.label,
                        &format!("slots.{slot}"),
                        spec,
                    )),
                    None => denial,
                });
            }
            if filled.insert(slot, value.to_string()).is_some() {
                return Err(no("slots"));
            }
        }
        let spec = |template: &[String]| {
            let argv = template
                .iter()
                .map(|argument| Template::parse(argument)?.fill(|slot| filled.get(slot).map(String::as_str)));
            let argv: Option<Vec<String>> = argv.collect();
            Some(ProgramSpec {
                argv: argv?,
                jail: self.jail.clone(),
                timeout: self.grant.timeout,
                output: self.grant.output,
            })
        };
        let program = spec(&self.grant.run).ok_or_else(|| no("slots"))?;
        let undo = match &self.grant.undo {
            Some(undo) => Some(spec(undo).ok_or_else(|| no("slots"))?),
            None => None,
        };
        Ok(Filled { program, undo })
    }

    /// A planned effect still lies within the grant, whatever the plan says of itself: some values of the slots give it.
    pub(crate) fn admits_effect(&self, planned: &PlannedEffect, effect: &ProgramEffect) -> Result<(), Denial> {
        let no = |cause, rule| Err(Denial::new(cause, &self.label, rule, &planned.effect));
        if effect.program.jail != self.jail
            || effect.program.timeout != self.grant.timeout
            || effect.program.output != self.grant.output
            || effect.idempotent != self.grant.idempotent
        {
            return no(DenialCause::StaleTarget, "identity");
        }
        if self.grant.changes && self.gives(&effect.program.argv) {
            Ok(())
        } else {
            no(DenialCause::NotGranted, "slots")
        }
    }

    fn gives(&self, argv: &[String]) -> bool {
        let mut candidates = vec![BTreeMap::<&Label, String>::new()];
        for (slot, spec) in &self.grant.slots {
            let values = possible(spec, argv);
            candidates = candidates
                .into_iter()
                .flat_map(|filled| {
                    values.iter().map(move |value| {
                        let mut filled = filled.clone();
                        filled.insert(slot, value.clone());
                        filled
                    })
                })
                .take(MAX_CANDIDATES)
                .collect();
        }
        candidates.iter().any(|filled| {
            argv.len() == self.grant.run.len()
                && self.grant.run.iter().zip(argv).all(|(template, argument)| {
                    let parsed = Template::parse(template);
                    parsed.and_then(|parsed| parsed.fill(|slot| filled.get(slot).map(String::as_str))).as_ref()
                        == Some(argument)
                })
        })
    }

    /// What it comes to here, in words.
    pub(crate) fn words(&self) -> String {
        let path = self.grant.run.first().map_or("", String::as_str);
        let what = if self.grant.changes { "run" } else { "run, to look only," };
        format!("{what} {path} as uid {}", self.jail.uid)
    }
}

/// Combinations of slot values that are tried against a planned argument list; a list has few slots.
const MAX_CANDIDATES: usize = 4096;

fn jail(grant: &ProgramsGrant, entry: &ProgramConfig) -> Jail {
    Jail {
        uid: entry.uid,
        gid: entry.gid,
        read: grant.read.clone(),
        write: grant.write.clone(),
        network: grant.network,
    }
}

fn lies_in(path: &MountPath, root: &MountPath) -> bool {
    path == root || never::lies_below(path.as_str(), root.as_str())
}

fn shown(name: &str, value: &SlotValue) -> String {
    let text: String = format!("{name} = {value}").chars().take(80).collect();
    text.escape_debug().to_string()
}

fn admits(spec: &SlotSpec, value: &SlotValue) -> bool {
    match (spec, value) {
        (SlotSpec::Integer { min, max }, SlotValue::Integer(value)) => (min..=max).contains(&value),
        (SlotSpec::OneOf(values), SlotValue::Choice(value)) => values.contains(value),
        (SlotSpec::Integer { .. } | SlotSpec::OneOf(_), _) => false,
    }
}

/// The smallest specification that also takes the value; none where no manifest could.
fn widened(spec: &SlotSpec, value: &SlotValue) -> Option<String> {
    match (spec, value) {
        (SlotSpec::Integer { min, max }, SlotValue::Integer(value)) if *value >= 0 => {
            Some(format!("{{ min = {}, max = {} }}", min.min(value), max.max(value)))
        }
        (SlotSpec::OneOf(values), SlotValue::Choice(value))
            if !value.is_empty()
                && !value.starts_with('-')
                && value.len() <= 1024
                && !value.chars().any(char::is_control) =>
        {
            Some(format!("{{ one_of = {} }}", suggest::list(values.iter().chain([value]))))
        }
        (SlotSpec::Integer { .. } | SlotSpec::OneOf(_), _) => None,
    }
}

/// Values of the slot that could stand in one of the arguments.
fn possible(spec: &SlotSpec, argv: &[String]) -> Vec<String> {
    match spec {
        SlotSpec::OneOf(values) => values
            .iter()
            .filter(|value| argv.iter().any(|argument| argument.contains(value.as_str())))
            .cloned()
            .collect(),
        SlotSpec::Integer { min, max } => {
            let numbers = argv.iter().flat_map(|argument| argument.split(|c: char| !c.is_ascii_digit()));
            numbers
                .filter(|digits| {
                    digits
                        .parse::<i64>()
                        .is_ok_and(|value| (min..=max).contains(&&value) && value.to_string() == **digits)
                })
                .map(str::to_owned)
                .collect()
        }
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
handles = ["certificate-expiry"]

[grants.programs.renew]
run = ["/usr/bin/certbot", "renew", "--cert-name", "{domain}", "--days={days}"]
slots = { domain = { one_of = ["a.example", "b.example"] }, days = { min = 1, max = 30 } }
changes = true
undo = ["/usr/bin/certbot", "rollback", "{domain}"]
read = ["/etc/letsencrypt"]
write = ["/var/lib/letsencrypt"]
network = "host"
why = "w"
"#;
    const HOST: &str = r#"
[[program]]
path = "/usr/bin/certbot"
user = 998
changes = true
read = ["/etc"]
write = ["/var/lib/letsencrypt"]
network = "host"
"#;

    fn values(domain: &str, days: i64) -> Vec<(String, SlotValue)> {
        vec![("domain".into(), SlotValue::Choice(domain.into())), ("days".into(), SlotValue::Integer(days))]
    }

    fn fill(manifest: &str, host: &str, values: &[(String, SlotValue)]) -> Result<Filled, Denial> {
        bound(manifest, host, "host").program("renew").and_then(|program| program.fill(values))
    }

    #[test]
    fn each_slot_is_one_value_in_one_argument() {
        let filled = fill(MANIFEST, HOST, &values("a.example", 7)).unwrap();
        assert_eq!(filled.program.argv, ["/usr/bin/certbot", "renew", "--cert-name", "a.example", "--days=7"]);
        assert_eq!(filled.undo.unwrap().argv, ["/usr/bin/certbot", "rollback", "a.example"]);
        assert_eq!((filled.program.jail.uid, filled.program.jail.gid), (998, 998));
    }

    // EX01, EX02: no value becomes an option, another argument or a shell's text.
    #[test]
    fn a_value_outside_its_slot_is_denied() {
        for domain in
            ["-c", "--pre-hook=sh", "c.example", "", "a.example b.example", "$(id)", "a.example\n", "A.example"]
        {
            assert_eq!(rule(fill(MANIFEST, HOST, &values(domain, 7))), "slots", "{domain:?}");
        }
        for days in [0, 31, -1, i64::MIN] {
            assert_eq!(rule(fill(MANIFEST, HOST, &values("a.example", days))), "slots", "{days}");
        }
        let mut twice = values("a.example", 7);
        twice.push(("domain".into(), SlotValue::Choice("b.example".into())));
        let wrong_type = vec![("domain".into(), SlotValue::Integer(1)), ("days".into(), SlotValue::Integer(1))];
        let unknown = vec![("other".into(), SlotValue::Integer(1))];
        for values in [twice, wrong_type, unknown, Vec::new()] {
            assert_eq!(rule(fill(MANIFEST, HOST, &values)), "slots", "{values:?}");
        }
    }

    #[test]
    fn the_operator_narrows_the_jail() {
        let bind = |host: &str| rule(fill(MANIFEST, host, &values("a.example", 7)));
        assert_eq!(bind(""), "runner.program");
        assert_eq!(bind(&HOST.replace("changes = true\n", "")), "runner.program.changes");
        assert_eq!(bind(&HOST.replace("read = [\"/etc\"]\n", "")), "runner.program.read");
        assert_eq!(
            bind(&HOST.replace("write = [\"/var/lib/letsencrypt\"]", "write = [\"/var/lib/lets\"]")),
            "runner.program.write"
        );
        assert_eq!(bind(&HOST.replace("network = \"host\"", "")), "runner.program.network");
    }

    #[test]
    fn a_suggestion_allows_exactly_the_call_it_was_made_for() {
        let narrow =
            HOST.replace("changes = true\n", "").replace("network = \"host\"", "").replace("read = [\"/etc\"]\n", "");
        let asked = values("c.example", 45);
        let (mut manifest, mut host) = (MANIFEST.to_owned(), narrow);
        let mut steps = 0;
        while let Err(denial) = fill(&manifest, &host, &asked) {
            (manifest, host) = applied(&denial.suggestion.unwrap(), &manifest, &host);
            steps += 1;
        }
        assert_eq!(steps, 5, "changes, read, network, domain, days");
        assert_eq!(rule(fill(&manifest, &host, &values("d.example", 45))), "slots");
        assert_eq!(rule(fill(&manifest, &host, &values("c.example", 46))), "slots");
    }

    #[test]
    fn a_plan_is_held_to_the_grants_jail_time_output_and_repeatability() {
        use theriac_model::effect::{Effect, Observed, UndoClass};
        use theriac_model::time::Span;
        use theriac_model::units::Permille;

        let admits = |manifest: &str, change: fn(&mut ProgramEffect)| {
            let program = fill(MANIFEST, HOST, &values("a.example", 7)).unwrap().program;
            let mut effect = ProgramEffect { label: Label::parse("renew").unwrap(), program, idempotent: false };
            change(&mut effect);
            let planned = PlannedEffect {
                effect: Effect::Program(effect.clone()),
                undo: UndoClass::Compensated { inverse: "run it".to_owned() },
                guards: Vec::new(),
                before: Observed::Program(None),
                reproducible: false,
                risk: Permille::ZERO,
            };
            let effective = bound(manifest, HOST, "host");
            effective.program("renew").and_then(|program| program.admits_effect(&planned, &effect))
        };
        assert_eq!(admits(MANIFEST, |_| ()), Ok(()));
        let wider: [fn(&mut ProgramEffect); 6] = [
            |effect| effect.idempotent = true,
            |effect| effect.program.timeout = Span::from_secs(31),
            |effect| effect.program.output.0 += 1,
            |effect| effect.program.jail.uid = 0,
            |effect| effect.program.jail.write.push(MountPath::parse("/etc").unwrap()),
            |effect| effect.program.jail.read.push(MountPath::parse("/root").unwrap()),
        ];
        for change in wider {
            assert_eq!(rule(admits(MANIFEST, change)), "identity");
        }
        let offline = MANIFEST.replace("network = \"host\"\n", "");
        assert_eq!(rule(admits(&offline, |_| ())), "identity");
        let repeatable = MANIFEST.replace("changes = true", "changes = true\nidempotent = true");
        assert_eq!(admits(&repeatable, |effect| effect.idempotent = true), Ok(()));
        // One that only looks is never an effect.
        let looks = MANIFEST
            .replace("changes = true\nundo = [\"/usr/bin/certbot\", \"rollback\", \"{domain}\"]\n", "changes = false\n")
            .replace("write = [\"/var/lib/letsencrypt\"]\n", "");
        assert_eq!(rule(admits(&looks, |effect| effect.program.jail.write.clear())), "slots");
    }

    #[test]
    fn a_plan_is_held_to_the_template() {
        let effective = bound(MANIFEST, HOST, "host");
        let program = effective.program("renew").unwrap();
        assert!(program.gives(&program.fill(&values("b.example", 30)).unwrap().program.argv));
        for argv in [
            vec!["/usr/bin/certbot", "renew", "--cert-name", "c.example", "--days=7"],
            vec!["/usr/bin/certbot", "renew", "--cert-name", "a.example", "--days=31"],
            vec!["/usr/bin/certbot", "renew", "--cert-name", "a.example", "--days=07"],
            vec!["/usr/bin/certbot", "renew", "--cert-name", "a.example"],
            vec!["/bin/sh", "renew", "--cert-name", "a.example", "--days=7"],
        ] {
            let argv: Vec<String> = argv.into_iter().map(str::to_owned).collect();
            assert!(!program.gives(&argv), "{argv:?}");
        }
    }
}
