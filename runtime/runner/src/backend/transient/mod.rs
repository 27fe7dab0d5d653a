//! Programs as transient units of systemd: each one is a service that exists only while it runs, in a jail that systemd makes.
//!
//! The jail is an empty root with the system's programs and libraries, read-only, and what the grant names; no capability, no
//! environment, no device, no network unless granted, the calls of `@system-service`. The unit's cgroup ends with the program, and
//! systemd itself keeps the deadline: it holds although the runner died. What an earlier runner left is killed before the first
//! program is run, so that no undo works beside what it undoes.
//!
//! Supplementary groups of the user are systemd's to set; the launcher's jail has none.

mod properties;

use std::collections::HashMap;
use std::future::poll_fn;
use std::io;
use std::ops::RangeInclusive;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_core::Stream as _;
use rustix::pipe::{PipeFlags, pipe_with};
use theriac_model::program::{ProgramEnding, ProgramOutput, ProgramSpec};
use theriac_model::units::Blob;
use theriac_probe::systemd as probe;
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe::Receiver;
use tokio::task::JoinSet;
use zbus::wire::{Fd, ObjectPath, OwnedObjectPath, OwnedVariant, Variant};
use zbus::{MatchRule, MessageStream};

use super::systemd::{Bus, MANAGER, MANAGER_PATH, SYSTEMD, Systemd, is_from_systemd, job_ends};
use crate::exchange::chain;
use crate::hands::{HandError, Programs};

const UNIT: &str = "org.freedesktop.systemd1.Unit";
const SERVICE: &str = "org.freedesktop.systemd1.Service";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";
/// What an operator sees in `systemctl` while one runs.
const PREFIX: &str = "theriac-program-";
/// On top of the program's own time: making the jail before, ending what is left after.
const AROUND: Duration = Duration::from_secs(20);
/// What a unit killed with SIGKILL takes to be gone.
const LEFTOVERS: Duration = Duration::from_secs(10);
/// After the unit's end nobody writes any more; somebody outside may hold the pipe open.
const LAST_BYTES: Duration = Duration::from_secs(1);
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// Statuses by which systemd says what went wrong on its way to the program: systemd.exec(5), "Process exit codes".
const BEFORE_THE_PROGRAM: RangeInclusive<i32> = 200..=245;

/// Which units are this runner's, and whether an earlier one's are gone.
#[derive(Debug, Default)]
pub(super) struct Units {
    started: AtomicU64,
    cleared: tokio::sync::Mutex<bool>,
}

/// What is kept of one stream.
#[derive(Debug, Default)]
struct Kept {
    bytes: Vec<u8>,
    cut: bool,
}

type Shared = Arc<Mutex<Kept>>;

impl Programs for Systemd {
    fn run(&self, program: &ProgramSpec) -> Result<ProgramOutput, HandError> {
        let (bus, wanted) = (Arc::clone(&self.bus), program.clone());
        let limit = program.timeout.duration() + AROUND + LEFTOVERS;
        let work = async move { bus.run(&wanted).await };
        self.within(limit, work).unwrap_or_else(|| Err(unknown("systemd did not say how it ended")))
    }
}

fn unknown(reason: impl Into<String>) -> HandError {
    HandError::Unknown { reason: reason.into() }
}

fn unavailable(error: &dyn std::error::Error) -> HandError {
    HandError::Unavailable { reason: chain(error) }
}

impl Bus {
    async fn run(&self, program: &ProgramSpec) -> Result<ProgramOutput, HandError> {
        let client = self.client().await.map_err(|error| unavailable(&error))?;
        self.clear(&client).await?;
        let started = self.programs.started.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}{}-{started}.service", std::process::id());
        let mut readers = JoinSet::new();
        let streams = [(); 2].map(|()| Shared::default());
        let mut ends = Vec::new();
        for stream in &streams {
            let (reader, writer) =
                pipe_with(PipeFlags::CLOEXEC).map_err(|errno| unavailable(&io::Error::from(errno)))?;
            let reader = Receiver::from_owned_fd(reader).map_err(|error| unavailable(&error))?;
            let cap = usize::try_from(program.output.0).unwrap_or(usize::MAX);
            readers.spawn(keep(reader, Arc::clone(stream), cap));
            ends.push(writer);
        }
        let unit = Unit { client: &client, path: path_of(&name), name };
        let ran = tokio::time::timeout(program.timeout.duration() + AROUND, unit.run(program, ends)).await;
        let ending = match ran {
            Ok(ending) => ending,
            Err(_elapsed) => Err(unknown("its unit did not end")),
        };
        // Whatever came of it, it is not left behind.
        unit.end(ending.is_err()).await;
        let ending = ending?;
        let all_read = async { while readers.join_next().await.is_some() {} };
        // Not read to the end is cut, below.
        let whole = tokio::time::timeout(LAST_BYTES, all_read).await.is_ok();
        let [stdout, stderr] = streams.map(|stream| take(&stream));
        Ok(ProgramOutput {
            ending,
            cut: stdout.cut || stderr.cut || !whole,
            stdout: Blob(stdout.bytes),
            stderr: Blob(stderr.bytes),
            assumed: false,
        })
    }

    /// Once, before the first program: nothing of an earlier runner goes on.
    async fn clear(&self, client: &probe::Systemd) -> Result<(), HandError> {
        let mut cleared = self.programs.cleared.lock().await;
        if *cleared {
            return Ok(());
        }
        let until = tokio::time::Instant::now() + LEFTOVERS;
        loop {
            let left = leftovers(client).await.map_err(|error| unavailable(&error))?;
            if left.is_empty() {
                break;
            }
            if tokio::time::Instant::now() > until {
                let reason = format!("`{}` of an earlier runner does not end", left.join("`, `"));
                return Err(HandError::Unavailable { reason });
            }
            for name in left {
                kill(client, &name).await;
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        *cleared = true;
        Ok(())
    }
}

fn take(stream: &Shared) -> Kept {
    std::mem::take(&mut *stream.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Reads to the end and keeps the beginning, so that the writer is never blocked.
async fn keep(mut pipe: Receiver, kept: Shared, cap: usize) {
    let mut buffer = vec![0; 16 << 10];
    // An error ends it as the end of file does: there is nobody to try again for.
    while let Ok(length @ 1..) = pipe.read(&mut buffer).await {
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        let room = cap.saturating_sub(kept.bytes.len()).min(length);
        kept.bytes.extend_from_slice(buffer.get(..room).unwrap_or_default());
        kept.cut |= room < length;
    }
}

/// One transient unit.
struct Unit<'a> {
    client: &'a probe::Systemd,
    name: String,
    path: OwnedObjectPath,
}

impl Unit<'_> {
    async fn run(&self, program: &ProgramSpec, ends: Vec<OwnedFd>) -> Result<ProgramEnding, HandError> {
        // Listening first: both may be over before their names are known here.
        let mut jobs = job_ends(self.client).await.map_err(|error| unavailable(&error))?;
        let mut changes = self.changes().await.map_err(|error| unavailable(&error))?;
        let job = self.start(program, ends).await?;
        let result = self.job_result(&mut jobs, &job).await?;
        if result != "done" {
            let service = self.service().await.unwrap_or_default();
            if !ran(&service) {
                let status = number(&service, "ExecMainStatus");
                let reason =
                    format!("systemd did not start it ({result}, status {status}): see `journalctl -u {}`", self.name);
                return Err(HandError::Refused { reason });
            }
        }
        loop {
            match self.active_state().await.map_err(|error| unknown(chain(&error)))?.as_str() {
                "inactive" | "failed" => break,
                _still_running => {}
            }
            if poll_fn(|context| Pin::new(&mut changes).poll_next(context)).await.is_none() {
                return Err(unknown("the bus went away"));
            }
        }
        let service = self.service().await.map_err(|error| unknown(chain(&error)))?;
        ending(&service)
    }

    async fn start(&self, program: &ProgramSpec, ends: Vec<OwnedFd>) -> Result<OwnedObjectPath, HandError> {
        let mut properties = properties::of(program);
        properties.extend(
            ["StandardOutputFileDescriptor", "StandardErrorFileDescriptor"]
                .into_iter()
                .zip(ends.into_iter().map(|end| Variant::from(Fd::from(end)))),
        );
        let auxiliary: Vec<(&str, Vec<(&str, Variant<'_>)>)> = Vec::new();
        let body = (self.name.as_str(), "fail", properties, auxiliary);
        let answer = self.manager("StartTransientUnit", &body).await.map_err(|error| {
            if is_from_systemd(&error) { HandError::Refused { reason: chain(&error) } } else { unknown(chain(&error)) }
        })?;
        answer.body().deserialize().map_err(|error: zbus::Error| unknown(chain(&error)))
    }

    async fn job_result(&self, jobs: &mut MessageStream, job: &OwnedObjectPath) -> Result<String, HandError> {
        loop {
            match poll_fn(|context| Pin::new(&mut *jobs).poll_next(context)).await {
                Some(Ok(signal)) => {
                    let body: Result<(u32, OwnedObjectPath, String, String), zbus::Error> = signal.body().deserialize();
                    let (_, path, _, result) = body.map_err(|error| unknown(chain(&error)))?;
                    if path == *job {
                        return Ok(result);
                    }
                }
                Some(Err(error)) => return Err(unknown(chain(&error))),
                None => return Err(unknown("the bus went away")),
            }
        }
    }

    async fn changes(&self) -> zbus::Result<MessageStream> {
        let rule = MatchRule::builder()
            .msg_type(zbus::message::Type::Signal)
            .sender(SYSTEMD)
            .path(&self.path)
            .interface(PROPERTIES)
            .member("PropertiesChanged")
            .build()?;
        MessageStream::for_match_rule(rule, self.client.connection(), None).await
    }

    async fn manager<B>(&self, method: &'static str, body: &B) -> zbus::Result<zbus::Message>
    where
        B: serde::Serialize + zbus::DynamicType,
    {
        manager(self.client, method, body).await
    }

    async fn active_state(&self) -> zbus::Result<String> {
        let call = self.client.connection().call_method(
            Some(SYSTEMD),
            &self.path,
            Some(PROPERTIES),
            "Get",
            &(UNIT, "ActiveState"),
        );
        let value: OwnedVariant = call.await?.body().deserialize()?;
        String::try_from(value)
    }

    async fn service(&self) -> zbus::Result<HashMap<String, OwnedVariant>> {
        let connection = self.client.connection();
        let call = connection.call_method(Some(SYSTEMD), &self.path, Some(PROPERTIES), "GetAll", &(SERVICE,));
        call.await?.body().deserialize()
    }

    /// Lets systemd forget it; `running`: kills it first.
    async fn end(&self, running: bool) {
        if running {
            kill(self.client, &self.name).await;
        }
        if let Err(error) = self.manager("UnrefUnit", &(self.name.as_str(),)).await {
            // It never was, or the bus is gone and our reference with it.
            tracing::debug!(unit = self.name, error = chain(&error), "not let go");
        }
    }
}

async fn manager<B>(client: &probe::Systemd, method: &'static str, body: &B) -> zbus::Result<zbus::Message>
where
    B: serde::Serialize + zbus::DynamicType,
{
    let path = ObjectPath::from_static_str_unchecked(MANAGER_PATH);
    client.connection().call_method(Some(SYSTEMD), path, Some(MANAGER), method, body).await
}

async fn kill(client: &probe::Systemd, name: &str) {
    if let Err(error) = manager(client, "KillUnit", &(name, "all", libc::SIGKILL)).await {
        tracing::debug!(unit = name, error = chain(&error), "not killed");
    }
}

/// Units of programs that still run.
async fn leftovers(client: &probe::Systemd) -> zbus::Result<Vec<String>> {
    type Listed = (String, String, String, String, String, String, OwnedObjectPath, u32, String, OwnedObjectPath);
    let states = ["active", "activating", "deactivating", "reloading"].map(str::to_owned).to_vec();
    let answer = manager(client, "ListUnitsByPatterns", &(states, vec![format!("{PREFIX}*")])).await?;
    let listed: Vec<Listed> = answer.body().deserialize()?;
    Ok(listed.into_iter().map(|unit| unit.0).collect())
}

/// systemd's names on the bus: everything but letters and digits is `_` and its number.
fn path_of(name: &str) -> OwnedObjectPath {
    let escaped: String = name
        .bytes()
        .map(|byte| if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("_{byte:02x}") })
        .collect();
    ObjectPath::from_string_unchecked(format!("{MANAGER_PATH}/unit/{escaped}")).into()
}

fn number(service: &HashMap<String, OwnedVariant>, name: &str) -> i32 {
    service.get(name).and_then(|value| i32::try_from(&**value).ok()).unwrap_or_default()
}

/// The start of a program can fail because it was over before systemd had heard that it ran.
fn ran(service: &HashMap<String, OwnedVariant>) -> bool {
    match number(service, "ExecMainCode") {
        libc::CLD_EXITED => !BEFORE_THE_PROGRAM.contains(&number(service, "ExecMainStatus")),
        libc::CLD_KILLED | libc::CLD_DUMPED => true,
        _never_begun => false,
    }
}

fn ending(service: &HashMap<String, OwnedVariant>) -> Result<ProgramEnding, HandError> {
    let result = service.get("Result").and_then(|value| <&str>::try_from(&**value).ok()).unwrap_or_default();
    let status = number(service, "ExecMainStatus");
    match (result, number(service, "ExecMainCode")) {
        ("timeout", _) => Ok(ProgramEnding::TimedOut),
        (_, libc::CLD_EXITED) => Ok(ProgramEnding::Exited { code: status }),
        (_, libc::CLD_KILLED | libc::CLD_DUMPED) => Ok(ProgramEnding::Signalled { signal: status }),
        (result, code) => Err(unknown(format!("systemd says `{result}`, code {code}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_units_path_is_the_one_that_systemd_gives_it() {
        let path = path_of("theriac-program-12-0.service");
        assert_eq!(path.as_str(), "/org/freedesktop/systemd1/unit/theriac_2dprogram_2d12_2d0_2eservice");
    }

    fn service(result: &str, code: i32, status: i32) -> HashMap<String, OwnedVariant> {
        let owned = |value: Variant<'static>| OwnedVariant::try_from(value).unwrap();
        HashMap::from([
            ("Result".to_owned(), owned(Variant::from(result.to_owned()))),
            ("ExecMainCode".to_owned(), owned(Variant::from(code))),
            ("ExecMainStatus".to_owned(), owned(Variant::from(status))),
        ])
    }

    #[test]
    fn a_program_that_was_over_at_once_ran_and_one_that_systemd_could_not_begin_did_not() {
        assert!(ran(&service("exit-code", libc::CLD_EXITED, 1)));
        assert!(ran(&service("signal", libc::CLD_KILLED, 9)));
        assert!(!ran(&service("exit-code", libc::CLD_EXITED, 203)), "EXIT_EXEC");
        assert!(!ran(&service("exit-code", libc::CLD_EXITED, 226)), "EXIT_NAMESPACE");
        assert!(!ran(&service("resources", 0, 0)));
    }

    #[test]
    fn a_ending_is_read_from_systemds_words() {
        assert_eq!(ending(&service("success", libc::CLD_EXITED, 0)), Ok(ProgramEnding::Exited { code: 0 }));
        assert_eq!(ending(&service("exit-code", libc::CLD_EXITED, 3)), Ok(ProgramEnding::Exited { code: 3 }));
        assert_eq!(ending(&service("signal", libc::CLD_KILLED, 9)), Ok(ProgramEnding::Signalled { signal: 9 }));
        assert_eq!(ending(&service("timeout", libc::CLD_KILLED, 9)), Ok(ProgramEnding::TimedOut));
        assert!(ending(&service("resources", 0, 0)).unwrap_err().may_have_happened());
    }

    #[test]
    fn without_a_bus_a_program_is_unavailable_and_was_not_started() {
        let dir = tempfile::tempdir().unwrap();
        let address = format!("unix:path={}/bus", dir.path().display());
        let systemd = Systemd::at(Some(&address), dir.path()).unwrap();
        let jail = theriac_model::program::Jail {
            uid: 0,
            gid: 0,
            read: Vec::new(),
            write: Vec::new(),
            network: theriac_model::program::Network::None,
        };
        let program = ProgramSpec {
            argv: vec!["/bin/true".to_owned()],
            jail,
            timeout: theriac_model::time::Span::from_secs(5),
            output: theriac_model::units::Bytes(100),
        };
        assert!(matches!(systemd.run(&program), Err(HandError::Unavailable { .. })));
    }
}
