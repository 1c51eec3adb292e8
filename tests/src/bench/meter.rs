//! What work costs a process: processor time, page faults, waits, system calls and allocations, beside the wall clock; and its memory.
//!
//! Processor time is what benchmarks compare by: on a machine that does other things too, the wall clock measures those.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rustix::{
    param::clock_ticks_per_second,
    time::{ClockId, clock_gettime},
};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

use super::{count, megabytes, report::Report, syscalls::Syscalls};

/// The allocator of `bench`: the system's, with a count.
pub static ALLOCATOR: &StatsAlloc<std::alloc::System> = &INSTRUMENTED_SYSTEM;

/// Processor time that this process has used, all threads.
#[must_use]
pub fn process_cpu() -> Duration {
    cpu(ClockId::ProcessCPUTime)
}

/// Processor time that this thread has used.
#[must_use]
pub fn thread_cpu() -> Duration {
    cpu(ClockId::ThreadCPUTime)
}

fn cpu(clock: ClockId) -> Duration {
    // The kernel gives neither negative seconds nor a whole second of nanoseconds.
    let time = clock_gettime(clock);
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or_default(),
        u32::try_from(time.tv_nsec).unwrap_or_default(),
    )
}

/// A process to be measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Subject {
    This,
    Other(u32),
}

/// A measurement that has begun.
pub struct Meter {
    subject: Subject,
    syscalls: Option<Syscalls>,
    wall: Instant,
    before: Reading,
}

/// What it came to.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    /// Wall clock.
    pub wall: Duration,
    /// Processor time of the whole process, user and system.
    pub cpu: Duration,
    /// Pages that were mapped on first touch.
    pub faults: u64,
    /// How often a thread had to wait for something.
    pub switches: u64,
    /// System calls, where they can be counted.
    pub syscalls: Option<u64>,
    /// Allocations of memory, reallocations among them, when this process was measured and has [`ALLOCATOR`].
    pub allocations: Option<u64>,
}

#[derive(Clone, Copy)]
struct Reading {
    cpu: Duration,
    faults: u64,
    switches: u64,
    allocations: u64,
}

/// Uses so many bytes of memory and lets go of them, by a file in the temporary folder.
///
/// A virtual machine has its host's memory page by page: who is the first to touch one pays up to 10 µs of processor time for it, who comes later
/// one (and a machine gives back what is free for some seconds). Called before a measurement, it makes all who are measured come later.
///
/// # Errors
/// When the folder takes no file of that size.
pub fn touch_memory(bytes: u64) -> io::Result<()> {
    let mut file = tempfile::tempfile()?;
    let piece = vec![0x5a; 1 << 20];
    let mut left = bytes;
    while left > 0 {
        let len = usize::try_from(left).map_or(piece.len(), |left| left.min(piece.len()));
        file.write_all(&piece[..len])?;
        left -= len as u64;
    }
    Ok(())
}

impl Meter {
    /// Begins to measure this process.
    #[must_use]
    pub fn start() -> Self {
        Self::begin(Subject::This, Syscalls::count(std::process::id()))
    }

    /// The same without a count of system calls, which costs some: with fifty a block, 2 % of the processor time of `net`.
    #[must_use]
    pub fn uncounted() -> Self {
        Self::begin(Subject::This, None)
    }

    /// Begins to measure another process.
    #[must_use]
    pub fn of(process: u32) -> Self {
        Self::begin(Subject::Other(process), Syscalls::count(process))
    }

    fn begin(subject: Subject, syscalls: Option<Syscalls>) -> Self {
        Self {
            syscalls,
            before: subject.read(),
            wall: Instant::now(),
            subject,
        }
    }

    /// Ends.
    #[must_use]
    pub fn stop(self) -> Cost {
        let (wall, now) = (self.wall.elapsed(), self.subject.read());
        let before = self.before;
        let allocations = now.allocations - before.allocations;
        Cost {
            wall,
            // A thread that has ended takes its counts along.
            cpu: now.cpu.saturating_sub(before.cpu),
            faults: now.faults.saturating_sub(before.faults),
            switches: now.switches.saturating_sub(before.switches),
            syscalls: self.syscalls.and_then(Syscalls::stop),
            allocations: (allocations > 0).then_some(allocations),
        }
    }
}

impl Cost {
    /// Adds `NAME.speed`, `.cpu` and `.busy` for so many bytes of content, and `.faults`, `.switches`, `.syscalls` and `.allocations` for each of
    /// so many `units` (blocks, files).
    pub fn add_to(&self, report: &mut Report, name: &str, bytes: u64, units: f64, unit: &str) {
        let (cpu, size) = (self.cpu.as_secs_f64(), megabytes(bytes));
        report.add(format!("{name}.speed"), size / self.wall.as_secs_f64(), "MB/s");
        report.add(format!("{name}.cpu"), cpu * 1000.0 / size, "CPU ms/MB");
        report.add(
            format!("{name}.busy"),
            cpu / self.wall.as_secs_f64(),
            "processors",
        );
        self.add_counts(report, name, units, unit);
    }

    /// Adds the counts alone.
    pub fn add_counts(&self, report: &mut Report, name: &str, units: f64, unit: &str) {
        let counts = [
            ("faults", "page faults", Some(self.faults)),
            ("switches", "waits", Some(self.switches)),
            ("syscalls", "system calls", self.syscalls),
            ("allocations", "allocations", self.allocations),
        ];
        for (what, words, value) in counts {
            if let Some(value) = value {
                report.add(
                    format!("{name}.{what}"),
                    count(value) / units,
                    &format!("{words}/{unit}"),
                );
            }
        }
    }
}

impl Subject {
    fn folder(self) -> PathBuf {
        match self {
            Self::This => "/proc/self".into(),
            Self::Other(process) => format!("/proc/{process}").into(),
        }
    }

    fn read(self) -> Reading {
        let folder = self.folder();
        let stat = Stat::read(&folder);
        Reading {
            cpu: match self {
                Self::This => process_cpu(),
                // Ticks include threads that have ended, the sum is exact: the larger is nearer.
                Self::Other(_) => stat.cpu.max(sum_of_threads(&folder)),
            },
            faults: stat.faults,
            switches: tasks(&folder)
                .filter_map(|task| status_field(&task.join("status"), "voluntary_ctxt_switches:"))
                .sum(),
            allocations: match self {
                Self::This => {
                    let stats = ALLOCATOR.stats();
                    (stats.allocations + stats.reallocations) as u64
                }
                Self::Other(_) => 0,
            },
        }
    }
}

/// `/proc/PID/stat`, proc(5).
#[derive(Default)]
struct Stat {
    faults: u64,
    cpu: Duration,
}

impl Stat {
    fn read(folder: &Path) -> Self {
        let stat = fs::read_to_string(folder.join("stat")).unwrap_or_default();
        // Behind the program's name in parentheses comes field 3.
        let fields: Vec<&str> = stat
            .rsplit(')')
            .next()
            .unwrap_or_default()
            .split_whitespace()
            .collect();
        let field = |number: usize| fields.get(number - 3).and_then(|field| field.parse::<u64>().ok());
        let ticks = field(14).unwrap_or(0) + field(15).unwrap_or(0);
        Self {
            faults: field(10).unwrap_or(0),
            cpu: Duration::from_nanos(ticks * (1_000_000_000 / clock_ticks_per_second().max(1))),
        }
    }
}

fn tasks(folder: &Path) -> impl Iterator<Item = PathBuf> {
    let tasks = fs::read_dir(folder.join("task")).into_iter().flatten();
    tasks.flatten().map(|task| task.path())
}

/// Processor time of the threads that run now, in nanoseconds where `stat` has ticks of 10 ms.
fn sum_of_threads(folder: &Path) -> Duration {
    let used = |task: PathBuf| {
        let text = fs::read_to_string(task.join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<u64>().ok()
    };
    Duration::from_nanos(tasks(folder).filter_map(used).sum())
}

fn status_field(path: &Path, name: &str) -> Option<u64> {
    let status = fs::read_to_string(path).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

fn memory(process: u32, field: &str) -> Option<u64> {
    status_field(format!("/proc/{process}/status").as_ref(), field).map(|kib| kib * 1024)
}

/// Resident memory of a process, bytes; none when it has ended.
#[must_use]
pub fn resident(process: u32) -> Option<u64> {
    memory(process, "VmRSS:")
}

/// Resident memory of a process that is its own and not a file's pages, bytes.
#[must_use]
pub fn resident_own(process: u32) -> Option<u64> {
    memory(process, "RssAnon:")
}

/// The most that a process ever had resident, bytes.
#[must_use]
pub fn peak_resident(process: u32) -> Option<u64> {
    memory(process, "VmHWM:")
}

/// Processes that want to run, on average over the last minute.
#[must_use]
pub fn load() -> f64 {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split_whitespace()
        .next()
        .and_then(|load| load.parse().ok())
        .unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use std::hint::black_box;

    use super::*;

    #[test]
    fn work_costs_processor_time_and_memory_shows() {
        let this = std::process::id();
        let (meters, thread) = ([Meter::start(), Meter::of(this)], thread_cpu());
        let mut bytes = vec![0_u8; 8 << 20];
        while (thread_cpu() - thread).as_millis() < 25 {
            black_box(&mut bytes).fill(7);
        }
        for cost in meters.map(Meter::stop) {
            assert!(cost.cpu.as_millis() >= 10, "{cost:?}");
        }
        assert!(resident(this).is_some_and(|resident| resident > 4 << 20));
        assert!(peak_resident(this).is_some_and(|peak| peak >= 8 << 20));
        drop(bytes);
    }
}
