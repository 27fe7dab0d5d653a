//! Boots the machine, says what it says, and judges by how its unit ended.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};

use super::host::Host;
use super::inside::{Inside, RESULT, SHARE};

/// A processor in software, with others at work: booting alone takes a minute or two.
const PATIENCE: Duration = Duration::from_secs(45 * 60);
/// Lines of the console that are shown when it went wrong.
const LAST_LINES: usize = 60;
const MEMORY: &str = "3072";

/// Ends with whoever waits for it.
struct Emulator(Child);

impl Drop for Emulator {
    fn drop(&mut self) {
        // It is gone already where all went well.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Runs the machine to its end.
pub(super) fn boot(host: &Host, inside: &Inside) -> anyhow::Result<()> {
    let began = Instant::now();
    println!("booting Linux {} in software, which takes minutes; what follows is said inside", host.version);
    let mut emulator = Emulator(command(host, inside).spawn().with_context(|| format!("starting {}", host.qemu))?);
    let said = listen(emulator.0.stdout.take().context("its serial line")?);
    let result = follow(&said, began + PATIENCE);
    drop(emulator);
    match result {
        Ok(result) => {
            ensure!(result == "success", "the tests in the virtual machine ended with {result}");
            println!("as expected, after {} s", began.elapsed().as_secs());
            Ok(())
        }
        Err(error) => {
            let console = fs::read(inside.console()).unwrap_or_default();
            let console = String::from_utf8_lossy(&console);
            let lines = console.lines().count();
            let end: Vec<&str> = console.lines().skip(lines.saturating_sub(LAST_LINES)).collect();
            bail!("{error}; the end of its console:\n{}", end.join("\n"))
        }
    }
}

/// The first serial line is the console; the second, our unit's, is the emulator's standard output.
fn command(host: &Host, inside: &Inside) -> Command {
    let tree = inside.tree();
    let mut command = Command::new(host.qemu);
    command
        .args(["-machine", "q35", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", MEMORY])
        .args(["-display", "none", "-monitor", "none", "-nic", "none", "-no-reboot"])
        .arg("-serial")
        .arg(format!("file:{}", inside.console().display()))
        .args(["-serial", "stdio", "-kernel"])
        .arg(host.kernel())
        .arg("-initrd")
        .arg(inside.image())
        .arg("-append")
        // The same words make the tests know that this machine is theirs to break.
        .arg(format!(
            "console=ttyS0 panic=1 rw fstab=no systemd.unit=multi-user.target theriac.tree={}",
            tree.display()
        ))
        .arg("-fsdev")
        .arg(format!("local,id={SHARE},path=/,security_model=passthrough,readonly=on,multidevs=remap"))
        .args(["-device", &format!("virtio-9p-pci,fsdev={SHARE},mount_tag={SHARE}")])
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    command
}

/// Its lines, as they come.
fn listen(stdout: ChildStdout) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line).trim_end().to_owned();
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

/// Says what it says, up to its result.
fn follow(said: &mpsc::Receiver<String>, deadline: Instant) -> anyhow::Result<String> {
    loop {
        match said.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) => match line.strip_prefix(RESULT) {
                Some(result) => return Ok(result.trim().to_owned()),
                None => println!("{line}"),
            },
            Err(mpsc::RecvTimeoutError::Timeout) => bail!("it did not end within {} s", PATIENCE.as_secs()),
            Err(mpsc::RecvTimeoutError::Disconnected) => bail!("it ended without a result"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(lines: &[&str]) -> anyhow::Result<String> {
        let (sender, said) = mpsc::channel();
        lines.iter().for_each(|line| sender.send((*line).to_owned()).unwrap());
        drop(sender);
        follow(&said, Instant::now() + Duration::from_secs(60))
    }

    #[test]
    fn only_the_units_own_result_counts() {
        assert_eq!(judge(&["test result: ok", "theriac-vm: success"]).unwrap(), "success");
        assert_eq!(judge(&["test result: ok", "theriac-vm: exit-code"]).unwrap(), "exit-code");
        assert!(judge(&["test result: ok"]).is_err(), "a machine that ends without a word did not pass");
    }
}
