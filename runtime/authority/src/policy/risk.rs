//! The risk of one effect: kind of verb × undo class × scope. This table is the one place where it is written down.
//!
//! A plan's risk is `1000·(1 − Π(1 − rᵢ))`. Two things keep it honest for long plans:
//!
//! * **Scope.** What may stop serving counts once for a target with at most a tenth of the traffic, one and a half times for
//!   at most half of it, and twice for more or where nobody said how much.
//! * **Files of one grant, and idle sessions of one application, are one decision.** The second file that the same verb takes out of the same grant adds nothing:
//!   how much may go is bounded by the grant (`max_files`, `max_bytes`), and two thousand rotated logs are not two thousand
//!   dangers. A file of another grant, verb or undo class counts again, and so does a session of another application, or one
//!   that holds a transaction. Addresses that go into one set are one decision too.

use theriac_model::container::ContainerVerb;
use theriac_model::database::{DatabaseEffect, DatabaseVerb, SessionState, Termination};
use theriac_model::effect::{Effect, FileVerb, GroupVerb, UndoClass, UnitVerb};
use theriac_model::plan::PlannedEffect;
use theriac_model::unit::{KillWhom, Signal};
use theriac_model::units::Permille;

/// What an effect reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Scope {
    /// Share of the traffic that the changed thing serves; `None` is unknown.
    pub traffic_share: Option<Permille>,
    /// The data is of a class that the operator's configuration calls reproducible.
    pub reproducible: bool,
}

/// Risk of one effect in permille, given the effects planned before it.
pub fn risk_of(effect: &Effect, undo: &UndoClass, scope: Scope, earlier: &[PlannedEffect]) -> Permille {
    if earlier.iter().any(|other| same_decision(effect, undo, scope, other)) {
        return Permille::ZERO;
    }
    let [exact, compensated, reproducible, irreversible] = row(effect);
    let base = match undo {
        UndoClass::Exact => exact,
        UndoClass::Compensated { .. } => compensated,
        UndoClass::Irreversible { .. } if scope.reproducible => reproducible,
        UndoClass::Irreversible { .. } => irreversible,
    };
    let (times, over) = if affects_service(effect) { weight(scope.traffic_share) } else { (1, 1) };
    Permille::clamped(base * times / over)
}

fn same_decision(effect: &Effect, undo: &UndoClass, scope: Scope, other: &PlannedEffect) -> bool {
    let alike = match (effect, &other.effect) {
        (Effect::File { .. }, Effect::File { .. }) | (Effect::Firewall(_), Effect::Firewall(_)) => true,
        (Effect::Database(one), Effect::Database(other)) => alike_sessions(one, other),
        (_, _) => false,
    };
    alike
        && effect.verb() == other.effect.verb()
        && effect.label() == other.effect.label()
        && undo.as_str() == other.undo.as_str()
        && scope.reproducible == other.reproducible
}

/// Of one application, and either both with a transaction or both without.
fn alike_sessions(one: &DatabaseEffect, other: &DatabaseEffect) -> bool {
    match (&one.verb, &other.verb) {
        (DatabaseVerb::Terminate(one), DatabaseVerb::Terminate(other)) => {
            one.application == other.application && one.state == other.state
        }
        (DatabaseVerb::Terminate(_) | DatabaseVerb::Set { .. }, _) => false,
    }
}

const fn weight(share: Option<Permille>) -> (u64, u64) {
    match share {
        Some(share) if share.get() <= 100 => (1, 1),
        Some(share) if share.get() <= 500 => (3, 2),
        Some(_) | None => (2, 1),
    }
}

/// What is changed may stop serving, if only for a moment. Starting what is down and forgetting failures can't make anything
/// stop; files are told of by their undo class.
pub(super) const fn affects_service(effect: &Effect) -> bool {
    match effect {
        Effect::File { .. } => false,
        Effect::Unit { verb, .. } => match verb {
            UnitVerb::Start | UnitVerb::ResetFailed => false,
            UnitVerb::Stop
            | UnitVerb::Restart
            | UnitVerb::Reload
            | UnitVerb::Kill { .. }
            | UnitVerb::SetProperty { .. } => true,
        },
        Effect::Group { .. } | Effect::Process { .. } => true,
        // Whoever serves it loads the files at its next reload or start.
        Effect::Certificate(_) => true,
        // What a program or a request does is known to those who approved it, and to nobody here.
        Effect::Program(_) | Effect::Http(_) | Effect::Release(_) => true,
        Effect::Container(effect) => match effect.verb {
            ContainerVerb::Start => false,
            ContainerVerb::Stop | ContainerVerb::Restart => true,
        },
        // A client that finds its session gone has an error to deal with; a setting holds for all of them.
        Effect::Database(_) => true,
        // Of the whole machine: its row says so.
        Effect::Knob(_) => false,
        // Every service goes on; whom a set may keep out, its bounds say, and policy names the verb or a person decides.
        Effect::Firewall(_) => false,
    }
}

/// Exact, compensated, irreversible on reproducible data, irreversible.
const fn row(effect: &Effect) -> [u64; 4] {
    match effect {
        Effect::File { verb, .. } => match verb {
            FileVerb::SetAside { .. } => [10, 30, 30, 400],
            FileVerb::Archive { .. } => [20, 40, 50, 500],
            FileVerb::Append { .. } => [20, 40, 40, 200],
            FileVerb::CopyTruncate { .. } => [40, 60, 60, 400],
            FileVerb::Truncate { .. } => [50, 100, 100, 500],
            FileVerb::Remove { .. } => [50, 80, 60, 600],
            FileVerb::Replace { .. } => [100, 150, 200, 600],
        },
        Effect::Unit { verb, .. } => match verb {
            UnitVerb::ResetFailed => [10, 10, 10, 20],
            UnitVerb::Start => [40, 50, 50, 80],
            UnitVerb::SetProperty { .. } => [60, 80, 80, 200],
            UnitVerb::Reload => [80, 100, 100, 120],
            UnitVerb::Restart => [150, 180, 180, 200],
            UnitVerb::Kill { whom, signal } => kill(*whom, *signal),
            UnitVerb::Stop => [300, 350, 350, 400],
        },
        Effect::Group { verb, .. } => match verb {
            GroupVerb::Renice { .. } => [30, 40, 40, 60],
            GroupVerb::SetAffinity { .. } => [60, 80, 80, 150],
        },
        Effect::Process { signal, .. } => kill(KillWhom::Main, *signal),
        Effect::Certificate(_) => [100, 150, 150, 300],
        Effect::Program(_) => [100, 200, 250, 450],
        Effect::Http(_) => [100, 200, 250, 400],
        // Of the whole machine, and every service on it.
        Effect::Knob(_) => [320, 360, 360, 720],
        // Back to a release that worked, and still: what it does to the data it finds, nobody measured.
        Effect::Release(_) => [360, 400, 400, 600],
        // The same as for a unit: what is in it serves in the same way.
        Effect::Container(effect) => match effect.verb {
            ContainerVerb::Start => [40, 50, 50, 80],
            ContainerVerb::Restart => [150, 180, 180, 200],
            ContainerVerb::Stop => [300, 350, 350, 400],
        },
        // Whoever is kept out wrongly notices, and nobody here does.
        Effect::Firewall(_) => [340, 380, 380, 600],
        Effect::Database(DatabaseEffect { verb: DatabaseVerb::Terminate(Termination { state, .. }), .. }) => {
            match state {
                SessionState::Idle => [60, 80, 80, 200],
                // Its work so far is rolled back.
                SessionState::IdleInTransaction | SessionState::Active | SessionState::Other => [120, 150, 150, 360],
            }
        }
        Effect::Database(DatabaseEffect { verb: DatabaseVerb::Set { .. }, .. }) => [150, 200, 200, 400],
    }
}

const fn kill(whom: KillWhom, signal: Signal) -> [u64; 4] {
    match (whom, signal) {
        (KillWhom::Main | KillWhom::All, Signal::Hup | Signal::Usr1) => [60, 80, 80, 100],
        (KillWhom::Main, Signal::Term) => [150, 200, 200, 220],
        (KillWhom::All, Signal::Term) | (KillWhom::Main, Signal::Kill) => [200, 230, 230, 260],
        (KillWhom::All, Signal::Kill) => [250, 280, 280, 320],
    }
}

#[cfg(test)]
mod tests {
    use theriac_model::database::{ApplicationName, SessionId};
    use theriac_model::id::{Digest, Label};

    use super::*;
    use crate::policy::tests::{file, planned, unit};

    const EXACT: UndoClass = UndoClass::Exact;

    fn share(permille: u16) -> Scope {
        Scope { traffic_share: Permille::new(permille).ok(), reproducible: false }
    }

    #[test]
    fn what_cant_be_taken_back_is_never_less_risky() {
        let effects = [
            file(1, FileVerb::Remove { bytes: 1 }),
            file(1, FileVerb::Truncate { bytes: 1 }),
            file(1, FileVerb::Replace { content: Digest::of(b""), bytes: 1 }),
            unit(UnitVerb::Start),
            unit(UnitVerb::Stop),
            unit(UnitVerb::Restart),
            unit(UnitVerb::Kill { whom: KillWhom::All, signal: Signal::Kill }),
        ];
        let compensated = UndoClass::Compensated { inverse: "start".into() };
        let lost = UndoClass::Irreversible { reason: "gone".into() };
        for effect in effects {
            let risk = |undo: &UndoClass| risk_of(&effect, undo, share(0), &[]);
            assert!(risk(&EXACT) <= risk(&compensated) && risk(&compensated) <= risk(&lost), "{effect}");
        }
    }

    #[test]
    fn the_scope_counts_for_what_serves_and_only_for_that() {
        let restart = unit(UnitVerb::Restart);
        let risk = |scope| risk_of(&restart, &EXACT, scope, &[]).get();
        assert_eq!([share(0), share(100), share(101), share(500), share(501)].map(risk), [150, 150, 225, 225, 300]);
        assert_eq!(risk(Scope::default()), 300, "unknown counts as much");
        assert_eq!(risk_of(&unit(UnitVerb::Start), &EXACT, Scope::default(), &[]).get(), 40);
    }

    #[test]
    fn the_second_file_of_one_grant_adds_nothing_and_of_another_verb_it_does() {
        let first = planned(file(1, FileVerb::Archive { bytes: 1 }), EXACT);
        let risk =
            |effect: &Effect, undo: &UndoClass| risk_of(effect, undo, Scope::default(), std::slice::from_ref(&first));
        assert_eq!(risk(&file(2, FileVerb::Archive { bytes: 1 }), &EXACT), Permille::ZERO);
        assert_ne!(risk(&file(2, FileVerb::Truncate { bytes: 1 }), &EXACT), Permille::ZERO);
        let lost = UndoClass::Irreversible { reason: "gone".into() };
        assert_ne!(risk(&file(2, FileVerb::Archive { bytes: 1 }), &lost), Permille::ZERO);
        let Effect::File { file: id, verb, .. } = file(2, FileVerb::Archive { bytes: 1 }) else { unreachable!() };
        let elsewhere = Effect::File { label: Label::parse("other").unwrap(), file: id, verb };
        assert_ne!(risk(&elsewhere, &EXACT), Permille::ZERO);
    }

    fn end(pid: u64, application: &str, state: SessionState) -> Effect {
        let label = Label::parse("main").unwrap();
        let termination = Termination {
            session: SessionId { pid, born: 1 },
            state,
            application: ApplicationName::parse(application).unwrap(),
            older_than_s: 60,
        };
        Effect::Database(DatabaseEffect {
            label: label.clone(),
            database: label,
            verb: DatabaseVerb::Terminate(termination),
        })
    }

    #[test]
    fn the_second_idle_session_of_one_application_adds_nothing_and_one_with_a_transaction_does() {
        let lost = UndoClass::Irreversible { reason: "gone".into() };
        let first = planned(end(1, "shop", SessionState::Idle), lost.clone());
        let risk = |effect: Effect| risk_of(&effect, &lost, share(100), std::slice::from_ref(&first)).get();
        assert_eq!(risk(end(2, "shop", SessionState::Idle)), 0);
        assert_eq!(risk(end(2, "mail", SessionState::Idle)), 200);
        assert_eq!(risk(end(2, "shop", SessionState::IdleInTransaction)), 360, "its work is rolled back");
        let again = Scope { reproducible: true, ..share(100) };
        assert_eq!(risk_of(&end(2, "shop", SessionState::Idle), &lost, again, &[]).get(), 80, "it connects again");
    }

    #[test]
    fn units_count_each_time() {
        let twice = planned(unit(UnitVerb::Restart), EXACT);
        assert_ne!(risk_of(&unit(UnitVerb::Restart), &EXACT, share(0), &[twice]), Permille::ZERO);
    }
}
