//! A real PostgreSQL without a free connection. An ended session does not come back: whoever dies in the middle must not end one more.

use std::fs;
use std::rc::Rc;

use theriac_model::run::RunState;
use theriac_protocol::layout::Layout;

use super::stage::Stage;
use crate::databases::{LISTED, Postgres, courier};
use crate::host::{Host, Setup};

/// As long as the remedy's grant asks for, and a moment more.
const SILENT_S: u32 = 11;

/// PostgreSQL can be had here.
pub(super) fn is_there() -> bool {
    fs::exists("/usr/lib/postgresql").unwrap()
}

/// Six clients have done nothing for long, two of them of an application that is not listed; a fifth of seven slots is one.
pub(super) fn exhausted() -> Stage {
    let server = Postgres::start().unwrap();
    let dir = Host::scratch();
    let layout = Layout { config: dir.path().join("config"), state: dir.path().join("state") };
    let courier = courier(&layout, &server);
    let clients = ["shop", "mail", "shop", "shop", "mail", "shop"].map(|user| server.forgets(user));
    server.wait_until_silent(SILENT_S);
    let (shop, mail) = (server.silent("shop"), server.silent("mail"));
    let server = Rc::new(server);
    let asked = Rc::clone(&server);
    Stage {
        dir,
        setup: Setup { rules: LISTED.into(), ..Setup::default() },
        kind: "db-connections-exhausted",
        target: "pool:main".to_owned(),
        fault: Box::new(move |_| {
            Box::new(move |_, state| {
                let left = asked.silent("shop");
                let without_the_longest = shop.get(1..) == Some(&left[..]);
                assert!(left == shop || without_the_longest, "{state}: {left:?} are left of {shop:?}");
                assert!(state != RunState::Committed || without_the_longest, "{state}: nobody's session was ended");
                assert_eq!(asked.silent("mail"), mail, "{state}");
            })
        }),
        // Dropped in this order: a client that is still there would hold the server up.
        keep: vec![Box::new(clients), Box::new(courier), Box::new(server)],
    }
}
