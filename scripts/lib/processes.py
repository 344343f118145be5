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


class Process:
    """One child and the thread that prints its output line by line."""

    def __init__(self, name, argv, env, colour, log):
        self.name = name
        # Its own session: Ctrl-C in the terminal reaches the script alone, which ends the children in order.
        self.child = subprocess.Popen(
            argv, env={**os.environ, **env}, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, start_new_session=True)
        prefix = f"{name:<9} | "
        self.prefix = f"\x1b[{colour}m{prefix}\x1b[0m" if sys.stdout.isatty() else prefix
        self.log = log
        self.printer = threading.Thread(target=self._print, daemon=True)
        self.printer.start()

    def _print(self):
        for line in self.child.stdout:
            text = line.decode("utf-8", "replace").rstrip("\n")
            self.log(self.prefix + text)

    def ended(self):
        return self.child.poll() is not None


class Processes:
    """All children of a script. Used as a context manager: leaving it ends what it started, and nothing else."""

    def __init__(self, log=None):
        self.running = []
        self.lock = threading.Lock()
        self.log = log or self._to_stdout

    def _to_stdout(self, line):
        with self.lock:
            try:
                print(line, flush=True)
            except OSError:
                pass  # The reader of a pipe went away; the children are still ended in order.

    def start(self, name, argv, env=None):
        process = Process(name, argv, env or {}, COLOURS[len(self.running) % len(COLOURS)], self.log)
        self.running.append(process)
        return process

    def ended(self):
        """The first child that ended by itself, if any."""
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
                    self.log(f"{process.name} did not end within {GRACE_S} s: killed")
                    process.child.kill()
                    process.child.wait()
            process.printer.join(2)


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
