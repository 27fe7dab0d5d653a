//! `firewall`: addresses in one set of nftables, each for a while.
//!
//! The set and the rules that use it are the operator's. An element of ours carries a comment that names the run and the effect,
//! so that an undo takes out that one and nothing that somebody else has put there since. The kernel takes it out by itself
//! when its time is over, whether or not Theriac is still there.

mod peers;

use theriac_authority::effective::BoundSet;
use theriac_model::call::Reply;
use theriac_model::denial::{Denial, DenialCause};
use theriac_model::effect::{Effect, Observed, Undo, UndoClass, UndoOutcome};
use theriac_model::firewall::{ElementInfo, ElementState, FirewallCall, FirewallEffect, Network, SetId};
use theriac_model::id::Label;
use theriac_model::plan::Guard;

use crate::exchange::chain;
use crate::gate::{Applied, ApplyError, Change, Draft, Kept, Mode, Place, perform};
use crate::netfilter::{self, Element, NetfilterError, SetFacts};
use crate::recover::Happened;
use crate::session::{Assumption, Scene};
use crate::undo::Intent;

/// What every comment of ours begins with.
const OURS: &str = "theriac ";
/// Elements that a remedy is shown.
const MOST_SHOWN: usize = 1000;

/// A verb of a set.
pub(crate) fn serve(
    scene: &mut Scene<'_>,
    mode: &mut dyn Mode,
    label: &Label,
    call: FirewallCall,
) -> Result<Reply, Denial> {
    match call {
        FirewallCall::List => list(scene, label, call).map(Reply::Elements),
        FirewallCall::Add { .. } => {
            let mut add = Add { label: label.clone(), call, drafted: None };
            perform(scene, mode, &mut add).map(|_| Reply::Done)
        }
    }
}

/// What Theriac put there, what stays longest first; then what this dry run would have put there.
fn list(scene: &Scene<'_>, label: &Label, call: FirewallCall) -> Result<Vec<ElementInfo>, Denial> {
    let bound = scene.grants.set(label.as_str())?;
    bound.admits(&call)?;
    let found =
        netfilter::elements(&bound.set).map_err(|error| error.denial(label, format_args!("list {}", bound.set)))?;
    let shown = |element: &Element| {
        let ours = element.comment.as_ref().is_some_and(|comment| comment.starts_with(OURS));
        let expires_s = u32::try_from(element.expires_ms? / 1000).unwrap_or(u32::MAX);
        element.network().filter(|_| ours).map(|network| ElementInfo { network, expires_s, assumed: false })
    };
    let mut elements: Vec<ElementInfo> = found.iter().filter_map(shown).collect();
    let assumed = scene.overlay.elements(&bound.set);
    elements.extend(assumed.map(|(network, expires_s)| ElementInfo { network, expires_s, assumed: true }));
    elements.sort_by_key(|element| std::cmp::Reverse(element.expires_s));
    elements.truncate(MOST_SHOWN);
    Ok(elements)
}

/// One element more.
struct Add {
    label: Label,
    call: FirewallCall,
    drafted: Option<Drafted>,
}

/// What was found when the change was looked at.
#[derive(Clone)]
struct Drafted {
    effect: FirewallEffect,
    facts: SetFacts,
}

impl Drafted {
    const fn timeout_ms(&self) -> u64 {
        // A u32 of seconds is far below what a u64 of milliseconds holds.
        self.effect.seconds as u64 * 1000
    }
}

impl Add {
    fn drafted(&self) -> Result<&Drafted, Denial> {
        let undrafted = || Denial::new(DenialCause::Failed, &self.label, "draft", "add without a draft");
        self.drafted.as_ref().ok_or_else(undrafted)
    }

    fn effect(&self, bound: &BoundSet) -> Result<FirewallEffect, Denial> {
        bound.admits(&self.call)?;
        let FirewallCall::Add { address, prefix, seconds } = self.call else {
            return Err(Denial::new(DenialCause::Failed, &self.label, "draft", "list is no change"));
        };
        let no_network =
            || Denial::new(DenialCause::NotGranted, &self.label, "network", format!("add {address}/{prefix}"));
        let network = Network::new(address, prefix).ok_or_else(no_network)?;
        Ok(FirewallEffect { label: self.label.clone(), set: bound.set.clone(), network, seconds })
    }

    /// Nobody needs it, and no part of it is in the set.
    fn look(&self, effect: &FirewallEffect) -> Result<(), Denial> {
        let no = |cause, rule, why: &dyn std::fmt::Display| {
            Err(Denial::new(cause, &self.label, rule, format!("{effect}: {why}")))
        };
        match peers::need(&effect.network) {
            Ok(None) => {}
            Ok(Some((address, need))) => {
                return no(DenialCause::NotGranted, "needed", &format_args!("{address}: {}", need.sentence()));
            }
            Err(error) => return no(DenialCause::Unavailable, "needed", &chain(&error)),
        }
        let elements = netfilter::elements(&effect.set).map_err(|error| error.denial(&self.label, effect))?;
        match elements.iter().find(|element| element.overlaps(&effect.network)) {
            None => Ok(()),
            Some(there) => {
                let why = format!("{} to {} is in the set already", there.first, there.last);
                no(DenialCause::Conflict, "set.element", &why)
            }
        }
    }
}

/// The set takes the addresses of the network.
fn fits(label: &Label, effect: &FirewallEffect, facts: SetFacts) -> Result<(), Denial> {
    let no = |rule, why| Err(Denial::new(DenialCause::Unavailable, label, rule, format!("{effect}: {why}")));
    if effect.network.first().is_ipv6() != facts.v6 {
        return no("set.type", "the set is for addresses of the other family");
    }
    if !effect.network.is_one() && !facts.intervals {
        return no("set.flags", "the set has no `flags interval`: it takes single addresses only");
    }
    Ok(())
}

impl Change for Add {
    fn draft(&mut self, scene: &mut Scene<'_>) -> Result<Draft, Denial> {
        let bound = scene.grants.set(self.label.as_str())?;
        let effect = self.effect(bound)?;
        let recorded = scene.overlay.elements(&bound.set).count();
        let recorded = u32::try_from(recorded).unwrap_or(u32::MAX);
        bound.admits_count(recorded, &effect)?;
        let now = scene.world.writer.guard_now();
        bound.admits_in_this_hour(
            scene.world.additions.in_this_hour(&bound.set, now).saturating_add(recorded),
            &effect,
        )?;
        let facts = netfilter::facts(&bound.set).map_err(|error| error.denial(&self.label, &effect))?;
        fits(&self.label, &effect, facts)?;
        self.look(&effect)?;
        if scene.overlay.elements(&bound.set).any(|(network, _)| network.overlaps(&effect.network)) {
            let attempted = format!("{effect}: an earlier effect of this run put it there");
            return Err(Denial::new(DenialCause::Conflict, &self.label, "set.element", attempted));
        }
        self.drafted = Some(Drafted { effect: effect.clone(), facts });
        let (set, network, seconds) = (effect.set.clone(), effect.network, effect.seconds);
        let effect = Effect::Firewall(effect);
        Ok(Draft {
            bound: effect.clone(),
            effect,
            class: UndoClass::Exact,
            guards: vec![Guard::SameValue, Guard::NotNeeded],
            before: Observed::Element(None),
            reproducible: false,
            traffic_share: None,
            count: 0,
            assumption: Assumption::Element { set, network, seconds },
        })
    }

    fn recheck(&mut self, _scene: &mut Scene<'_>) -> Result<(), Denial> {
        let drafted = self.drafted()?;
        let facts =
            netfilter::facts(&drafted.effect.set).map_err(|error| error.denial(&self.label, &drafted.effect))?;
        if facts != drafted.facts {
            return Err(Denial::new(DenialCause::StaleTarget, &self.label, "set.type", &drafted.effect));
        }
        self.look(&drafted.effect)
    }

    fn keep(&mut self, scene: &mut Scene<'_>, place: &Place) -> Result<Kept, Denial> {
        let bound = scene.grants.set(self.label.as_str())?;
        let drafted = self.drafted()?;
        // Taken here, so that two runs at once can't both take the last one of the hour.
        let now = scene.world.writer.guard_now();
        if let Err(added) = scene.world.additions.reserve(&bound.set, now, bound.per_hour()) {
            bound.admits_in_this_hour(added, &drafted.effect)?;
        }
        let element =
            ElementState { timeout_ms: drafted.timeout_ms(), comment: format!("{OURS}{}/{}", place.run, place.index) };
        let FirewallEffect { set, network, .. } = drafted.effect.clone();
        Ok(Kept { before: Observed::Element(None), undo: Undo::RemoveElement { set, network, element } })
    }

    fn apply(&mut self, _scene: &mut Scene<'_>, kept: &Kept) -> Result<Applied, ApplyError> {
        let drafted = self.drafted().map_err(ApplyError::Denied)?;
        let Undo::RemoveElement { set, network, element } = &kept.undo else {
            return Err(ApplyError::Denied(Denial::new(DenialCause::Failed, &self.label, "keep", &drafted.effect)));
        };
        let failed = |error: &NetfilterError| error.denial(&self.label, &drafted.effect);
        netfilter::add(set, drafted.facts, network, element.timeout_ms, &element.comment).map_err(|error| {
            if error.may_have_happened() {
                ApplyError::Ambiguous(failed(&error))
            } else {
                ApplyError::Denied(failed(&error))
            }
        })?;
        // Read back: the kernel's word is what counts.
        match there(set, network) {
            Ok(Some(found)) if found == *element => Ok(Applied { after: Observed::Element(Some(found)), bytes: 0 }),
            Ok(found) => {
                let attempted = format!("{}, and the set has {}", drafted.effect, Observed::Element(found));
                Err(ApplyError::Ambiguous(Denial::new(DenialCause::Failed, &self.label, "set.element", attempted)))
            }
            Err(error) => Err(ApplyError::Ambiguous(failed(&error))),
        }
    }
}

/// The element of exactly that network; one without a time or a comment has none of ours.
fn there(set: &SetId, network: &Network) -> Result<Option<ElementState>, NetfilterError> {
    let elements = netfilter::elements(set)?;
    let state = |element: &Element| ElementState {
        timeout_ms: element.timeout_ms.unwrap_or_default(),
        comment: element.comment.clone().unwrap_or_default(),
    };
    Ok(elements.iter().find(|element| element.is(network)).map(state))
}

/// Asks the set whether the intent's effect happened. Changes nothing.
pub(crate) fn observe(intent: &Intent<'_>) -> Happened {
    let Undo::RemoveElement { set, network, element } = intent.undo else {
        return Happened::Unknown { reason: "the record names no element".to_owned() };
    };
    match there(set, network) {
        // Or its time is over: either way it is as it was before.
        Ok(None) => Happened::No,
        Ok(Some(found)) if found == *element => Happened::Yes(Observed::Element(Some(found))),
        Ok(Some(_)) => Happened::Unknown { reason: format!("somebody else put {network} in {set}") },
        Err(error) => Happened::Unknown { reason: chain(&error) },
    }
}

/// Takes the element out, if it is there and still the one that was put there.
pub(crate) fn take_back(set: &SetId, network: &Network, element: &ElementState) -> UndoOutcome {
    let failed = |error: &NetfilterError| UndoOutcome::Failed { reason: chain(error) };
    match there(set, network) {
        Ok(None) => return UndoOutcome::NotNeeded { reason: "it is not in the set any more".to_owned() },
        Ok(Some(found)) if found == *element => {}
        Ok(Some(_)) => {
            return UndoOutcome::ChangedSince { found: format!("somebody else put {network} in {set}") };
        }
        // With the set, everything that was in it is gone.
        Err(NetfilterError::Missing { .. }) => {
            return UndoOutcome::NotNeeded { reason: format!("there is no set {set} any more") };
        }
        Err(error) => return failed(&error),
    }
    let removed = netfilter::facts(set).and_then(|facts| netfilter::remove(set, facts, network));
    // It may go by itself at the same moment, and an answer may be lost: what is in the set now is what counts.
    match (there(set, network), removed) {
        (Ok(None), Ok(())) => UndoOutcome::Restored,
        (Ok(None), Err(_)) => UndoOutcome::NotNeeded { reason: "it is not in the set any more".to_owned() },
        (Ok(Some(_)), Err(error)) | (Err(error), _) => failed(&error),
        (Ok(Some(_)), Ok(())) => UndoOutcome::Failed { reason: format!("{network} is still in {set}") },
    }
}
