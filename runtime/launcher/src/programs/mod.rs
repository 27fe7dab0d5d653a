//! Programs that are run once for the runner: those that launcher.toml lists, each in a jail made by bubblewrap, never without.
//!
//! The jail is a set of namespaces of its own with a read-only view of the system's programs and libraries and what the request
//! names; no capability, no environment (bubblewrap adds `PWD=/`), a filter of system calls, no descriptor but the three. It ends
//! with its deadline, with its asker, with a later runner's first word and with the launcher.

mod filter;
mod jail;
mod job;

use std::collections::BTreeSet;
use std::os::fd::BorrowedFd;
use std::time::Instant;

use rustix::process::WaitStatus;
use theriac_model::program::{MAX_OUTPUT, MAX_TIMEOUT, ProgramSpec};
use theriac_model::target::MountPath;
use theriac_protocol::launcher::LauncherAnswer;
use theriac_protocol::process::may_become;
use theriac_protocol::program;

use crate::processes::Stat;
pub(crate) use job::Part;
use job::{Asked, Job};

/// The runner has as many runs at once, and each waits for one program.
const MAX_JOBS: usize = 8;

/// What may be run, and what runs.
#[derive(Debug)]
pub(crate) struct Programs {
    listed: BTreeSet<MountPath>,
    jobs: Vec<Job>,
    started: u64,
}

impl Programs {
    pub(crate) fn new(listed: BTreeSet<MountPath>) -> Self {
        if !listed.is_empty()
            && let Err(reason) = bubblewrap()
        {
            tracing::warn!(reason, "listed programs can't be run");
        }
        Self { listed, jobs: Vec::new(), started: 0 }
    }

    /// Starts it. The answer follows when it has ended; a refusal comes at once.
    pub(crate) fn start(&mut self, connection: u64, id: u64, epoch: u64, program: &ProgramSpec) -> Result<(), String> {
        self.admit(program)?;
        self.started += 1;
        let job = Job::start(self.started, Asked { connection, id, epoch }, program);
        let job = job.map_err(|error| format!("bubblewrap could not be started: {error}"))?;
        tracing::info!(%program, uid = program.jail.uid, "runs");
        self.jobs.push(job);
        Ok(())
    }

    fn admit(&self, program: &ProgramSpec) -> Result<(), String> {
        let path = program.argv.first().map_or("", String::as_str);
        if !self.listed.iter().any(|listed| listed.as_str() == path) {
            return Err(format!("`{}` is no [[program]] of launcher.toml", path.escape_debug()));
        }
        if self.jobs.len() >= MAX_JOBS {
            return Err(format!("{MAX_JOBS} programs run already"));
        }
        if program.argv.iter().any(|argument| argument.contains('\0')) {
            return Err("an argument holds a NUL byte".to_owned());
        }
        if program.timeout > MAX_TIMEOUT || program.output > MAX_OUTPUT {
            return Err(format!("more than {MAX_TIMEOUT} or {MAX_OUTPUT} of output is asked for"));
        }
        may_run_as(program.jail.uid, program.jail.gid)?;
        bubblewrap()?;
        program::check_all(program).map_err(|error| error.to_string())
    }

    pub(crate) fn waited_for(&self) -> impl Iterator<Item = (u64, Part, BorrowedFd<'_>)> {
        self.jobs.iter().flat_map(|job| job.parts().map(|(part, fd)| (job.number, part, fd)))
    }

    pub(crate) fn turn(&mut self, number: u64, part: Part) {
        if let Some(job) = self.jobs.iter_mut().find(|job| job.number == number) {
            job.turn(part);
        }
    }

    /// Must be called before any child is waited for.
    pub(crate) fn before_reaping(&mut self) {
        self.jobs.iter_mut().for_each(Job::read_status);
    }

    pub(crate) fn reaped(&mut self, pid: u32, status: WaitStatus) {
        self.jobs.iter_mut().for_each(|job| job.reaped(pid, status));
    }

    pub(crate) fn deadlines(&self) -> impl Iterator<Item = Instant> {
        self.jobs.iter().map(|job| job.deadline)
    }

    /// Kills what is due, and gives the answers of what is over: connection, id, answer.
    pub(crate) fn finish(&mut self, now: Instant) -> Vec<(u64, u64, LauncherAnswer)> {
        self.jobs.iter_mut().filter(|job| job.deadline <= now && !job.is_over()).for_each(|job| job.expire(now));
        let over = self.jobs.extract_if(.., |job| job.is_over());
        over.map(|job| (job.asked.connection, job.asked.id, job.answer())).collect()
    }

    /// Nobody would hear how it ended, and whoever asks next may undo what it is still doing.
    pub(crate) fn abandon(&mut self, connection: u64) {
        self.kill(|asked| asked.connection == connection);
    }

    /// A runner whose lead is over has no programs.
    pub(crate) fn end_older_than(&mut self, epoch: u64) {
        self.kill(|asked| asked.epoch < epoch);
    }

    pub(crate) fn end_all(&mut self) {
        self.kill(|_| true);
    }

    fn kill(&mut self, wanted: impl Fn(&Asked) -> bool) {
        let now = Instant::now();
        self.jobs.iter_mut().filter(|job| wanted(&job.asked)).for_each(|job| job.kill(now));
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.jobs.is_empty()
    }

    /// Of the launcher's descendants, parents first, those that are no program's.
    pub(crate) fn without_jailed(&self, descendants: &[Stat]) -> Vec<Stat> {
        let mut jailed = BTreeSet::new();
        let mut others = Vec::new();
        for stat in descendants {
            let pid = stat.key.pid;
            if jailed.contains(&stat.parent) || self.jobs.iter().any(|job| job.is_root_of(pid)) {
                jailed.insert(pid);
            } else {
                others.push(*stat);
            }
        }
        others
    }
}

/// Root becomes anybody whom its namespace knows; everybody else is only themselves.
fn may_run_as(uid: u32, gid: u32) -> Result<(), String> {
    let (own_uid, own_gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    if own_uid != 0 && (uid, gid) != (own_uid, own_gid) {
        return Err(format!(
            "it should run as {uid}:{gid}, and this launcher can start programs only as {own_uid}:{own_gid}"
        ));
    }
    if own_uid == 0 && !may_become(uid) {
        return Err(format!("it should run as uid {uid}, which this user namespace does not know"));
    }
    Ok(())
}

fn bubblewrap() -> Result<(), String> {
    program::check(program::BUBBLEWRAP).map_err(|error| {
        format!("programs need bubblewrap: {error}; install it, or list no [[program]]: nothing is run without a jail")
    })
}
