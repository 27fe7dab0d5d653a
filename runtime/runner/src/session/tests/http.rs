//! Requests, with a hand that remembers what it was told. The wire is tested with the courier.

use std::sync::{Arc, Mutex};

use theriac_model::call::{Call, Interface, Reply};
use theriac_model::effect::{UndoClass, UndoOutcome};
use theriac_model::http::{HttpAnswer, HttpCall, HttpMethod, HttpRequest};
use theriac_model::time::Span;
use theriac_model::units::{Blob, Bytes};

use super::world::*;
use crate::hands::{HandError, Http};

const GRANTS: &str = r#"
[grants.http.admin]
origin = "http://127.0.0.1:9000"
prefix = "/admin/"
methods = ["GET", "PUT", "POST"]
max_body = "64B"
undo = { method = "PUT", path = "level", body = "\"info\"" }
why = "tests"
"#;
const HOST: &str =
    "[[endpoint]]\norigin = \"http://127.0.0.1:9000\"\nmethods = [\"PUT\", \"POST\"]\naddresses = [\"loopback\"]\n";

#[derive(Debug, Default)]
struct Hand {
    sent: Mutex<Vec<HttpRequest>>,
    answer: Mutex<Option<Result<u16, HandError>>>,
}

impl Http for Hand {
    fn send(&self, request: &HttpRequest) -> Result<HttpAnswer, HandError> {
        self.sent.lock().unwrap().push(request.clone());
        let status = self.answer.lock().unwrap().clone().unwrap_or(Ok(200))?;
        Ok(HttpAnswer { status, body: Blob(b"ok".to_vec()), cut: false, assumed: false })
    }
}

impl Hand {
    fn methods(&self) -> Vec<&'static str> {
        self.sent.lock().unwrap().iter().map(|request| request.method.as_str()).collect()
    }
}

fn with_hand(grants: &str) -> (Place, Arc<Hand>) {
    let mut place = place_granting(grants, HOST);
    let hand = Arc::new(Hand::default());
    place.world.hands.http = Some(Arc::clone(&hand) as Arc<dyn Http>);
    (place, hand)
}

fn send(ask: Ask<'_>, method: HttpMethod, path: &str, body: &str) -> Reply {
    let handle = open(ask, Interface::Http, "admin");
    let verb = HttpCall::Send { method, path: path.into(), query: Vec::new(), body: Blob(body.as_bytes().to_vec()) };
    ask(Call::Http { handle, verb })
}

fn status(reply: Reply) -> (u16, bool) {
    let Reply::Http(answer) = reply else { panic!("{reply:?}") };
    (answer.status, answer.assumed)
}

#[test]
fn a_dry_run_reads_and_sends_nothing_that_changes() {
    let (place, hand) = with_hand(GRANTS);
    let plan = place.plan(|ask| {
        assert_eq!(status(send(ask, HttpMethod::Get, "level", "")), (200, false));
        assert_eq!(status(send(ask, HttpMethod::Put, "level", "\"warn\"")), (200, true));
    });
    assert_eq!(hand.methods(), ["GET"]);
    assert_eq!(plan.effects.len(), 1);
    assert_eq!(plan.effects[0].undo, UndoClass::Compensated { inverse: "PUT /admin/level".into() });
}

#[test]
fn every_request_goes_to_the_grants_origin_within_its_time_and_for_so_much_of_an_answer() {
    let bounds = "timeout = \"3s\"\nmax_answer = \"1KiB\"\nwhy = ";
    for (grants, seconds, most) in [(GRANTS.replace("why = ", bounds), 3, 1 << 10), (GRANTS.to_owned(), 10, 64 << 10)] {
        let (place, hand) = with_hand(&grants);
        place.both(|ask| {
            send(ask, HttpMethod::Get, "level", "");
            send(ask, HttpMethod::Put, "level", "\"warn\"");
        });
        assert_eq!(place.undo(), [UndoOutcome::Restored]);
        assert_eq!(hand.methods(), ["GET", "GET", "PUT", "PUT"], "dry, live, and its inverse");
        for request in hand.sent.lock().unwrap().iter() {
            assert_eq!(
                (request.origin.to_string().as_str(), request.target.as_str()),
                ("http://127.0.0.1:9000", "/admin/level")
            );
            assert_eq!((request.timeout, request.max_answer), (Span::from_secs(seconds), Bytes(most)));
        }
    }
}

#[test]
fn an_effect_is_sent_once_with_a_key_and_compensated_by_the_grants_request() {
    let (place, hand) = with_hand(GRANTS);
    let done = place.both(|ask| drop(send(ask, HttpMethod::Post, "level", "\"warn\"")));
    assert!(!done.must_undo(), "{done:?}");
    assert_eq!(hand.sent.lock().unwrap()[0].key.as_deref(), Some("r-1-0"));
    assert_eq!(place.undo(), [UndoOutcome::Restored]);
    assert_eq!(hand.methods(), ["POST", "PUT"]);
    let inverse = hand.sent.lock().unwrap()[1].clone();
    assert_eq!((inverse.target.as_str(), inverse.body.0.as_slice()), ("/admin/level", &b"\"info\""[..]));
}

#[test]
fn what_was_refused_needs_no_inverse_and_what_may_have_arrived_gets_it() {
    let (place, hand) = with_hand(GRANTS);
    *hand.answer.lock().unwrap() = Some(Ok(404));
    let done = place.both(|ask| drop(send(ask, HttpMethod::Post, "level", "x")));
    assert!(!done.must_undo(), "the remedy is told, and decides");
    assert!(matches!(place.undo()[..], [UndoOutcome::NotNeeded { .. }]));

    let (place, hand) = with_hand(GRANTS);
    *hand.answer.lock().unwrap() = Some(Err(HandError::Unknown { reason: "no answer".into() }));
    let done = place.both(|ask| drop(send(ask, HttpMethod::Post, "level", "x")));
    assert!(done.must_undo());
    *hand.answer.lock().unwrap() = None;
    assert_eq!(place.undo(), [UndoOutcome::Restored]);
    assert_eq!(hand.methods(), ["POST", "PUT"]);
}

#[test]
fn without_an_inverse_it_is_irreversible_and_a_person_hears_of_it() {
    let grants = GRANTS.replace("undo = { method = \"PUT\", path = \"level\", body = \"\\\"info\\\"\" }\n", "");
    let (place, _) = with_hand(&grants);
    place.both(|ask| drop(send(ask, HttpMethod::Post, "level", "x")));
    assert!(matches!(place.undo()[..], [UndoOutcome::Impossible { .. }]));
}

#[test]
fn another_body_than_the_planned_one_is_off_plan() {
    let (place, hand) = with_hand(GRANTS);
    let plan = place.plan(|ask| drop(send(ask, HttpMethod::Put, "level", "\"warn\"")));
    let mut session = place.live(&plan);
    let reply = send(&mut |call| crate::session::Host::answer(&mut session, call), HttpMethod::Put, "level", "\"off\"");
    assert_eq!(denied(reply).rule, "plan.effects");
    drop(session);
    assert!(hand.methods().is_empty());
}

#[test]
fn without_a_courier_the_endpoint_is_unavailable() {
    let place = place_granting(GRANTS, HOST);
    place.plan(|ask| {
        for method in [HttpMethod::Get, HttpMethod::Put] {
            assert_eq!(denied(send(ask, method, "level", "")).rule, "courier");
        }
    });
}
