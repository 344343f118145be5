//! The checker as a process: told of faults, heard to its end.

use std::{io::Write as _, time::Duration};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    process::{ChildStdin, ChildStdout},
    sync::mpsc,
};

use super::{Figures, Plan, Say, Verdict};
use crate::{faults::Mark, house::House, process::Process, service::program};

/// How much longer the checker may take to say what it found.
const JUDGE: Duration = Duration::from_secs(90);

pub(super) struct Checker {
    process: Process,
    input: ChildStdin,
    output: ChildStdout,
    marks: mpsc::Receiver<Mark>,
    plan: Plan,
}

impl Checker {
    pub(super) fn start(plan: &Plan, house: &House, marks: mpsc::Receiver<Mark>) -> Self {
        let mut command = std::process::Command::new(plan.checker.clone().unwrap_or_else(|| program("sim")));
        command.arg("check").current_dir(&plan.folder).env_remove("RUST_LOG");
        for door in house.doors() {
            command.args(["--url", &door]);
        }
        let load = &plan.load;
        for (flag, value) in [
            ("--nats", house.nats_url.clone()),
            ("--seed", plan.seed.to_string()),
            ("--sessions", load.sessions.to_string()),
            ("--clients", load.clients.to_string()),
            ("--rate", load.rate.to_string()),
            ("--gm-sessions", load.gm_sessions.to_string()),
            ("--settle", format!("{}ms", plan.settle.as_millis())),
            ("--json", "report.json".to_owned()),
            ("--notes", "notes".to_owned()),
        ] {
            command.args([flag, &value]);
        }
        command.arg("--marks").args(&load.more);
        let (process, input, output) = Process::spawn_piped("sim check", command, &plan.folder.join("check.log"));
        Self { process, input, output, marks, plan: plan.clone() }
    }

    /// Tells it of all faults, then hears what it found.
    pub(super) async fn finish(self, say: Say<'_>) -> Result<(Verdict, Figures), String> {
        let Self { mut process, input, output, marks, plan } = self;
        let folder = &plan.folder;
        let told = tell(input, marks, folder);
        let heard = async {
            let (mut lines, mut last) = (BufReader::new(output).lines(), String::new());
            while let Ok(Some(line)) = lines.next_line().await {
                // Its verdict is one of several; the last line is for their sum.
                if !line.starts_with("VERDICT") {
                    say(&line);
                }
                last = line;
            }
            last
        };
        tokio::pin!(heard);
        let early = tokio::select! {
            () = told => false,
            _last = &mut heard => true,
        };
        let limit = plan.settle + JUDGE;
        let last = if early { None } else { tokio::time::timeout(limit, heard).await.ok() };
        let status = process.ends_within(Duration::from_secs(10)).await;
        let ended = status.map_or_else(|| "it still runs".to_owned(), |status| status.to_string());
        let log = || process.log().lines().rev().take(5).map(str::to_owned).collect::<Vec<_>>();
        if early {
            return Err(format!("the checker ended before the faults did: {ended}, {:?}", log()));
        }
        let Some(last) = last else {
            return Err(format!("the checker came to no end {limit:?} after the last fault: {:?}", log()));
        };
        let verdict: Verdict = last.parse().map_err(|why| format!("{why}, {ended}, {:?}", log()))?;
        let json = std::fs::read(folder.join("report.json")).map_err(|error| format!("report.json: {error}"))?;
        let figures = serde_json::from_slice(&json).map_err(|error| format!("report.json: {error}"))?;
        match status.and_then(|status| status.code()) {
            Some(0) if verdict.ok => Ok((verdict, figures)),
            Some(1) if !verdict.ok => Ok((verdict, figures)),
            _ => Err(format!("the checker said `{verdict}` and ended with {ended}")),
        }
    }
}

/// Writes the marks down, for the checker and for whoever reads logs; ends with the last one.
async fn tell(mut input: ChildStdin, mut marks: mpsc::Receiver<Mark>, folder: &std::path::Path) {
    let file = std::fs::File::options().create(true).append(true).open(folder.join("marks.ndjson"));
    let mut file = file.expect("a file for marks");
    while let Some(mark) = marks.recv().await {
        let mut line = serde_json::to_vec(&mark).expect("a mark is JSON");
        line.push(b'\n');
        let _full = file.write_all(&line);
        if input.write_all(&line).await.is_err() {
            // It has ended, which is heard at its other end; the marks go on into the file.
            continue;
        }
    }
}
