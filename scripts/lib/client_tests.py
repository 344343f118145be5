"""The tests of what is written for browsers, the client (shared/client) and the pages (services/ws-edge/page, services/lobby/page): types,
units, and each of them against a real Herald in Node and in Chromium. Those of a page that is built build it anew, and compare."""

import json
import os
import re
import shutil
from pathlib import Path

from packages import NotBrought, bring

ROOT = Path(__file__).resolve().parents[2]
CLIENT = ROOT / "shared" / "client"
PAGES = {"page": ROOT / "services" / "ws-edge" / "page", "lobby's page": ROOT / "services" / "lobby" / "page"}
OLDEST = 20
# Seconds.
LIMITS = {"ask": 60, "install": 300, "build": 1200, "apt": 600, "test": 420}
CHROMIUMS = ("chromium", "chromium-browser", "google-chrome")


class NotRun(Exception):
    """The tests can't be run here; the text says why."""


def node_version(text):
    """The major version in what `node --version` prints, 0 where there is none."""
    found = re.match(r"v(\d+)\.", text)
    return int(found.group(1)) if found else 0


def counted(out):
    """How many tests have passed and failed, by what node's test runner says at its end."""
    number = lambda word: sum(map(int, re.findall(rf"^[#ℹ] {word} (\d+)$", out, re.MULTILINE)))  # noqa: E731
    return number("pass"), number("fail") + number("cancelled")


def is_installed(folder):
    """Whether what package-lock.json names is there."""
    lock, installed = folder / "package-lock.json", folder / "node_modules" / ".package-lock.json"
    return installed.exists() and installed.stat().st_mtime >= lock.stat().st_mtime


def browser(run, say):
    """The path of a Chromium, Debian's if none is there and it can be installed; None where there is none."""
    found = os.environ.get("HERALD_CHROMIUM") or next(filter(None, map(shutil.which, CHROMIUMS)), None)
    if found or not shutil.which("apt-get") or os.geteuid():
        return found
    say("installing Debian's chromium, for the tests in a browser")
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    for words in (["update", "-q"], ["install", "-q", "-y", "--no-install-recommends", "chromium"]):
        if run(["apt-get", *words], LIMITS["apt"], quiet, capture="all")[0]:
            return None
    return shutil.which("chromium")


def binaries(run):
    """The folder of the services, built."""
    if run(["cargo", "build", "--locked", "--workspace", "--bins", "--examples"], LIMITS["build"])[0]:
        return None
    code, out = run(["cargo", "metadata", "--locked", "--no-deps", "--format-version", "1"], LIMITS["ask"], capture="stdout")
    return None if code else Path(json.loads(out)["target_directory"]) / "debug"


def test(run, say, env, folder=CLIENT):
    """Runs the tests of one of them; (whether all is well, their output)."""
    if not shutil.which("node") or not shutil.which("npm"):
        raise NotRun("no Node.js and npm on the PATH")
    if node_version(run(["node", "--version"], LIMITS["ask"], capture="stdout")[1]) < OLDEST:
        raise NotRun(f"Node.js is older than {OLDEST}")
    if not is_installed(folder):
        say(f"installing what it is built with (npm ci, pinned by package-lock.json) into {folder.relative_to(ROOT)}/node_modules")
        if run(["npm", "ci", "--no-audit", "--no-fund"], LIMITS["install"], cwd=folder)[0]:
            return False, ""
    try:
        # For the engine in Python among the client's examples.
        nats_py = bring("nats-py", "nats-py", say) if folder == CLIENT else None
    except NotBrought as why:
        raise NotRun(str(why)) from None
    chromium = browser(run, say)
    services = binaries(run)
    if services is None:
        return False, ""
    env = {**env, "HERALD_BINARIES": str(services), **({"HERALD_CHROMIUM": chromium} if chromium else {}),
           **({"HERALD_NATS_PY": str(nats_py)} if nats_py else {})}
    code, out = run(["npm", "test", "--silent"], LIMITS["test"], env, capture="all", cwd=folder)
    return code == 0, out
