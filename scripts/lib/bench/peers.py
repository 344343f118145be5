"""Who is measured: how each is started on a backbone, and how its clients reach it."""

import dataclasses
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from bench import stage as stages
from bench.stage import Failed, ROOT

UWS_SOURCES = ROOT / "services" / "ws-edge" / "benches" / "uws"
UWS_HOME = ROOT / ".herald" / "uws"
UWS_PACKAGE = Path("node_modules") / "@trufflesuite" / "uws-js-unofficial"

# Clients of nats-server speak NATS to it. What waits for a client that stops reading is bounded as for uws.
NATS_WEBSOCKET = """
max_payload: 8MB
max_pending: 256MB
websocket { host: "127.0.0.1", port: -1, no_tls: true, compression: false }
"""


@dataclasses.dataclass
class Running:
    """A peer that runs: whose processor time counts, where its clients connect, where events are published."""

    children: list
    urls: list
    protocol: str
    nats_port: int
    metrics: list = dataclasses.field(default_factory=list)

    @property
    def pids(self):
        return [child.pid for child in self.children]

    def end(self):
        for child in self.children:
            child.end()


def pinned(pin, argv):
    return (["taskset", "-c", pin] if pin else []) + argv


def address_of(line):
    return line.rsplit(" ", 1)[1].strip()


def processes(case):
    """As often as the case wants this peer."""
    return range(case.get("processes", 1))


def floor(stage, backbone, work, case, source=()):
    """`sim floor`, the yardstick."""
    argv = [stage.program("sim"), "floor", "--listen", "127.0.0.1:0", "--nats", f"127.0.0.1:{backbone.port}", *source]
    argv = pinned(case.get("cores"), argv + (["--coalesce"] if work.get("coalesce") else []))
    children = [stage.start("floor", argv) for _ in processes(case)]
    urls = [f"ws://{address_of(child.wait_for_line('listening on '))}" for child in children]
    return Running(children, urls, "plain", backbone.port)


def floor_stream(stage, backbone, work, case):
    """The yardstick, fed by the stream."""
    return floor(stage, backbone, work, case, ("--stream", "EVENTS"))


def ws_edge(stage, backbone, work, case):
    """The door, with everything it has switched on as by default, but that it sheds no handshakes: all of a work's clients come
    as fast as they can."""
    env = {"PORT": "0", "HERALD_DRAIN__PERIOD": "100ms", "HERALD_LIMITS__HANDSHAKES": "0", **work.get("edge", {}), **case.get("edge", {})}
    started = [stages.service(stage, "ws-edge", backbone.port, env, pin=case.get("cores")) for _ in processes(case)]
    return Running([child for child, _ in started], [f"ws://{ports['listeners'][0]}" for _, ports in started], "herald",
                   backbone.port, [f"http://{ports['operations']}/metrics" for _, ports in started])


def nats(stage, backbone, work, case):
    """nats-server's own WebSocket: a server of its own without JetStream, published to directly."""
    config = stage.new_folder("nats-websocket") / "server.conf"
    config.write_text(NATS_WEBSOCKET)
    child, ports, _ = stages.nats_server(stage, "nats-websocket", config, store=False)
    return Running([child], [f"ws://127.0.0.1:{ports['websocket']}"], "nats", ports["nats"])


def uws(stage, backbone, work, case):
    """uWebSockets.js, fed by a NATS subscription of its own as the yardstick is."""
    argv = [stage.uws.node, UWS_SOURCES / "server.js", "--listen", "0", "--nats", str(backbone.port)]
    child = stage.start("uws", pinned(case.get("cores"), argv + (["--coalesce"] if work.get("coalesce") else [])),
                        {"NODE_PATH": str(UWS_HOME / "node_modules")})
    address = address_of(child.wait_for_line("listening on "))
    return Running([child], [f"ws://{address}"], "plain", backbone.port)


PEERS = {"floor": floor, "floor-stream": floor_stream, "ws-edge": ws_edge, "nats": nats, "uws": uws}


@dataclasses.dataclass
class Uws:
    """Whether uWebSockets.js can be had here, and if not, why."""

    node: str = None
    version: str = "none"
    absent: str = None


def find_uws(wanted, say):
    """Installs the pinned package into .herald, checked by its hash and without running any script of it."""
    if not wanted:
        return Uws(absent="not asked for")
    node, npm = shutil.which("node"), shutil.which("npm")
    if not node or not npm:
        return Uws(absent="node and npm are not on the PATH")
    said = subprocess.run([node, "-p", "`uws_${process.platform}_${process.arch}_${process.versions.modules}.node`"],
                          capture_output=True, text=True, timeout=30)
    binary = UWS_HOME / UWS_PACKAGE / "binaries" / said.stdout.strip()
    lock = (UWS_SOURCES / "package-lock.json").read_bytes()
    held = UWS_HOME / "package-lock.json"
    if not held.is_file() or held.read_bytes() != lock or not (UWS_HOME / UWS_PACKAGE).is_dir():
        say("bringing uWebSockets.js (npm, checked by hash) to .herald/uws")
        why = install_uws(npm)
        if why:
            return Uws(absent=why)
    if not binary.is_file():
        return Uws(absent=f"the package has no {binary.name}: node 20 is what it was measured with")
    package = stages.read_json(UWS_HOME / UWS_PACKAGE / "package.json") or {}
    return Uws(node, f"{package.get('version', 'unknown')} ({package.get('name', 'unknown')})")


def install_uws(npm):
    """Why it could not be installed, None if it was."""
    UWS_HOME.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="uws-", dir=UWS_HOME.parent) as fresh:
        for name in ("package.json", "package-lock.json"):
            shutil.copy(UWS_SOURCES / name, fresh)
        try:
            done = subprocess.run([npm, "ci", "--ignore-scripts", "--omit=optional", "--no-audit", "--no-fund", "--silent"],
                                  cwd=fresh, env={**os.environ, "npm_config_update_notifier": "false"},
                                  capture_output=True, text=True, timeout=300)
        except subprocess.TimeoutExpired:
            return "npm did not bring it within 5 minutes"
        if done.returncode:
            return "npm could not bring it: " + " ".join((done.stderr or done.stdout).split())[-200:]
        shutil.rmtree(UWS_HOME, ignore_errors=True)
        shutil.copytree(fresh, UWS_HOME)
    return None


def absent(stage, peer):
    """Why this peer can't be measured here; None where it can."""
    if peer == "uws":
        return stage.uws.absent
    if peer not in PEERS:
        raise Failed(f"no peer is called {peer}: there are {', '.join(PEERS)}")
    return None
