//! `http`: requests to one granted origin, sent by the `net` courier.
//!
//! `GET` and `HEAD` are reads, in the dry run too. Every other method is an effect: what it changes is at the other end, so it is
//! compensated where the grant names the inverse request, and irreversible where it does not.

use theriac_authority::effective::BoundEndpoint;
use theriac_model::call::Reply;
use theriac_model::denial::{Denial, DenialCause};
use theriac_model::effect::{Effect, Observed, Undo, UndoClass, UndoOutcome};
use theriac_model::http::{HttpAnswer, HttpCall, HttpEffect, HttpMethod, HttpRequest};
use theriac_model::id::{Digest, Label};
use theriac_model::units::Blob;

use crate::gate::{Applied, ApplyError, Change, Draft, Kept, Mode, Place, perform};
use crate::hands::{HandError, Http};
use crate::recover::Happened;
use crate::session::{Assumption, Scene};
use crate::world::World;

/// What a body is sent as: remedies send JSON, or text that is no worse for the name.
const CONTENT_TYPE: &str = "application/json";

/// A verb of an endpoint.
pub(crate) fn serve(
    scene: &mut Scene<'_>,
    mode: &mut dyn Mode,
    label: &Label,
    call: &HttpCall,
) -> Result<Reply, Denial> {
    let HttpCall::Send { method, .. } = call;
    let bound = scene.grants.endpoint(label.as_str())?;
    if !method.changes() {
        let target = bound.admits(call)?;
        let request = request(bound, call, target, None);
        let attempted = format!("{} {}{}", method.as_str(), request.origin, request.target);
        let answer = hand(scene.world, label, &attempted)?.send(&request);
        return answer.map(Reply::Http).map_err(|error| error.denial(label, "courier", &attempted));
    }
    let mut send = Send { label: label.clone(), call: call.clone(), key: None, answer: None };
    perform(scene, mode, &mut send)?;
    let assumed = HttpAnswer { status: 200, body: Blob::default(), cut: false, assumed: true };
    Ok(Reply::Http(send.answer.unwrap_or(assumed)))
}

fn hand<'w>(world: &'w World, label: &Label, attempted: &str) -> Result<&'w dyn Http, Denial> {
    let missing = || Denial::new(DenialCause::Unavailable, label, "courier", attempted);
    world.hands.http.as_deref().ok_or_else(missing)
}

fn request(bound: &BoundEndpoint, call: &HttpCall, target: String, key: Option<String>) -> HttpRequest {
    let HttpCall::Send { method, body, .. } = call;
    HttpRequest {
        origin: bound.origin().clone(),
        method: *method,
        target,
        body: body.clone(),
        content_type: (!body.0.is_empty()).then(|| CONTENT_TYPE.to_owned()),
        reach: bound.reach,
        key,
        timeout: bound.grant.timeout,
        max_answer: bound.grant.max_answer,
    }
}

/// The request that the grant names as the inverse.
fn inverse(bound: &BoundEndpoint) -> Option<HttpRequest> {
    let inverse = bound.grant.undo.as_ref()?;
    let body = Blob(inverse.body.clone().into_bytes());
    let call = HttpCall::Send { method: inverse.method, path: inverse.path.clone(), query: Vec::new(), body };
    let target = format!("{}{}", bound.grant.prefix, inverse.path);
    Some(request(bound, &call, target, None))
}

/// One request that changes something.
struct Send {
    label: Label,
    call: HttpCall,
    key: Option<String>,
    answer: Option<HttpAnswer>,
}

impl Send {
    fn effect(&self, bound: &BoundEndpoint) -> Result<HttpEffect, Denial> {
        let HttpCall::Send { method, body, .. } = &self.call;
        Ok(HttpEffect {
            label: self.label.clone(),
            origin: bound.origin().clone(),
            method: *method,
            target: bound.admits(&self.call)?,
            body: Digest::of(&body.0),
            bytes: body.0.len() as u64,
        })
    }
}

impl Change for Send {
    fn draft(&mut self, scene: &mut Scene<'_>) -> Result<Draft, Denial> {
        let bound = scene.grants.endpoint(self.label.as_str())?;
        let effect = Effect::Http(self.effect(bound)?);
        hand(scene.world, &self.label, &effect.to_string())?;
        let class = match inverse(bound) {
            Some(inverse) => {
                UndoClass::Compensated { inverse: format!("{} {}", inverse.method.as_str(), inverse.target) }
            }
            None => UndoClass::Irreversible { reason: "a request can't be called back".to_owned() },
        };
        Ok(Draft {
            bound: effect.clone(),
            effect,
            class,
            guards: Vec::new(),
            before: Observed::Http(None),
            reproducible: bound.reproducible,
            traffic_share: None,
            count: 0,
            assumption: Assumption::Nothing,
        })
    }

    /// There is nothing to look at: what the request changes is at the other end.
    fn recheck(&mut self, _scene: &mut Scene<'_>) -> Result<(), Denial> {
        Ok(())
    }

    fn keep(&mut self, scene: &mut Scene<'_>, place: &Place) -> Result<Kept, Denial> {
        // One effect, one key, so that a server that knows such keys does it once, however often it arrives.
        self.key = Some(format!("{}-{}", place.run, place.index));
        let bound = scene.grants.endpoint(self.label.as_str())?;
        let undo = match inverse(bound) {
            Some(inverse) => Undo::SendHttp { inverse },
            None => Undo::Nothing { reason: "a request can't be called back".to_owned() },
        };
        Ok(Kept { before: Observed::Http(None), undo })
    }

    fn apply(&mut self, scene: &mut Scene<'_>, _kept: &Kept) -> Result<Applied, ApplyError> {
        let bound = scene.grants.endpoint(self.label.as_str()).map_err(ApplyError::Denied)?;
        let effect = self.effect(bound).map_err(ApplyError::Denied)?;
        let attempted = effect.to_string();
        let hand = hand(scene.world, &self.label, &attempted).map_err(ApplyError::Denied)?;
        match hand.send(&request(bound, &self.call, effect.target, self.key.clone())) {
            Ok(answer) => {
                let after = Observed::Http(Some(answer.status));
                self.answer = Some(answer);
                Ok(Applied { after, bytes: 0 })
            }
            Err(error) => Err(failed(&error, error.denial(&self.label, "courier", &attempted))),
        }
    }
}

fn failed(error: &HandError, denial: Denial) -> ApplyError {
    if error.may_have_happened() { ApplyError::Ambiguous(denial) } else { ApplyError::Denied(denial) }
}

/// Asks the world whether the intent's effect happened: here it can't tell.
pub(crate) fn observe(effect: &HttpEffect) -> Happened {
    Happened::Unknown { reason: format!("only the other end knows whether it got `{effect}`") }
}

/// Sends the inverse request; also where it is not known whether the request arrived.
pub(crate) fn take_back(world: &World, inverse: &HttpRequest, after: Option<&Observed>) -> UndoOutcome {
    if let Some(Observed::Http(Some(status @ 400..=499))) = after {
        return UndoOutcome::NotNeeded { reason: format!("it was refused with {status}") };
    }
    let Some(hand) = world.hands.http.as_deref() else {
        return UndoOutcome::Failed { reason: "no courier is there to send the inverse request".to_owned() };
    };
    let sent = format!("{} {}{}", inverse.method.as_str(), inverse.origin, inverse.target);
    match hand.send(inverse) {
        Ok(answer) if answer.status < 400 => UndoOutcome::Restored,
        // Gone already is what a DELETE wants.
        Ok(answer) if answer.status == 404 && inverse.method == HttpMethod::Delete => UndoOutcome::Restored,
        Ok(answer) => UndoOutcome::Failed { reason: format!("{sent} was answered with {}", answer.status) },
        Err(error) => UndoOutcome::Failed { reason: format!("{sent}: {error}") },
    }
}
