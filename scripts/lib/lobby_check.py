"""Goes once through what the lobby is for, at its door: a session made, joined, watched and made ready, and its page and tiles."""

import base64
import json
import os
import socket
import struct
import urllib.error
import urllib.parse
import urllib.request

PATIENCE_S = 15


def ask(door, method, path, body=None):
    """Status, body (JSON, where it is some) and media type."""
    request = urllib.request.Request(door + path, method=method, data=None if body is None else json.dumps(body).encode(),
                                     headers={"content-type": "application/json"} if body is not None else {})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        answer = opener.open(request, timeout=PATIENCE_S)
    except urllib.error.HTTPError as error:
        answer = error
    with answer:
        kind = answer.headers.get_content_type()
        data = answer.read()
        return answer.status, json.loads(data) if kind == "application/json" else data, kind


class Watching:
    """A socket of a session, of which only short texts come."""

    def __init__(self, door, session):
        address = urllib.parse.urlsplit(door)
        self.socket = socket.create_connection((address.hostname, address.port), timeout=PATIENCE_S)
        key = base64.b64encode(os.urandom(16)).decode()
        self.socket.sendall(f"GET /ws/{session} HTTP/1.1\r\nHost: {address.netloc}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode())
        self.stream = self.socket.makefile("rb")
        self.status = int(self.stream.readline().split()[1])
        while self.stream.readline().strip():
            pass

    def next(self):
        """The next text, as JSON."""
        while True:
            head, length = self.stream.read(2)
            if length == 126:
                length = struct.unpack(">H", self.stream.read(2))[0]
            payload = self.stream.read(length)
            if head & 15 == 1:
                return json.loads(payload)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()


def faults(door):
    """What is not as it should be: sentences."""
    found = []

    def expect(what, seen, expected):
        if seen != expected:
            found.append(f"{what}: {seen!r} in place of {expected!r}")

    def status(*players):
        return {"players": [{"client_id": name, "ready": ready} for name, ready in players],
                "all_ready": bool(players) and all(ready for _, ready in players)}

    try:
        _, made, _ = ask(door, "POST", "/api/game_sessions/create", {"size": "7", "seed": "epsilon"})
        session = f"/api/game_sessions/{made['session_id']}"
        _, listed, _ = ask(door, "GET", "/api/game_sessions")
        expect("it is listed", made["session_id"] in [one["id"] for one in listed["sessions"]], True)
        _, labyrinth, _ = ask(door, "GET", f"{session}/labyrinth")
        expect("its labyrinth is that of its seed", labyrinth, ask(door, "POST", "/generate-labyrinth", {"size": 7, "seed": "epsilon"})[1])
        with Watching(door, made["session_id"]) as viewer:
            expect("a socket is opened", viewer.status, 101)
            expect("the first status", viewer.next(), status())
            for name in ("ada", "bo"):
                ask(door, "POST", f"{session}/join", {"client_id": name})
            expect("one has come", viewer.next(), status(("ada", False)))
            expect("another has come", viewer.next(), status(("ada", False), ("bo", False)))
            ask(door, "POST", f"{session}/toggle_readiness", {"client_id": "ada", "ready": True})
            expect("one is ready", viewer.next(), status(("ada", True), ("bo", False)))
            ask(door, "POST", "/api/game_sessions/leave", {"client_id": "bo"})
            expect("the other one has left", viewer.next(), status(("ada", True)))
        ask(door, "POST", "/api/game_sessions/leave", {"client_id": "ada"})
        for path, kind in (("/", "text/html"), *((f"/tiles/{image}", "image/png") for image in sorted({tile["image"] for tile in labyrinth["tiles"]}))):
            code, _, seen = ask(door, "GET", path)
            expect(path, (code, seen), (200, kind))
        _, reference, _ = ask(door, "GET", "/api/reference/entities")
        expect("there are reference data", len(reference["entities"]) > 0, True)
    except (OSError, ValueError, KeyError, TypeError) as error:
        found.append(f"the lobby did not answer as it should: {error!r}")
    return found
