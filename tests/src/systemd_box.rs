//! A throw-away machine with a real systemd as PID 1: systemd-nspawn over a copy-on-write view of this machine's own root, with
//! cgroups of its own and a network that has nothing but its loopback.
//!
//! Whatever is installed on this machine is a unit inside; what is changed inside is gone with the box. It needs root and
//! Debian's `systemd-container` and `dbus`; where they are missing, [`SystemdBox::up`] says what is not possible here.

#![expect(unsafe_code, reason = "joining the cgroups between fork and exec")]

use std::fs::{self, File, OpenOptions};
use std::io;
use std::ops::Deref;
use std::os::fd::AsRawFd as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use crate::place::Place;

/// Booting takes 2 s on an idle machine with two cores.
const BOOT: Duration = Duration::from_secs(90);
/// From poweroff to the end of the last process.
const SHUT_DOWN: Duration = Duration::from_secs(20);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// The hierarchies that a systemd of version 252 drives on a machine with v1 controllers, and v2's own (empty) name.
const HIERARCHIES: [(&str, &str); 6] = [
    ("memory", "memory"),
    ("cpu", "cpu"),
    ("cpuacct", "cpuacct"),
    ("pids", "pids"),
    ("systemd", "name=systemd"),
    ("unified", ""),
];

/// Directories of a standard root; others (a checkout, a home full of caches) are hidden.
const STANDARD: [&str; 20] = [
    "bin",
    "boot",
    "dev",
    "etc",
    "lib",
    "lib32",
    "lib64",
    "libx32",
    "media",
    "mnt",
    "opt",
    "proc",
    "run",
    "sbin",
    "srv",
    "sys",
    "tmp",
    "usr",
    "var",
    "lost+found",
];

/// What came of asking for a box.
#[derive(Debug)]
pub enum Up {
    /// It runs.
    Ready(SystemdBox),
    /// Not on this machine, and why.
    NotPossible(String),
}

/// A running box; dropping it ends it and removes everything it had.
#[derive(Debug)]
pub struct SystemdBox {
    name: String,
    dir: PathBuf,
    cgroups: Vec<PathBuf>,
    nspawn: Option<Child>,
    place: Place,
}

impl SystemdBox {
    /// Boots a box and waits until systemd says that it is up.
    pub fn up(name: &str) -> anyhow::Result<Up> {
        if let Some(why) = missing() {
            return Ok(Up::NotPossible(why));
        }
        let name = format!("theriac-{name}-{}", std::process::id());
        let dir = std::env::temp_dir().join(&name);
        let mut machine = Self { name, dir, cgroups: Vec::new(), nspawn: None, place: Place::of(0) };
        machine.prepare_root().context("the copy-on-write root")?;
        machine.cgroups = make_cgroups(&machine.name).context("the box' cgroups")?;
        machine.nspawn = Some(machine.spawn().context("systemd-nspawn")?);
        machine.wait_until_booted()?;
        Ok(Up::Ready(machine))
    }

    fn prepare_root(&self) -> anyhow::Result<()> {
        fs::create_dir_all(&self.dir)?;
        mount(&self.name, &self.dir, "tmpfs", MountFlags::empty(), Some(c"size=1g,mode=0755"))?;
        for part in ["upper", "work", "root"] {
            fs::create_dir(self.dir.join(part))?;
        }
        let dir = self.dir.display();
        let options = std::ffi::CString::new(format!("lowerdir=/,upperdir={dir}/upper,workdir={dir}/work"))?;
        mount("overlay", self.dir.join("root"), "overlay", MountFlags::empty(), Some(options.as_c_str()))?;
        // A fresh identity, and nothing of this machine's started by itself.
        let etc = self.dir.join("root/etc");
        fs::write(etc.join("machine-id"), "")?;
        for entry in fs::read_dir(etc.join("systemd/system"))? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "wants") {
                fs::remove_dir_all(path)?;
            }
        }
        Ok(())
    }

    fn spawn(&self) -> anyhow::Result<Child> {
        let log = File::create(self.dir.join("log"))?;
        let mut command = Command::new("systemd-nspawn");
        command
            .arg(format!("--directory={}", self.dir.join("root").display()))
            .args([&format!("--machine={}", self.name), "--hostname=box", "--quiet", "--console=pipe"])
            // There is no systemd outside that could keep a register or a unit of it.
            .args(["--register=no", "--keep-unit", "--kill-signal=SIGRTMIN+3", "--private-network"])
            // Denied by nspawn's own list unless named.
            .arg("--system-call-filter=landlock_create_ruleset landlock_add_rule landlock_restrict_self")
            .args(hidden_directories()?.iter().map(|path| format!("--tmpfs={}", path.display())))
            .args(["/bin/sh", "-c", INIT])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let members: Vec<File> = self
            .cgroups
            .iter()
            .map(|cgroup| OpenOptions::new().write(true).open(cgroup.join("cgroup.procs")))
            .collect::<io::Result<_>>()?;
        // SAFETY: only async-signal-safe calls on descriptors and a string that exist already.
        unsafe {
            command.pre_exec(move || {
                for member in &members {
                    // "0" is whoever writes it.
                    if libc::write(member.as_raw_fd(), c"0".as_ptr().cast(), 1) != 1 {
                        return Err(io::Error::last_os_error());
                    }
                }
                rustix::process::setsid()?;
                Ok(())
            });
        }
        Ok(command.spawn()?)
    }

    fn wait_until_booted(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + BOOT;
        while Instant::now() < deadline {
            let nspawn = self.nspawn.as_mut().context("nspawn was not started")?;
            if let Some(status) = nspawn.try_wait()? {
                bail!("systemd-nspawn ended with {status}: {}", self.log());
            }
            if let Some(leader) = only_child(nspawn.id()) {
                self.place = Place::of(leader);
                if self.root().join("run/dbus/system_bus_socket").exists() {
                    let state = self.exec(&["systemctl", "is-system-running"])?;
                    if matches!(state.stdout.trim_ascii(), b"running" | b"degraded") {
                        return Ok(());
                    }
                }
            }
            std::thread::sleep(LOOK_AGAIN);
        }
        bail!("the box did not boot: {}", self.log())
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    /// Powers off, and kills what does not go.
    fn down(&mut self) -> anyhow::Result<()> {
        if let Some(mut nspawn) = self.nspawn.take() {
            // SIGRTMIN+4 is poweroff to a systemd. It may be gone already.
            signal(self.leader(), libc::SIGRTMIN() + 4);
            let deadline = Instant::now() + SHUT_DOWN;
            while nspawn.try_wait()?.is_none() {
                if Instant::now() > deadline {
                    signal(self.leader(), libc::SIGKILL);
                    nspawn.kill()?;
                    nspawn.wait()?;
                    break;
                }
                std::thread::sleep(LOOK_AGAIN);
            }
        }
        for mounted in [self.dir.join("root"), self.dir.clone()] {
            unmount(&mounted, UnmountFlags::DETACH).with_context(|| format!("unmounting {}", mounted.display()))?;
        }
        fs::remove_dir(&self.dir)?;
        self.cgroups.iter().for_each(|cgroup| remove_cgroup(cgroup));
        Ok(())
    }
}

impl Deref for SystemdBox {
    type Target = Place;

    fn deref(&self) -> &Place {
        &self.place
    }
}

impl Drop for SystemdBox {
    fn drop(&mut self) {
        if let Err(error) = self.down() {
            eprintln!("the box {} left something behind: {error:#}", self.name);
        }
    }
}

/// nspawn mounts v1 controllers read-only, and MemoryMax= would then be silently ignored.
const INIT: &str = "for c in memory cpu cpuacct pids; do mount -o remount,rw,bind /sys/fs/cgroup/$c 2>/dev/null; done; exec /sbin/init";

fn missing() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("a systemd box needs root".to_owned());
    }
    let needed = ["/usr/bin/systemd-nspawn", "/usr/bin/nsenter", "/sbin/init", "/usr/bin/dbus-daemon"];
    let absent: Vec<&str> = needed.into_iter().filter(|path| !Path::new(path).exists()).collect();
    (!absent.is_empty()).then(|| format!("a systemd box needs {}", absent.join(", ")))
}

fn hidden_directories() -> io::Result<Vec<PathBuf>> {
    let mut hidden = Vec::new();
    for entry in fs::read_dir("/")? {
        let entry = entry?;
        let standard = entry.file_name().to_str().is_some_and(|name| STANDARD.contains(&name));
        if !standard && entry.file_type()?.is_dir() {
            hidden.push(entry.path());
        }
    }
    Ok(hidden)
}

/// One below this process' own in every hierarchy; the cgroup namespace then makes it the root inside.
fn make_cgroups(name: &str) -> io::Result<Vec<PathBuf>> {
    let own = fs::read_to_string("/proc/self/cgroup")?;
    let own_path = |controller: &str| {
        own.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            (fields.next()? == controller).then(|| fields.next())?
        })
    };
    let root = Path::new("/sys/fs/cgroup");
    let v2_only = root.join("cgroup.controllers").exists();
    let mut made = Vec::new();
    for (mounted, controller) in HIERARCHIES {
        let mount = if v2_only { root.to_owned() } else { root.join(mounted) };
        if let Some(path) = own_path(controller).filter(|_| mount.is_dir()) {
            let cgroup = mount.join(path.trim_start_matches('/')).join(name);
            fs::create_dir_all(&cgroup)?;
            weigh(&cgroup)?;
            made.push(cgroup);
        }
    }
    Ok(made)
}

/// The most that the kernel has, so that a unit that spins in the box takes the CPU of a machine that others are busy on. Without
/// that controller here there is no such file.
fn weigh(cgroup: &Path) -> io::Result<()> {
    for (file, most) in [("cpu.shares", "262144"), ("cpu.weight", "10000")] {
        let file = cgroup.join(file);
        if file.exists() {
            fs::write(file, most)?;
        }
    }
    Ok(())
}

/// Deepest first; a cgroup's files go with it.
fn remove_cgroup(cgroup: &Path) {
    for entry in fs::read_dir(cgroup).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_cgroup(&entry.path());
        }
    }
    if let Err(error) = fs::remove_dir(cgroup) {
        eprintln!("{} stays: {error}", cgroup.display());
    }
}

fn only_child(pid: u32) -> Option<u32> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    let mut children = children.split_ascii_whitespace();
    children.next().filter(|_| children.next().is_none())?.parse().ok()
}

fn signal(pid: u32, number: i32) {
    let Some(pid) = i32::try_from(pid).ok().filter(|pid| *pid > 1) else { return };
    // SAFETY: kill takes two integers.
    if unsafe { libc::kill(pid, number) } != 0 {
        eprintln!("signal {number} to {pid}: {}", io::Error::last_os_error());
    }
}
