//! Lays everything out below a directory as it lies on a machine (`DESTDIR`): programs, units, users, remedies, references,
//! documentation. It installs nothing and makes no user; a distribution's package and the tests both start from this tree.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use clap::Args;

use crate::build::{self, Profile, Programs};
use crate::run::root;

/// What to lay out, and where.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The directory that stands for `/`.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Programs of the dev profile, which the tests have built anyway.
    #[arg(long)]
    debug: bool,
    /// Programs that were built already, from here.
    #[arg(long, value_name = "DIR", conflicts_with = "debug")]
    programs: Option<PathBuf>,
}

impl Options {
    /// These programs, below this directory.
    pub(crate) fn of(programs: &Path, out: &Path) -> Self {
        Self { out: out.to_owned(), debug: false, programs: Some(programs.to_owned()) }
    }
}

/// All in one directory: `theriac up` and the runner look for the others beside themselves.
const PROGRAMS: &[&str] =
    &["theriac", "theriac-agent", "theriac-runner", "theriac-worker", "theriac-courier", "theriac-launcher"];

/// Files of the checkout and where they go.
const FILES: &[(&str, &str)] = &[
    ("packaging/sysusers.d/theriac.conf", "usr/lib/sysusers.d/theriac.conf"),
    ("packaging/tmpfiles.d/theriac.conf", "usr/lib/tmpfiles.d/theriac.conf"),
    ("packaging/systemd/90-theriac.preset", "usr/lib/systemd/system-preset/90-theriac.preset"),
    ("packaging/dropins/firewall.conf", "usr/share/theriac/dropins/firewall.conf"),
    ("packaging/dropins/kernel.conf", "usr/share/theriac/dropins/kernel.conf"),
    ("packaging/README.md", "usr/share/doc/theriac/packaging.md"),
    ("runtime/authority/src/runner.default.toml", "usr/share/theriac/reference/runner.toml"),
    ("runtime/agent/src/agent.default.toml", "usr/share/theriac/reference/agent.toml"),
    ("runtime/courier/src/courier-acme.toml", "usr/share/theriac/reference/courier-acme.toml"),
    ("runtime/courier/src/courier-net.toml", "usr/share/theriac/reference/courier-net.toml"),
    ("runtime/courier/src/docker/courier-docker.toml", "usr/share/theriac/reference/courier-docker.toml"),
    ("runtime/courier/src/databases/courier-databases.toml", "usr/share/theriac/reference/courier-databases.toml"),
    ("runtime/launcher/src/launcher.toml", "usr/share/theriac/reference/launcher.toml"),
];

/// Directories of the checkout whose files are copied with what lies below.
const TREES: &[(&str, &str)] = &[("policies", "usr/share/theriac/policies"), ("docs", "usr/share/doc/theriac")];

/// Pages at the root of the checkout.
const PAGES: &[&str] = &["README.md", "ARCHITECTURE.md", "SECURITY.md", "CHANGELOG.md"];

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let programs = match &options.programs {
        Some(dir) => Programs { dir: dir.clone() },
        None => build::programs_of(if options.debug { Profile::Dev } else { Profile::Release })?,
    };
    let remedies = build::remedies_by(&programs)?;
    let tree = Tree::begin(&options.out)?;
    for name in PROGRAMS {
        tree.program(&programs.path(name), &format!("usr/lib/theriac/{name}"))?;
    }
    tree.link("../lib/theriac/theriac", "usr/bin/theriac")?;
    for remedy in &remedies {
        tree.file(remedy, &below("usr/lib/theriac/remedies", remedy)?)?;
    }
    for unit in units()? {
        tree.file(&unit, &below("usr/lib/systemd/system", &unit)?)?;
    }
    for (from, to) in FILES {
        tree.file(&root().join(from), to)?;
    }
    for (from, to) in TREES {
        tree.all(&root().join(from), to)?;
    }
    pages(&tree)?;
    println!("{} files, {} KiB, in {}", tree.count.get(), tree.bytes.get() >> 10, options.out.display());
    Ok(())
}

fn below(dir: &str, file: &Path) -> anyhow::Result<String> {
    let name =
        file.file_name().and_then(|name| name.to_str()).with_context(|| format!("no file name: {}", file.display()))?;
    Ok(format!("{dir}/{name}"))
}

fn units() -> anyhow::Result<Vec<PathBuf>> {
    let is_unit = |path: &PathBuf| path.extension().is_some_and(|kind| kind == "service" || kind == "target");
    Ok(entries(&root().join("packaging/systemd"))?.into_iter().filter(is_unit).collect())
}

fn pages(tree: &Tree) -> anyhow::Result<()> {
    for name in PAGES {
        let page = root().join(name);
        if page.exists() {
            tree.file(&page, &format!("usr/share/doc/theriac/{name}"))?;
        }
    }
    // Nothing may be handed on without it.
    tree.file(&root().join("LICENSE"), "usr/share/doc/theriac/LICENSE")
}

fn entries(dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let listed = fs::read_dir(dir).with_context(|| format!("listing {}", dir.display()))?;
    let mut entries = listed.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
    entries.sort();
    Ok(entries)
}

/// The directory that stands for `/`.
struct Tree {
    out: PathBuf,
    count: std::cell::Cell<u64>,
    bytes: std::cell::Cell<u64>,
}

impl Tree {
    /// Only into a directory that is empty or new: what an older build left there would be installed, too.
    fn begin(out: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(out).with_context(|| format!("making {}", out.display()))?;
        ensure!(entries(out)?.is_empty(), "{} is not empty", out.display());
        Ok(Self { out: out.to_owned(), count: 0.into(), bytes: 0.into() })
    }

    fn program(&self, from: &Path, to: &str) -> anyhow::Result<()> {
        self.copy(from, to, 0o755)
    }

    fn file(&self, from: &Path, to: &str) -> anyhow::Result<()> {
        self.copy(from, to, 0o644)
    }

    fn all(&self, from: &Path, to: &str) -> anyhow::Result<()> {
        for path in entries(from)? {
            let to = below(to, &path)?;
            if path.is_dir() { self.all(&path, &to)? } else { self.file(&path, &to)? }
        }
        Ok(())
    }

    fn link(&self, target: &str, at: &str) -> anyhow::Result<()> {
        let at = self.out.join(at);
        fs::create_dir_all(at.parent().context("a path below the tree")?)?;
        std::os::unix::fs::symlink(target, &at).with_context(|| format!("linking {}", at.display()))
    }

    fn copy(&self, from: &Path, to: &str, mode: u32) -> anyhow::Result<()> {
        let to = self.out.join(to);
        fs::create_dir_all(to.parent().context("a path below the tree")?)?;
        let bytes = fs::copy(from, &to).with_context(|| format!("copying {} to {}", from.display(), to.display()))?;
        fs::set_permissions(&to, fs::Permissions::from_mode(mode))?;
        self.count.set(self.count.get() + 1);
        self.bytes.set(self.bytes.get() + bytes);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn text(path: &str) -> String {
        fs::read_to_string(root().join(path)).unwrap()
    }

    /// The value after `key` on each line that has it.
    fn values<'t>(text: &'t str, key: &str) -> Vec<&'t str> {
        text.split_whitespace()
            .collect::<Vec<_>>()
            .windows(2)
            .filter(|pair| pair[0] == key)
            .map(|pair| pair[1])
            .collect()
    }

    #[test]
    fn units_and_users_agree_on_the_numbers() {
        let users = text("packaging/sysusers.d/theriac.conf");
        for (user, unit) in [
            ("theriac-agent", "agent"),
            ("theriac-courier-acme", "courier-acme"),
            ("theriac-courier-net", "courier-net"),
            ("theriac-courier-docker", "courier-docker"),
            ("theriac-courier-databases", "courier-databases"),
        ] {
            let unit = text(&format!("packaging/systemd/theriac-{unit}.service"));
            let [uid] = values(&users, user)[..] else { panic!("{user} is not there once") };
            assert_eq!(values(&unit, "--uid"), [uid]);
            assert_eq!(values(&unit, "--gid"), [uid]);
            assert!(unit.contains(&format!("id -u {user})\" = {uid} ")), "{user} is not checked");
        }
    }

    #[test]
    fn every_daemon_that_serves_has_a_unit_with_a_watchdog() {
        for unit in units().unwrap().iter().filter(|unit| unit.extension().is_some_and(|kind| kind == "service")) {
            let text = fs::read_to_string(unit).unwrap();
            if text.lines().any(|own| own == "Type=oneshot") {
                continue;
            }
            for line in ["Type=notify", "WatchdogSec=30s", "Restart=always", "NoNewPrivileges=yes", "LimitCORE=0"] {
                assert!(text.lines().any(|own| own == line), "{} lacks {line}", unit.display());
            }
            let program = text.lines().find_map(|line| line.strip_prefix("ExecStart=/usr/lib/theriac/")).unwrap();
            assert!(PROGRAMS.contains(&program.split(' ').next().unwrap()), "{program} is not packaged");
        }
    }

    #[test]
    fn no_unit_is_more_exposed_than_its_page_says() {
        let page = text("packaging/README.md");
        // `2.3` there is 23 here.
        let told = |unit: &str| {
            let columns = page.lines().filter_map(|line| line.strip_prefix(&format!("| `{unit}` | ")));
            let mut figures = columns.filter_map(|rest| rest.split([' ', ':']).next()?.split_once('.'));
            figures.find_map(|(whole, tenth)| format!("{whole}{tenth}").parse::<u32>().ok())
        };
        for unit in units().unwrap().iter().filter(|unit| unit.extension().is_some_and(|kind| kind == "service")) {
            let name = unit.file_stem().unwrap().to_str().unwrap();
            let threshold =
                format!("--threshold={}", told(name).unwrap_or_else(|| panic!("{name} is not on the page")));
            let judged = Command::new("systemd-analyze")
                .args(["security", "--offline=true", "--no-pager", &threshold])
                .arg(unit)
                .output();
            match judged {
                Err(_) => return println!("not possible here: systemd-analyze is not installed"),
                Ok(judged) => {
                    let words = String::from_utf8_lossy(&judged.stdout).into_owned();
                    assert!(judged.status.success(), "{}", words.lines().last().unwrap_or_default());
                }
            }
        }
    }

    #[test]
    fn the_runner_reaches_no_network_and_the_others_hold_no_right_over_files() {
        let runner = text("packaging/systemd/theriac-runner.service");
        assert!(runner.lines().any(|line| line == "RestrictAddressFamilies=AF_UNIX"));
        for unit in ["agent", "courier-acme", "courier-net", "courier-docker", "courier-databases"] {
            let unit = text(&format!("packaging/systemd/theriac-{unit}.service"));
            let rights = unit.lines().find_map(|line| line.strip_prefix("CapabilityBoundingSet=")).unwrap();
            assert!(
                !["DAC", "ADMIN", "PTRACE", "KILL", "FOWNER"].iter().any(|right| rights.contains(right)),
                "{rights}"
            );
        }
    }

    #[test]
    fn a_runner_that_is_not_started_again_has_a_last_hand_that_can_write_the_kernels_numbers() {
        let runner = text("packaging/systemd/theriac-runner.service");
        assert!(runner.lines().any(|line| line == "OnFailure=theriac-put-back.service"));
        let last = text("packaging/systemd/theriac-put-back.service");
        for line in ["NoNewPrivileges=yes", "CapabilityBoundingSet=", "RestrictAddressFamilies=AF_UNIX", "LimitCORE=0"]
        {
            assert!(last.lines().any(|own| own == line), "it lacks {line}");
        }
        assert!(!last.contains("ProtectKernelTunables=yes"));
        let command = |unit: &str| unit.lines().find(|line| line.starts_with("ExecStart=")).unwrap().to_owned();
        let (runner, last) = (command(&runner), command(&last));
        assert_eq!(runner.strip_suffix("--distinct-users"), last.strip_suffix("--put-back"));
    }

    #[test]
    fn what_holds_the_engines_socket_reaches_no_network_and_is_enabled_by_a_person() {
        let unit = text("packaging/systemd/theriac-courier-docker.service");
        for line in ["RestrictAddressFamilies=AF_UNIX", "PrivateNetwork=yes"] {
            assert!(unit.lines().any(|own| own == line), "it lacks {line}");
        }
        assert!(text("packaging/systemd/90-theriac.preset").contains("disable theriac-courier-docker.service"));
        assert!(!text("packaging/systemd/theriac.target").contains("docker"));
    }

    #[test]
    fn nothing_is_laid_over_what_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let tree = Tree::begin(dir.path()).unwrap();
        tree.file(&root().join("Cargo.toml"), "usr/share/x").unwrap();
        assert!(Tree::begin(dir.path()).is_err());
        let mode = fs::metadata(dir.path().join("usr/share/x")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o644);
    }
}
