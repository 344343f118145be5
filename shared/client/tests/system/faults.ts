// What a network and a door do to clients while 2,000 events are told, and the proof that nobody missed or doubled any.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { House } from "./house.ts";
import { FaultProxy } from "./proxy.ts";

export const EVENTS = 2000;

/** The events that are told. */
export interface Numbered {
  "arena.agent.*.output": { n: number; pad: string };
}

/** The rounds of faults while `count` events are told, from the first to the last. Each is over before the next one begins. */
export async function faults(house: House, proxies: FaultProxy[], session: string, count = EVENTS): Promise<void> {
  const engine = await house.engine();
  const each = (act: (proxy: FaultProxy) => void) => proxies.forEach(act);
  const part = Math.floor(count / 8);
  let told = 0;
  const tell = async (ms: number, many = part) => {
    await engine.tell(session, told, many, ms);
    told += many;
  };
  // Cut between frames and within them.
  for (let cut = 0; cut < 4; cut++) {
    await tell(150, Math.floor(part / 4));
    each((proxy) => proxy.cut());
  }
  each((proxy) => (proxy.cutAfter = 7_001));
  each((proxy) => proxy.cut());
  await tell(1500);
  each((proxy) => (proxy.cutAfter = Infinity));
  each((proxy) => proxy.cut());
  // The door dies, and events go on without it.
  await Promise.all([tell(600), (async () => {
    await house.closeDoor("SIGKILL");
    await house.openDoor();
  })()]);
  // Half-open: nothing comes, and nobody says so.
  each((proxy) => (proxy.silent = true));
  await tell(400);
  await new Promise((resolve) => setTimeout(resolve, 3200));
  each((proxy) => (proxy.silent = false));
  await tell(300);
  // A slow network, and a planned restart.
  each((proxy) => (proxy.delayMs = 120));
  await Promise.all([tell(500), (async () => {
    await house.closeDoor("SIGTERM");
    await house.openDoor();
  })()]);
  each((proxy) => (proxy.delayMs = 0));
  await tell(0);
  await tell(200, count - told);
  engine.close();
}

/** The faults of these tests come closer together than in life: a silent connection is found within seconds. */
export const QUICK = { HERALD_SOCKET__HEARTBEAT: "500ms", HERALD_SSE__HEARTBEAT: "400ms" };

/** A frame as the door tells it. */
export interface Told {
  event: string;
  data: unknown;
  seq: number;
  ts: number;
}

/** The frames that the log holds of a session, read in one piece from the door itself, until one is the last. */
export async function framesOf(port: number, session: string, isLast: (frame: Told) => boolean): Promise<Told[]> {
  const answer = await fetch(`http://127.0.0.1:${port}/sse/${session}?after=0`);
  const frames: Told[] = [];
  let text = "";
  for await (const chunk of (answer.body as ReadableStream<Uint8Array<ArrayBuffer>>).pipeThrough(new TextDecoderStream())) {
    text += chunk;
    const pieces = text.split("\n\n");
    text = pieces.pop() as string;
    for (const piece of pieces) {
      // Control frames are events of their own names.
      const data = /^data: (\{"event":".*)$/m.exec(piece)?.[1];
      if (data) frames.push(JSON.parse(data) as Told);
    }
    if (frames.some(isLast)) break;
  }
  return frames;
}

/** The sequences and numbers that the log holds of a session, up to a number. */
export async function logOf(house: House, session: string, last: number): Promise<[seq: number, n: number][]> {
  const number = ({ data }: Told) => (data as { n: number }).n;
  const frames = await framesOf(house.port, session, (frame) => frame.event.startsWith("arena.") && number(frame) === last);
  return frames.filter(({ event }) => event.startsWith("arena.")).map((frame) => [frame.seq, number(frame)]);
}

/** Compares what a client was shown with the log. */
export function compare(who: string, seen: [number, number][], log: [number, number][]): void {
  const of = (list: [number, number][]) => new Set(list.map(([seq]) => seq));
  const [seqs, kept] = [of(seen), of(log)];
  const lost = [...kept].filter((seq) => !seqs.has(seq));
  assert.deepEqual({ who, lost, doubled: seen.length - seqs.size }, { who, lost: [], doubled: 0 });
  assert.deepEqual(seen, log, `${who}: the order`);
}

export const fresh = () => randomUUID();
