//! What processes cost, as the kernel counts it.

use std::{fs, io, path::Path};

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

    /// CPU time of all threads there are, ns.
    pub(super) fn cpu_ns(&self) -> io::Result<u64> {
        self.0.iter().map(|pid| cpu_ns(pid)).sum()
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

fn cpu_ns(pid: &str) -> io::Result<u64> {
    let of_task = |task: &Path| {
        let text = fs::read_to_string(task.join("schedstat")).ok()?;
        text.split_ascii_whitespace().next()?.parse::<u64>().ok()
    };
    let tasks = fs::read_dir(format!("/proc/{pid}/task"))?;
    // A thread that ends meanwhile is none.
    Ok(tasks.filter_map(|task| of_task(&task.ok()?.path())).sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_costs_something() {
        let this = Processes::this();
        let before = this.cpu_ns().unwrap();
        let sum: u64 = (0..3_000_000_u64).map(std::hint::black_box).sum();
        assert!(sum > 0 && this.cpu_ns().unwrap() >= before && before > 0);
        assert!(this.rss_kib().unwrap() > 100);
        this.forget_peak();
        assert!(this.peak_kib().unwrap() + 4096 >= this.rss_kib().unwrap());
        assert!(Processes::new(&[u32::MAX]).cpu_ns().is_err());
    }
}
