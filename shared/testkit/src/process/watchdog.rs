//! Who ends what we started, when we can't.

use std::{
    io::Write as _,
    process::Stdio,
    sync::{Mutex, OnceLock, PoisonError},
};

use rustix::process::Pid;

/// A shell that reads the pids of our children from a pipe, and kills their groups when the pipe ends: however this
/// program dies, nothing that it started lives on. It has a group of its own and ignores what is sent to end tests.
pub(super) struct Watchdog(std::process::ChildStdin);

const WATCH: &str = r#"
trap '' INT TERM HUP
pids=''
while read -r word pid; do
    case $word in
        add) pids="$pids $pid" ;;
        del) left=''; for p in $pids; do [ "$p" = "$pid" ] || left="$left $p"; done; pids=$left ;;
    esac
done
for p in $pids; do kill -s KILL -- "-$p" 2>/dev/null; done
"#;

impl Watchdog {
    /// `add` or `del` a process, which leads a group of its own.
    pub(super) fn tell(word: &str, pid: Pid) {
        use std::os::unix::process::CommandExt as _;

        static WATCHDOG: OnceLock<Mutex<Watchdog>> = OnceLock::new();
        let watchdog = WATCHDOG.get_or_init(|| {
            let mut command = std::process::Command::new("sh");
            command
                .args(["-c", WATCH])
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .process_group(0);
            let mut child = command.spawn().expect("sh");
            let pipe = child.stdin.take().expect("piped");
            // It outlives this program.
            drop(child);
            Mutex::new(Self(pipe))
        });
        let mut pipe = watchdog.lock().unwrap_or_else(PoisonError::into_inner);
        writeln!(pipe.0, "{word} {}", pid.as_raw_nonzero()).expect("the watchdog reads");
    }
}
