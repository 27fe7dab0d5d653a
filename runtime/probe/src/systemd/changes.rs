//! The stream of changes: one subscription for all units, filtered by object path.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::future::poll_fn;
use std::pin::Pin;

use futures_core::Stream as _;
use theriac_model::id::UnitName;
use theriac_model::unit::UnitState;
use zbus::wire::OwnedObjectPath;
use zbus::{MatchRule, MessageStream, message};

use super::client::{MANAGER, MANAGER_PATH, PROPERTIES, SYSTEMD, Systemd, UNIT, UnitError};

/// What the stream tells.
#[derive(Debug)]
pub enum Change {
    /// The unit's state, in full. The name is the one that was asked for.
    Unit(UnitName, Box<UnitState>),
    /// The unit's state could not be read (its file is gone, systemd did not answer).
    Lost(UnitName, UnitError),
}

/// Changes of some units. Dropped, it leaves the match rules to the connection.
#[derive(Debug)]
pub struct Changes {
    systemd: Systemd,
    signals: MessageStream,
    reloads: MessageStream,
    units: HashMap<OwnedObjectPath, Vec<UnitName>>,
    pending: VecDeque<(UnitName, OwnedObjectPath)>,
    last: BTreeMap<UnitName, UnitState>,
}

/// What arrived on the bus.
enum Arrived {
    Path(OwnedObjectPath),
    Reloaded,
    Other,
    Closed,
}

impl Changes {
    pub(super) async fn subscribe(systemd: Systemd, units: &[UnitName]) -> Result<Self, UnitError> {
        let (signals, reloads) = streams(&systemd).await.map_err(UnitError::Subscribe)?;
        let mut paths: HashMap<OwnedObjectPath, Vec<UnitName>> = HashMap::new();
        let mut pending = VecDeque::new();
        for unit in units {
            let path = systemd.path(unit).await?;
            pending.push_back((unit.clone(), path.clone()));
            paths.entry(path).or_default().push(unit.clone());
        }
        Ok(Self { systemd, signals, reloads, units: paths, pending, last: BTreeMap::new() })
    }

    /// The next change; `None` when the bus is gone. First, every unit's present state.
    pub async fn next(&mut self) -> Option<Change> {
        loop {
            while let Some((unit, path)) = self.pending.pop_front() {
                match self.systemd.state_at(&unit, &path).await {
                    Ok(state) => {
                        if self.is_news(&unit, &state) {
                            self.last.insert(unit.clone(), state.clone());
                            return Some(Change::Unit(unit, Box::new(state)));
                        }
                    }
                    Err(error) => return Some(Change::Lost(unit, error)),
                }
            }
            match self.arrived().await {
                Arrived::Path(path) => {
                    let names = self.units.get(&path).into_iter().flatten();
                    self.pending.extend(names.map(|name| (name.clone(), path.clone())));
                }
                Arrived::Reloaded => {
                    let all = self
                        .units
                        .iter()
                        .flat_map(|(path, names)| names.iter().map(|name| (name.clone(), path.clone())));
                    self.pending.extend(all);
                }
                Arrived::Other => {}
                Arrived::Closed => return None,
            }
        }
    }

    /// One change of a unit arrives as several signals; time in a state passes without one.
    fn is_news(&self, unit: &UnitName, state: &UnitState) -> bool {
        self.last.get(unit).is_none_or(|last| UnitState { since_ms: state.since_ms, ..last.clone() } != *state)
    }

    async fn arrived(&mut self) -> Arrived {
        poll_fn(|context| {
            for stream in [&mut self.signals, &mut self.reloads] {
                if let std::task::Poll::Ready(message) = Pin::new(stream).poll_next(context) {
                    return std::task::Poll::Ready(match message {
                        None | Some(Err(_)) => Arrived::Closed,
                        Some(Ok(message)) => classify(&message),
                    });
                }
            }
            std::task::Poll::Pending
        })
        .await
    }
}

fn classify(message: &zbus::Message) -> Arrived {
    let header = message.header();
    match header.member().map(|member| member.as_str()) {
        // Reloading(false): a daemon-reload ended, and any property may be another now.
        Some("Reloading") => match message.body().deserialize::<bool>() {
            Ok(false) => Arrived::Reloaded,
            Ok(true) | Err(_) => Arrived::Other,
        },
        Some("PropertiesChanged") => header.path().map_or(Arrived::Other, |path| Arrived::Path(path.to_owned().into())),
        Some(_) | None => Arrived::Other,
    }
}

async fn streams(systemd: &Systemd) -> Result<(MessageStream, MessageStream), zbus::Error> {
    let connection = systemd.connection();
    let rule = || MatchRule::builder().msg_type(message::Type::Signal).sender(SYSTEMD);
    let changed = rule()
        .interface(PROPERTIES)
        .member("PropertiesChanged")
        .path_namespace("/org/freedesktop/systemd1/unit")
        .arg(0, UNIT)
        .build()?;
    let reloading = rule().interface(MANAGER).member("Reloading").path(MANAGER_PATH).build()?;
    let signals = MessageStream::for_match_rule(changed, connection, None).await?;
    let reloads = MessageStream::for_match_rule(reloading, connection, None).await?;
    // Without it systemd sends no unit signals at all. Twice on one connection is an error that changes nothing.
    let path = zbus::wire::ObjectPath::from_static_str_unchecked(MANAGER_PATH);
    match connection.call_method(Some(SYSTEMD), path, Some(MANAGER), "Subscribe", &()).await {
        Ok(_) => {}
        Err(zbus::Error::MethodError(name, ..)) if name.as_str().ends_with("AlreadySubscribed") => {}
        Err(error) => return Err(error),
    }
    Ok((signals, reloads))
}
