"""W4gm: from the byte of a Game Master to the frame of a client, through bridge, stream and edge."""

import re
import time

from bench import machine, stage as stages
from bench.stage import Backbone, Failed, read_json

LATENCY = re.compile(r"latency, game master to client: p50 ([\d.]+) ms, p99 ([\d.]+) ms, max ([\d.]+) ms \((\d+) frames\)")
SEEN = re.compile(r"^(?:all|[0-9a-f-]{36})\s+\d+\s+\d+\s+(\d+)\s+(\d+)", re.MULTILINE)
TURN_S = 120


def start_masters(stage, load):
    """So many stand-ins, each a game of its own that stamps each token as it hands it to the network; their URLs."""
    children, files = [], []
    for number in range(load["game_masters"]):
        files.append(stage.new_folder("gm") / "ports")
        children.append(stage.start(f"gm{number}", [
            stage.program("sim"), "gm", "--listen", "127.0.0.1:0", "--no-door", "--stamp", "--speed", load["speed"],
            "--article-bytes", load["article_bytes"], "--seed", number + 1, "--ports-file", files[-1]]))
    found = [child.wait_for("its address", lambda: read_json(file)) for child, file in zip(children, files)]
    return children, [f"http://{ports['listeners'][0]}" for ports in found]


def play(stage, edge_url, load):
    """Plays a turn in each session; what the players saw."""
    masters = load["game_masters"]
    began = time.monotonic()
    player = stage.start("players", [
        stage.program("sim"), "players", "--url", edge_url, "--sessions", masters, "--sockets", masters, "--turns", 1,
        "--timeout", f"{TURN_S}s"], all_lines=True)
    try:
        code = player.wait(TURN_S + 20)
    finally:
        player.end()
    text, seconds = "\n".join(player.lines), time.monotonic() - began
    found = LATENCY.search(text)
    if not found:
        raise Failed(f"the players saw no stamped token{player.last_words()}")
    p50, p99, most = (float(value) * 1000 for value in found.groups()[:3])
    frames = int(SEEN.findall(text)[-1][0])
    return {
        "p50_us": p50, "p99_us": p99, "max_us": most, "events": frames, "deliveries": frames, "seconds": seconds,
        "events_per_s": frames / seconds, "connections": masters, "sessions": masters,
        "exact": code == 0 and "every frame came, once and in order" in text,
    }


def once(stage, load):
    """A fresh game: everything is started, a turn played, everything ended."""
    children = []
    bed = Backbone(stage)
    try:
        masters, urls = start_masters(stage, load)
        children += masters
        bridge, _ = stages.service(stage, "gm-bridge", bed.port, {"GM_BASE_URL": ",".join(urls)})
        children.append(bridge)
        edge, ports = stages.service(stage, "ws-edge", bed.port, {"PORT": "0", "HERALD_DRAIN__PERIOD": "100ms"})
        children.append(edge)
        return play(stage, f"http://{ports['listeners'][0]}", load)
    finally:
        for child in reversed(children):
            child.end()
        bed.end()


def runs(stage, name, work, rounds):
    """One run per round."""
    for turn in range(rounds):
        load_average = machine.load_average()
        try:
            found = once(stage, work["load"])
        except Failed as failed:
            stage.say(f"FAILED: {failed}")
            found = {"exact": False, "failed": str(failed).splitlines()[0]}
        yield {**found, "work": name, "case": "", "peer": "ws-edge", "round": turn, "load_average": load_average}
