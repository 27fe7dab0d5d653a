//! What a case is, and the stage it plays on: a host, a fault, and what must be true of the world when the run is over.

use std::any::Any;
use std::fs;

use theriac_model::record::Proposal;
use theriac_model::run::RunState;

use crate::host::{Host, Setup, is_root, playbook, proposal, root};

/// One rung of one playbook, in one way that it can go.
#[derive(Debug, Clone, Copy)]
pub(super) struct Case {
    /// A shipped playbook's name, or that of one of the tests' own.
    pub(super) playbook: &'static str,
    pub(super) rung: u32,
    /// The rung of a playbook of the tests' own.
    pub(super) own: Option<&'static str>,
    pub(super) ends: Ends,
    pub(super) needs: Need,
    /// The points that a run passes which nobody kills, in groups.
    pub(super) reaches: &'static [&'static [&'static str]],
    /// The runner that comes back is killed too, at each point that it passes while it recovers.
    pub(super) twice: bool,
    pub(super) beside: Beside,
    pub(super) set: fn() -> Stage,
}

/// How a run ends that nobody kills.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ends {
    Committed,
    TakenBack,
    GivenUp,
}

/// What a machine must have for a case.
#[derive(Debug, Clone, Copy)]
pub(super) enum Need {
    Nothing,
    /// And why.
    Root(&'static str),
    TwoCpus,
    /// A network namespace of its own, and the programs that set it up.
    Network,
    /// Says what is missing.
    Programs(fn() -> Option<&'static str>),
    /// And root: it runs as a user of its own.
    Postgres,
}

/// What may be played at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Beside {
    Others,
    /// Anything but another that takes every CPU it gets.
    NoOtherHog,
    /// It has to get the machine, and would starve any other host.
    Nothing,
}

/// Checks the world with eyes of its own, however the run ended.
pub(super) type Whole = Box<dyn Fn(&Host, RunState)>;

/// A host that is about to be set up, and the fault that is about to be made.
pub(super) struct Stage {
    pub(super) dir: tempfile::TempDir,
    pub(super) setup: Setup,
    pub(super) kind: &'static str,
    pub(super) target: String,
    /// Makes the fault, and says what must be true afterwards.
    pub(super) fault: Box<dyn FnOnce(&Host) -> Whole>,
    /// What the stage stands on: volumes, cgroups.
    pub(super) keep: Vec<Box<dyn Any>>,
}

impl Case {
    /// A rung of a shipped playbook, which helps.
    pub(super) const fn of(playbook: &'static str, rung: u32, set: fn() -> Stage) -> Self {
        Self {
            playbook,
            rung,
            own: None,
            ends: Ends::Committed,
            needs: Need::Nothing,
            reaches: &[],
            twice: false,
            beside: Beside::Others,
            set,
        }
    }

    pub(super) const fn is_shipped(&self) -> bool {
        self.own.is_none()
    }

    pub(super) fn points(&self) -> impl Iterator<Item = &'static str> + use<> {
        self.reaches.iter().flat_map(|group| group.iter().copied())
    }

    /// Why this machine can't play it.
    pub(super) fn impossible(&self) -> Option<&'static str> {
        match self.needs {
            Need::Root(why) => (!is_root()).then_some(why),
            Need::TwoCpus => (cpus() < 2).then_some("one CPU can't be halved"),
            Need::Network if !is_root() => Some("a network namespace of its own takes root"),
            Need::Network => super::network::missing(),
            Need::Programs(missing) => missing(),
            Need::Postgres => {
                (!is_root() || !super::database::is_there()).then_some("PostgreSQL, run by root, is needed")
            }
            Need::Nothing => None,
        }
    }

    /// The playbook as the host gets it.
    pub(super) fn text(&self, stage: &Stage) -> String {
        match self.own {
            // One that helps may take its time on a busy machine; one that does not is not waited for.
            None => quick(&shipped_text(self.playbook), if self.ends == Ends::TakenBack { "2s" } else { "15s" }),
            Some(rung) => playbook(self.playbook, stage.kind, &stage.target, rung),
        }
    }

    pub(super) fn proposal(&self, stage: &Stage, text: &str, rung: u32) -> Proposal {
        let playbook = theriac_authority::playbook::parse(text).unwrap();
        let remedy = playbook.rungs.get(usize::try_from(rung).unwrap()).unwrap().remedy.to_string();
        let mut proposal = proposal("i-1", stage.kind, &stage.target, self.playbook, &remedy);
        proposal.rung = rung;
        proposal
    }
}

pub(super) fn cpus() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

pub(super) fn shipped_text(playbook: &str) -> String {
    fs::read_to_string(root().join("policies/playbooks").join(format!("{playbook}.yaml"))).unwrap()
}

/// Parameters that say how old something has to be, and the youngest that a test can wait for.
pub(super) const AGES: [(&str, u32); 2] = [("keep_days: ", 0), ("idle_s: ", 10)];

/// The playbook with times for a test: minutes become moments, and logs and silences of this minute are old.
pub(super) fn quick(shipped: &str, healed_within: &str) -> String {
    let line = |line: &str| {
        let (indent, word) = line.split_at(line.len() - line.trim_start().len());
        match word.split_once(": ") {
            Some(("healed_within", _)) => format!("{indent}healed_within: {healed_within}\n"),
            Some(("stable_for", _)) => format!("{indent}stable_for: 300ms\n"),
            Some(_) | None => {
                AGES.iter().fold(format!("{line}\n"), |line, (name, young)| match line.split_once(name) {
                    Some((before, age)) => {
                        format!("{before}{name}{young}{}", age.trim_start_matches(|c: char| c.is_ascii_digit()))
                    }
                    None => line,
                })
            }
        }
    };
    shipped.lines().map(line).collect()
}

/// How often the launcher brought the service up. It says `running` more than once for one start.
pub(super) fn starts_of(host: &Host, service: &str) -> usize {
    let log = host.log("theriac-launcher");
    let mine = log.lines().filter(|line| line.contains(&format!("service={service} ")));
    let up: Vec<bool> = mine.map(|line| line.contains("\"running\"")).collect();
    let came_up = |pair: &[bool]| pair == [false, true];
    usize::from(up.first() == Some(&true)) + up.windows(2).filter(|pair| came_up(pair)).count()
}
