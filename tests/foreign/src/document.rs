//! The files that people write: manifest, host configuration, trust store, playbook. What is refused is refused in one line.

use theriac_authority::approval::{Approval, Validity};
use theriac_authority::host::HostConfig;
use theriac_authority::manifest::Manifest;
use theriac_authority::trust::TrustStore;
use theriac_authority::{grant, playbook as playbooks};
use theriac_model::id::Digest;
use theriac_model::playbook::Playbook;
use theriac_model::time::Timestamp;

use crate::{Answer, assert_one_line, refused};

/// Reads a text; what is none is refused by whoever reads the file.
fn text(bytes: &[u8], read: impl FnOnce(&str) -> Answer) -> Answer {
    std::str::from_utf8(bytes).map_or(Answer::Refused, read)
}

/// A manifest that is taken can be told in lines, and an approval of it covers it and nothing else.
pub(crate) fn manifest(bytes: &[u8]) -> Answer {
    text(bytes, |text| match Manifest::parse(text) {
        Ok(manifest) => {
            can_be_approved(&manifest, Digest::of(bytes));
            Answer::Taken
        }
        Err(mistake) => refused(&mistake),
    })
}

fn can_be_approved(manifest: &Manifest, component: Digest) {
    grant::lines(manifest).iter().for_each(|line| assert_one_line(line));
    let valid = Validity { from: Timestamp(0), until: Timestamp(1_000_000) };
    let approval = Approval::of(manifest, component, valid).expect("what a manifest asks for can be approved");
    let read = Approval::parse(&approval.to_string()).expect("an approval is read as it was written");
    assert_eq!(read, approval);
    read.covers(manifest, component).expect("an approval covers its manifest");
    read.covers(manifest, Digest::of(b"other")).expect_err("an approval covers one component");
}

/// Every target that a configuration lists is in the catalog once, under a name that reads back.
pub(crate) fn host(bytes: &[u8]) -> Answer {
    text(bytes, |text| match HostConfig::parse(text) {
        Ok(config) => {
            let targets = config.catalog_targets();
            for spec in &targets {
                let name = spec.target.to_string();
                assert_one_line(&name);
                assert_eq!(name.parse().as_ref(), Ok(&spec.target), "a target is read as it is written");
                assert_eq!(targets.iter().filter(|other| other.target == spec.target).count(), 1, "{name}");
                assert!(config.target(&spec.target).is_some(), "{name}");
            }
            Answer::Taken
        }
        Err(error) => refused(&error),
    })
}

/// The operators' keys read back as they are written.
pub(crate) fn trust(bytes: &[u8]) -> Answer {
    text(bytes, |text| match TrustStore::parse(text) {
        Ok(store) => {
            for key in store.operators() {
                assert_eq!(key.to_string().parse().as_ref(), Ok(key));
            }
            Answer::Taken
        }
        Err(mistake) => refused(&mistake),
    })
}

/// A playbook has rungs, and crosses to the agent as it is.
pub(crate) fn playbook(bytes: &[u8]) -> Answer {
    text(bytes, |text| match playbooks::parse(text) {
        Ok(playbook) => {
            assert!(!playbook.rungs.is_empty(), "a ladder without rungs");
            assert_one_line(&playbook.summary);
            let json = serde_json::to_vec(&playbook).expect("a playbook can be sent");
            assert_eq!(serde_json::from_slice::<Playbook>(&json).ok(), Some(playbook));
            Answer::Taken
        }
        Err(mistake) => refused(&mistake),
    })
}
