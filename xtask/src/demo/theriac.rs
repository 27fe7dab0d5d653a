//! Theriac as the demo uses it: the `theriac` command, its `--json` output, and `theriac up` in the background.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

use super::scratch::Scratch;
use crate::build::Programs;
use crate::run::{output, run};

/// The CLI with the scratch area's directories.
#[derive(Debug)]
pub(crate) struct Theriac<'a> {
    program: PathBuf,
    scratch: &'a Scratch,
}

/// `theriac up`, running.
#[derive(Debug)]
pub(crate) struct Daemon {
    child: Child,
}

impl<'a> Theriac<'a> {
    pub(crate) fn new(programs: &Programs, scratch: &'a Scratch) -> Self {
        Self { program: programs.path("theriac"), scratch }
    }

    pub(crate) const fn scratch(&self) -> &Scratch {
        self.scratch
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(words)
            .arg("--config")
            .arg(self.scratch.dir().join("config"))
            .arg("--state")
            .arg(self.scratch.dir().join("state"));
        command
    }

    /// Runs a command with `--json` and reads what it prints.
    pub(crate) fn json(&self, words: &[&str]) -> anyhow::Result<Value> {
        let text = output(self.command(words).arg("--json"))?;
        serde_json::from_str(&text).with_context(|| format!("`theriac {}` printed no JSON", words.join(" ")))
    }

    /// Two throw-away signers, of whom both must approve what changes anything; every remedy is approved by both.
    pub(crate) fn sign(&self, remedies: &[PathBuf]) -> anyhow::Result<()> {
        write_private(&self.scratch.passphrase(), "only for this demo\n")?;
        let mut trust = String::new();
        for name in ["alice", "bob"] {
            let key = self.scratch.key(name);
            let made = self
                .key_command(&["key", "new"], &key)
                .arg("--name")
                .arg(format!("demo/{name}"))
                .arg("--json")
                .output()?;
            ensure!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
            let made: Value = serde_json::from_slice(&made.stdout)?;
            let public = made.get("public").and_then(Value::as_str).context("key new prints no public key")?;
            trust += &format!(
                "[[signer]]\nname = \"demo/{name}\"\nkey = \"{public}\"\nremedies = [\"*\"]\nclasses = [\"observe\", \"files-read\", \"files-change\", \"units-observe\", \"units-change\", \"processes-observe\", \"processes-change\", \"certificates-observe\", \"certificates-change\", \"releases-observe\", \"releases-change\", \"databases-observe\", \"databases-change\"]\n\n"
            );
        }
        for class in [
            "files-change",
            "units-change",
            "processes-change",
            "certificates-change",
            "releases-change",
            "databases-change",
        ] {
            trust += &format!("[[threshold]]\nclass = \"{class}\"\nk = 2\n\n");
        }
        fs::write(self.scratch.dir().join("config/trust.toml"), trust)?;
        for remedy in remedies {
            let name = remedy.file_name().context("a remedy has a file name")?;
            let placed = self.scratch.dir().join("config/remedies").join(name);
            fs::copy(remedy, &placed)?;
            for signer in ["alice", "bob"] {
                run(self
                    .key_command(&["remedy", "approve"], &self.scratch.key(signer))
                    .arg(&placed)
                    .arg("--yes")
                    .stdout(Stdio::null()))?;
            }
        }
        Ok(())
    }

    fn key_command(&self, words: &[&str], key: &Path) -> Command {
        let mut command = Command::new(&self.program);
        command.args(words).arg("--key").arg(key).arg("--passphrase-file").arg(self.scratch.passphrase());
        command
    }

    /// Starts everything in one process group, with its log in the scratch area.
    pub(crate) fn up(&self) -> anyhow::Result<Daemon> {
        let log = fs::File::create(self.scratch.dir().join("up.log"))?;
        let child = self
            .command(&["up"])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("starting `theriac up`")?;
        Ok(Daemon { child })
    }

    /// Until the runner answers with its remedies loaded and every service passes its health check.
    pub(crate) fn wait_until_ready(&self, patience: Duration) -> anyhow::Result<()> {
        let deadline = Instant::now() + patience;
        let mut last = String::new();
        while Instant::now() < deadline {
            match self.json(&["status"]) {
                Ok(status) if is_ready(&status) => return Ok(()),
                Ok(status) => last = status.to_string(),
                Err(error) => last = format!("{error:#}"),
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        let log = fs::read_to_string(self.scratch.dir().join("up.log")).unwrap_or_default();
        bail!("theriac did not get ready: {last}\n{log}");
    }

    /// Incidents, newest first.
    pub(crate) fn incidents(&self) -> anyhow::Result<Vec<Value>> {
        let printed = self.json(&["incidents"])?;
        printed.as_array().cloned().with_context(|| format!("`theriac incidents --json` printed {printed}"))
    }

    /// One incident with its runs and their records.
    pub(crate) fn incident(&self, id: &str) -> anyhow::Result<Value> {
        self.json(&["incident", "show", id])
    }

    /// Stops the daemon's writer, then verifies what it wrote.
    pub(crate) fn verify_ledger(&self) -> anyhow::Result<String> {
        let report = self.json(&["audit", "verify"])?;
        let number = |name: &str| report.get(name).and_then(Value::as_u64).unwrap_or(0);
        ensure!(report.get("ok").and_then(Value::as_bool) == Some(true), "{report}");
        Ok(format!(
            "{} records verified, {} of them under a signed checkpoint",
            number("records"),
            number("checkpointed")
        ))
    }
}

/// The agent is connected and every remedy was taken.
fn is_ready(status: &Value) -> bool {
    let runner = status.get("runner");
    let remedies = runner.and_then(|runner| runner.get("remedies")).and_then(Value::as_array).map_or(0, Vec::len);
    let refused = runner.and_then(|runner| runner.get("refused")).and_then(Value::as_array).map_or(1, Vec::len);
    let connected = status.pointer("/agent/runner_connected").and_then(Value::as_bool) == Some(true);
    connected && remedies > 0 && refused == 0
}

fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?.write_all(text.as_bytes())
}

impl Daemon {
    /// Asks it to stop and waits.
    pub(crate) fn stop(mut self) -> anyhow::Result<()> {
        terminate(&self.child)?;
        let status = self.child.wait()?;
        ensure!(status.success(), "`theriac up` ended with {status}");
        Ok(())
    }
}

fn terminate(child: &Child) -> anyhow::Result<()> {
    let pid = rustix::process::Pid::from_child(child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
    Ok(())
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            terminate(&self.child).ok();
            self.child.wait().ok();
        }
    }
}
