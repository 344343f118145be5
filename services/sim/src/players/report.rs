//! One table and a verdict.

use std::fmt::{self, Write as _};

use super::{latency::Latency, progress::Progress, session::Session};

/// Rows shown; the sum stands for the rest.
const MOST_ROWS: usize = 20;

/// What became of a session.
#[derive(Debug, Clone, Default)]
pub struct Row {
    /// Whose it is.
    pub session: String,
    sockets: usize,
    turns: u32,
    frames: u64,
    gm: u64,
    arena: u64,
    lost: u64,
    doubled: u64,
    disordered: u64,
    unproven: u64,
    gaps: u64,
    resumes: u32,
    failures: Vec<String>,
}

impl Row {
    /// What a session's sockets have proven. `behind`: how many did not see the last event; `failure`: why its play
    /// ended early.
    #[must_use]
    pub fn of(session: &Session, turns: u32, behind: usize, failure: Option<String>) -> Self {
        let progress = session.progress.borrow();
        let mut row = Self {
            session: session.id.to_string(),
            sockets: session.sockets.len(),
            turns,
            gm: family(&progress, "gm."),
            arena: family(&progress, "arena."),
            failures: failure.into_iter().collect(),
            ..Self::default()
        };
        for socket in &session.sockets {
            let proof = socket.proof();
            row.frames += proof.frames;
            row.lost += proof.lost;
            row.doubled += proof.doubled;
            row.disordered += proof.disordered;
            row.unproven += proof.unproven;
            row.gaps += proof.gaps;
            row.resumes += socket.resumes();
            row.failures.extend(socket.failure().map(|why| format!("socket: {why}")));
        }
        if behind > 0 {
            row.failures.push(format!("{behind} sockets did not see the last event"));
        }
        let mut digests: Vec<_> = session.sockets.iter().map(|socket| socket.proof().digest()).collect();
        digests.sort_unstable();
        digests.dedup();
        if behind == 0 && digests.len() > 1 {
            row.failures.push(format!("the sockets saw {} different stories", digests.len()));
        }
        row
    }

    /// Whether everything came, once and in order.
    #[must_use]
    pub fn holds(&self) -> bool {
        let faults = self.lost + self.doubled + self.disordered + self.unproven + self.gaps;
        faults == 0 && self.failures.is_empty()
    }

    fn add(&mut self, other: &Self) {
        self.sockets += other.sockets;
        self.turns += other.turns;
        self.frames += other.frames;
        self.gm += other.gm;
        self.arena += other.arena;
        self.lost += other.lost;
        self.doubled += other.doubled;
        self.disordered += other.disordered;
        self.unproven += other.unproven;
        self.gaps += other.gaps;
        self.resumes += other.resumes;
    }
}

fn family(progress: &Progress, prefix: &str) -> u64 {
    progress.counts.iter().filter(|(event, _)| event.starts_with(prefix)).map(|(_, count)| count).sum()
}

/// All sessions.
#[derive(Debug)]
pub struct Report<'a> {
    /// One row per session.
    pub rows: Vec<Row>,
    /// From the game master's byte to the frame.
    pub latency: &'a Latency,
    /// Ended by a signal before its time.
    pub interrupted: bool,
}

impl Report<'_> {
    /// Whether everything came, once and in order, and every turn was played that should have been.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.rows.iter().all(Row::holds)
    }
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns =
            ["session", "sockets", "turns", "frames", "gm", "arena", "lost", "doubled", "late", "gaps", "resumes"];
        writeln!(f, "{}", line(&columns.map(str::to_owned)))?;
        for row in self.rows.iter().take(MOST_ROWS) {
            writeln!(f, "{}", cells(row))?;
        }
        if self.rows.len() > MOST_ROWS {
            writeln!(f, "... and {} more", self.rows.len() - MOST_ROWS)?;
        }
        if self.rows.len() > 1 {
            let mut sum = Row { session: "all".into(), ..Row::default() };
            self.rows.iter().for_each(|row| sum.add(row));
            writeln!(f, "{}", cells(&sum))?;
        }
        if self.latency.count() > 0 {
            writeln!(f, "latency, game master to client: {}", self.latency)?;
        }
        for row in self.rows.iter().filter(|row| !row.failures.is_empty()).take(MOST_ROWS) {
            for failure in row.failures.iter().take(3) {
                writeln!(f, "{}: {failure}", row.session)?;
            }
        }
        let interrupted = if self.interrupted { " (interrupted)" } else { "" };
        let verdict = match (self.holds(), self.rows.iter().map(|row| row.frames).sum::<u64>()) {
            (true, 0) => "nothing was seen",
            (true, _) => "every frame came, once and in order",
            (false, _) => "FAILED",
        };
        write!(f, "verdict: {verdict}{interrupted}")
    }
}

fn cells(row: &Row) -> String {
    let numbers = [
        row.sockets as u64,
        u64::from(row.turns),
        row.frames,
        row.gm,
        row.arena,
        row.lost,
        row.doubled,
        row.disordered,
        row.gaps,
        u64::from(row.resumes),
    ];
    let mut cells = vec![row.session.clone()];
    cells.extend(numbers.iter().map(u64::to_string));
    line(&cells)
}

fn line(cells: &[String]) -> String {
    let mut line = format!("{:<36}", cells.first().map_or("", String::as_str));
    for cell in cells.iter().skip(1) {
        // Writing into a String can't fail.
        let _ = write!(line, " {cell:>8}");
    }
    line
}
