//! Whether a program may be started at all: its file is one that root installed (its owner, its mode, every directory above it,
//! and, for a script, its interpreter), and its jail holds the directories that were named and no others.
//!
//! A file that somebody else could write is somebody else's program, and a directory that somebody else can exchange for a link is
//! any directory. The runner looks before it asks for a program, the launcher again before it starts one.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, openat};
use theriac_model::program::ProgramSpec;
use theriac_model::target::MountPath;

/// A script's interpreter that is a script itself ends here; the kernel allows four.
const MAX_SCRIPTS: usize = 4;
/// The kernel reads no longer first line (`BINPRM_BUF_SIZE`).
const FIRST_LINE: u64 = 256;
/// Links on the way (`/bin` to `usr/bin`, `python3` to `python3.11`): as many as the kernel follows.
const MAX_LINKS: usize = 40;

const SET_ID: u32 = 0o6000;
const OTHERS_WRITE: u32 = 0o022;
const ANY_EXECUTE: u32 = 0o111;

/// Why a file is not run.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// Not there, or not to be read.
    #[error("`{}` can't be read", path.display())]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// It could be somebody else's.
    #[error("`{}` {why}", path.display())]
    Untrusted { path: PathBuf, why: &'static str },
    /// A jail can't hold it.
    #[error("`{}` can't be in a jail: {why}", path.display())]
    Jail { path: PathBuf, why: &'static str },
}

/// What makes a jail without systemd, where every distribution puts it. It is not looked for anywhere else.
pub const BUBBLEWRAP: &str = "/usr/bin/bwrap";

/// A jail has these of its own; the machine's would be a way out.
const OF_ITS_OWN: [&str; 3] = ["/proc", "/sys", "/dev"];

/// The program's file, and what its jail is to hold.
pub fn check_all(program: &ProgramSpec) -> Result<(), ProgramError> {
    check(program.argv.first().map_or("", String::as_str))?;
    program.jail.read.iter().chain(&program.jail.write).try_for_each(in_jail)
}

fn in_jail(path: &MountPath) -> Result<(), ProgramError> {
    let path = Path::new(path.as_str());
    let no = |why| Err(ProgramError::Jail { path: path.to_owned(), why });
    if path == Path::new("/") || OF_ITS_OWN.iter().any(|own| path.starts_with(own)) {
        return no("it would hold what is the machine's");
    }
    let real = path.canonicalize().map_err(|source| ProgramError::Io { path: path.to_owned(), source })?;
    if real == path { Ok(()) } else { no("it is, or leads through, a link: name the directory itself") }
}

fn untrusted(path: &Path, why: &'static str) -> ProgramError {
    ProgramError::Untrusted { path: path.to_owned(), why }
}

/// The file at an absolute path, and what it needs to run.
pub fn check(path: &str) -> Result<(), ProgramError> {
    let mut path = PathBuf::from(path);
    for _ in 0..=MAX_SCRIPTS {
        match program(&path)? {
            Some(interpreter) => path = interpreter,
            None => return Ok(()),
        }
    }
    Err(untrusted(&path, "is a script of a script of a script"))
}

/// Checks one file; its interpreter, where it is a script.
fn program(path: &Path) -> Result<Option<PathBuf>, ProgramError> {
    let io = |source: io::Error| ProgramError::Io { path: path.to_owned(), source };
    let real = resolve(path)?;
    let file =
        openat(CWD, &real, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK, Mode::empty());
    let mut file = File::from(file.map_err(|errno| io(errno.into()))?);
    let meta = file.metadata().map_err(io)?;
    let mode = meta.permissions().mode();
    if !meta.is_file() {
        return Err(untrusted(path, "is no regular file"));
    }
    if mode & ANY_EXECUTE == 0 {
        return Err(untrusted(path, "is not executable"));
    }
    if mode & SET_ID != 0 {
        return Err(untrusted(path, "changes its user or group when it is run"));
    }
    if has_capabilities(&real) {
        return Err(untrusted(path, "has capabilities of its own"));
    }
    interpreter(&mut file).map_err(|error| match error {
        Interpreter::Io(source) => io(source),
        Interpreter::Wrong(why) => untrusted(path, why),
    })
}

/// Follows the links of the path one by one; every directory and every link on the way has to be root's.
fn resolve(path: &Path) -> Result<PathBuf, ProgramError> {
    if !path.is_absolute() {
        return Err(untrusted(path, "is not an absolute path"));
    }
    let mut links = 0;
    let mut real = PathBuf::from("/");
    owned(path, &real)?;
    let mut rest: Vec<std::ffi::OsString> = components(path);
    while let Some(name) = rest.pop() {
        if name == ".." {
            real.pop();
            continue;
        }
        real.push(name);
        owned(path, &real)?;
        let meta = real.symlink_metadata().map_err(|source| ProgramError::Io { path: real.clone(), source })?;
        if meta.is_symlink() {
            links += 1;
            if links > MAX_LINKS {
                return Err(untrusted(path, "leads through too many links"));
            }
            let to = std::fs::read_link(&real).map_err(|source| ProgramError::Io { path: real.clone(), source })?;
            real.pop();
            if to.is_absolute() {
                real = PathBuf::from("/");
            }
            rest.extend(components(&to));
        }
    }
    Ok(real)
}

/// The parts of a path, the last one first.
fn components(path: &Path) -> Vec<std::ffi::OsString> {
    use std::path::Component;
    let part = |component: Component<'_>| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    };
    path.components().rev().filter_map(part).collect()
}

/// Root's, and written by nobody else. The mode of a link means nothing.
fn owned(asked: &Path, at: &Path) -> Result<(), ProgramError> {
    let meta = at.symlink_metadata().map_err(|source| ProgramError::Io { path: at.to_owned(), source })?;
    // Rootless, there is no root to install anything: the files are those of the user that runs everything here.
    let own = rustix::process::geteuid().as_raw();
    if meta.uid() != 0 && (own == 0 || meta.uid() != own) && !is_overflow(meta.uid()) {
        return Err(untrusted(asked, "or a directory above it belongs to somebody else than root"));
    }
    if !meta.is_symlink() && meta.permissions().mode() & OTHERS_WRITE != 0 {
        return Err(untrusted(asked, "or a directory above it can be written by others than its owner"));
    }
    Ok(())
}

/// In a user namespace, root outside is the overflow user inside: nobody inside can be it, or write as it.
fn is_overflow(uid: u32) -> bool {
    const OVERFLOW: u32 = 65_534;
    uid == OVERFLOW && !std::fs::read_to_string("/proc/self/uid_map").is_ok_and(|map| map.contains("4294967295"))
}

fn has_capabilities(path: &Path) -> bool {
    let mut room = [0_u8; 64];
    rustix::fs::lgetxattr(path, "security.capability", &mut room[..]).is_ok()
}

enum Interpreter {
    Io(io::Error),
    Wrong(&'static str),
}

/// What `#!` names; its arguments are root's, since the file is.
fn interpreter(file: &mut File) -> Result<Option<PathBuf>, Interpreter> {
    let mut first = Vec::new();
    file.take(FIRST_LINE).read_to_end(&mut first).map_err(Interpreter::Io)?;
    let Some(rest) = first.strip_prefix(b"#!") else { return Ok(None) };
    let line = rest.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let text =
        std::str::from_utf8(line).map_err(|_not_utf8| Interpreter::Wrong("names an interpreter that is no text"))?;
    let mut words = text.split_ascii_whitespace();
    let path = words.next().filter(|path| path.starts_with('/'));
    let path = path.ok_or(Interpreter::Wrong("names an interpreter without an absolute path"))?;
    // `env` looks the interpreter up by name, in an environment that is empty here.
    if path.ends_with("/env") {
        return Err(Interpreter::Wrong("asks `env` for its interpreter: name it by its path"));
    }
    Ok(Some(PathBuf::from(path)))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn why(path: &Path) -> String {
        check(path.to_str().unwrap()).unwrap_err().to_string()
    }

    /// A directory that is root's in every part: `/tmp` is not, because everybody can write there.
    fn place() -> Option<tempfile::TempDir> {
        let root = rustix::process::geteuid().is_root();
        root.then(|| tempfile::tempdir_in("/opt").or_else(|_| tempfile::tempdir_in("/root")).unwrap())
    }

    fn install(dir: &Path, name: &str, text: &str, mode: u32) -> PathBuf {
        let path = dir.join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    #[test]
    fn what_the_system_installed_is_run() {
        for path in ["/bin/true", "/usr/bin/env", "/bin/sh"] {
            check(path).unwrap_or_else(|error| panic!("{error}"));
        }
    }

    // EX04, EX05, EX07.
    #[test]
    fn what_somebody_else_could_have_written_is_not_run() {
        let Some(dir) = place() else { return println!("not possible here: only root can install a program") };
        let dir = dir.path();
        assert!(check(install(dir, "good", "#!/bin/sh\n", 0o755).to_str().unwrap()).is_ok());
        assert!(why(&install(dir, "group", "#!/bin/sh\n", 0o775)).contains("others"));
        assert!(why(&install(dir, "setuid", "", 0o4755)).contains("changes its user"));
        assert!(why(&install(dir, "plain", "", 0o644)).contains("not executable"));
        assert!(why(&install(dir, "env", "#!/usr/bin/env python3\n", 0o755)).contains("`env`"));
        assert!(why(&install(dir, "relative", "#!sh\n", 0o755)).contains("absolute"));
        assert!(why(Path::new("true")).contains("absolute"));
        let foreign = install(dir, "foreign", "#!/bin/sh\n", 0o755);
        std::os::unix::fs::chown(&foreign, Some(12_345), None).unwrap();
        assert!(why(&foreign).contains("somebody else"));
        let open = dir.join("open");
        std::fs::create_dir(&open).unwrap();
        let inside = install(&open, "tool", "#!/bin/sh\n", 0o755);
        assert!(check(inside.to_str().unwrap()).is_ok());
        std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o777)).unwrap();
        assert!(why(&inside).contains("directory above"));
        symlink(&inside, dir.join("link")).unwrap();
        assert!(why(&dir.join("link")).contains("directory above"), "a link is followed with open eyes");
        let script = install(dir, "script", &format!("#!{}\n", foreign.display()), 0o755);
        assert!(why(&script).contains("somebody else"), "the interpreter is a program, too");
        symlink(dir.join("loop"), dir.join("loop")).unwrap();
        assert!(why(&dir.join("loop")).contains("too many links"));
    }
}
