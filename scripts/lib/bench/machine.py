"""What figures were measured on: the machine, the programs, the commit."""

import datetime
import os
import platform
import re
import resource
import subprocess
from pathlib import Path


def first_line(argv, cwd=None):
    """What a program says of itself; None where it does not run."""
    try:
        done = subprocess.run([str(word) for word in argv], cwd=cwd, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return None
    said = (done.stdout or done.stderr).strip().splitlines()
    return said[0].strip() if said and done.returncode == 0 else None


def cpu_model():
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found.group(1) if found else platform.processor() or platform.machine()


def commit(root):
    """The commit, and whether the programs' sources differ from it."""
    name = first_line(["git", "rev-parse", "--short=12", "HEAD"], root)
    changed = first_line(["git", "status", "--porcelain", "--untracked-files=no", "--", "services", "shared", "Cargo.toml"], root)
    return f"{name or 'unknown'}{' with changes' if changed else ''}"


def load_average():
    return round(os.getloadavg()[0], 2)


def facts(root, nats_server, profile, uws_version):
    """All of it, in the order in which it is to be read."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "CPU": cpu_model(),
        "cores": os.cpu_count(),
        "memory": f"{memory:.0f} GiB",
        "kernel": f"{platform.system()} {platform.release()}",
        "descriptors per process": resource.getrlimit(resource.RLIMIT_NOFILE)[1],
        "commit": commit(root),
        "profile": profile,
        "rustc": first_line(["rustc", "--version"]),
        "nats-server": first_line([nats_server, "--version"]),
        "node": first_line(["node", "--version"]) or "none",
        "uWebSockets.js": uws_version,
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "load average at the start": load_average(),
    }
