"""What measurements run on: processes that are started, found ready, and ended; a nats-server with the stream."""

import collections
import contextlib
import json
import shutil
import socket
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]

READY_S = 40
# A process that was asked to end is killed after this; all state that it had is thrown away anyway.
GRACE_S = 5
# Lines of a process kept for the case that it fails.
LAST_LINES = 12


class Failed(Exception):
    """A measurement could not be made; the text says why, with the last words of whoever failed."""


class Child:
    """A process and its last lines, or all of them."""

    def __init__(self, stage, name, argv, env=None, all_lines=False):
        self.stage, self.name = stage, name
        self.lines = collections.deque(maxlen=None if all_lines else LAST_LINES)
        self.process = stage.processes.start(name, [str(word) for word in argv], env, sink=self._take)
        self.pid = self.process.child.pid

    def _take(self, line):
        self.lines.append(line)

    def last_words(self):
        return "".join(f"\n    {line[:400]}" for line in list(self.lines)[-LAST_LINES:])

    def wait_for(self, what, condition, seconds=READY_S):
        """Waits until `condition()` is something, and returns it."""
        until = time.monotonic() + seconds
        while True:
            # In this order: its last deed may have been what is waited for.
            ended, found = self.process.ended(), condition()
            if found:
                return found
            if ended:
                raise Failed(f"{self.name} ended with exit code {self.process.child.returncode} before {what}{self.last_words()}")
            if time.monotonic() > until:
                raise Failed(f"{self.name}: {what} did not come within {seconds} s{self.last_words()}")
            time.sleep(0.02)

    def wait_for_line(self, words):
        """The line that contains the words."""
        return self.wait_for(f"\"{words}\"", lambda: next((line for line in list(self.lines) if words in line), None))

    def wait(self, seconds):
        """Waits until it has ended by itself; its exit code, once all its lines are there."""
        self.wait_for("its end", self.process.ended, seconds)
        self.process.printer.join(2)
        return self.process.child.returncode

    def end(self):
        if self.process in self.stage.processes.running:
            self.stage.processes.end(self.process, GRACE_S)


class Stage:
    """Where the programs are, and a folder for everything that is written."""

    def __init__(self, processes, binaries, nats_server, uws, say):
        self.processes, self.binaries, self.nats_server, self.uws, self.say = processes, Path(binaries), nats_server, uws, say
        home = ROOT / ".herald"
        home.mkdir(exist_ok=True)
        self.folder = Path(tempfile.mkdtemp(prefix="bench-", dir=home))

    def program(self, name):
        return self.binaries / name

    def new_folder(self, name):
        return Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self.folder))

    def start(self, name, argv, env=None, all_lines=False):
        return Child(self, name, argv, env, all_lines)

    def close(self):
        shutil.rmtree(self.folder, ignore_errors=True)


def read_json(path):
    """What is in a JSON file; None as long as it is not there in full."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None


def get(url):
    """Status and text of an answer; (0, reason) where there is none."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode("utf-8", "replace")
    except (OSError, ValueError) as error:
        return 0, str(error)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def nats_server(stage, name, config, store=True):
    """A nats-server on free ports; the child and {"nats": port, "websocket": port}."""
    folder = stage.new_folder(name)
    argv = [stage.nats_server, "-c", config, "-a", "127.0.0.1", "-p", "-1", "--ports_file_dir", folder]
    child = stage.start(name, argv + (["-sd", folder / "store"] if store else []))
    file = folder / f"{Path(stage.nats_server).name}_{child.pid}.ports"
    found = child.wait_for("its ports", lambda: read_json(file))
    return child, {kind: int(urls[0].rsplit(":", 1)[1]) for kind, urls in found.items() if urls}, folder


def service(stage, name, nats_port, env, pin=None):
    """A service of Herald, ready; the child and what its ports file then says."""
    file = stage.new_folder(name) / "ports"
    argv = (["taskset", "-c", pin] if pin else []) + [stage.program(name)]
    child = stage.start(name, argv, {
        "NATS_URL": f"nats://127.0.0.1:{nats_port}", "HERALD_OPERATIONS__ADDRESS": "127.0.0.1:0",
        "HERALD_PORTS_FILE": str(file), "HERALD_LOG__FORMAT": "pretty", **env})
    ports = child.wait_for("its addresses", lambda: read_json(file))
    child.wait_for("being ready", lambda: get(f"http://{ports['operations']}/readyz")[0] == 200)
    # The door's addresses are added when it opens.
    return child, read_json(file)


class Backbone:
    """A nats-server with a store of its own and the stream EVENTS, as its owner makes it."""

    def __init__(self, stage, config=None):
        self.stage = stage
        self.child, ports, self.folder = nats_server(stage, "nats", config or ROOT / "nats" / "single.conf")
        self.port = ports["nats"]

    def with_stream(self):
        """The owner of the stream makes it, and is not needed while sockets are measured."""
        owner, _ = service(self.stage, "gm-bridge", self.port, {"GM_BASE_URL": f"http://127.0.0.1:{free_port()}"})
        owner.end()
        return self

    def end(self):
        self.child.end()
        shutil.rmtree(self.folder, ignore_errors=True)


@contextlib.contextmanager
def backbone(stage):
    """A backbone with its stream, for as long as a measurement takes."""
    made = Backbone(stage)
    try:
        yield made.with_stream()
    finally:
        made.end()
