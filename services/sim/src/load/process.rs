//! What processes cost, as the kernel counts it: Linux's `/proc`.

use std::{collections::HashMap, fs, io};

/// Processes whose costs are added up.
#[derive(Debug, Clone)]
pub(super) struct Processes(Vec<String>);

impl Processes {
    /// Those with these ids.
    pub(super) fn new(pids: &[u32]) -> Self {
        Self(pids.iter().map(u32::to_string).collect())
    }

    /// This one.
    pub(super) fn this() -> Self {
        Self(vec!["self".into()])
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// CPU time so far.
    pub(super) fn cpu(&self) -> io::Result<Cpu> {
        let mut cpu = Cpu::default();
        for pid in &self.0 {
            cpu.read(pid)?;
        }
        Ok(cpu)
    }

    /// Memory that is resident now, KiB.
    pub(super) fn rss_kib(&self) -> io::Result<u64> {
        self.status("VmRSS:")
    }

    /// The most memory that was resident since [`Processes::forget_peak`], KiB.
    pub(super) fn peak_kib(&self) -> io::Result<u64> {
        self.status("VmHWM:")
    }

    /// Begins anew to look for the peak; where that is not allowed, the peak is that of the process' whole life.
    pub(super) fn forget_peak(&self) {
        for pid in &self.0 {
            // The 5 is the kernel's word for it (proc_pid_clear_refs(5)).
            let _allowed = fs::write(format!("/proc/{pid}/clear_refs"), "5");
        }
    }

    fn status(&self, field: &str) -> io::Result<u64> {
        let one = |pid: &String| {
            let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
            let number = |line: &str| line.strip_prefix(field)?.trim().strip_suffix("kB")?.trim().parse::<u64>().ok();
            status
                .lines()
                .find_map(number)
                .ok_or_else(|| io::Error::other(format!("/proc/{pid}/status says no {field}")))
        };
        self.0.iter().map(one).sum()
    }
}

/// CPU time that processes had, from their beginning to one moment.
#[derive(Debug, Default)]
pub(super) struct Cpu {
    /// Of each thread there is, ns: exact, but a thread that ends takes its time with it.
    threads: HashMap<String, u64>,
    /// Of whole processes, ns: in steps of [`TICK_NS`], with all threads there ever were.
    whole: u64,
}

/// A step of what the kernel says of whole processes: `USER_HZ` is 100 everywhere.
const TICK_NS: u64 = 10_000_000;

impl Cpu {
    fn read(&mut self, pid: &str) -> io::Result<()> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // Behind the name, which may hold anything: the state, and 10 numbers before user and system time.
        let times = stat.rsplit_once(')').map_or("", |(_, numbers)| numbers).split_ascii_whitespace().skip(11).take(2);
        self.whole += times.filter_map(|ticks| ticks.parse::<u64>().ok()).sum::<u64>() * TICK_NS;
        for task in fs::read_dir(format!("/proc/{pid}/task"))? {
            let Ok(task) = task else { continue };
            // A thread that ends meanwhile is none.
            let Ok(text) = fs::read_to_string(task.path().join("schedstat")) else { continue };
            let ran = text.split_ascii_whitespace().next().and_then(|ns| ns.parse().ok()).unwrap_or(0);
            self.threads.insert(task.path().display().to_string(), ran);
        }
        Ok(())
    }

    /// What was used since `before`, ns: of the threads that are still there, or, where that is clearly less than what the
    /// whole processes used, of all.
    pub(super) fn since(&self, before: &Self) -> u64 {
        let of_thread =
            |(task, ran): (&String, &u64)| ran.saturating_sub(before.threads.get(task).copied().unwrap_or(0));
        let exact: u64 = self.threads.iter().map(of_thread).sum();
        let rough = self.whole.saturating_sub(before.whole);
        if rough > exact + 3 * TICK_NS { rough } else { exact }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn this_process_costs_something() {
        let this = Processes::this();
        let before = this.cpu().unwrap();
        let work = || {
            let start = Instant::now();
            while start.elapsed() < Duration::from_millis(100) {}
        };
        // Once in a thread that lives, once in one that has ended.
        work();
        let lives = this.cpu().unwrap().since(&before);
        std::thread::spawn(work).join().unwrap();
        let both = this.cpu().unwrap().since(&before);
        assert!(lives > 10_000_000 && both > lives, "{lives} {both}");
        assert!(this.rss_kib().unwrap() > 100);
        this.forget_peak();
        assert!(this.peak_kib().unwrap() + 4096 >= this.rss_kib().unwrap());
        assert!(Processes::new(&[u32::MAX]).cpu().is_err());
    }
}
