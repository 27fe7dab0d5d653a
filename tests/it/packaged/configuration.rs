//! `/etc/theriac` of the machine: what an operator would write, and the approvals of a throw-away key.

use std::fs;

use theriac_authority::key::Signer;
use theriac_authority::trust::Class;
use theriac_model::id::KeyName;
use theriac_protocol::layout::Layout;
use theriac_tests::place::Place;

use super::{cpu, disk, memory, nginx};
use crate::host::approve;

pub(super) const REMEDIES: [&str; 7] = [
    "certificate-renew",
    "cpu-calm",
    "db-relieve",
    "disk-reclaim",
    "memory-relief",
    "release-return",
    "service-recover",
];

/// The times of production up to the repair, after it seconds in place of minutes.
const MODE: &str = "mode = \"relaxed\"\ndeploy_locks = []\n\n[timing]\ncooldown = \"0ms\"\n";

/// A playbook of the operator's.
pub(super) struct Playbook {
    pub(super) name: &'static str,
    pub(super) kind: &'static str,
    /// Its only target, if it is not for all.
    pub(super) target: Option<&'static str>,
    /// Remedy, parameters, level and how soon it must have helped.
    pub(super) rungs: Vec<(&'static str, &'static str, u8, &'static str)>,
}

impl Playbook {
    fn text(&self) -> String {
        let Self { name, kind, target, .. } = self;
        let mut text = format!("name: {name}\nsummary: with a short wait\nhandles: [{kind}]\n");
        if let Some(target) = target {
            text += &format!("targets: [\"{target}\"]\n");
        }
        text += "rungs:\n";
        for (remedy, params, level, within) in &self.rungs {
            text += &format!(
                "  - remedy: {remedy}\n    params: {{ {params} }}\n    level: {level}\n    healed_within: {within}\n    stable_for: 2s\n"
            );
        }
        text
    }
}

pub(super) fn write(place: &Place, layout: &Layout) {
    let write = |path: &str, text: &str| place.write(path, text).unwrap();
    write("/etc/theriac/runner.toml", &[MODE, nginx::LISTED, disk::LISTED, &cpu::listed(), memory::LISTED].concat());
    for playbook in
        nginx::playbooks().into_iter().chain(disk::playbooks()).chain(cpu::playbooks()).chain(memory::playbooks())
    {
        write(&format!("/etc/theriac/playbooks/{}.yaml", playbook.name), &playbook.text());
    }
    let signer = Signer::generate(KeyName::parse("test/operator").unwrap()).unwrap();
    let trust = format!(
        "[[signer]]\nname = \"test/operator\"\nkey = \"{}\"\nremedies = [\"*\"]\nclasses = {:?}\n",
        signer.public(),
        Class::ALL.map(Class::as_str)
    );
    write("/etc/theriac/trust.toml", &trust);
    for name in REMEDIES {
        let bytes = fs::read(place.path(&format!("/usr/lib/theriac/remedies/{name}.wasm"))).unwrap();
        fs::write(layout.config.join(format!("remedies/{name}.wasm")), &bytes).unwrap();
        write(&format!("/etc/theriac/remedies/{name}.approval"), &approve(&bytes, &signer));
    }
}
