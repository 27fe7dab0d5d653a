//! `certificates`: one certificate that the operator lists.

use theriac_model::call::{Call, Interface, Reply};
use theriac_model::certificate::CertificateCall;
use wasmtime::component::Resource;

use super::{Answer, State, ask, handle};
use crate::bindings::{Certificate, certificates};

impl State {
    fn described(&mut self, certificate: &Resource<Certificate>, verb: CertificateCall) -> Answer<certificates::Facts> {
        let call = Call::Certificate { handle: handle(certificate), verb };
        ask!(self, call, Reply::Certificate(info) => certificates::Facts {
            names: info.facts.names,
            issuer: info.facts.issuer,
            self_signed: info.facts.self_signed,
            not_before: info.facts.not_before,
            not_after: info.facts.not_after,
            left: info.left_s,
            fingerprint: info.facts.fingerprint.to_string(),
            key_matches: info.key_matches,
            assumed: info.assumed,
        })
    }
}

impl certificates::Host for State {}

impl certificates::HostCertificate for State {
    fn open(&mut self, label: String) -> Answer<Resource<Certificate>> {
        State::open(self, Interface::Certificates, label)
    }

    fn inspect(&mut self, certificate: Resource<Certificate>) -> Answer<certificates::Facts> {
        self.described(&certificate, CertificateCall::Inspect)
    }

    fn served(&mut self, certificate: Resource<Certificate>) -> Answer<certificates::Facts> {
        self.described(&certificate, CertificateCall::Served)
    }

    fn renew(&mut self, certificate: Resource<Certificate>) -> Answer<()> {
        let call = Call::Certificate { handle: handle(&certificate), verb: CertificateCall::Renew };
        ask!(self, call, Reply::Done => ())
    }

    fn drop(&mut self, certificate: Resource<Certificate>) -> wasmtime::Result<()> {
        self.give_back(&certificate)
    }
}
