//! The jail of one program, as bubblewrap's arguments: what is not written here is not there.

use std::ffi::OsString;
use std::fs;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::path::Path;

use theriac_model::program::{Network, ProgramSpec};

/// Names at the root that are links into /usr on a merged system and directories on another.
const SYSTEM: [&str; 6] = ["bin", "sbin", "lib", "lib32", "lib64", "libx32"];
/// What programs of the system need to be found and linked, and nothing of the machine's configuration.
const LINKING: [&str; 2] = ["/etc/ld.so.cache", "/etc/alternatives"];

/// Everything after `bwrap`. `status` and `filter` are descriptors that it inherits.
pub(super) fn arguments(program: &ProgramSpec, status: BorrowedFd<'_>, filter: BorrowedFd<'_>) -> Vec<OsString> {
    let mut arguments = Arguments(Vec::new());
    arguments.add(["--unshare-all", "--die-with-parent", "--new-session", "--clearenv", "--cap-drop", "ALL"]);
    match program.jail.network {
        Network::None => {}
        Network::Host => arguments.add(["--share-net"]),
    }
    arguments.add(["--hostname", "jail"]);
    arguments.add(["--json-status-fd", &status.as_raw_fd().to_string()]);
    arguments.add(["--seccomp", &filter.as_raw_fd().to_string()]);
    arguments.system();
    arguments.add(["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"]);
    // The program itself, where it is none of the system's own.
    if let Some(path) = program.argv.first().filter(|path| !path.starts_with("/usr/")) {
        let at_root = SYSTEM.iter().any(|name| path.trim_start_matches('/').starts_with(&format!("{name}/")));
        if !at_root {
            arguments.bind("--ro-bind", path);
        }
    }
    program.jail.read.iter().for_each(|path| arguments.bind("--ro-bind", path.as_str()));
    program.jail.write.iter().for_each(|path| arguments.bind("--bind", path.as_str()));
    arguments.add(["--chdir", "/", "--"]);
    arguments.0.extend(program.argv.iter().map(OsString::from));
    arguments.0
}

struct Arguments(Vec<OsString>);

impl Arguments {
    fn add<const N: usize>(&mut self, more: [&str; N]) {
        self.0.extend(more.map(OsString::from));
    }

    fn bind(&mut self, how: &str, path: &str) {
        self.add([how, path, path]);
    }

    /// Programs and libraries, under the names that they have on this machine.
    fn system(&mut self) {
        self.bind("--ro-bind", "/usr");
        for name in SYSTEM {
            let path = Path::new("/").join(name);
            match fs::read_link(&path) {
                Ok(target) => {
                    self.add(["--symlink"]);
                    self.0.extend([target.into_os_string(), path.into_os_string()]);
                }
                Err(_not_a_link) if path.is_dir() => self.bind("--ro-bind", &format!("/{name}")),
                Err(_missing) => {}
            }
        }
        LINKING.iter().for_each(|path| self.bind("--ro-bind-try", path));
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use theriac_model::program::Jail;
    use theriac_model::target::MountPath;
    use theriac_model::time::Span;
    use theriac_model::units::Bytes;

    use super::*;

    fn line(argv: &[&str], network: Network) -> String {
        let path = |text: &str| vec![MountPath::parse(text).unwrap()];
        let jail = Jail { uid: 1, gid: 1, read: path("/etc/nginx"), write: path("/srv/data"), network };
        let argv = argv.iter().map(ToString::to_string).collect();
        let program = ProgramSpec { argv, jail, timeout: Span::from_secs(1), output: Bytes(1) };
        let input = std::io::stdin();
        let arguments = arguments(&program, input.as_fd(), input.as_fd());
        arguments.iter().map(|argument| argument.to_str().unwrap()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn the_network_is_shared_only_where_the_grant_says_so() {
        assert!(!line(&["/usr/bin/true"], Network::None).contains("--share-net"));
        assert!(line(&["/usr/bin/true"], Network::Host).contains("--unshare-all"));
        assert!(line(&["/usr/bin/true"], Network::Host).contains("--share-net"));
    }

    // EX01, EX02: what comes after `--` is nobody's option, and no shell reads it.
    #[test]
    fn arguments_are_the_programs_own() {
        let line = line(&["/usr/bin/echo", "--bind", "$(id)"], Network::None);
        assert!(line.ends_with("--chdir / -- /usr/bin/echo --bind $(id)"), "{line}");
        assert!(line.contains("--ro-bind /etc/nginx /etc/nginx --bind /srv/data /srv/data"), "{line}");
        assert!(!line.contains("/etc/passwd") && !line.contains("--bind / "), "{line}");
    }

    #[test]
    fn a_program_outside_the_system_is_bound_alone() {
        assert!(line(&["/opt/app/tool"], Network::None).contains("--ro-bind /opt/app/tool /opt/app/tool"));
        assert!(!line(&["/bin/true"], Network::None).contains("--ro-bind /bin/true"));
    }
}
