//! Frames between the processes. Input that begins with the magic is a whole frame, anything else a payload: a fuzzer seldom
//! keeps the length in the header right.

use serde::Serialize;
use serde::de::DeserializeOwned;
use theriac_protocol::agent::{AgentAnswer, AgentRequest};
use theriac_protocol::courier::{CourierAnswer, CourierRequest};
use theriac_protocol::docker::{DockerAnswer, DockerRequest};
use theriac_protocol::frame::{self, Frame, HEADER_LEN, MAX_PAYLOAD};
use theriac_protocol::launcher::{LauncherAnswer, LauncherRequest};
use theriac_protocol::operator::{OperatorAnswer, OperatorRequest};
use theriac_protocol::runner::{RunnerAnswer, RunnerEvent, RunnerRequest};
use theriac_protocol::worker::{FromWorker, ToWorker};

use crate::{Answer, refused};

/// What is read in any conversation can be written, and reads back the same.
pub(crate) fn check(bytes: &[u8]) -> Answer {
    let answers = [
        each::<RunnerRequest>(bytes),
        each::<RunnerAnswer>(bytes),
        each::<RunnerEvent>(bytes),
        each::<AgentRequest>(bytes),
        each::<AgentAnswer>(bytes),
        each::<OperatorRequest>(bytes),
        each::<OperatorAnswer>(bytes),
        each::<LauncherRequest>(bytes),
        each::<LauncherAnswer>(bytes),
        each::<CourierRequest>(bytes),
        each::<DockerRequest>(bytes),
        each::<DockerAnswer>(bytes),
        each::<CourierAnswer>(bytes),
        each::<ToWorker>(bytes),
        each::<FromWorker>(bytes),
    ];
    if answers.contains(&Answer::Taken) { Answer::Taken } else { Answer::Refused }
}

fn each<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(bytes: &[u8]) -> Answer {
    let read = if bytes.starts_with(b"THR1") {
        frame::read::<T>(&mut &*bytes)
    } else {
        frame::decode_payload(bytes).map(|message| Frame { epoch: 7, id: 9, message })
    };
    let frame = match read {
        Ok(frame) => frame,
        Err(error) => return refused(&error),
    };
    let again = frame::encode(&frame).expect("what was read can be written");
    assert!(again.len() <= HEADER_LEN + MAX_PAYLOAD as usize, "larger than any frame");
    assert_eq!(frame::read::<T>(&mut again.as_slice()).expect("what was written can be read"), frame);
    Answer::Taken
}
