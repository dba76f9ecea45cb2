//! What a run was measured on, and what the kernel says of a process.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

/// Processor time is told in this many ticks a second, whatever the kernel's own clock: `USER_HZ`, see proc(5).
const TICKS_PER_SECOND: u64 = 100;
const MIB: f64 = 1024.0 * 1024.0;

/// What a run was measured on.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// The processor, as it calls itself.
    pub cpu: String,
    /// How many cores this process may use.
    pub cores: usize,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// The kernel's release.
    pub kernel: String,
    /// Load averages over 1, 5 and 15 minutes when the run began.
    pub load_at_start: [f64; 3],
    /// The same when it ended.
    pub load_at_end: [f64; 3],
}

impl Machine {
    /// This one, now.
    pub fn here() -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let load = load();
        Self {
            cpu: field(&read("/proc/cpuinfo"), "model name").unwrap_or("unknown").to_owned(),
            cores: std::thread::available_parallelism().map_or(1, Into::into),
            memory_mib: kibibytes(&read("/proc/meminfo"), "MemTotal").unwrap_or(0) / 1024,
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            load_at_start: load,
            load_at_end: load,
        }
    }

    /// The run has ended.
    #[must_use]
    pub fn ended(self) -> Self {
        Self { load_at_end: load(), ..self }
    }
}

fn load() -> [f64; 3] {
    parse_load(&fs::read_to_string("/proc/loadavg").unwrap_or_default())
}

fn parse_load(text: &str) -> [f64; 3] {
    let mut loads = text.split_whitespace().map(|word| word.parse().unwrap_or(0.0));
    [(); 3].map(|()| loads.next().unwrap_or(0.0))
}

/// The value of a line `name: value`.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then(|| value.trim())
    })
}

/// The value of a line `name: 123 kB`.
fn kibibytes(text: &str, name: &str) -> Option<u64> {
    field(text, name)?.strip_suffix("kB")?.trim().parse().ok()
}

/// A process as `/proc` shows it.
#[derive(Clone, Debug)]
pub struct Observed {
    folder: PathBuf,
}

/// Memory of a process in MiB.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Memory {
    /// Resident now.
    pub resident: f64,
    /// The most that ever was, or since it was last [forgotten](Observed::forget_peak).
    pub peak: f64,
}

impl Observed {
    /// The process that has number `id` in the process namespace of this process.
    ///
    /// `/proc` may be that of the namespace outside, where it has another number: it is found by both.
    pub fn find(id: u32) -> io::Result<Self> {
        let ours = fs::read_link("/proc/self/ns/pid")?;
        for entry in fs::read_dir("/proc")?.flatten() {
            let folder = entry.path();
            let is_it = || {
                let status = fs::read_to_string(folder.join("status")).ok()?;
                let innermost = innermost_id(&status)?;
                let same = fs::read_link(folder.join("ns/pid")).ok()? == ours;
                Some(innermost == id && same)
            };
            if is_it() == Some(true) {
                return Ok(Self { folder });
            }
        }
        Err(io::Error::new(io::ErrorKind::NotFound, format!("no process {id}")))
    }

    /// How much memory it has.
    pub fn memory(&self) -> io::Result<Memory> {
        let status = self.read("status")?;
        parse_memory(&status).ok_or_else(|| unexpected(&self.folder.join("status")))
    }

    /// The processor time that it has used, user and system, all threads, in steps of 10 ms.
    pub fn processor_time(&self) -> io::Result<Duration> {
        let stat = self.read("stat")?;
        parse_processor_time(&stat).ok_or_else(|| unexpected(&self.folder.join("stat")))
    }

    /// From now on the peak is the one from now on.
    pub fn forget_peak(&self) -> io::Result<()> {
        fs::write(self.folder.join("clear_refs"), "5")
    }

    fn read(&self, file: &str) -> io::Result<String> {
        fs::read_to_string(self.folder.join(file))
    }
}

fn unexpected(file: &Path) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{}: not as in proc(5)", file.display()))
}

/// The number in the process's own namespace: the last of those that it has from the outermost in.
fn innermost_id(status: &str) -> Option<u32> {
    field(status, "NSpid")?.split_whitespace().next_back()?.parse().ok()
}

#[allow(clippy::cast_precision_loss)]
fn parse_memory(status: &str) -> Option<Memory> {
    let mib = |name| Some(kibibytes(status, name)? as f64 * 1024.0 / MIB);
    Some(Memory { resident: mib("VmRSS")?, peak: mib("VmHWM")? })
}

fn parse_processor_time(stat: &str) -> Option<Duration> {
    // The name, in parentheses, may have anything in it, parentheses too.
    let (_, rest) = stat.rsplit_once(')')?;
    // After it come the fields 3 and on; 14 and 15 are user and system time.
    let mut times = rest.split_whitespace().skip(14 - 3);
    let mut ticks = || times.next()?.parse::<u64>().ok();
    Some(Duration::from_millis((ticks()? + ticks()?) * 1000 / TICKS_PER_SECOND))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_user_and_system_whatever_the_name() {
        let stat = "17 (slu) ice (x) R 1 17 17 0 -1 4194304 1 2 3 4 150 25 7 8 20 0 9 0 100 1 2 18446744073709551615";
        assert_eq!(parse_processor_time(stat), Some(Duration::from_millis(1750)));
        assert_eq!(parse_processor_time("17 (sluice) R 1 2"), None);
    }

    #[test]
    fn memory_is_read_off_a_status() {
        let status =
            "Name:\tsluice\nNSpid:\t4711\t12\nVmHWM:\t   20480 kB\nVmRSS:\t   10240 kB\nThreads:\t4\n";
        assert_eq!(parse_memory(status), Some(Memory { resident: 10.0, peak: 20.0 }));
        assert_eq!(innermost_id(status), Some(12));
        assert_eq!(parse_memory("Name:\tzombie\n"), None);
    }

    #[test]
    fn load_and_processor_are_read_as_the_kernel_writes_them() {
        let [one, five, fifteen] = parse_load("0.50 1.25 2.00 3/456 789\n");
        assert!((one - 0.5).abs() + (five - 1.25).abs() + (fifteen - 2.0).abs() < 1e-9);
        assert_eq!(field("processor\t: 0\nmodel name\t: A: fast one\n", "model name"), Some("A: fast one"));
    }

    #[test]
    fn this_process_is_found_and_has_memory() {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let this = Observed::find(innermost_id(&status).unwrap()).unwrap();
        let memory = this.memory().unwrap();
        assert!(memory.resident > 0.0 && memory.peak >= memory.resident, "{memory:?}");
        this.processor_time().unwrap();
    }
}
