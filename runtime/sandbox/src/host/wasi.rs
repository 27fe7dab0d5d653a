//! The sealed WASI: what a component of another language's tools imports, with nothing behind it.
//!
//! The tools link a whole C library or an interpreter, and those import files, sockets, clocks and streams whether the remedy
//! uses them or not. Each import is linked here by its own type: what has an answer that is always the same is in [`function`];
//! everything else answers with nothing (an empty list, no value) or with a refusal in its own error type, and where its type
//! can say neither, calling it ends the guest. No function reaches the process it runs in: there is no file, socket, clock or
//! random number here to be reached, and none is linked into this program for it (`docs/decisions/007-a-wasi-of-our-own.md`).
//!
//! What is printed goes to the remedy's log, line by line and within its budget.

use theriac_model::fault::Severity;
use theriac_model::units::Bytes;
use wasmtime::component::types::{ComponentInstance, ComponentItem, Type};
use wasmtime::component::{ComponentType, Lift, Linker, LinkerInstance, Lower, Resource, ResourceType, Val};
use wasmtime::{Engine, StoreContextMut};

use super::State;
use crate::ending::Stop;

/// 2000-01-01T00:00:00Z, whenever the remedy runs.
const WALL_SECONDS: u64 = 946_684_800;
/// Not zero: Go's runtime takes a clock at zero for one that is broken.
const MONOTONIC_NANOS: u64 = 1_000_000_000;
/// What the random numbers of each call begin with.
const SEED: u64 = 0x7468_6572_6961_6321;
/// Random bytes of one call; a hash table's seed takes 16.
const NOISE: Bytes = Bytes(64 << 10);
/// What a stream takes at once; WASI's own bound for `blocking-write-and-flush`.
const WRITE: u64 = 4_096;
/// A longer line is cut into several.
const LINE: usize = 1_024;

/// What a call keeps for the sealed WASI.
#[derive(Debug)]
pub(crate) struct Sealed {
    noise: u64,
    out: Vec<u8>,
    err: Vec<u8>,
}

impl Default for Sealed {
    fn default() -> Self {
        Self { noise: SEED, out: Vec::new(), err: Vec::new() }
    }
}

impl Sealed {
    /// The next of the numbers that are the same in each call (splitmix64).
    fn next(&mut self) -> u64 {
        self.noise = self.noise.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.noise ^ (self.noise >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// A stream of what is printed; its number says which.
#[derive(Debug)]
enum Output {}
/// Standard input, which is at its end.
#[derive(Debug)]
enum Input {}
/// Something to wait for, which is always there.
#[derive(Debug)]
enum Pollable {}
/// Why a stream failed; none is ever made.
#[derive(Debug)]
enum Failure {}
/// Every other resource of WASI: descriptors, sockets, requests. None is ever made, but for the network that refuses.
#[derive(Debug)]
enum Nothing {}

/// Standard output among the numbers of [`Output`]; any other is standard error.
const STDOUT: u32 = 1;
const STDERR: u32 = 2;

#[derive(Debug, ComponentType, Lift, Lower)]
#[component(variant)]
enum StreamError {
    #[component(name = "last-operation-failed")]
    Failed(Resource<Failure>),
    #[component(name = "closed")]
    Closed,
}

#[derive(Debug, Clone, Copy, ComponentType, Lift, Lower)]
#[component(record)]
struct Datetime {
    seconds: u64,
    nanoseconds: u32,
}

/// Links one interface of WASI as the component wants it.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "an interface has types, resources and functions; the rest is refused"
)]
pub(crate) fn seal(
    linker: &mut Linker<State>,
    engine: &Engine,
    import: &str,
    wanted: &ComponentInstance,
) -> wasmtime::Result<()> {
    let interface = import.strip_prefix("wasi:").and_then(|name| name.split('@').next()).unwrap_or(import);
    let mut linked = linker.instance(import)?;
    for (name, item) in wanted.exports(engine) {
        match item.ty {
            ComponentItem::Resource(_) => linked.resource(name, resource(name), |_, _| Ok(()))?,
            ComponentItem::ComponentFunc(_) => function(&mut linked, interface, name)?,
            ComponentItem::Type(_) => {}
            _ => return Err(wasmtime::Error::msg(format!("`{name}` of `{import}` is no function"))),
        }
    }
    Ok(())
}

fn resource(name: &str) -> ResourceType {
    match name {
        "output-stream" => ResourceType::host::<Output>(),
        "input-stream" => ResourceType::host::<Input>(),
        "pollable" => ResourceType::host::<Pollable>(),
        "error" => ResourceType::host::<Failure>(),
        _ => ResourceType::host::<Nothing>(),
    }
}

/// The functions that answer something; the rest is [`nothing`].
fn function(linked: &mut LinkerInstance<'_, State>, interface: &str, name: &str) -> wasmtime::Result<()> {
    let pollable = || Ok((Resource::<Pollable>::new_own(0),));
    match (interface, name) {
        ("io/streams", _) => stream(linked, name),
        ("io/poll", "[method]pollable.ready") => linked.func_wrap(name, |_, (_,): (Resource<Pollable>,)| Ok((true,))),
        ("io/poll", "[method]pollable.block") => linked.func_wrap(name, |_, (_,): (Resource<Pollable>,)| Ok(())),
        ("io/poll", "poll") => linked.func_wrap(name, |_, (all,): (Vec<Resource<Pollable>>,)| {
            Ok(((0..).take(all.len()).collect::<Vec<u32>>(),))
        }),
        ("cli/stdin", "get-stdin") => linked.func_wrap(name, |_, (): ()| Ok((Resource::<Input>::new_own(0),))),
        ("cli/stdout", "get-stdout") => linked.func_wrap(name, |_, (): ()| Ok((Resource::<Output>::new_own(STDOUT),))),
        ("cli/stderr", "get-stderr") => linked.func_wrap(name, |_, (): ()| Ok((Resource::<Output>::new_own(STDERR),))),
        // To look a name up, a C library asks for the network first; the network then refuses, which programs are made for.
        ("sockets/instance-network", "instance-network") => {
            linked.func_wrap(name, |_, (): ()| Ok((Resource::<Nothing>::new_own(0),)))
        }
        ("cli/exit", "exit") => linked.func_wrap(name, |_, (how,): (Result<(), ()>,)| exit(how.is_ok())),
        ("cli/exit", "exit-with-code") => linked.func_wrap(name, |_, (code,): (u8,)| exit(code == 0)),
        ("clocks/monotonic-clock", "now") => linked.func_wrap(name, |_, (): ()| Ok((MONOTONIC_NANOS,))),
        ("clocks/monotonic-clock", "resolution") => linked.func_wrap(name, |_, (): ()| Ok((1_u64,))),
        // The clock stands still, so waiting for it would be for ever: it is over at once.
        ("clocks/monotonic-clock", "subscribe-instant" | "subscribe-duration") => {
            linked.func_wrap(name, move |_, (_,): (u64,)| pollable())
        }
        ("clocks/wall-clock", "now") => {
            linked.func_wrap(name, |_, (): ()| Ok((Datetime { seconds: WALL_SECONDS, nanoseconds: 0 },)))
        }
        ("clocks/wall-clock", "resolution") => {
            linked.func_wrap(name, |_, (): ()| Ok((Datetime { seconds: 1, nanoseconds: 0 },)))
        }
        ("random/random" | "random/insecure", "get-random-bytes" | "get-insecure-random-bytes") => {
            linked.func_wrap(name, |mut store, (length,): (u64,)| noise(store.data_mut(), length).map(|bytes| (bytes,)))
        }
        ("random/random" | "random/insecure", "get-random-u64" | "get-insecure-random-u64") => {
            linked.func_wrap(name, |mut store, (): ()| Ok((store.data_mut().sealed.next(),)))
        }
        ("random/insecure-seed", "insecure-seed") => linked.func_wrap(name, |mut store, (): ()| {
            let sealed = &mut store.data_mut().sealed;
            Ok(((sealed.next(), sealed.next()),))
        }),
        _ => nothing(linked, interface, name),
    }
}

fn exit(well: bool) -> wasmtime::Result<()> {
    Err(Stop::Exit { well }.into())
}

fn noise(state: &mut State, length: u64) -> wasmtime::Result<Vec<u8>> {
    let Some(length) = usize::try_from(length).ok().filter(|_| length <= NOISE.0) else {
        return Err(Stop::Noise { allowed: NOISE.0 }.into());
    };
    let mut bytes: Vec<u8> = Vec::with_capacity(length.saturating_add(8));
    while bytes.len() < length {
        bytes.extend(state.sealed.next().to_le_bytes());
    }
    bytes.truncate(length);
    Ok(bytes)
}

/// Streams that exist: what is printed, and an input at its end.
fn stream(linked: &mut LinkerInstance<'_, State>, name: &str) -> wasmtime::Result<()> {
    type Took<T> = Result<T, StreamError>;
    match name {
        "[method]output-stream.check-write" => {
            linked.func_wrap(name, |_, (_,): (Resource<Output>,)| Ok((Took::Ok(WRITE),)))
        }
        "[method]output-stream.write" | "[method]output-stream.blocking-write-and-flush" => {
            linked.func_wrap(name, |mut store, (to, bytes): (Resource<Output>, Vec<u8>)| {
                store.data_mut().print(to.rep(), &bytes).map(|()| (Took::Ok(()),))
            })
        }
        "[method]output-stream.flush" | "[method]output-stream.blocking-flush" => {
            linked.func_wrap(name, |_, (_,): (Resource<Output>,)| Ok((Took::Ok(()),)))
        }
        "[method]output-stream.subscribe" => {
            linked.func_wrap(name, |_, (_,): (Resource<Output>,)| Ok((Resource::<Pollable>::new_own(0),)))
        }
        "[method]input-stream.subscribe" => {
            linked.func_wrap(name, |_, (_,): (Resource<Input>,)| Ok((Resource::<Pollable>::new_own(0),)))
        }
        "[method]input-stream.read" | "[method]input-stream.blocking-read" => {
            linked.func_wrap(name, |_, (_, _): (Resource<Input>, u64)| Ok((Took::<Vec<u8>>::Err(StreamError::Closed),)))
        }
        "[method]input-stream.skip" | "[method]input-stream.blocking-skip" => {
            linked.func_wrap(name, |_, (_, _): (Resource<Input>, u64)| Ok((Took::<u64>::Err(StreamError::Closed),)))
        }
        _ => nothing(linked, "io/streams", name),
    }
}

/// Answers with nothing, in the function's own type.
fn nothing(linked: &mut LinkerInstance<'_, State>, interface: &str, name: &str) -> wasmtime::Result<()> {
    let function = format!("wasi:{interface}.{name}");
    linked.func_new(name, move |mut store, called, arguments, results| {
        for argument in arguments {
            release(&mut store, argument)?;
        }
        for (slot, wanted) in results.iter_mut().zip(called.results()) {
            *slot = empty(&wanted).ok_or_else(|| Stop::Sealed { function: function.clone() })?;
        }
        Ok(())
    })
}

/// Gives back the handles that an argument lends or hands over: a call that kept one would end the guest.
#[expect(clippy::wildcard_enum_match_arm, reason = "all other values hold no handle")]
fn release(store: &mut StoreContextMut<'_, State>, value: &Val) -> wasmtime::Result<()> {
    match value {
        Val::Resource(handle) => handle.resource_drop(&mut *store),
        Val::List(values) | Val::Tuple(values) => values.iter().try_for_each(|value| release(store, value)),
        Val::Record(fields) => fields.iter().try_for_each(|(_, value)| release(store, value)),
        Val::Variant(_, Some(value)) | Val::Option(Some(value)) => release(store, value),
        Val::Result(Ok(Some(value)) | Err(Some(value))) => release(store, value),
        _ => Ok(()),
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "all other types have no value that says nothing")]
fn empty(wanted: &Type) -> Option<Val> {
    match wanted {
        Type::List(_) => Some(Val::List(Vec::new())),
        Type::Option(_) => Some(Val::Option(None)),
        Type::Result(result) => match result.err() {
            None => Some(Val::Result(Err(None))),
            Some(error) => refusal(&error).map(|error| Val::Result(Err(Some(Box::new(error))))),
        },
        _ => None,
    }
}

/// What the interfaces of preview 2 call a refusal, in their own words.
const REFUSALS: [&str; 6] =
    ["access-denied", "access", "not-permitted", "HTTP-request-denied", "not-supported", "unsupported"];

#[expect(clippy::wildcard_enum_match_arm, reason = "all other types have no word for a refusal")]
fn refusal(error: &Type) -> Option<Val> {
    match error {
        Type::Enum(all) => {
            let word = REFUSALS.iter().find(|word| all.names().any(|name| name == **word))?;
            Some(Val::Enum((*word).to_owned()))
        }
        Type::Variant(all) => {
            let bare = |word: &&&str| all.cases().any(|case| case.name == **word && case.ty.is_none());
            Some(Val::Variant((*REFUSALS.iter().find(bare)?).to_owned(), None))
        }
        _ => None,
    }
}

impl State {
    /// Takes what was printed; whole lines go to the log.
    fn print(&mut self, stream: u32, bytes: &[u8]) -> wasmtime::Result<()> {
        self.printed(stream).extend_from_slice(bytes);
        loop {
            let kept = self.printed(stream);
            let end = kept.iter().position(|byte| *byte == b'\n');
            let taken = match end {
                Some(end) if end <= LINE => end + 1,
                Some(_) | None if kept.len() > LINE => LINE,
                Some(_) | None => return Ok(()),
            };
            let line: Vec<u8> = kept.drain(..taken).collect();
            self.say(stream, &line)?;
        }
    }

    /// What was printed without a line's end.
    pub(crate) fn print_rest(&mut self) -> wasmtime::Result<()> {
        for stream in [STDOUT, STDERR] {
            let rest = std::mem::take(self.printed(stream));
            if !rest.is_empty() {
                self.say(stream, &rest)?;
            }
        }
        Ok(())
    }

    const fn printed(&mut self, stream: u32) -> &mut Vec<u8> {
        if stream == STDOUT { &mut self.sealed.out } else { &mut self.sealed.err }
    }

    fn say(&mut self, stream: u32, line: &[u8]) -> wasmtime::Result<()> {
        let text = String::from_utf8_lossy(line);
        let text = text.trim_end_matches(['\n', '\r']);
        let (severity, from) =
            if stream == STDOUT { (Severity::Info, "stdout") } else { (Severity::Warning, "stderr") };
        self.line(severity, format!("{from}: {text}"))
    }
}
