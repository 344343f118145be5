"""An engine in Python: a die that the clients of a session roll.  python3 engine.py nats://127.0.0.1:4222 http://127.0.0.1:8002
Needs the package nats-py, and a door with the root `app` (README.md of the project, "In Python and Node")."""

import asyncio, json, random, re, signal, sys, urllib.request
import nats
WRONG = (ValueError, KeyError, TypeError, OSError, nats.errors.Error)

async def main(servers, door):
    nc = await nats.connect(servers, name="dice")

    async def roll(session, sides, who):
        """Publishes by NATS. Acknowledged: from here on every client of the session gets it, or is told of a gap."""
        event = {"face": random.randint(1, sides), "sides": sides, "who": who}
        stored = json.loads((await nc.request(f"app.{session}.dice.rolled", json.dumps(event).encode(), timeout=5)).data)
        if "error" in stored:
            raise OSError(stored["error"]["description"])
        return {"seq": stored["seq"], **event}

    def publish(session, topic, data, key):
        """Publishes by HTTP; under the same key once, however often it is sent."""
        sent, body = {"Content-Type": "application/json", "Idempotency-Key": key}, json.dumps({"topic": topic, "data": data}).encode()
        urllib.request.urlopen(urllib.request.Request(f"{door}/sessions/{session}/events", body, sent), timeout=10).close()

    async def hear(message):
        """Hears what clients say, and that they come."""
        _, _, session, kind = message.subject.split(".")
        who = message.headers.get("Herald-User", "somebody")
        try:
            if kind == "join":
                await asyncio.to_thread(publish, session, "dice.joined", {"who": who}, message.headers["Herald-Conn"])
            elif kind == "text":
                await roll(session, int(json.loads(message.data)["sides"]), who)
        except WRONG as error:  # To that client alone: the reply subject is its connection.
            await nc.publish(message.reply, json.dumps({"error": str(error)}).encode(), headers={"Herald-Topic": "dice.refused"})

    async def answer(request):
        """Answers an HTTP request."""
        asked, status, body = request.headers or {}, 404, {"error": "Not found: POST /dice/roll/SESSION"}
        found = re.fullmatch(r"/dice/roll/([A-Za-z0-9][A-Za-z0-9_-]{0,63})", asked.get("Herald-Path", ""))
        if found and asked["Herald-Method"] == "POST":
            try:  # Who has given up does not hand out the body: then nothing is rolled.
                if (to := asked.get("Herald-Body")) and "Herald-Abort" in (await nc.request(to, headers={"Herald-Part": "0"})).headers:
                    return
                status, body = 201, await roll(found[1], 6, asked.get("Herald-User", "somebody"))
            except WRONG as error:
                status, body = 503, {"error": str(error)}
        head = {"Herald-Status": str(status), "Herald-Part": "0", "Herald-End": "1", "Herald-H-content-type": "application/json"}
        if request.reply:  # Without one it is another instance that leaves.
            await nc.publish(request.reply, json.dumps(body).encode(), headers=head)

    await nc.subscribe("in.app.*.*", queue="dice", cb=hear)
    await nc.subscribe("http.dice", queue="dice", cb=answer)
    await nc.flush()
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    print("ready", flush=True)
    await ended.wait()
    await nc.drain()

asyncio.run(main(*sys.argv[1:]))
