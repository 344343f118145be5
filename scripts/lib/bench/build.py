"""Builds what is measured, as it is delivered."""

import os
import signal
import subprocess

from bench.stage import Failed, ROOT

PROGRAMS = ("sim", "gm-bridge", "ws-edge", "lobby")


def folder(profile):
    """Where cargo puts the programs of a profile."""
    return ROOT / os.environ.get("CARGO_TARGET_DIR", "target") / ("debug" if profile == "dev" else "release")


def cargo(profile, *what):
    """Builds something; a Ctrl-C ends the compilers, too."""
    argv = ["cargo", "build", "--quiet", "--locked", "--profile", profile, *what]
    try:
        child = subprocess.Popen(argv, cwd=ROOT, stdin=subprocess.DEVNULL, start_new_session=True)
    except OSError:
        raise Failed("cargo is not on the PATH: install Rust 1.95 or newer") from None
    try:
        code = child.wait()
    except KeyboardInterrupt:
        os.killpg(child.pid, signal.SIGTERM)
        child.wait()
        raise
    if code:
        raise Failed("the build failed, see above")
    return folder(profile)


def programs(profile, examples):
    """The services, sim, and examples of these names; the folder of the programs."""
    # Of the workspace as a whole: by itself, a package would want other features of what all share, and that all built once more.
    wanted = [word for name in PROGRAMS for word in ("--bin", name)] + [word for name in examples for word in ("--example", name)]
    return cargo(profile, "--workspace", *wanted)
