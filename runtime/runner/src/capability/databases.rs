//! `databases`: sessions and settings of one server, asked through the `databases` courier.
//!
//! Ending idle sessions is one verb of a remedy's and as many effects as there are sessions: each is named in the plan by number,
//! birth, state and application, looked at again before its intent, and once more by the server itself in the statement that
//! ends it. In the live run those that came since the plan was made are left alone.

use std::collections::BTreeMap;

use theriac_authority::effective::BoundDatabase;
use theriac_model::call::Reply;
use theriac_model::database::{
    ApplicationName, DatabaseCall, DatabaseEffect, DatabaseUndo, DatabaseUsage, DatabaseVerb, Session, SessionState,
    Sessions, Setting, SettingChange, SettingGoal, SettingInfo, SettingState, StoredValue, Termination,
};
use theriac_model::denial::{Denial, DenialCause};
use theriac_model::effect::{Effect, Observed, Undo, UndoClass, UndoOutcome};
use theriac_model::id::Label;
use theriac_model::plan::Guard;

use crate::gate::{Applied, ApplyError, Change, Draft, Kept, Mode, Place, perform};
use crate::hands::{Databases, HandError};
use crate::recover::Happened;
use crate::session::{Assumption, Scene};
use crate::undo::Intent;
use crate::world::World;

/// Applications that a remedy is told of.
const MAX_APPLICATIONS: usize = 64;
const GONE_FOR_GOOD: &str = "an ended session does not come back, and what it had not committed is rolled back";

/// A verb of a server.
pub(crate) fn serve(
    scene: &mut Scene<'_>,
    mode: &mut dyn Mode,
    label: &Label,
    call: &DatabaseCall,
) -> Result<Reply, Denial> {
    let bound = scene.grants.server(label.as_str())?;
    match call {
        DatabaseCall::Sessions => {
            bound.admits(call, 0)?;
            let found = sessions(scene.world, bound)?;
            Ok(Reply::Database(usage(scene, bound, &found)))
        }
        DatabaseCall::Settings => {
            bound.admits(call, 0)?;
            settings(scene, bound).map(Reply::Settings)
        }
        DatabaseCall::Set { value, .. } => {
            let setting = admitted_setting(bound, call)?;
            let mut set = Set { label: label.clone(), setting, value: *value, before: None };
            perform(scene, mode, &mut set).map(|_| Reply::Done)
        }
        DatabaseCall::TerminateIdle { .. } => terminate_idle(scene, mode, bound, call).map(Reply::Count),
    }
}

fn hand<'w>(world: &'w World, label: &Label, attempted: &str) -> Result<&'w dyn Databases, Denial> {
    let missing = || Denial::new(DenialCause::Unavailable, label, "courier", attempted);
    world.hands.databases.as_deref().ok_or_else(missing)
}

fn sessions(world: &World, bound: &BoundDatabase) -> Result<Sessions, Denial> {
    let attempted = format!("sessions of {}", bound.database);
    let found = hand(world, &bound.label, &attempted)?.sessions(&bound.database);
    found.map_err(|error| error.denial(&bound.label, "courier", &attempted))
}

/// The counts; sessions that the dry run has ended are not among them.
fn usage(scene: &Scene<'_>, bound: &BoundDatabase, found: &Sessions) -> DatabaseUsage {
    let gone = |session: &&Session| scene.overlay.session_gone(&bound.database, session.id);
    let ended = found.sessions.iter().filter(gone).count();
    let there = || found.sessions.iter().filter(|session| !gone(session));
    let mut applications: BTreeMap<&str, u32> = BTreeMap::new();
    there().for_each(|session| *applications.entry(session.application.as_str()).or_default() += 1);
    let mut by_application: Vec<(String, u32)> =
        applications.into_iter().map(|(name, count)| (name.to_owned(), count)).collect();
    by_application.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    by_application.truncate(MAX_APPLICATIONS);
    let in_state = |state| there().filter(move |session| session.state == state);
    let count = |state| (state, u32::try_from(in_state(state).count()).unwrap_or(u32::MAX));
    DatabaseUsage {
        used: found.used.saturating_sub(u32::try_from(ended).unwrap_or(u32::MAX)),
        max: found.max,
        reserved: found.reserved,
        by_state: SessionState::ALL.map(count).to_vec(),
        by_application,
        oldest_idle_in_transaction_s: in_state(SessionState::IdleInTransaction).map(|session| session.for_s).max(),
        assumed: ended > 0,
    }
}

fn settings(scene: &Scene<'_>, bound: &BoundDatabase) -> Result<Vec<SettingInfo>, Denial> {
    let attempted = format!("settings of {}", bound.database);
    let wanted: Vec<Setting> = bound.settings().collect();
    let found = hand(scene.world, &bound.label, &attempted)?.settings(&bound.database, &wanted);
    let found = found.map_err(|error| error.denial(&bound.label, "courier", &attempted))?;
    let granted = found.into_iter().filter(|(setting, _)| wanted.contains(setting));
    let info = |(setting, state): (Setting, SettingState)| {
        let assumed = scene.overlay.setting(&bound.database, setting);
        SettingInfo { setting, value: assumed.unwrap_or(state.value), assumed: assumed.is_some() }
    };
    Ok(granted.map(info).collect())
}

/// How one setting is now.
fn state_of(hand: &dyn Databases, database: &Label, setting: Setting) -> Result<SettingState, HandError> {
    let found = hand.settings(database, &[setting])?;
    let one = found.into_iter().find(|(name, _)| *name == setting).map(|(_, state)| state);
    one.ok_or_else(|| HandError::Unavailable { reason: format!("this server has no {setting}") })
}

fn terminate_idle(
    scene: &mut Scene<'_>,
    mode: &mut dyn Mode,
    bound: &BoundDatabase,
    call: &DatabaseCall,
) -> Result<u64, Denial> {
    bound.admits(call, scene.budget.ended(&bound.label))?;
    let DatabaseCall::TerminateIdle { older_than_s, application, at_most } = call else { return Ok(0) };
    let Ok(application) = ApplicationName::parse(application) else { return Ok(0) };
    let found = sessions(scene.world, bound)?;
    let waits = |session: &&Session| {
        session.state.waits()
            && session.protected.is_none()
            && session.application == application.as_str()
            && session.for_s >= *older_than_s
            && !scene.overlay.session_gone(&bound.database, session.id)
    };
    let end = |session: &Session| DatabaseEffect {
        label: bound.label.clone(),
        database: bound.database.clone(),
        verb: DatabaseVerb::Terminate(Termination {
            session: session.id,
            state: session.state,
            application: application.clone(),
            older_than_s: *older_than_s,
        }),
    };
    let mut ends = foreseen(mode, &application, found.sessions.iter().filter(waits).map(end).collect());
    ends.truncate(usize::try_from(*at_most).unwrap_or(usize::MAX));
    let (mut ended, mut stale) = (0, None);
    for effect in ends {
        match perform(scene, mode, &mut End { effect }) {
            Ok(_) => ended += 1,
            // It works again, or has ended by itself: as good.
            Err(denial) if denial.cause == DenialCause::StaleTarget => stale = Some(denial),
            Err(denial) => return Err(denial),
        }
    }
    match stale {
        Some(denial) if ended == 0 => Err(denial),
        Some(_) | None => Ok(ended),
    }
}

/// Those that the plan still names, in its order. Where it never named one of that application, all of them: the gate says no to
/// the first.
fn foreseen(mode: &dyn Mode, application: &ApplicationName, ends: Vec<DatabaseEffect>) -> Vec<DatabaseEffect> {
    let Some((plan, cursor)) = mode.plan() else { return ends };
    let of_application = |effect: &Effect| match effect {
        Effect::Database(DatabaseEffect { verb: DatabaseVerb::Terminate(planned), .. }) => {
            planned.application == *application
        }
        Effect::Database(_)
        | Effect::File { .. }
        | Effect::Unit { .. }
        | Effect::Group { .. }
        | Effect::Process { .. }
        | Effect::Program(_)
        | Effect::Http(_)
        | Effect::Knob(_)
        | Effect::Release(_)
        | Effect::Container(_)
        | Effect::Certificate(_)
        | Effect::Firewall(_) => false,
    };
    if !plan.effects.iter().any(|planned| of_application(&planned.effect)) {
        return ends;
    }
    let mut ends: Vec<Effect> = ends.into_iter().map(Effect::Database).collect();
    let planned = cursor.ahead(plan).iter();
    let found = planned.filter_map(|planned| {
        let at = ends.iter().position(|end| end.is_within(&planned.effect))?;
        Some(ends.swap_remove(at))
    });
    found.filter_map(|end| if let Effect::Database(end) = end { Some(end) } else { None }).collect()
}

/// The end of one session.
struct End {
    effect: DatabaseEffect,
}

impl End {
    fn termination(&self) -> Option<&Termination> {
        match &self.effect.verb {
            DatabaseVerb::Terminate(termination) => Some(termination),
            DatabaseVerb::Set { .. } => None,
        }
    }

    /// It is still there, and as it was.
    fn find(&self, scene: &Scene<'_>) -> Result<Termination, Denial> {
        let stale = || Denial::new(DenialCause::StaleTarget, &self.effect.label, "same-session", &self.effect);
        let bound = scene.grants.server(self.effect.label.as_str())?;
        let found = sessions(scene.world, bound)?;
        let wanted = self.termination().ok_or_else(stale)?;
        let same = |session: &&Session| {
            session.id == wanted.session
                && session.state == wanted.state
                && session.application == wanted.application.as_str()
                && session.for_s >= wanted.older_than_s
                && session.protected.is_none()
        };
        found.sessions.iter().find(same).map(|_| wanted.clone()).ok_or_else(stale)
    }
}

impl Change for End {
    fn draft(&mut self, scene: &mut Scene<'_>) -> Result<Draft, Denial> {
        let bound = scene.grants.server(self.effect.label.as_str())?;
        let found = self.find(scene)?;
        let call = DatabaseCall::TerminateIdle {
            older_than_s: found.older_than_s,
            application: found.application.to_string(),
            at_most: 1,
        };
        bound.admits(&call, scene.budget.ended(&bound.label))?;
        let effect = Effect::Database(self.effect.clone());
        Ok(Draft {
            bound: effect.clone(),
            effect,
            class: UndoClass::Irreversible { reason: GONE_FOR_GOOD.to_owned() },
            guards: vec![Guard::SameSession],
            before: Observed::Session(Some(found.state)),
            reproducible: bound.reproducible,
            traffic_share: bound.traffic_share,
            count: 1,
            assumption: Assumption::SessionGone { database: bound.database.clone(), session: found.session },
        })
    }

    fn recheck(&mut self, scene: &mut Scene<'_>) -> Result<(), Denial> {
        self.find(scene).map(|_| ())
    }

    fn keep(&mut self, _scene: &mut Scene<'_>, _place: &Place) -> Result<Kept, Denial> {
        let before = Observed::Session(self.termination().map(|termination| termination.state));
        Ok(Kept { before, undo: Undo::Nothing { reason: GONE_FOR_GOOD.to_owned() } })
    }

    fn apply(&mut self, scene: &mut Scene<'_>, _kept: &Kept) -> Result<Applied, ApplyError> {
        let attempted = self.effect.to_string();
        let hand = hand(scene.world, &self.effect.label, &attempted).map_err(ApplyError::Denied)?;
        let Some(termination) = self.termination() else {
            return Ok(Applied { after: Observed::Session(None), bytes: 0 });
        };
        match hand.terminate(&self.effect.database, termination) {
            Ok(()) => Ok(Applied { after: Observed::Session(None), bytes: 1 }),
            Err(error) => Err(failed(&error, error.denial(&self.effect.label, "courier", &attempted))),
        }
    }
}

fn failed(error: &HandError, denial: Denial) -> ApplyError {
    if error.may_have_happened() { ApplyError::Ambiguous(denial) } else { ApplyError::Denied(denial) }
}

fn admitted_setting(bound: &BoundDatabase, call: &DatabaseCall) -> Result<Setting, Denial> {
    bound.admits(call, 0)?;
    let named = match call {
        DatabaseCall::Set { setting, .. } => Setting::named(setting),
        DatabaseCall::Sessions | DatabaseCall::Settings | DatabaseCall::TerminateIdle { .. } => None,
    };
    named.ok_or_else(|| Denial::new(DenialCause::NotGranted, &bound.label, "settings", "set"))
}

/// One change of one setting.
struct Set {
    label: Label,
    setting: Setting,
    value: i64,
    before: Option<SettingState>,
}

impl Set {
    fn effect(&self, bound: &BoundDatabase) -> DatabaseEffect {
        let verb = DatabaseVerb::Set { setting: self.setting, value: self.value };
        DatabaseEffect { label: self.label.clone(), database: bound.database.clone(), verb }
    }

    fn now(&self, scene: &Scene<'_>, bound: &BoundDatabase) -> Result<SettingState, Denial> {
        let attempted = self.effect(bound).to_string();
        let state = state_of(hand(scene.world, &self.label, &attempted)?, &bound.database, self.setting);
        state.map_err(|error| error.denial(&self.label, "courier", &attempted))
    }
}

impl Change for Set {
    fn draft(&mut self, scene: &mut Scene<'_>) -> Result<Draft, Denial> {
        let bound = scene.grants.server(self.label.as_str())?;
        bound.admits(&DatabaseCall::Set { setting: self.setting.to_string(), value: self.value }, 0)?;
        let now = self.now(scene, bound)?;
        let mut before = now.clone();
        if let Some(assumed) = scene.overlay.setting(&bound.database, self.setting) {
            before.value = assumed;
        }
        self.before = Some(now);
        let effect = Effect::Database(self.effect(bound));
        Ok(Draft {
            bound: effect.clone(),
            effect,
            class: UndoClass::Exact,
            guards: vec![Guard::SameValue],
            before: Observed::Setting(before),
            reproducible: false,
            traffic_share: bound.traffic_share,
            count: 0,
            assumption: Assumption::Setting {
                database: bound.database.clone(),
                setting: self.setting,
                value: self.value,
            },
        })
    }

    fn recheck(&mut self, scene: &mut Scene<'_>) -> Result<(), Denial> {
        let bound = scene.grants.server(self.label.as_str())?;
        let now = self.now(scene, bound)?;
        if self.before.as_ref().is_some_and(|before| before.is_as(&now)) {
            Ok(())
        } else {
            Err(Denial::new(DenialCause::Conflict, &self.label, "same-value", self.effect(bound)))
        }
    }

    fn keep(&mut self, scene: &mut Scene<'_>, _place: &Place) -> Result<Kept, Denial> {
        let bound = scene.grants.server(self.label.as_str())?;
        let before = self.now(scene, bound)?;
        let undo = DatabaseUndo { database: bound.database.clone(), setting: self.setting, before: before.clone() };
        Ok(Kept { before: Observed::Setting(before), undo: Undo::SetDatabase(undo) })
    }

    fn apply(&mut self, scene: &mut Scene<'_>, kept: &Kept) -> Result<Applied, ApplyError> {
        let bound = scene.grants.server(self.label.as_str()).map_err(ApplyError::Denied)?;
        let attempted = self.effect(bound).to_string();
        let hand = hand(scene.world, &self.label, &attempted).map_err(ApplyError::Denied)?;
        let Observed::Setting(expected) = &kept.before else {
            return Err(ApplyError::Denied(Denial::new(DenialCause::Failed, &self.label, "courier", attempted)));
        };
        let change =
            SettingChange { setting: self.setting, expected: expected.clone(), goal: SettingGoal::Value(self.value) };
        match hand.set(&bound.database, &change) {
            Ok(after) => Ok(Applied { after: Observed::Setting(after), bytes: 0 }),
            Err(error) => Err(failed(&error, error.denial(&self.label, "courier", &attempted))),
        }
    }
}

/// Asks the world whether the intent's effect happened. Changes nothing.
pub(crate) fn observe(world: &World, intent: &Intent<'_>, effect: &DatabaseEffect) -> Happened {
    let unknown = |reason: String| Happened::Unknown { reason };
    let Some(hand) = world.hands.databases.as_deref() else { return unknown("no courier is there to ask".to_owned()) };
    match &effect.verb {
        DatabaseVerb::Terminate(termination) => match hand.sessions(&effect.database) {
            Ok(found) if found.sessions.iter().any(|session| session.id == termination.session) => Happened::No,
            Ok(found) if found.used as usize > found.sessions.len() => {
                unknown("there are too many sessions".to_owned())
            }
            Ok(_) => Happened::Yes(Observed::Session(None)),
            Err(error) => unknown(error.to_string()),
        },
        DatabaseVerb::Set { setting, value } => match state_of(hand, &effect.database, *setting) {
            Ok(now) if matches!(intent.before, Observed::Setting(before) if before.is_as(&now)) => Happened::No,
            Ok(now) if is_ours(&now, *value) => Happened::Yes(Observed::Setting(now)),
            Ok(now) => unknown(format!("{setting} is {now} by now")),
            Err(error) => unknown(error.to_string()),
        },
    }
}

/// As our change would have left it.
fn is_ours(now: &SettingState, value: i64) -> bool {
    match &now.stored {
        None => now.value == value,
        Some(stored) => *stored == StoredValue::number(value),
    }
}

/// Puts a setting back as it was, unless somebody has set another value since.
pub(crate) fn take_back(world: &World, undo: &DatabaseUndo, after: Option<&Observed>) -> UndoOutcome {
    let DatabaseUndo { database, setting, before } = undo;
    let Some(hand) = world.hands.databases.as_deref() else {
        return UndoOutcome::Failed { reason: "no courier is there to ask".to_owned() };
    };
    let found = |now: &SettingState| format!("{setting} of {database} is {now}");
    let now = match state_of(hand, database, *setting) {
        Ok(now) => now,
        Err(error) => return UndoOutcome::Failed { reason: error.to_string() },
    };
    if now.is_as(before) {
        return UndoOutcome::Restored;
    }
    if !matches!(after, Some(Observed::Setting(after)) if after.is_as(&now)) {
        return UndoOutcome::ChangedSince { found: found(&now) };
    }
    let change = SettingChange { setting: *setting, expected: now, goal: SettingGoal::Back(before.clone()) };
    match hand.set(database, &change) {
        Ok(read_back) if read_back.is_as(before) => UndoOutcome::Restored,
        Ok(read_back) => UndoOutcome::Failed { reason: format!("{} after it was put back", found(&read_back)) },
        Err(HandError::Stale { reason }) => UndoOutcome::ChangedSince { found: reason },
        Err(error) => UndoOutcome::Failed { reason: error.to_string() },
    }
}
