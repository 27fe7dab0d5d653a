//! A certificate that has expired, a real authority and a real nginx.

use theriac_model::run::RunState;

use super::stage::Stage;
use crate::certificates::{Site, TARGET};
use crate::host::Host;

/// Whatever happened, key and certificate are a pair and nothing is left over; a run that says that it helped has the new one served.
pub(super) fn expired() -> Stage {
    let dir = Host::scratch();
    let site = Site::make(dir.path());
    let setup = site.setup(&dir.path().join("config"));
    Stage {
        dir,
        setup,
        kind: "certificate-expiry",
        target: TARGET.to_owned(),
        fault: Box::new(move |_host| {
            site.wait_until_served();
            Box::new(move |_host, state| {
                site.check_whole();
                let helped = state == RunState::Committed;
                assert_eq!(site.is_renewed(), helped, "{state}");
                assert!(!helped || site.served().is_some_and(|(_, good)| good), "{state}: it is not served");
            })
        }),
        keep: Vec::new(),
    }
}
