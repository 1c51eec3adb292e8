//! What work costs: processor time, page faults, switches and memory of this process, beside the wall clock.
//!
//! Processor time is what benchmarks compare by: on a machine that does other things too, the wall clock measures those.

use std::{
    fs,
    time::{Duration, Instant},
};

use rustix::time::{ClockId, clock_gettime};

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

/// A measurement that has begun.
pub struct Meter {
    wall: Instant,
    cpu: Duration,
    counts: Counts,
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
}

#[derive(Clone, Copy)]
struct Counts {
    faults: u64,
    switches: u64,
}

impl Meter {
    /// Begins.
    #[must_use]
    pub fn start() -> Self {
        Self {
            counts: counts(),
            cpu: process_cpu(),
            wall: Instant::now(),
        }
    }

    /// Ends.
    #[must_use]
    pub fn stop(self) -> Cost {
        let (wall, cpu, now) = (self.wall.elapsed(), process_cpu() - self.cpu, counts());
        Cost {
            wall,
            cpu,
            faults: now.faults.saturating_sub(self.counts.faults),
            // A thread that has ended takes its count along.
            switches: now.switches.saturating_sub(self.counts.switches),
        }
    }
}

fn counts() -> Counts {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // Behind the program's name in parentheses: proc(5), field 10.
    let faults = stat
        .rsplit(')')
        .next()
        .and_then(|rest| rest.split_whitespace().nth(7)?.parse().ok())
        .unwrap_or(0);
    let switches = fs::read_dir("/proc/self/task")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|task| status_field(&task.path().join("status"), "voluntary_ctxt_switches:"))
        .sum();
    Counts { faults, switches }
}

fn status_field(path: &std::path::Path, name: &str) -> Option<u64> {
    let status = fs::read_to_string(path).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Resident memory of a process, bytes; none when it has ended.
#[must_use]
pub fn resident(process: u32) -> Option<u64> {
    status_field(format!("/proc/{process}/status").as_ref(), "VmRSS:").map(|kib| kib * 1024)
}

/// Resident memory of a process that is its own and not a file's pages, bytes.
#[must_use]
pub fn resident_own(process: u32) -> Option<u64> {
    status_field(format!("/proc/{process}/status").as_ref(), "RssAnon:").map(|kib| kib * 1024)
}

/// The most that this process ever had resident, bytes.
#[must_use]
pub fn peak_resident() -> u64 {
    status_field("/proc/self/status".as_ref(), "VmHWM:").map_or(0, |kib| kib * 1024)
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
        let (meter, thread) = (Meter::start(), thread_cpu());
        let mut bytes = vec![0_u8; 8 << 20];
        while (thread_cpu() - thread).as_millis() < 5 {
            black_box(&mut bytes).fill(7);
        }
        let cost = meter.stop();
        assert!(cost.cpu.as_millis() >= 5, "{cost:?}");
        assert!(resident(std::process::id()).is_some_and(|resident| resident > 4 << 20));
        assert!(peak_resident() >= 8 << 20);
        drop(bytes);
    }
}
