//! The same errands by what people use in place of Theriac. What is not installed, or does not work here, is said in one line.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use criterion::measurement::WallTime;
use criterion::{BatchSize, BenchmarkGroup};
use tempfile::TempDir;

use crate::{Errand, FILES};

/// One way of doing an errand.
struct Alternative {
    name: &'static str,
    command: fn(Errand, &Desk) -> Command,
}

const ALTERNATIVES: [Alternative; 5] = [
    Alternative { name: "fork+exec", command: plain },
    Alternative { name: "sh -c", command: shell },
    Alternative { name: "bwrap", command: bwrap },
    Alternative { name: "ansible localhost", command: ansible },
    Alternative { name: "podman run", command: podman },
];

/// The files of one alternative, and a root with `rm` and `true` in it.
struct Desk {
    logs: TempDir,
    root: TempDir,
}

pub(crate) fn add(group: &mut BenchmarkGroup<'_, WallTime>, errand: Errand) {
    let desk = Desk { logs: tempfile::tempdir().unwrap(), root: root().unwrap() };
    for Alternative { name, command } in ALTERNATIVES {
        errand.prepare(desk.logs.path());
        if let Err(reason) = works(command(errand, &desk), errand, &desk) {
            eprintln!("not measured: {}: {name}: {reason}", errand.title());
            continue;
        }
        group.bench_function(format!("{}: alternative: {name}", errand.title()), |bencher| {
            bencher.iter_batched(
                || {
                    errand.prepare(desk.logs.path());
                    command(errand, &desk)
                },
                |mut command| {
                    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap()
                },
                BatchSize::PerIteration,
            );
        });
    }
}

/// It ran, and did it.
fn works(mut command: Command, errand: Errand, desk: &Desk) -> Result<(), String> {
    let output = command.stdin(Stdio::null()).output().map_err(|error| format!("it is not installed ({error})"))?;
    let left = fs::read_dir(desk.logs.path()).map_or(0, Iterator::count);
    if output.status.success() && (errand == Errand::Restart || left == 0) {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("it does not work here: {}", said.lines().last().unwrap_or("it said nothing")))
}

fn files(desk: &Desk) -> Vec<PathBuf> {
    (0..FILES).map(|number| desk.logs.path().join(format!("{number}.log"))).collect()
}

/// The program and its arguments: `true` stands for the service manager's client.
fn errand_of(errand: Errand, desk: &Desk) -> (&'static str, Vec<PathBuf>) {
    match errand {
        Errand::Remove => ("/bin/rm", files(desk)),
        Errand::Restart => ("/bin/true", Vec::new()),
    }
}

fn plain(errand: Errand, desk: &Desk) -> Command {
    let (program, arguments) = errand_of(errand, desk);
    let mut command = Command::new(program);
    command.args(arguments);
    command
}

fn line(errand: Errand, desk: &Desk) -> String {
    match errand {
        Errand::Remove => format!("rm {}/*.log", desk.logs.path().display()),
        Errand::Restart => "/bin/true".to_owned(),
    }
}

fn shell(errand: Errand, desk: &Desk) -> Command {
    let mut command = Command::new("sh");
    command.arg("-c").arg(line(errand, desk));
    command
}

fn bwrap(errand: Errand, desk: &Desk) -> Command {
    let (program, arguments) = errand_of(errand, desk);
    let mut command = Command::new("bwrap");
    command.args(["--unshare-all", "--die-with-parent", "--ro-bind", "/", "/", "--bind"]);
    command.arg(desk.logs.path()).arg(desk.logs.path()).arg("--").arg(program).args(arguments);
    command
}

fn ansible(errand: Errand, desk: &Desk) -> Command {
    let mut command = Command::new("ansible");
    command.args(["localhost", "--connection", "local", "--module-name", "shell", "--args"]).arg(line(errand, desk));
    command
}

fn podman(errand: Errand, desk: &Desk) -> Command {
    let (program, arguments) = errand_of(errand, desk);
    let mount = format!("{0}:{0}", desk.logs.path().display());
    let mut command = Command::new("podman");
    // Limits that it may set also where an outer container has set lower ones.
    command.args(["run", "--rm", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024"]);
    command.args(["--network", "none", "--volume", &mount, "--rootfs"]);
    command.arg(desk.root.path()).arg(program).args(arguments);
    command
}

/// `rm` and `true` with the libraries they are linked with: no image has to be fetched.
fn root() -> std::io::Result<TempDir> {
    let root = tempfile::tempdir()?;
    for dir in ["bin", "dev", "etc", "proc", "run", "sys", "tmp"] {
        fs::create_dir(root.path().join(dir))?;
    }
    let linked = Command::new("ldd").args(["/bin/rm", "/bin/true"]).output()?;
    let linked = String::from_utf8_lossy(&linked.stdout).into_owned();
    let libraries = linked.split_whitespace().filter(|word| word.starts_with('/') && word.contains(".so"));
    for file in libraries.chain(["/bin/rm", "/bin/true"]).map(Path::new) {
        let to = root.path().join(file.strip_prefix("/").unwrap_or(file));
        fs::create_dir_all(to.parent().unwrap_or(root.path()))?;
        fs::copy(file, to)?;
    }
    Ok(root)
}
