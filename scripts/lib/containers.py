"""Docker as the scripts use it: which compose there is, one project of it, and a daemon of its own where none may be disturbed."""

import ctypes
import json
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# docker-compose 1.29 was the first that waits for `service_healthy` without a `version` in the file.
OLDEST = (1, 29)
COMMAND_S = 900
CLONE_NEWNET = 0x40000000


class Failed(Exception):
    """The text is what the person at the terminal needs to know."""


def version(command):
    """The version of a compose, None where there is none."""
    try:
        out = subprocess.run([*command, "version", "--short"], capture_output=True, text=True, timeout=60).stdout
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.search(r"(\d+)\.(\d+)", out)
    return tuple(map(int, found.groups())) if found else None


def composes():
    """The commands by which compose can be had, the plugin first: [(command, version)]."""
    tried = [(command, version(command)) for command in (["docker", "compose"], ["docker-compose"])]
    found = [(command, number) for command, number in tried if number and number >= OLDEST]
    if not found:
        old = [f"{' '.join(command)} {number[0]}.{number[1]}" for command, number in tried if number]
        raise Failed(f"docker compose or docker-compose 1.29 or newer is needed; there is {' and '.join(old) or 'none'}")
    return found


class Project:
    """One compose file and those of its services that run, by one of the commands."""

    def __init__(self, file, name=None, profiles=(), command=None, env=None):
        self.file = Path(file)
        self.command = command or composes()[0][0]
        self.words = [*self.command, "-f", str(self.file), *(["-p", name] if name else [])]
        for profile in profiles:
            self.words += ["--profile", profile]
        self.env = {**os.environ, **(env or {})}

    def run(self, *words, check=True, limit=COMMAND_S):
        """Runs a command of compose; what it printed."""
        done = subprocess.run([*self.words, *words], env=self.env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=limit)
        if check and done.returncode:
            raise Failed(f"compose {' '.join(words)}: {(done.stderr or done.stdout).strip()[-1500:]}")
        return done.stdout

    def services(self):
        return self.run("config", "--services").split()

    def containers(self, service):
        """Ids of the containers of a service."""
        return self.run("ps", "-q", service, check=False).split()

    def renew(self, service):
        """Stops the container of a service in order, and starts another one with the same volumes. In steps, as the old compose can't make a
        container anew on every newer engine."""
        self.run("stop", service)
        self.run("rm", "-f", service)
        self.run("up", "-d", "--no-deps", "--no-build", service)


def docker(*words, check=True, limit=COMMAND_S, binary=False):
    done = subprocess.run(["docker", *words], stdin=subprocess.DEVNULL, capture_output=True, text=not binary, timeout=limit)
    if check and done.returncode:
        raise Failed(f"docker {' '.join(words)}: {str(done.stderr)[-1500:].strip()}")
    return done.stdout


def state(container):
    """How a container is: `healthy`, `starting`, `unhealthy`; without a probe `running`, `exited` and the like."""
    found = json.loads(docker("inspect", container))[0]["State"]
    return found.get("Health", {}).get("Status") or found["Status"] if found["Running"] else found["Status"]


def wait_well(project, service, limit):
    """Waits until all containers of a service are well; how long that took, s."""
    began, states = time.monotonic(), []
    while time.monotonic() - began < limit:
        states = [state(container) for container in project.containers(service)]
        if states and all(found in ("healthy", "running") for found in states):
            return time.monotonic() - began
        time.sleep(0.2)
    log = project.run("logs", "--tail", "20", service, check=False)
    raise Failed(f"{service} was not well within {limit} s ({', '.join(states) or 'no container'}):\n{log}")


class Daemon:
    """A dockerd of our own, in a network of its own: it changes nothing of this machine's, and what it made is gone with its folder. Needs
    root. This process enters its network, so that 127.0.0.1 is where it publishes; whatever needs the outside must have been done before."""

    def __init__(self, home, say):
        self.home, self.say, self.child = Path(home), say, None

    def __enter__(self):
        if os.geteuid() or not shutil.which("dockerd"):
            raise Failed("a daemon of its own needs root and dockerd: apt-get install docker.io iptables")
        self.home.mkdir(parents=True, exist_ok=True)
        socket, log = self.home / "docker.sock", self.home / "dockerd.log"
        words = ["dockerd", "--data-root", self.home / "data", "--exec-root", self.home / "exec", "--pidfile", self.home / "dockerd.pid",
                 "--host", f"unix://{socket}"]
        with log.open("ab") as out:
            # Builds are not to be noticed by others: all it runs is nice.
            self.child = subprocess.Popen(
                ["unshare", "--net", "sh", "-c", 'ip link set lo up; exec nice -n 10 "$@"', "sh", *map(str, words)],
                stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True)
        os.environ["DOCKER_HOST"] = f"unix://{socket}"
        for _ in range(300):
            if subprocess.run(["docker", "info"], capture_output=True, timeout=60).returncode == 0:
                return self
            if self.child.poll() is not None:
                break
            time.sleep(0.1)
        raise Failed(f"dockerd did not start: {log.read_text()[-1500:]}")

    def enter(self):
        with open(f"/proc/{self.child.pid}/ns/net") as space:
            if ctypes.CDLL(None, use_errno=True).setns(space.fileno(), CLONE_NEWNET):
                raise Failed(f"its network can't be entered: {os.strerror(ctypes.get_errno())}")

    def __exit__(self, *_):
        if self.child:
            containers = docker("ps", "-aq", check=False).split()
            if containers:
                docker("rm", "-f", "-v", *containers, check=False)
            self.child.send_signal(signal.SIGTERM)
            try:
                self.child.wait(60)
            except subprocess.TimeoutExpired:
                os.killpg(self.child.pid, signal.SIGKILL)
        self.remove()

    def remove(self):
        """Everything it made: images, containers, volumes."""
        mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
        for mount in sorted((mount for mount in mounts if mount.startswith(f"{self.home}/")), reverse=True):
            subprocess.run(["umount", "--lazy", mount], capture_output=True)
        shutil.rmtree(self.home, ignore_errors=True)
