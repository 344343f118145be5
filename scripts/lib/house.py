"""What scripts that try the services have in common: building them, and starting them on free ports."""

import json
import os
import shutil
import signal
import subprocess
import urllib.request
from pathlib import Path

from processes import wait_until

ROOT = Path(__file__).resolve().parents[2]
BUILD_S, READY_S = 1500, 60


class Failed(Exception):
    """The text is what the person at the terminal needs to know."""


def build(programs, features=(), say=print):
    """Builds programs of the workspace, in cargo's dev profile; the folder they are in."""
    if shutil.which("cargo") is None:
        raise Failed("cargo is not on the PATH: install Rust 1.95 or newer")
    say(f"building {', '.join(programs)}; minutes the first time, seconds later")
    chosen = [word for program in programs for word in ("--bin", program)]
    chosen += ["--features", ",".join(features)] if features else []
    cargo = subprocess.Popen(
        ["cargo", "build", "--locked", "--workspace", *chosen, "--message-format=json-render-diagnostics"],
        cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, start_new_session=True)
    try:
        messages, _ = cargo.communicate(timeout=BUILD_S)
    except (KeyboardInterrupt, subprocess.TimeoutExpired) as error:
        # With the compilers it runs.
        os.killpg(cargo.pid, signal.SIGTERM)
        cargo.wait()
        if isinstance(error, subprocess.TimeoutExpired):
            raise Failed(f"the build was not done within {BUILD_S} s") from None
        raise
    if cargo.returncode:
        raise Failed("the build failed, see above")
    built = (json.loads(line).get("executable") for line in messages.splitlines())
    return next(Path(program).parent for program in built if program)


def ports(file):
    """The addresses a service listens on, by name; {} before it does."""
    try:
        return json.loads(file.read_text())
    except (OSError, ValueError):
        return {}


def ready(file):
    """Whether the service with that ports file says that it is."""
    address = ports(file).get("operations")
    try:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        return bool(address) and opener.open(f"http://{address}/readyz", timeout=5).status == 200
    except OSError:
        return False


def start_nats(processes, scratch, nats_server):
    """Starts a nats-server; its URL."""
    processes.start("nats", [nats_server, "-js", "-a", "127.0.0.1", "-p", "-1", "-sd", str(scratch / "store"),
                             "--ports_file_dir", str(scratch)], noise="[INF]")
    found = lambda: next(iter(ports(next(scratch.glob("nats-server*.ports"), scratch / "none")).get("nats", [])), None)  # noqa: E731
    if not wait_until(found, READY_S, processes):
        raise Failed(f"nats-server did not start within {READY_S} s")
    return found()


def start_service(processes, scratch, nats, program, name, env=(), argv=()):
    """Starts a service on free ports, and waits for nothing; its ports file, for `wait_ready`."""
    file = scratch / f"{name}.ports"
    processes.start(name, [str(program), *argv], {
        "NATS_URL": nats, "HERALD_OPERATIONS__ADDRESS": "127.0.0.1:0", "HERALD_PORTS_FILE": str(file),
        "HERALD_LOG__FILTER": "error", **dict(env)})
    return file


def wait_ready(processes, files):
    """Waits until all services are ready."""
    for file in files:
        if not wait_until(lambda: ready(file), READY_S, processes):
            raise Failed(f"{file.stem} was not ready within {READY_S} s")
