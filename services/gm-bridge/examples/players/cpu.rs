//! What processes take of the processor.

/// Seconds on a processor of each process, all its threads together; 0 for none.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cpu(pub(crate) [f64; 3]);

impl Cpu {
    /// So far.
    pub(crate) fn of(pids: [Option<u32>; 3]) -> Self {
        Self(pids.map(|pid| pid.map_or(0.0, seconds)))
    }

    pub(crate) fn since(self, before: &Self) -> Self {
        let mut since = self;
        since.0.iter_mut().zip(before.0).for_each(|(now, before)| *now -= before);
        since
    }
}

fn seconds(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // Behind the name, which may hold anything: the 12th and 13th field are ticks in user and in system mode, 10 ms each.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    fields.split_whitespace().skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}
