//! How a report looks.

use std::{collections::BTreeSet, fmt};

use super::Report;
use crate::check::pauses::Lengths;

impl fmt::Display for Report {
    /// The table, the examples, and the verdict as the last line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_clients(f)?;
        self.write_sources(f)?;
        self.write_faults(f)?;
        self.write_trouble(f)?;
        write!(f, "{}", self.verdict())
    }
}

impl Report {
    fn write_clients(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.lasted_ms as f64 / 1000.0;
        writeln!(f, "{} sessions in {seconds:.0} s", self.sessions)?;
        writeln!(f)?;
        let columns = ["clients", "deliveries", "reconn", "resumed", "live", "gaps", "in gaps", "needless"];
        write_row(f, "", &columns.map(str::to_owned))?;
        for (kind, it) in &self.clients {
            let cells = [
                it.clients,
                it.deliveries,
                it.reconnects,
                it.resumes,
                it.chosen_live,
                it.announced,
                it.excused,
                it.needless,
            ];
            write_row(f, kind, &cells.map(|cell| cell.to_string()))?;
        }
        writeln!(f)
    }

    fn write_sources(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let it = &self.sources;
        let unstored: u64 = self.unstored.values().sum();
        writeln!(f, "arena path  {} published, {} stored, {unstored} unstored", it.arena_published, it.arena_stored)?;
        if it.arena_late > 0 {
            writeln!(f, "            {} stored behind later ones", it.arena_late)?;
        }
        writeln!(f, "GM path     {} events of {} calls, {} of them whole", it.game_stored, it.calls, it.whole)?;
        writeln!(f, "            {} actions, {} ended by `bridge lost`", it.actions, it.bridge_lost)?;
        writeln!(f)
    }

    /// Pauses in ms; those behind the bar of faults that had no other beside them.
    fn write_faults(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds: BTreeSet<&String> =
            self.faults.keys().chain(self.unstored.keys()).chain(self.pauses.0.keys()).collect();
        if kinds.is_empty() {
            return Ok(());
        }
        let columns = ["faults", "unstored", "p50 ms", "p99 ms", "max ms", "alone", "p99 ms", "max ms"];
        write_row(f, "pauses", &columns.map(str::to_owned))?;
        for kind in kinds {
            let count =
                |counts: &std::collections::BTreeMap<String, u64>| counts.get(kind).copied().unwrap_or(0).to_string();
            let none = Lengths::default();
            let (all, alone) = self.pauses.0.get(kind).map_or((&none, &none), |it| (&it.all, &it.alone));
            let at = |lengths: &Lengths, share| lengths.quantile(share).map_or_else(|| "-".into(), |ms| ms.to_string());
            let cells = [
                count(&self.faults),
                count(&self.unstored),
                at(all, 0.5),
                at(all, 0.99),
                at(all, 1.0),
                alone.count().to_string(),
                at(alone, 0.99),
                at(alone, 1.0),
            ];
            write_row(f, kind, &cells)?;
        }
        writeln!(f)
    }

    fn write_trouble(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.bad_marks > 0 {
            writeln!(f, "{} lines of marks could not be read", self.bad_marks)?;
        }
        for example in &self.found.examples {
            writeln!(f, "{example}")?;
        }
        for problem in &self.problems {
            writeln!(f, "problem: {problem}")?;
        }
        let more = self.problem_count.saturating_sub(self.problems.len() as u64);
        if more > 0 {
            writeln!(f, "and {more} more problems")?;
        }
        if self.deliveries() == 0 {
            writeln!(f, "problem: nothing was seen")?;
        }
        Ok(())
    }
}

/// A name and eight numbers: 98 characters.
fn write_row(f: &mut fmt::Formatter<'_>, name: &str, cells: &[String; 8]) -> fmt::Result {
    write!(f, "{name:<24}")?;
    for cell in cells {
        write!(f, " {cell:>10}")?;
    }
    writeln!(f)
}

#[cfg(test)]
mod tests {
    use herald_protocol::SessionId;

    use super::*;
    use crate::check::{findings::Class, pauses::KindPauses, report::Clients};

    #[test]
    fn a_report_is_a_narrow_table_with_the_verdict_last() {
        let mut report = Report::new(7);
        report.clients.insert("plain".into(), Clients { clients: 3, deliveries: 1234, ..Clients::default() });
        report.faults.insert("leader killed".into(), 2);
        report.unstored.insert("none".into(), 1);
        let mut pauses = KindPauses::default();
        pauses.all.note(1500);
        report.pauses.0.insert("leader killed".into(), pauses);
        report.found.add(Class::Lost, &SessionId::new("s").unwrap(), "plain client", 9, || "never came".into());
        report.problem("the log is not complete".into());
        let text = report.to_string();
        let lines: Vec<_> = text.lines().collect();
        assert!(lines.iter().take(lines.len() - 1).all(|line| line.len() <= 120), "{text}");
        let row = |name: &str| {
            lines.iter().find(|line| line.starts_with(name)).unwrap().split_whitespace().collect::<Vec<_>>()
        };
        assert_eq!(row("plain")[1..3], ["3", "1234"]);
        assert_eq!(row("leader killed")[2..], ["2", "0", "1500", "1500", "1500", "0", "-", "-"]);
        assert_eq!(row("none")[1..4], ["0", "1", "-"]);
        assert!(text.contains("lost: s, plain client, seq 9: never came\nproblem: the log is not complete\n"));
        assert_eq!(*lines.last().unwrap(), report.verdict());
    }
}
