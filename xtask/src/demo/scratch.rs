//! The scratch area: two directories for Theriac, two filesystems, and the services that will be broken.

use std::fs;
use std::io::Write as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::namespace;
use crate::run::root;

/// The volume that is filled.
const VOLUME: u64 = 48 << 20;
/// Where its logs are archived to.
const ARCHIVE: u64 = 64 << 20;

/// The supervised services, each with its port.
#[derive(Debug, Clone)]
pub(crate) struct Service {
    pub(crate) name: &'static str,
    pub(crate) port: u16,
}

/// The scratch area.
#[derive(Debug)]
pub(crate) struct Scratch {
    dir: PathBuf,
    keep: bool,
    /// The volume and the archive are filesystems of their own.
    pub(crate) mounted: bool,
    services: Vec<Service>,
}

const SERVICES: [&str; 6] = ["web", "stuck", "hog", "leaker", "app", "bait"];

impl Scratch {
    /// Makes the directories, mounts the filesystems where that is possible, and writes the first logs.
    pub(crate) fn make(keep: bool, can_mount: bool) -> anyhow::Result<Self> {
        // Short, because a socket's path has 108 bytes.
        let dir = std::env::temp_dir().join(format!("theriac-demo-{}", std::process::id()));
        for name in ["config/remedies", "config/playbooks", "state", "vol", "archive", "app", "keys"] {
            fs::create_dir_all(dir.join(name)).with_context(|| format!("making {}", dir.display()))?;
        }
        let mounted = can_mount
            && namespace::tmpfs(&dir.join("vol"), VOLUME).is_ok()
            && namespace::tmpfs(&dir.join("archive"), ARCHIVE).is_ok();
        // Held until all are known, so that no two get the same port.
        let listeners: Vec<TcpListener> =
            SERVICES.iter().map(|_| TcpListener::bind("127.0.0.1:0")).collect::<Result<_, _>>()?;
        let services = SERVICES
            .iter()
            .zip(&listeners)
            .map(|(name, listener)| Ok(Service { name, port: listener.local_addr()?.port() }))
            .collect::<std::io::Result<_>>()?;
        let scratch = Self { dir, keep, mounted, services };
        scratch.write_logs()?;
        fs::write(scratch.dependency("app"), "")?;
        fs::write(scratch.dependency("bait"), "")?;
        fs::write(scratch.app_config(), "# the app's configuration\nworkers = 4\nbackend = \"127.0.0.1\"\n")?;
        Ok(scratch)
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn volume(&self) -> PathBuf {
        self.dir.join("vol")
    }

    pub(crate) fn logs(&self) -> PathBuf {
        self.dir.join("vol/log")
    }

    /// The file whose absence makes the service answer 503.
    pub(crate) fn dependency(&self, service: &str) -> PathBuf {
        self.dir.join(format!("{service}.dependency"))
    }

    /// The file whose appearance makes the service spin or leak.
    pub(crate) fn trigger(&self, service: &str) -> PathBuf {
        self.dir.join(format!("{service}.trigger"))
    }

    pub(crate) fn app_config(&self) -> PathBuf {
        self.dir.join("app/app.conf")
    }

    pub(crate) fn passphrase(&self) -> PathBuf {
        self.dir.join("keys/passphrase")
    }

    pub(crate) fn key(&self, name: &str) -> PathBuf {
        self.dir.join("keys").join(name)
    }

    /// Rotated logs that nobody needs, older than the incident.
    fn write_logs(&self) -> anyhow::Result<()> {
        fs::create_dir_all(self.logs())?;
        for number in 1..=8 {
            let mut file = fs::File::create(self.logs().join(format!("service.log.{number}")))?;
            write_noise(&mut file, 3 << 20, number)?;
        }
        Ok(())
    }

    /// Writes runner.toml, launcher.toml, agent.toml and playbooks with the demo's short times.
    pub(crate) fn write_configuration(&self) -> anyhow::Result<()> {
        let config = self.dir.join("config");
        fs::write(config.join("runner.toml"), self.runner_toml())?;
        fs::write(config.join("launcher.toml"), self.launcher_toml()?)?;
        fs::write(config.join("agent.toml"), "")?;
        for entry in fs::read_dir(root().join("policies/playbooks"))? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "yaml") {
                let name = path.file_name().context("a playbook has a name")?;
                fs::write(config.join("playbooks").join(name), hurried(&fs::read_to_string(&path)?))?;
            }
        }
        fs::write(config.join("playbooks/demo-misguided.yaml"), MISGUIDED)?;
        fs::write(config.join("playbooks/demo-hostile.yaml"), HOSTILE)?;
        Ok(())
    }

    fn runner_toml(&self) -> String {
        let dir = self.dir.display();
        let mut text = String::from(
            "mode = \"relaxed\"\ndeploy_locks = []\n\n[timing]\nsample_every = \"250ms\"\nhealed_within = \"20s\"\nstable_for = \"3s\"\ncooldown = \"1s\"\n",
        );
        for service in &self.services {
            let extra = match service.name {
                "hog" => "processes = [\"set-affinity\", \"renice\"]\ncpu_share = 0.6\ncpu_for = \"2s\"\n",
                "leaker" => "memory_limit = \"64MiB\"\n",
                _ => "",
            };
            text += &format!(
                "\n[[service]]\nname = \"{}\"\nverbs = [\"start\", \"restart\", \"reset-failed\", \"set-property\", \"kill\"]\n\
                 traffic_share = 0.1\nhealth = [{{ http = \"http://127.0.0.1:{}/health\", status = 200, timeout = \"250ms\" }}]\n\
                 health_failures = 3\n{extra}",
                service.name, service.port
            );
        }
        if self.mounted {
            text += &format!(
                "\n[[mount]]\npath = \"{dir}/vol\"\ntraffic_share = 0.1\ndisk_full = 0.05\ndisk_filling = 0.1\n\
                 \n[[directory]]\npath = \"{dir}/vol/log\"\nlabel = \"logs\"\nverbs = [\"archive\", \"remove\", \"truncate\"]\n\
                 archive_to = \"{dir}/archive\"\nreproducible = [\"**/*.[0-9]\"]\n"
            );
        }
        text += &format!("\n[[directory]]\npath = \"{dir}/app\"\nlabel = \"config\"\nverbs = [\"replace\"]\n");
        text
    }

    fn launcher_toml(&self) -> anyhow::Result<String> {
        let fixture = std::env::current_exe()?.with_file_name("fixture-service");
        let mut text = String::new();
        for Service { name, port } in &self.services {
            let mut command = vec![fixture.display().to_string(), "--port".to_owned(), port.to_string()];
            let mut add = |flag: &str, path: PathBuf| command.extend([flag.to_owned(), path.display().to_string()]);
            match *name {
                "hog" => add("--spin-when", self.trigger(name)),
                "leaker" => add("--leak-when", self.trigger(name)),
                "app" => {
                    add("--needs", self.dependency(name));
                    add("--config", self.app_config());
                }
                "bait" => add("--needs", self.dependency(name)),
                _ => {}
            }
            text += &format!(
                "[[service]]\nname = \"{name}\"\ncommand = {}\nautostart = true\nrestart = \"never\"\nstop_timeout = \"2s\"\n\n",
                serde_json::to_string(&command)?
            );
        }
        Ok(text)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if self.keep {
            println!("kept: {}", self.dir.display());
            return;
        }
        for mounted in ["vol", "archive"] {
            if self.mounted {
                rustix::mount::unmount(self.dir.join(mounted), rustix::mount::UnmountFlags::DETACH).ok();
            }
        }
        fs::remove_dir_all(&self.dir).ok();
    }
}

/// The shipped playbooks with times of seconds in place of minutes, and logs that may be archived at any age: those of the
/// demo are as old as the demo.
fn hurried(playbook: &str) -> String {
    let line = |line: &str| match line.trim_start() {
        rest if rest.starts_with("stable_for:") => line.replace(rest, "stable_for: 3s"),
        rest if rest.starts_with("healed_within:") => line.replace(rest, "healed_within: 15s"),
        rest if rest.starts_with("params:") => {
            line.replace("keep_days: 1,", "keep_days: 0,").replace("keep_days: 7,", "keep_days: 0,")
        }
        _ => line.to_owned(),
    };
    playbook.lines().map(line).fold(String::new(), |text, line| text + &line + "\n")
}

/// Bytes that do not compress to nothing, as logs of real traffic do not.
pub(crate) fn write_noise(file: &mut fs::File, bytes: usize, seed: u64) -> std::io::Result<()> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut block = [0_u8; 4096];
    let mut left = bytes;
    while left > 0 {
        for chunk in block.chunks_exact_mut(8) {
            // xorshift64: fast, and nobody needs it to be random.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            chunk.copy_from_slice(&state.to_le_bytes());
        }
        let (piece, _) = block.split_at(left.min(block.len()));
        file.write_all(piece)?;
        left -= piece.len();
    }
    Ok(())
}

const MISGUIDED: &str = "\
# A repair that does not help: it must be taken back byte for byte.
name: demo-misguided
summary: Replace the configuration and restart, which is not what is wrong
handles: [service-unhealthy]
targets: [\"unit:app\"]
rungs:
  - remedy: misguided
    level: 1
    healed_within: 3s
    stable_for: 2s
";

const HOSTILE: &str = "\
# A signed remedy that tries everything it was not granted.
name: demo-hostile
summary: Try everything
handles: [service-unhealthy]
targets: [\"unit:bait\"]
rungs:
  - remedy: hostile
    level: 1
    healed_within: 3s
    stable_for: 2s
";
