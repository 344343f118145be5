"""Instructions per operation of ws-edge's hot path, compared to a committed baseline: what a clock can't tell on a busy machine.

The program (services/ws-edge/examples/instructions) does each of its works twice, once longer than the other, under valgrind,
which counts. The difference of both is what the works cost without the start of the process.
"""

import argparse
import concurrent.futures
import json
import os
import platform
import re
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BASELINE = ROOT / "services" / "ws-edge" / "benches" / "instructions.json"
# Of the whole workspace: by itself, a package would want other features of what all share, and that all built once more.
BUILD = ["cargo", "build", "--locked", "--release", "--workspace", "--example", "instructions"]
WRITE = "./scripts/bench instructions --write-baseline"
# What a change may cost unseen. Another compiler or C library does not cost more than the wider one without being worth a look.
MARGIN, WIDE_MARGIN = 0.10, 0.25
# Seconds: the build from an empty target folder, one count, a package to be installed.
LIMITS = {"build": 1500, "count": 120, "install": 180}
AT_ONCE = 2


class Failed(Exception):
    """Nothing was measured, and it should have been."""


class NotRun(Exception):
    """It can't be measured here."""


def circumstances(run):
    """What the counts depend on, beside the code."""
    code, text = run(["rustc", "-vV"], LIMITS["count"], capture="all")
    host = re.search(r"^host: (\S+)$", text, re.MULTILINE)
    if code or not host:
        raise Failed("rustc does not say its version")
    return {"rustc": text.splitlines()[0], "host": host[1], "libc": " ".join(platform.libc_ver()).strip()}


def find_valgrind(run, say):
    """Its path; installed where that is ours to do."""
    if not shutil.which("valgrind") and shutil.which("apt-get") and os.geteuid() == 0:
        say("valgrind is missing: installing it with apt-get")
        environment = {"DEBIAN_FRONTEND": "noninteractive"}
        for words in (["update"], ["install", "--yes", "--no-install-recommends", "valgrind"]):
            run(["apt-get", "--quiet=2", *words], LIMITS["install"], environment, capture="all")
    found = shutil.which("valgrind")
    if not found:
        raise NotRun("valgrind is missing, and can't be installed here: install it with your package manager")
    return found


def phases(text):
    """Name: both numbers of rounds, as the program lists them."""
    return {name: (int(short), int(long)) for name, short, long in map(str.split, text.splitlines())}


def counted(text):
    """The instructions, as valgrind says them, and the operations, as the program does."""
    instructions = re.search(r"^==\d+== I\s+refs:\s+([\d,]+)$", text, re.MULTILINE)
    operations = re.search(r"^(\d+)$", text, re.MULTILINE)
    if not instructions or not operations:
        raise Failed(f"no count in:\n{text}")
    return int(instructions[1].replace(",", "")), int(operations[1])


def measure(run, valgrind):
    """Builds the program; instructions per operation of each phase."""
    if run(BUILD, LIMITS["build"])[0]:
        raise Failed("the build failed, see above")
    program = str(ROOT / os.environ.get("CARGO_TARGET_DIR", "target") / "release" / "examples" / "instructions")
    code, text = run([program], LIMITS["count"], capture="all")
    if code:
        raise Failed(text)

    def count(phase, rounds):
        argv = [valgrind, "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null", program, phase, str(rounds)]
        code, text = run(argv, LIMITS["count"], capture="all")
        if code:
            raise Failed(f"{' '.join(argv)}: exit code {code}\n{text}")
        return counted(text)

    def cost(work):
        phase, rounds = work
        (before, few), (after, many) = (count(phase, number) for number in rounds)
        return phase, (after - before) / (many - few)

    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        return dict(pool.map(cost, phases(text).items()))


def compare(baseline, here, costs):
    """What there is to say about each phase and about all, and whether that is good."""
    differing = [fact for fact in here if baseline.get(fact) != here[fact]]
    margin = WIDE_MARGIN if differing else MARGIN
    known, lines, good, lower = baseline.get("instructions", {}), [], True, False
    for phase in sorted(set(known) | set(costs), key=list({**costs, **known}).index):
        before, now = known.get(phase), costs.get(phase)
        change = now / before - 1 if before and now else None
        verdict = "not in the baseline" if before is None else "gone" if now is None else ""
        if change is not None and change > margin:
            verdict = f"MORE THAN {margin:.0%} ABOVE"
        elif change is not None and change < -margin:
            verdict, lower = "below: take the baseline down", True
        good = good and (change is not None and change <= margin)
        shown = [f"{value:,.1f}" if value is not None else "-" for value in (before, now)]
        lines.append(f"{phase:<16} {shown[0]:>12} {shown[1]:>12} {'' if change is None else f'{change:+.1%}':>9}  {verdict}".rstrip())
    lines.insert(0, f"{'phase':<16} {'baseline':>12} {'now':>12} {'change':>9}   instructions per operation")
    for fact in differing:
        lines.append(f"the baseline is of another {fact} ({baseline.get(fact)}, here {here[fact]}): up to {margin:.0%} is let pass")
    if not good or lower:
        lines.append(f"where that is what was wanted: {WRITE}")
    return lines, good


def guard(run, say):
    """Measures and compares; whether all is well.

    Raises NotRun where it can't be measured here."""
    try:
        valgrind, here = find_valgrind(run, say), circumstances(run)
        lines, good = compare(json.loads(BASELINE.read_text()), here, measure(run, valgrind))
    except Failed as failed:
        lines, good = [str(failed)], False
    print("\n".join(lines), flush=True)
    return good


def write_baseline(run, say):
    """Takes what is measured now for the baseline."""
    valgrind, here = find_valgrind(run, say), circumstances(run)
    costs = {phase: round(cost, 1) for phase, cost in measure(run, valgrind).items()}
    BASELINE.write_text(json.dumps({**here, "instructions": costs}, indent=2) + "\n")
    say(f"written to {BASELINE.relative_to(ROOT)}")


def run_alone(argv, limit, env=None, capture=None):
    """A command to its end, in the foreground; its exit code and output."""
    done = subprocess.run(argv, cwd=ROOT, env={**os.environ, **(env or {})}, stdin=subprocess.DEVNULL, timeout=limit, check=False,
                          text=True, stdout=subprocess.PIPE if capture else None, stderr=subprocess.STDOUT if capture else None)
    return done.returncode, done.stdout or ""


def main(words, say):
    """`./scripts/bench instructions`; the exit code."""
    parser = argparse.ArgumentParser(prog="./scripts/bench instructions", description=__doc__)
    parser.add_argument("--write-baseline", action="store_true", help=f"write {BASELINE.relative_to(ROOT)} anew")
    options = parser.parse_args(words)
    try:
        if options.write_baseline:
            write_baseline(run_alone, say)
            return 0
        return 0 if guard(run_alone, say) else 1
    except (Failed, NotRun) as error:
        say(str(error))
        return 1
