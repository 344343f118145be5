//! Child processes that end with the test, and print their logs when it fails.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Resource, Rlimit, getrlimit, kill_process, kill_process_group, setrlimit};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

pub use rustix::process::Signal;
use watchdog::Watchdog;

use crate::eventually;

mod watchdog;

/// How much of a log is printed when a test fails.
const PRINTED: usize = 200;

/// A running child process in its own process group, with its output in a file. Killed when dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    pid: Pid,
    ended: Option<ExitStatus>,
    log: PathBuf,
}

impl Process {
    /// Starts it; standard output and error are appended to `log`.
    ///
    /// # Panics
    /// If it can't be started.
    #[must_use]
    pub fn spawn(name: &str, command: std::process::Command, log: &Path) -> Self {
        let file = appended(log);
        let mut command = Command::from(command);
        command.stdin(Stdio::null()).stdout(file.try_clone().expect("the log file")).stderr(file);
        Self::start(name, command, log)
    }

    /// Starts it for a talk: its standard input and output are the caller's; standard error is appended to `log`.
    ///
    /// # Panics
    /// If it can't be started.
    #[must_use]
    pub fn spawn_piped(name: &str, command: std::process::Command, log: &Path) -> (Self, ChildStdin, ChildStdout) {
        let mut command = Command::from(command);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(appended(log));
        let mut process = Self::start(name, command, log);
        let input = process.child.stdin.take().expect("piped");
        let output = process.child.stdout.take().expect("piped");
        (process, input, output)
    }

    fn start(name: &str, mut command: Command, log: &Path) -> Self {
        command.process_group(0).kill_on_drop(true);
        let child = command.spawn().unwrap_or_else(|error| panic!("{name}: not started: {error}: {command:?}"));
        let pid = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)).expect("a running child has a pid");
        Watchdog::tell("add", pid);
        Self { name: name.to_owned(), child, pid, ended: None, log: log.to_owned() }
    }

    /// The process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Halts it (SIGSTOP) and waits until all its threads stand: its connections stay open, and nothing answers.
    ///
    /// # Panics
    /// If the process has ended.
    pub async fn freeze(&mut self) {
        self.signal(Signal::STOP);
        let tasks = format!("/proc/{}/task", self.id());
        eventually(&format!("{} stands still", self.name), Duration::from_secs(10), async || {
            // Without /proc there is nothing to see, and the signal has to do.
            let Ok(tasks) = std::fs::read_dir(&tasks) else { return Ok(()) };
            let states = tasks.flatten().filter_map(|task| state_of(&task.path().join("stat")));
            let running: Vec<_> = states.filter(|state| *state != 'T').collect();
            if running.is_empty() { Ok(()) } else { Err(running) }
        })
        .await;
    }

    /// Lets it go on after [`Process::freeze`].
    ///
    /// # Panics
    /// If the process has ended.
    pub fn thaw(&mut self) {
        self.signal(Signal::CONT);
    }

    /// Sends a signal.
    ///
    /// # Panics
    /// If the process has ended.
    pub fn signal(&mut self, signal: Signal) {
        assert!(self.running(), "{}: has ended with {:?}, no signal can be sent", self.name, self.ended);
        kill_process(self.pid, signal).expect("signal sent");
    }

    /// Whether it is still running.
    pub fn running(&mut self) -> bool {
        if self.ended.is_none()
            && let Some(status) = self.child.try_wait().expect("a child can be waited for")
        {
            self.end(status);
        }
        self.ended.is_none()
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// If it does not end within `bound`.
    pub async fn wait(&mut self, bound: Duration) -> ExitStatus {
        self.ends_within(bound).await.unwrap_or_else(|| panic!("{}: still running after {bound:?}", self.name))
    }

    /// Waits for its end; `None` if it still runs then.
    pub async fn ends_within(&mut self, bound: Duration) -> Option<ExitStatus> {
        if self.ended.is_none()
            && let Ok(status) = tokio::time::timeout(bound, self.child.wait()).await
        {
            self.end(status.expect("a child can be waited for"));
        }
        self.ended
    }

    /// Asks it to end (SIGTERM) and waits.
    ///
    /// # Panics
    /// If it does not end within `bound`.
    pub async fn terminate(&mut self, bound: Duration) -> ExitStatus {
        if self.running() {
            self.signal(Signal::TERM);
        }
        self.wait(bound).await
    }

    /// Ends it at once (SIGKILL, its whole group) and waits until it is gone.
    pub async fn kill(&mut self) {
        if self.running() {
            let _gone_already = kill_process_group(self.pid, Signal::KILL);
            self.wait(Duration::from_secs(10)).await;
        }
    }

    /// Everything it has written, of all its lives.
    #[must_use]
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Waits for a line that contains `text` and returns the first.
    ///
    /// # Panics
    /// If there is none within `bound`, with the last lines.
    pub async fn wait_for_log(&self, text: &str, bound: Duration) -> String {
        eventually(&format!("{}: a log line with {text:?}", self.name), bound, async || {
            let log = self.log();
            let found = log.lines().find(|line| line.contains(text)).map(str::to_owned);
            found.ok_or_else(|| log.lines().rev().take(3).map(str::to_owned).collect::<Vec<_>>())
        })
        .await
    }

    fn end(&mut self, status: ExitStatus) -> ExitStatus {
        Watchdog::tell("del", self.pid);
        self.ended = Some(status);
        status
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.running() {
            // The group: a child of the child must not live on. Tokio reaps what `kill_on_drop` leaves.
            let _gone_already = kill_process_group(self.pid, Signal::KILL);
            Watchdog::tell("del", self.pid);
        }
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<_> = log.lines().collect();
            let left_out = lines.len().saturating_sub(PRINTED);
            eprintln!("--- {} (pid {}, {:?}), {left_out} lines before:", self.name, self.id(), self.ended);
            lines.iter().skip(left_out).for_each(|line| eprintln!("    {line}"));
        }
    }
}

/// Lets this program, and what it starts, open that many files, as far as the system allows it.
pub fn raise_descriptors(wanted: u64) {
    let limit = getrlimit(Resource::Nofile);
    let most = limit.maximum.unwrap_or(u64::MAX);
    if limit.current.is_some_and(|current| current < wanted.min(most)) {
        let _best_effort =
            setrlimit(Resource::Nofile, Rlimit { current: Some(wanted.min(most)), maximum: limit.maximum });
    }
}

fn appended(log: &Path) -> File {
    File::options().create(true).append(true).open(log).expect("a log file")
}

/// The state of a process or thread, as in `/proc/<pid>/stat`: R, S, T, Z ...
fn state_of(stat: &Path) -> Option<char> {
    std::fs::read_to_string(stat).ok()?.rsplit_once(") ")?.1.chars().next()
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};

    use super::*;

    fn shell(script: &str) -> std::process::Command {
        let mut command = std::process::Command::new("sh");
        command.args(["-c", script]);
        command
    }

    fn alive(pid: u32) -> bool {
        // A zombie has ended too.
        state_of(Path::new(&format!("/proc/{pid}/stat"))).is_some_and(|state| state != 'Z')
    }

    async fn gone(pid: u32) {
        eventually(&format!("the end of {pid}"), Duration::from_secs(10), async || {
            if alive(pid) { Err("alive") } else { Ok(()) }
        })
        .await;
    }

    #[tokio::test]
    async fn output_and_exit_are_seen() {
        let folder = tempfile::tempdir().unwrap();
        let script = "trap 'echo bye; exit 3' TERM; echo hello >&2; while :; do sleep 0.05; done";
        let mut process = Process::spawn("sh", shell(script), &folder.path().join("log"));
        assert_eq!(process.wait_for_log("hello", Duration::from_secs(5)).await, "hello");
        assert!(process.running());
        assert_eq!(process.terminate(Duration::from_secs(5)).await.code(), Some(3));
        assert_eq!(process.log(), "hello\nbye\n");
        assert!(!process.running());
    }

    #[tokio::test]
    async fn a_talk_goes_through_pipes_and_its_asides_into_the_log() {
        let folder = tempfile::tempdir().unwrap();
        let script = "read -r line; echo heard $line; echo aside >&2; read -r line || exit 4";
        let (mut process, mut input, output) = Process::spawn_piped("sh", shell(script), &folder.path().join("log"));
        input.write_all(b"this\n").await.unwrap();
        let mut lines = BufReader::new(output).lines();
        assert_eq!(lines.next_line().await.unwrap().as_deref(), Some("heard this"));
        assert_eq!(process.ends_within(Duration::ZERO).await, None);
        drop(input);
        assert_eq!(process.ends_within(Duration::from_secs(5)).await.and_then(|status| status.code()), Some(4));
        assert_eq!(process.log(), "aside\n");
    }

    #[tokio::test]
    async fn a_dropped_process_is_killed_with_its_children() {
        let folder = tempfile::tempdir().unwrap();
        let process = Process::spawn("sh", shell("sleep 1000 & echo $!; wait"), &folder.path().join("log"));
        let child: u32 = process.wait_for_log("", Duration::from_secs(5)).await.parse().unwrap();
        let parent = process.id();
        assert!(alive(parent) && alive(child));
        drop(process);
        gone(parent).await;
        gone(child).await;
    }

    /// Runs this very test program again as a child, lets that start a process, and kills it.
    #[tokio::test]
    async fn a_killed_test_program_leaves_nothing_behind() {
        const ROLE: &str = "TESTKIT_START_AND_WAIT";
        let folder = tempfile::tempdir().unwrap();
        if std::env::vars_os().any(|(name, _)| name == ROLE) {
            let inner = Process::spawn("inner", shell("sleep 1000"), &folder.path().join("log"));
            println!("inner {}", inner.id());
            std::future::pending::<()>().await;
        }
        let mut again = std::process::Command::new(std::env::current_exe().unwrap());
        again.args(["--exact", "process::tests::a_killed_test_program_leaves_nothing_behind", "--nocapture"]);
        again.env(ROLE, "1");
        let mut outer = Process::spawn("outer", again, &folder.path().join("log"));
        let line = outer.wait_for_log("inner ", Duration::from_secs(10)).await;
        let inner: u32 = line.rsplit(' ').next().unwrap().parse().unwrap();
        assert!(alive(inner));
        // Only the program itself: its group would take the inner one with it if that had not its own.
        outer.signal(Signal::KILL);
        outer.wait(Duration::from_secs(10)).await;
        gone(inner).await;
    }
}
