//! systemd over D-Bus: every verb is a method call, never a command line, and a job is waited for until systemd says how it ended.
//!
//! The bus lives on one thread of its own; callers wait for it with a bound. Reading a unit is `theriac_probe::systemd`'s, and
//! reading its log `theriac_probe::journal_file`'s: from journald's files, without a process that could be asked for it.

use std::future::{Future, poll_fn};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use futures_core::Stream as _;
use serde::Serialize;
use theriac_model::id::UnitName;
use theriac_model::unit::{ActiveState, KillWhom, Property, Signal, UnitState};
use theriac_probe::journal_file::JournalFiles;
use theriac_probe::systemd as probe;
use zbus::wire::{ObjectPath, OwnedObjectPath, OwnedVariant, Variant};
use zbus::{MatchRule, Message, MessageStream, fdo};

use super::kernel_file::{self, ReadBack};
use super::{ServiceManager, UnitError, transient};
use crate::exchange::chain;

pub(super) const SYSTEMD: &str = "org.freedesktop.systemd1";
pub(super) const MANAGER: &str = "org.freedesktop.systemd1.Manager";
pub(super) const MANAGER_PATH: &str = "/org/freedesktop/systemd1";
/// For what systemd answers without a job.
const AT_ONCE: Duration = Duration::from_secs(8);
/// Whether a unit goes by the name is asked before its log is read; the log can be read without an answer.
const NAME_ASKED: Duration = Duration::from_secs(2);
/// systemd writes the cgroup files soon after its answer, from a queue.
const REALISED: Duration = Duration::from_secs(2);
/// Between two looks at a kernel file, or at a unit that was killed.
const LOOK_AGAIN: Duration = Duration::from_millis(10);
/// On top of a timeout that is kept on the bus' thread already.
const GRACE: Duration = Duration::from_secs(1);

/// systemd as a service manager.
#[derive(Debug)]
pub struct Systemd {
    pub(super) bus: Arc<Bus>,
    journal: JournalFiles,
    runtime: tokio::runtime::Handle,
    /// Dropped with this: ends the bus' thread.
    _alive: tokio::sync::oneshot::Sender<()>,
}

#[derive(Debug)]
pub(super) struct Bus {
    address: Option<String>,
    cgroups: PathBuf,
    client: tokio::sync::Mutex<Option<probe::Systemd>>,
    pub(super) programs: transient::Units,
}

/// A verb that systemd turns into a job.
#[derive(Debug, Clone, Copy)]
enum Verb {
    Start,
    Stop,
    Restart,
    Reload,
}

impl Verb {
    const fn method(self) -> &'static str {
        match self {
            Self::Start => "StartUnit",
            Self::Stop => "StopUnit",
            Self::Restart => "RestartUnit",
            Self::Reload => "ReloadUnit",
        }
    }

    const fn word(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Restart => "restart",
            Self::Reload => "reload",
        }
    }
}

impl Systemd {
    /// The machine's own systemd. Connects when first asked, and again whenever the bus went away.
    pub fn system() -> std::io::Result<Self> {
        Self::at(None, Path::new("/sys/fs/cgroup"))
    }

    /// A systemd at another bus address, with its cgroup tree as this process sees it.
    pub fn at(address: Option<&str>, cgroups: &Path) -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (alive, ended) = tokio::sync::oneshot::channel::<()>();
        // The only way this ends is the sender being dropped.
        std::thread::Builder::new().name("systemd-bus".to_owned()).spawn(move || runtime.block_on(ended).ok())?;
        let client = tokio::sync::Mutex::new(None);
        let bus = Bus {
            address: address.map(str::to_owned),
            cgroups: cgroups.to_owned(),
            client,
            programs: transient::Units::default(),
        };
        let journal = JournalFiles::of_this_machine();
        Ok(Self { bus: Arc::new(bus), journal, runtime: handle, _alive: alive })
    }

    /// Reads logs of a machine whose root directory is this, as seen from here.
    pub fn with_logs_below(mut self, root: &Path) -> Self {
        self.journal = JournalFiles::below(root);
        self
    }

    /// Lets the bus' thread work on it and waits, at most as long as `timeout`.
    fn wait<T, F>(&self, verb: &'static str, unit: &UnitName, timeout: Duration, work: F) -> Result<T, UnitError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, UnitError>> + Send + 'static,
    {
        self.within(timeout, work).unwrap_or_else(|| Err(UnitError::Timeout { verb, unit: unit.clone(), timeout }))
    }

    /// See [`Self::wait`]; `None`: it did not end in time.
    pub(super) fn within<T, F>(&self, timeout: Duration, work: F) -> Option<T>
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let (sender, receiver) = mpsc::sync_channel(1);
        self.runtime.spawn(async move {
            // The receiver is gone only after its own bound has passed.
            sender.send(tokio::time::timeout(timeout, work).await).ok();
        });
        receiver.recv_timeout(timeout + GRACE).ok()?.ok()
    }

    fn job(&self, verb: Verb, unit: &UnitName, timeout: Duration) -> Result<UnitState, UnitError> {
        let (bus, name) = (Arc::clone(&self.bus), unit.clone());
        self.wait(verb.word(), unit, timeout, async move { bus.job(verb, &name).await })
    }

    /// Nothing survives a KILL, but it takes its moment: a start before that finds the unit running and does nothing. What
    /// systemd then starts by itself is waited for, too.
    fn until_it_has_ended(&self, before: &UnitState, mut now: UnitState) -> Result<UnitState, UnitError> {
        let deadline = Instant::now() + AT_ONCE;
        let ends = |state: &UnitState| {
            let is_old = state.is_up() && state.invocation == before.invocation;
            is_old || state.active == ActiveState::Deactivating || state.will_restart
        };
        while ends(&now) && Instant::now() < deadline {
            std::thread::sleep(LOOK_AGAIN);
            now = self.state(&before.name)?;
        }
        Ok(now)
    }

    /// A method with no job, then the state.
    fn call<B>(&self, call: Call, unit: &UnitName, body: B) -> Result<UnitState, UnitError>
    where
        B: Serialize + zbus::DynamicType + Send + Sync + 'static,
    {
        let (bus, name) = (Arc::clone(&self.bus), unit.clone());
        self.wait(call.verb, unit, AT_ONCE, async move {
            let (client, _) = bus.named(&name).await?;
            match bus.method(&client, call, &name, &body).await {
                Ok(_) => {}
                // It was there a moment ago: systemd forgets a unit that is down and did not fail.
                Err(UnitError::NoSuchUnit { unit }) => (call.unloaded)(unit)?,
                Err(error) => return Err(error),
            }
            bus.state(&client, &name).await
        })
    }
}

/// A method of the manager and our word for it.
#[derive(Debug, Clone, Copy)]
struct Call {
    verb: &'static str,
    method: &'static str,
    /// What it means that systemd has not loaded the unit.
    unloaded: fn(UnitName) -> Result<(), UnitError>,
}

fn no_such_unit(unit: UnitName) -> Result<(), UnitError> {
    Err(UnitError::NoSuchUnit { unit })
}

fn no_process(unit: UnitName) -> Result<(), UnitError> {
    Err(UnitError::Refused { verb: "kill", unit, reason: "it has no process".to_owned() })
}

impl Bus {
    pub(super) async fn client(&self) -> Result<probe::Systemd, UnitError> {
        let mut held = self.client.lock().await;
        if let Some(client) = held.as_ref().filter(|client| !client.connection().is_closed()) {
            return Ok(client.clone());
        }
        let connection = |error: &dyn std::error::Error| UnitError::Connection { reason: chain(error) };
        let client = probe::Systemd::connect(self.address.as_deref()).await.map_err(|error| connection(&error))?;
        // Whoever owns the name is obeyed below; the bus' own policy should see to it that it is root.
        let owner = owner_uid(&client).await.map_err(|error| connection(&error))?;
        if owner != 0 {
            return Err(UnitError::Connection { reason: format!("{SYSTEMD} belongs to uid {owner}, not to root") });
        }
        Ok(held.insert(client).clone())
    }

    /// The client, and the state of a unit that goes by exactly this name.
    async fn named(&self, unit: &UnitName) -> Result<(probe::Systemd, UnitState), UnitError> {
        let client = self.client().await?;
        let state = self.state(&client, unit).await?;
        if state.name == *unit {
            Ok((client, state))
        } else {
            Err(UnitError::Alias { asked: unit.clone(), canonical: state.name })
        }
    }

    async fn state(&self, client: &probe::Systemd, unit: &UnitName) -> Result<UnitState, UnitError> {
        client.unit_state(unit).await.map_err(|error| match error {
            probe::UnitError::NotFound(unit) => UnitError::NoSuchUnit { unit },
            probe::UnitError::Call { unit, source } => translate("status", &unit, &source),
            probe::UnitError::Subscribe(source) => translate("status", unit, &source),
        })
    }

    async fn method<B>(
        &self,
        client: &probe::Systemd,
        call: Call,
        unit: &UnitName,
        body: &B,
    ) -> Result<Message, UnitError>
    where
        B: Serialize + zbus::DynamicType,
    {
        let path = ObjectPath::from_static_str_unchecked(MANAGER_PATH);
        let answer = client.connection().call_method(Some(SYSTEMD), path, Some(MANAGER), call.method, body).await;
        answer.map_err(|error| translate(call.verb, unit, &error))
    }

    async fn job(&self, verb: Verb, unit: &UnitName) -> Result<UnitState, UnitError> {
        let failed = |error: zbus::Error| translate(verb.word(), unit, &error);
        let (client, _) = self.named(unit).await?;
        // Listening first: the job may be over before its number is known here.
        let mut ends = job_ends(&client).await.map_err(failed)?;
        let call = Call { verb: verb.word(), method: verb.method(), unloaded: no_such_unit };
        let answer = self.method(&client, call, unit, &(unit.as_str(), "replace")).await?;
        let job: OwnedObjectPath = answer.body().deserialize().map_err(failed)?;
        let result = loop {
            match poll_fn(|context| Pin::new(&mut ends).poll_next(context)).await {
                Some(Ok(signal)) => {
                    let (_, path, _, result): (u32, OwnedObjectPath, String, String) =
                        signal.body().deserialize().map_err(failed)?;
                    if path == job {
                        break result;
                    }
                }
                Some(Err(error)) => return Err(failed(error)),
                None => return Err(UnitError::Connection { reason: "the bus went away".to_owned() }),
            }
        };
        let state = self.state(&client, unit).await?;
        if result == "done" {
            return Ok(state);
        }
        // `failed` alone does not tell a start limit from an exit code.
        let result = if state.result == "success" { result } else { format!("{result} ({})", state.result) };
        Err(UnitError::Job { verb: verb.word(), unit: unit.clone(), result })
    }

    async fn property(&self, client: &probe::Systemd, unit: &UnitName, like: Property) -> Result<Property, UnitError> {
        let failed = |error: zbus::Error| translate("property", unit, &error);
        let path = client.path(unit).await.map_err(|error| UnitError::Connection { reason: chain(&error) })?;
        let body = (interface_of(unit), bus_name(like));
        let get = client.connection().call_method(
            Some(SYSTEMD),
            &path,
            Some("org.freedesktop.DBus.Properties"),
            "Get",
            &body,
        );
        let value: OwnedVariant = get.await.map_err(failed)?.body().deserialize().map_err(failed)?;
        from_bus(like, u64::try_from(value).map_err(failed)?)
    }

    async fn set_property(&self, unit: &UnitName, property: Property) -> Result<Property, UnitError> {
        let unavailable = |why: &str| UnitError::Unavailable { what: property.name().to_owned(), why: why.to_owned() };
        let (client, state) = self.named(unit).await?;
        if state.cgroup.is_empty() {
            return Err(unavailable("the unit has no processes, so that the kernel's value can't be read back"));
        }
        let before = self.property(&client, unit, property).await?;
        self.write(&client, unit, property).await?;
        let read = self.read_back(&state.cgroup, property).await;
        if read == ReadBack::Same {
            return Ok(property);
        }
        // Not in force: a limit that only systemd believes in would be taken for a repair.
        self.write(&client, unit, before).await?;
        Err(unavailable(&match read {
            ReadBack::Missing => "no cgroup controller here has a file for it".to_owned(),
            ReadBack::Other(value) => format!("the kernel kept `{value}`"),
            ReadBack::Same => String::new(),
        }))
    }

    async fn write(&self, client: &probe::Systemd, unit: &UnitName, property: Property) -> Result<(), UnitError> {
        // `true`: until the next boot only.
        let body = (unit.as_str(), true, vec![(bus_name(property), Variant::from(to_bus(property)))]);
        let call = Call { verb: "set-property", method: "SetUnitProperties", unloaded: no_such_unit };
        self.method(client, call, unit, &body).await.map(drop)
    }

    async fn read_back(&self, cgroup: &str, property: Property) -> ReadBack {
        let until = tokio::time::Instant::now() + REALISED;
        loop {
            let read = kernel_file::read_back(&self.cgroups, cgroup, property);
            if read == ReadBack::Same || tokio::time::Instant::now() >= until {
                return read;
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }
}

async fn owner_uid(client: &probe::Systemd) -> zbus::Result<u32> {
    let (bus, path) = ("org.freedesktop.DBus", ObjectPath::from_static_str_unchecked("/org/freedesktop/DBus"));
    let call = client.connection().call_method(Some(bus), path, Some(bus), "GetConnectionUnixUser", &(SYSTEMD,));
    call.await?.body().deserialize()
}

pub(super) async fn job_ends(client: &probe::Systemd) -> zbus::Result<MessageStream> {
    let rule = MatchRule::builder()
        .msg_type(zbus::message::Type::Signal)
        .sender(SYSTEMD)
        .path(MANAGER_PATH)
        .interface(MANAGER)
        .member("JobRemoved")
        .build()?;
    let stream = MessageStream::for_match_rule(rule, client.connection(), None).await?;
    let path = ObjectPath::from_static_str_unchecked(MANAGER_PATH);
    match client.connection().call_method(Some(SYSTEMD), path, Some(MANAGER), "Subscribe", &()).await {
        Ok(_) => Ok(stream),
        // Once per connection is enough.
        Err(zbus::Error::MethodError(name, ..)) if name.as_str().ends_with(".AlreadySubscribed") => Ok(stream),
        Err(error) => Err(error),
    }
}

/// systemd's error names are its interface; whatever does not come from systemd is a connection that may have lost an answer.
fn translate(verb: &'static str, unit: &UnitName, error: &zbus::Error) -> UnitError {
    let refused =
        |reason: &str| UnitError::Refused { verb, unit: unit.clone(), reason: reason.chars().take(200).collect() };
    if let zbus::Error::MethodError(name, text, _) = error {
        if name.as_str().ends_with(".NoSuchUnit") {
            return UnitError::NoSuchUnit { unit: unit.clone() };
        }
        return refused(text.as_deref().unwrap_or(name.as_str()));
    }
    if is_from_systemd(error) {
        return refused(&error.to_string());
    }
    UnitError::Connection { reason: chain(error) }
}

/// systemd said no; anything else is a connection that may have lost an answer.
pub(super) fn is_from_systemd(error: &zbus::Error) -> bool {
    let refused = matches!(error, zbus::Error::MethodError(..));
    refused || matches!(error, zbus::Error::FDO(error) if !is_lost(error))
}

const fn is_lost(error: &fdo::Error) -> bool {
    matches!(
        error,
        fdo::Error::ZBus(_)
            | fdo::Error::NoReply(_)
            | fdo::Error::Timeout(_)
            | fdo::Error::TimedOut(_)
            | fdo::Error::Disconnected(_)
            | fdo::Error::NoServer(_)
            | fdo::Error::ServiceUnknown(_)
            | fdo::Error::NameHasNoOwner(_)
    )
}

/// `nginx.service` has its resource control on `…systemd1.Service`.
fn interface_of(unit: &UnitName) -> String {
    let kind = unit.as_str().rsplit_once('.').map_or("service", |(_, kind)| kind);
    let (first, rest) = kind.split_at_checked(1).unwrap_or((kind, ""));
    format!("{SYSTEMD}.{}{rest}", first.to_ascii_uppercase())
}

/// On the bus the quota has another name than in unit files.
const fn bus_name(property: Property) -> &'static str {
    match property {
        Property::CpuQuota(_) => "CPUQuotaPerSecUSec",
        Property::CpuWeight(_) | Property::MemoryHigh(_) | Property::TasksMax(_) => property.name(),
    }
}

/// All four are `t`, and the largest number means "none".
fn to_bus(property: Property) -> u64 {
    let value = match property {
        Property::CpuQuota(permille) => permille.map(|permille| u64::from(permille) * 1000),
        Property::CpuWeight(weight) => weight.map(u64::from),
        Property::MemoryHigh(value) | Property::TasksMax(value) => value,
    };
    value.unwrap_or(u64::MAX)
}

fn from_bus(like: Property, raw: u64) -> Result<Property, UnitError> {
    let value = (raw != u64::MAX).then_some(raw);
    let inexact = |what: u64| UnitError::Unavailable {
        what: like.name().to_owned(),
        why: format!("its present value ({what}) could not be put back exactly"),
    };
    let small =
        |value: Option<u64>| value.map(|value| u32::try_from(value).map_err(|_wide| inexact(value))).transpose();
    Ok(match like {
        Property::CpuQuota(_) => match value {
            Some(micros) if !micros.is_multiple_of(1000) => return Err(inexact(micros)),
            micros => Property::CpuQuota(small(micros.map(|micros| micros / 1000))?),
        },
        Property::CpuWeight(_) => Property::CpuWeight(small(value)?),
        Property::MemoryHigh(_) => Property::MemoryHigh(value),
        Property::TasksMax(_) => Property::TasksMax(value),
    })
}

impl ServiceManager for Systemd {
    fn state(&self, unit: &UnitName) -> Result<UnitState, UnitError> {
        let (bus, name) = (Arc::clone(&self.bus), unit.clone());
        self.wait("status", unit, AT_ONCE, async move {
            let client = bus.client().await?;
            bus.state(&client, &name).await
        })
    }

    fn start(&self, unit: &UnitName, timeout: Duration) -> Result<UnitState, UnitError> {
        self.job(Verb::Start, unit, timeout)
    }

    fn stop(&self, unit: &UnitName, timeout: Duration) -> Result<UnitState, UnitError> {
        self.job(Verb::Stop, unit, timeout)
    }

    fn restart(&self, unit: &UnitName, timeout: Duration) -> Result<UnitState, UnitError> {
        self.job(Verb::Restart, unit, timeout)
    }

    fn reload(&self, unit: &UnitName, timeout: Duration) -> Result<UnitState, UnitError> {
        self.job(Verb::Reload, unit, timeout)
    }

    fn kill(&self, unit: &UnitName, whom: KillWhom, signal: Signal) -> Result<UnitState, UnitError> {
        let (for_good, whom) = match whom {
            KillWhom::Main => (false, "main"),
            KillWhom::All => (signal == Signal::Kill, "all"),
        };
        let number: i32 = match signal {
            Signal::Term => libc::SIGTERM,
            Signal::Kill => libc::SIGKILL,
            Signal::Hup => libc::SIGHUP,
            Signal::Usr1 => libc::SIGUSR1,
        };
        let call = Call { verb: "kill", method: "KillUnit", unloaded: no_process };
        let before = self.state(unit)?;
        let after = self.call(call, unit, (unit.as_str().to_owned(), whom.to_owned(), number))?;
        if for_good { self.until_it_has_ended(&before, after) } else { Ok(after) }
    }

    fn reset_failed(&self, unit: &UnitName) -> Result<UnitState, UnitError> {
        let call = Call { verb: "reset-failed", method: "ResetFailedUnit", unloaded: |_has_no_failure| Ok(()) };
        self.call(call, unit, (unit.as_str().to_owned(),))
    }

    fn property(&self, unit: &UnitName, like: Property) -> Result<Property, UnitError> {
        let (bus, name) = (Arc::clone(&self.bus), unit.clone());
        self.wait("property", unit, AT_ONCE, async move {
            let (client, _) = bus.named(&name).await?;
            bus.property(&client, &name, like).await
        })
    }

    fn set_property(&self, unit: &UnitName, property: Property) -> Result<Property, UnitError> {
        let (bus, name) = (Arc::clone(&self.bus), unit.clone());
        self.wait("set-property", unit, AT_ONCE, async move { bus.set_property(&name, property).await })
    }

    fn log_tail(&self, unit: &UnitName, lines: u32) -> Result<Vec<String>, UnitError> {
        let (bus, name) = (Arc::clone(&self.bus), unit.clone());
        match self.wait("log-tail", unit, NAME_ASKED, async move { bus.named(&name).await.map(drop) }) {
            Ok(()) => {}
            // The bus is away: nothing is changed here, and the files tell why it may be so.
            Err(error) if error.may_have_happened() => tracing::debug!(error = chain(&error), "read without systemd"),
            Err(error) => return Err(error),
        }
        let most = usize::try_from(lines).unwrap_or(usize::MAX);
        let tail = self
            .journal
            .tail(unit, most)
            .map_err(|error| UnitError::Unavailable { what: format!("the log of `{unit}`"), why: chain(&error) })?;
        if tail.gaps > 0 {
            tracing::debug!(%unit, gaps = tail.gaps, "parts of the journal could not be read");
        }
        Ok(tail.lines)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_property_reads_back_as_it_was_written_and_the_largest_number_is_none() {
        for property in [
            Property::CpuQuota(Some(500)),
            Property::CpuQuota(None),
            Property::CpuWeight(Some(20)),
            Property::MemoryHigh(Some(64 << 20)),
            Property::MemoryHigh(None),
            Property::TasksMax(Some(100)),
        ] {
            assert_eq!(from_bus(property, to_bus(property)).unwrap(), property);
        }
        assert_eq!(to_bus(Property::CpuQuota(Some(500))), 500_000, "half a core is 500 ms a second");
    }

    #[test]
    fn a_quota_that_could_not_be_put_back_exactly_is_not_taken_away() {
        let error = from_bus(Property::CpuQuota(None), 123_400_u64 + 1).unwrap_err();
        assert!(matches!(error, UnitError::Unavailable { .. }), "{error}");
    }

    #[test]
    fn the_interface_follows_the_units_kind() {
        let interface = |name| interface_of(&UnitName::parse(name).unwrap());
        assert_eq!(interface("nginx.service"), "org.freedesktop.systemd1.Service");
        assert_eq!(interface("a.b.slice"), "org.freedesktop.systemd1.Slice");
    }

    // SV13.
    #[test]
    fn without_a_bus_every_verb_fails_as_a_connection_and_in_time() {
        let dir = tempfile::tempdir().unwrap();
        let address = format!("unix:path={}/bus", dir.path().display());
        let systemd = Systemd::at(Some(&address), dir.path()).unwrap();
        let unit = UnitName::parse("nginx.service").unwrap();
        let error = systemd.start(&unit, Duration::from_secs(5)).unwrap_err();
        assert!(matches!(error, UnitError::Connection { .. }), "{error}");
    }
}
