"""Child processes of a script: started in order, their output prefixed, all of them ended in reverse order."""

import os
import signal
import subprocess
import sys
import threading
import time

# A service has 25 s for a planned shutdown; a little more before it is killed.
GRACE_S = 28
COLOURS = (36, 32, 35, 33, 34, 31)


# Reads the pids that run now, again at each change, until it is told that all is done. If the pipe ends before, the script
# was killed: it ends what is left.
WATCH = """
trap '' INT TERM HUP
pids=''
while read -r line; do
    [ "$line" != done ] || exit 0
    pids=$line
done
kill $pids 2>/dev/null
"""


class Gone(Exception):
    """Whoever read our output has gone: nobody is there to run anything for."""


class Output:
    """Standard output, a line at a time, shared by threads."""

    def __init__(self):
        self.lock = threading.Lock()
        self.gone = False

    def line(self, text):
        with self.lock:
            try:
                if not self.gone:
                    print(text, flush=True)
            except OSError:
                self.gone = True
                # What is still in Python's buffer goes nowhere, instead of into an error at exit.
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class Process:
    """One child and the thread that prints its output line by line, but for lines with noise in them, or hands it to a sink."""

    def __init__(self, name, argv, env, colour, out, noise, sink):
        self.name = name
        # Its own session: Ctrl-C in the terminal reaches the script alone, which ends the children in order.
        self.child = subprocess.Popen(
            argv, env={**os.environ, **env}, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, start_new_session=True)
        prefix = f"{name:<9} | "
        self.prefix = f"\x1b[{colour}m{prefix}\x1b[0m" if sys.stdout.isatty() else prefix
        self.out, self.noise, self.sink = out, noise, sink
        self.printer = threading.Thread(target=self._print, daemon=True)
        self.printer.start()

    def _print(self):
        for line in self.child.stdout:
            text = line.decode("utf-8", "replace").rstrip("\n")
            if self.sink:
                self.sink(text)
            elif not any(noise in text for noise in self.noise):
                self.out.line(self.prefix + text)

    def ended(self):
        return self.child.poll() is not None


class Processes:
    """All children of a script. Used as a context manager: leaving it ends what it started, and nothing else."""

    def __init__(self, out):
        self.running = []
        self.out = out
        self.watchdog = subprocess.Popen(["sh", "-c", WATCH], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
                                         stderr=subprocess.DEVNULL, start_new_session=True)

    def start(self, name, argv, env=None, noise=None, sink=None):
        """Starts a child. Its lines that contain one of `noise` are not printed; with a `sink`, it is called with each instead."""
        noise = (noise,) if isinstance(noise, str) else noise or ()
        process = Process(name, argv, env or {}, COLOURS[len(self.running) % len(COLOURS)], self.out, noise, sink)
        self.running.append(process)
        self._tell_watchdog(self._pids())
        return process

    def end(self, process, grace=GRACE_S):
        """Ends one child before the others. What is interrupted meanwhile is ended with them."""
        if not process.ended():
            process.child.terminate()
            try:
                process.child.wait(grace)
            except subprocess.TimeoutExpired:
                process.child.kill()
                process.child.wait()
        process.printer.join(2)
        self.running.remove(process)
        self._tell_watchdog(self._pids())

    def _pids(self):
        return " ".join(str(process.child.pid) for process in self.running)

    def _tell_watchdog(self, word):
        try:
            self.watchdog.stdin.write(f"{word}\n".encode())
            self.watchdog.stdin.flush()
        except OSError:
            pass  # Somebody ended it; then a killed script leaves its children behind.

    def ended(self):
        """The first child that ended by itself, if any."""
        if self.out.gone:
            raise Gone
        return next((process for process in self.running if process.ended()), None)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        # From here on the ending itself is not interrupted; the grace period bounds it.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        for process in reversed(self.running):
            if not process.ended():
                process.child.terminate()
                try:
                    process.child.wait(GRACE_S)
                except subprocess.TimeoutExpired:
                    self.out.line(f"{process.prefix}did not end within {GRACE_S} s: killed")
                    process.child.kill()
                    process.child.wait()
            # Its last words come before whatever is said next.
            process.printer.join(2)
        self._tell_watchdog("done")
        self.watchdog.wait()


def wait_until(condition, seconds, processes, pause=0.1):
    """Waits for `condition()`; False when time is up or a child ended by itself."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if condition():
            return True
        if processes.ended():
            return False
        time.sleep(pause)
    return condition()
