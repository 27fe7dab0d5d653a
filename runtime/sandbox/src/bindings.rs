//! The host side of the contract, generated from `wit/`. Every resource is a bare type: its number is the handle that the
//! runner gave out, so there is no second table here that could disagree with the runner's.

#![expect(unreachable_pub, reason = "the generated code re-exports these types as `pub`")]

/// A granted directory.
#[derive(Debug)]
pub enum Dir {}
/// A file the host opened.
#[derive(Debug)]
pub enum Entry {}
/// A granted unit.
#[derive(Debug)]
pub enum Unit {}
/// A granted group of processes.
#[derive(Debug)]
pub enum Group {}
/// One process of a group.
#[derive(Debug)]
pub enum Process {}
/// A granted series.
#[derive(Debug)]
pub enum Series {}
/// A granted probe.
#[derive(Debug)]
pub enum Probe {}
/// A granted certificate.
#[derive(Debug)]
pub enum Certificate {}
/// A granted program.
#[derive(Debug)]
pub enum Program {}
/// A granted HTTP endpoint.
#[derive(Debug)]
pub enum Endpoint {}
/// A granted number of the kernel's.
#[derive(Debug)]
pub enum Knob {}
/// The granted releases of a service.
#[derive(Debug)]
pub enum Release {}
/// A granted container.
#[derive(Debug)]
pub enum Container {}
/// A granted set of addresses.
#[derive(Debug)]
pub enum AddressSet {}
/// A granted database server.
#[derive(Debug)]
pub enum Server {}

mod generated {
    wasmtime::component::bindgen!({
        path: "../../wit",
        world: "remedy",
        imports: { default: trappable },
        include_component_type: true,
        with: {
            "theriac:remedy/files.dir": super::Dir,
            "theriac:remedy/files.entry": super::Entry,
            "theriac:remedy/units.unit": super::Unit,
            "theriac:remedy/processes.group": super::Group,
            "theriac:remedy/processes.process": super::Process,
            "theriac:remedy/observe.series": super::Series,
            "theriac:remedy/observe.probe": super::Probe,
            "theriac:remedy/certificates.certificate": super::Certificate,
            "theriac:remedy/programs.program": super::Program,
            "theriac:remedy/http.endpoint": super::Endpoint,
            "theriac:remedy/kernel.knob": super::Knob,
            "theriac:remedy/releases.release": super::Release,
            "theriac:remedy/containers.container": super::Container,
            "theriac:remedy/firewall.set": super::AddressSet,
            "theriac:remedy/databases.server": super::Server,
        },
    });
}

pub(crate) use generated::theriac::remedy::{
    certificates, containers, databases, fault, files, firewall, http, kernel, log, observe, processes, programs,
    releases, types, units,
};
pub(crate) use generated::{Remedy, RemedyPre};
