//! `http`: requests to one granted origin.

use theriac_model::call::{Call, Interface, Reply};
use theriac_model::http::{HttpCall, HttpMethod};
use theriac_model::units::Blob;
use wasmtime::component::Resource;

use super::{Answer, State, ask, handle};
use crate::bindings::{Endpoint, http};

const fn method(method: http::Method) -> HttpMethod {
    match method {
        http::Method::Get => HttpMethod::Get,
        http::Method::Head => HttpMethod::Head,
        http::Method::Post => HttpMethod::Post,
        http::Method::Put => HttpMethod::Put,
        http::Method::Patch => HttpMethod::Patch,
        http::Method::Delete => HttpMethod::Delete,
    }
}

impl http::Host for State {}

impl http::HostEndpoint for State {
    fn open(&mut self, label: String) -> Answer<Resource<Endpoint>> {
        State::open(self, Interface::Http, label)
    }

    fn send(
        &mut self,
        endpoint: Resource<Endpoint>,
        sent: http::Method,
        path: String,
        query: Vec<http::Parameter>,
        body: Vec<u8>,
    ) -> Answer<http::Answer> {
        let query = query.into_iter().map(|parameter| (parameter.name, parameter.value)).collect();
        let verb = HttpCall::Send { method: method(sent), path, query, body: Blob(body) };
        ask!(self, Call::Http { handle: handle(&endpoint), verb }, Reply::Http(answer) => http::Answer {
            status: answer.status,
            body: answer.body.0,
            cut: answer.cut,
            assumed: answer.assumed,
        })
    }

    fn drop(&mut self, endpoint: Resource<Endpoint>) -> wasmtime::Result<()> {
        self.give_back(&endpoint)
    }
}
