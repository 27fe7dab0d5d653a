//! Playbooks: the YAML of `playbooks/*.yaml`, read once to [`Playbook`].
//!
//! ```yaml
//! name: disk-full                    # [a-z0-9-]{1,64}
//! summary: Archive, then remove      # one line for people
//! handles: [disk-full]               # fault kinds
//! targets: ["mount:/var"]            # only at these; left out: at any. One that names the target wins over one that does not
//! rungs:                             # tried in order; each is one run, with its own plan, verification and undo
//!   - remedy: disk-reclaim           # an approved remedy
//!     params: { keep_days: 3 }       # whole numbers, words, true or false; what is left out takes its default
//!     level: 1                       # 1 runs, 2 runs and tells, 3 asks; risk may raise it
//!     healed_within: 30s             # undone when not improved by then; left out: the configuration's
//!     stable_for: 5m                 # and well for that long; left out: the configuration's
//! ```
//!
//! Whether a remedy is approved, handles the kind and takes the parameters is checked by [`fit`] when both are known.

use theriac_model::fault::FaultKind;
use theriac_model::id::{Label, RemedyName};
use theriac_model::playbook::{Level, Playbook, Rung};
use theriac_model::remedy::{ParamError, ParamValue, Params, RemedyOffer, resolve_params};
use theriac_model::target::Target;
use theriac_model::time::Span;

use crate::document::{self, Field, Mistake, Scalar};
use crate::manifest::fault_kinds;

/// Why a playbook is refused: the line, what is wrong there, what to write instead.
pub type PlaybookError = Mistake;

/// Longest ladder: after that many failed repairs a person is needed anyway.
const MAX_RUNGS: usize = 8;

/// Longest time a rung may wait; a fault that heals in a day was not healed by the rung.
const MAX_WAIT: Span = Span::from_secs(86_400);

/// Reads one playbook.
pub fn parse(text: &str) -> Result<Playbook, PlaybookError> {
    let mut table = document::yaml(text)?.table(&["name", "summary", "handles", "targets", "rungs"])?;
    let name = table.required("name", "a name such as `disk-full`")?.parse()?;
    let summary = table.required("summary", "one line about what it does")?.sentence(160)?;
    let handles = fault_kinds(table.required("handles", "a list of fault kinds such as [disk-full]")?)?;
    let targets = table.optional("targets").map_or_else(|| Ok(Vec::new()), targets)?;
    let rungs = table.required("rungs", "a list of rungs, each with remedy and level")?;
    let wrong = rungs.mistake(format!("1 to {MAX_RUNGS} rungs are possible"), "");
    let rungs = rungs.list()?.into_iter().map(rung).collect::<Result<Vec<_>, _>>()?;
    if rungs.is_empty() || rungs.len() > MAX_RUNGS {
        return Err(wrong);
    }
    Ok(Playbook { name, summary, handles, targets, rungs })
}

fn targets(field: Field) -> Result<Vec<Target>, Mistake> {
    let empty = field.mistake("a playbook for no target is never chosen", "leave it out for any target");
    let targets: Vec<Target> = field.list()?.iter().map(Field::parse).collect::<Result<_, _>>()?;
    if targets.is_empty() { Err(empty) } else { Ok(targets) }
}

fn rung(field: Field) -> Result<Rung, Mistake> {
    let mut table = field.table(&["remedy", "params", "level", "healed_within", "stable_for"])?;
    let level = table.required("level", "1 (runs), 2 (runs and tells) or 3 (asks)")?;
    let number: u8 = level.integer(1, 3)?;
    let zero = Span::from_millis(0);
    Ok(Rung {
        remedy: table.required("remedy", "the name of a remedy")?.parse()?,
        params: table.optional("params").map_or_else(|| Ok(Params::new()), params)?,
        level: Level::new(number).map_err(|error| level.mistake(error, ""))?,
        healed_within: table.optional("healed_within").map(|f| f.span(Span::from_millis(500), MAX_WAIT)).transpose()?,
        stable_for: table.optional("stable_for").map(|f| f.span(zero, MAX_WAIT)).transpose()?,
    })
}

fn params(field: Field) -> Result<Params, Mistake> {
    let mut params = Params::new();
    for (name, field) in field.named()? {
        let name = Label::parse(&name).map_err(|error| field.mistake(error, ""))?;
        let value = match field.scalar()? {
            Scalar::Integer(number) => ParamValue::Integer(number),
            Scalar::Flag(flag) => ParamValue::Flag(flag),
            Scalar::Text(_) => ParamValue::Choice(field.parse::<Label>()?.into()),
        };
        params.insert(name, value);
    }
    Ok(params)
}

/// Why a playbook does not fit the remedies at hand.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FitError {
    /// No approved remedy has the name.
    #[error("rung {rung} names `{remedy}`, which is not an approved remedy here")]
    NoRemedy { rung: usize, remedy: RemedyName },
    /// The remedy does not treat the kind.
    #[error("rung {rung} names `{remedy}`, which does not handle `{kind}`")]
    WrongKind { rung: usize, remedy: RemedyName, kind: FaultKind },
    /// The parameters do not fit.
    #[error("rung {rung} gives `{remedy}` parameters that do not fit")]
    Params {
        rung: usize,
        remedy: RemedyName,
        #[source]
        source: ParamError,
    },
}

/// Checks each rung against the remedies that may run here; rungs are counted from 1.
pub fn fit(playbook: &Playbook, remedies: &[RemedyOffer]) -> Result<(), FitError> {
    for (index, rung) in playbook.rungs.iter().enumerate() {
        let (number, remedy) = (index + 1, rung.remedy.clone());
        let Some(offer) = remedies.iter().find(|offer| offer.remedy.name == remedy) else {
            return Err(FitError::NoRemedy { rung: number, remedy });
        };
        if let Some(kind) = playbook.handles.iter().find(|kind| !offer.handles.contains(kind)) {
            return Err(FitError::WrongKind { rung: number, remedy, kind: *kind });
        }
        if let Err(source) = resolve_params(&offer.params, &rung.params) {
            return Err(FitError::Params { rung: number, remedy, source });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::Manifest;
    use expect_test::{Expect, expect};
    use theriac_model::id::Digest;

    const GOOD: &str = "name: disk-full
summary: Archive, then remove
handles: [disk-full]
rungs:
  - remedy: disk-reclaim
    params: { mode: archive, keep_days: 1 }
    level: 1
    healed_within: 30s
  - remedy: disk-reclaim
    level: 3
";

    fn check(text: &str, expected: &Expect) {
        expected.assert_eq(&parse(text).map_or_else(|error| error.to_string(), |playbook| format!("{playbook:#?}")));
    }

    #[test]
    fn a_playbook_is_read_to_types() {
        let playbook = parse(GOOD).unwrap();
        assert_eq!(playbook.rungs.len(), 2);
        assert!(playbook.targets.is_empty(), "for any target");
        let first = playbook.rungs.first().unwrap();
        assert_eq!(first.params.get(&Label::parse("keep_days").unwrap()), Some(&ParamValue::Integer(1)));
        assert_eq!(first.params.get(&Label::parse("mode").unwrap()), Some(&ParamValue::Choice("archive".into())));
        assert_eq!((first.healed_within, first.stable_for), (Some(Span::from_secs(30)), None));
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        check(
            &GOOD.replace("level: 3", "level: 4"),
            &expect!["line 10: `rungs[1].level`: 4 is out of bounds; write a whole number from 1 to 3"],
        );
        check(
            &GOOD.replace("    level: 3\n", ""),
            &expect!["line 9: `rungs[1].level`: it is missing; write 1 (runs), 2 (runs and tells) or 3 (asks)"],
        );
        check(
            &GOOD.replace("keep_days: 1", "keep_days: 1.5"),
            &expect![
                "line 6: `rungs[0].params.keep_days`: a number with a point is written here; write a whole number, a word, true or false"
            ],
        );
        check(
            &GOOD.replace("healed_within", "healed_in"),
            &expect![
                "line 8: `rungs[0].healed_in`: there is no such key in `rungs[0]`; valid keys: remedy, params, level, healed_within, stable_for"
            ],
        );
        check(
            &GOOD.replace("[disk-full]", "[disk-ful]"),
            &expect![
                "line 3: `handles[0]`: `disk-ful` is not a fault kind; valid: disk-full, disk-filling, inode-exhaustion, cpu-saturation, memory-leak, oom-kill, swap-thrash, service-crash, service-unhealthy, start-limit-hit, certificate-expiry, db-connections-exhausted, container-unhealthy, log-explosion, traffic-flood, bad-release, unknown"
            ],
        );
        check(
            &GOOD.replace("mode: archive", "mode: /etc/passwd"),
            &expect![
                "line 6: `rungs[0].params.mode`: `/etc/passwd` is not a label: use 1 to 64 of a-z, 0-9, `-` and `_`, starting with a letter"
            ],
        );
        check(
            "name: x\nsummary: y\nhandles: [disk-full]\nrungs: []\n",
            &expect!["line 4: `rungs`: 1 to 8 rungs are possible"],
        );
    }

    #[test]
    fn the_playbooks_and_manifests_that_ship_fit_each_other() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let read =
            |path: std::path::PathBuf| std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path:?}: {e}"));
        let list = |dir: &str| std::fs::read_dir(root.join(dir)).unwrap().map(|entry| entry.unwrap().path());
        let offers: Vec<_> = list("plugins")
            .map(|dir| dir.join("remedy.toml"))
            .filter(|path| path.exists())
            .map(|path| Manifest::parse(&read(path.clone())).unwrap_or_else(|e| panic!("{path:?}: {e}")))
            .map(|manifest| manifest.offer(Digest::of(b"x")))
            .collect();
        let playbooks: Vec<_> =
            list("policies/playbooks").filter(|path| path.extension().is_some_and(|e| e == "yaml")).collect();
        assert!(!offers.is_empty() && !playbooks.is_empty());
        for path in playbooks {
            let playbook = parse(&read(path.clone())).unwrap_or_else(|e| panic!("{path:?}: {e}"));
            fit(&playbook, &offers).unwrap_or_else(|e| panic!("{path:?}: {e}"));
        }
    }

    #[test]
    fn a_rung_without_a_remedy_or_with_unfit_parameters_is_named() {
        let playbook = parse(GOOD).unwrap();
        assert_eq!(
            fit(&playbook, &[]).unwrap_err().to_string(),
            "rung 1 names `disk-reclaim`, which is not an approved remedy here"
        );
    }
}
