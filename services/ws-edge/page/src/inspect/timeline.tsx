// The events as marks in lanes, and the moment that is shown: to be dragged, and moved by keys.

import { useEffect, useLayoutEffect, useRef } from "preact/hooks";
import { toneOf } from "../entry.ts";
import { colour, useColours, useWidth } from "../hooks.ts";
import type { Log } from "../log.ts";
import { useTongue, useWords, type Words } from "../words.ts";
import { clock, marks } from "./clock.ts";
import type { Search } from "./filter.ts";
import type { Lane, Lanes } from "./lanes.ts";
import { LIVE, moment, seek, seekIndex, shown, step, type Wind } from "./wind.ts";

/** What is seen of the time, ms since 1970. */
export interface Range {
  t0: number;
  t1: number;
}

const ROW = 20;
const AXIS = 22;
const NEAR = 8;
const PAGE_MS = 10_000;
/** Closer than this nothing is nearer. */
export const SHORTEST_MS = 20;

/** All there is, with a little room. */
export function fitted(log: Log): Range {
  const [first, last] = [log.at(log.first)?.ts, log.last?.ts];
  if (first === undefined || last === undefined) return { t0: Date.now() - 60_000, t1: Date.now() };
  const room = Math.max((last - first) * 0.02, 250);
  return { t0: first - room, t1: last + room };
}

interface Props {
  log: Log;
  wind: Wind;
  setWind: (change: (wind: Wind) => Wind) => void;
  lanes: Lanes;
  range: Range;
  setRange: (range: Range) => void;
  search: Search;
  picked: number | null;
  onPick: (index: number) => void;
  version: number;
}

export function Timeline({ log, wind, setWind, lanes, range, setRange, search, picked, onPick, version }: Props) {
  const words = useWords();
  const tongue = useTongue();
  const [place, width] = useWidth<HTMLDivElement>();
  const canvas = useRef<HTMLCanvasElement>(null);
  const colours = useColours();
  const height = Math.max(lanes.all.length, 1) * ROW + AXIS;
  const at = moment(wind, log);
  const xOf = (ts: number) => ((ts - range.t0) / (range.t1 - range.t0)) * width;
  const tsOf = (x: number) => range.t0 + (x / Math.max(width, 1)) * (range.t1 - range.t0);

  useLayoutEffect(() => {
    const context = canvas.current?.getContext("2d");
    if (!context || !canvas.current || !width) return;
    const scale = devicePixelRatio || 1;
    canvas.current.width = width * scale;
    canvas.current.height = height * scale;
    context.setTransform(scale, 0, 0, scale, 0, 0);
    draw(context, { width, height, log, lanes, range, search, at, picked });
  }, [width, height, version, range.t0, range.t1, at, search, search.found.length, picked, colours]);

  // Wheels zoom around the pointer; a passive listener could not keep the page from scrolling.
  const latest = useRef({ range, tsOf, setRange });
  latest.current = { range, tsOf, setRange };
  useEffect(() => {
    const element = canvas.current;
    const turned = (event: WheelEvent) => {
      if (!event.ctrlKey && !event.metaKey && Math.abs(event.deltaX) < Math.abs(event.deltaY) && !event.shiftKey) return;
      event.preventDefault();
      const { range, tsOf, setRange } = latest.current;
      if (event.ctrlKey || event.metaKey) {
        const center = tsOf(event.offsetX);
        const factor = Math.exp(event.deltaY / 300);
        if ((range.t1 - range.t0) * factor < SHORTEST_MS) return;
        setRange({ t0: center - (center - range.t0) * factor, t1: center + (range.t1 - center) * factor });
      } else {
        const by = ((event.deltaX || event.deltaY) / Math.max(element?.clientWidth ?? 1, 1)) * (range.t1 - range.t0);
        setRange({ t0: range.t0 + by, t1: range.t1 + by });
      }
    };
    element?.addEventListener("wheel", turned, { passive: false });
    return () => element?.removeEventListener("wheel", turned);
  }, []);

  const drag = useRef<{ x: number; moved: boolean } | null>(null);
  const down = (event: PointerEvent) => {
    if (event.button !== 0) return;
    (event.currentTarget as HTMLElement).setPointerCapture(event.pointerId);
    drag.current = { x: event.offsetX, moved: false };
  };
  const move = (event: PointerEvent) => {
    if (!drag.current) return;
    drag.current.moved ||= Math.abs(event.offsetX - drag.current.x) > 3;
    if (drag.current.moved) setWind((wind) => seek(wind, log, tsOf(event.offsetX)));
  };
  const up = (event: PointerEvent) => {
    const { moved } = drag.current ?? { moved: true };
    drag.current = null;
    if (moved) return;
    const near = nearest(event.offsetX, event.offsetY);
    if (near === undefined) return setWind((wind) => seek(wind, log, tsOf(event.offsetX)));
    onPick(near);
    setWind((wind) => seekIndex(wind, log, near + 1));
  };
  /** The event of the lane under the pointer that is nearest to it. */
  const nearest = (x: number, y: number): number | undefined => {
    const lane = lanes.all[Math.floor((y - AXIS) / ROW)];
    if (!lane) return undefined;
    let found: number | undefined;
    let least = NEAR;
    let index = log.endAt(tsOf(x - NEAR) - 1);
    for (const entry of log.entries(index, log.endAt(tsOf(x + NEAR)))) {
      const distance = Math.abs(xOf(entry.ts) - x);
      if (lanes.key(entry.event) === lane.key && distance < least) [found, least] = [index, distance];
      index++;
    }
    return found;
  };
  const key = (event: KeyboardEvent) => {
    const acts: Record<string, (wind: Wind) => Wind> = {
      ArrowLeft: (wind) => step(wind, log, -1), ArrowRight: (wind) => step(wind, log, 1),
      ArrowDown: (wind) => step(wind, log, -1), ArrowUp: (wind) => step(wind, log, 1),
      PageDown: (wind) => seek(wind, log, moment(wind, log) - PAGE_MS), PageUp: (wind) => seek(wind, log, moment(wind, log) + PAGE_MS),
      Home: (wind) => seekIndex(wind, log, log.first + 1), End: (wind) => ({ ...LIVE, speed: wind.speed }),
    };
    const act = acts[event.key];
    if (!act || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    setWind(act);
  };
  const end = shown(wind, log);
  return (
    <div class="timeline">
      <ul class="lanes" aria-hidden="true">
        {lanes.all.map((lane) => <li key={lane.key} title={laneName(lane, lanes, words)}>{laneName(lane, lanes, words)}</li>)}
      </ul>
      <div class="track" ref={place}>
        <canvas ref={canvas} id="timeline" role="slider" tabIndex={0} aria-label={words.look.moment} aria-describedby="timeline-hint"
          aria-valuemin={log.first} aria-valuemax={log.end} aria-valuenow={end}
          aria-valuetext={end > log.first ? words.look.value(clock(at, false), end, log.end) : words.look.nothing}
          style={{ height: `${height}px` }} onPointerDown={down} onPointerMove={move} onPointerUp={up} onPointerCancel={() => (drag.current = null)} onKeyDown={key} />
      </div>
      <p class="soft hint" id="timeline-hint" lang={tongue}>{words.look.momentHint}</p>
    </div>
  );
}

function laneName(lane: Lane, lanes: Lanes, words: Words): string {
  switch (lane.kind) {
    case "agent":
      return lanes.names.get(lane.name) ?? `${words.look.lanes.agent} ${lane.name.slice(0, 6)}`;
    case "other":
      return lane.name;
    default:
      return words.look.lanes[lane.kind];
  }
}

interface Drawing extends Pick<Props, "log" | "lanes" | "range" | "search" | "picked"> {
  width: number;
  height: number;
  at: number;
}

function draw(to: CanvasRenderingContext2D, { width, height, log, lanes, range, search, at, picked }: Drawing): void {
  const { t0, t1 } = range;
  const xOf = (ts: number) => ((ts - t0) / (t1 - t0)) * width;
  to.clearRect(0, 0, width, height);
  // The axis.
  to.font = "11px system-ui, sans-serif";
  to.textBaseline = "middle";
  const axis = marks(t0, t1, Math.max(2, Math.floor(width / 110)));
  for (const mark of axis.at) {
    const x = Math.round(xOf(mark)) + 0.5;
    to.fillStyle = colour("line");
    to.fillRect(x, AXIS - 4, 1, height);
    to.fillStyle = colour("ink-soft");
    if (x < width - 60) to.fillText(clock(mark, !axis.seconds), x + 3, AXIS / 2);
  }
  lanes.all.forEach((_, row) => {
    to.fillStyle = colour("line");
    to.fillRect(0, AXIS + row * ROW + ROW - 0.5, width, 0.5);
  });
  // The marks. What would be drawn over what is there already is left out: thousands may share a pixel.
  const drawn: Map<string, number>[] = lanes.all.map(() => new Map());
  const first = log.endAt(t0 - 1);
  const behind = log.endAt(at);
  let [index, found] = [first, lowerBound(search.found, first)];
  for (const entry of log.entries(first, log.endAt(t1))) {
    const row = lanes.places.get(lanes.key(entry.event)) ?? 0;
    const x = Math.round(xOf(entry.ts));
    while ((search.found[found] ?? Infinity) < index) found++;
    const wanted = !search.test || search.found[found] === index;
    const look = `${toneOf(entry.event)}${wanted ? (index < behind ? "" : " ahead") : " out"}`;
    if (drawn[row]?.get(look) !== x) {
      drawn[row]?.set(look, x);
      to.globalAlpha = !wanted ? 0.12 : index < behind ? 1 : 0.35;
      to.fillStyle = colour(`mark-${toneOf(entry.event)}`);
      to.fillRect(x - 1, AXIS + row * ROW + 4, 2, ROW - 8);
    }
    index++;
  }
  to.globalAlpha = 1;
  const entry = picked === null ? undefined : log.at(picked);
  if (entry) {
    const row = lanes.places.get(lanes.key(entry.event)) ?? 0;
    to.strokeStyle = colour("ink");
    to.lineWidth = 1.5;
    to.strokeRect(Math.round(xOf(entry.ts)) - 4.5, AXIS + row * ROW + 2.5, 9, ROW - 5);
  }
  if (at) {
    const x = Math.round(xOf(at));
    to.fillStyle = colour("accent");
    to.fillRect(x - 0.75, AXIS - 6, 1.5, height);
    to.beginPath();
    to.moveTo(x - 6, AXIS - 12);
    to.lineTo(x + 6, AXIS - 12);
    to.lineTo(x, AXIS - 3);
    to.fill();
  }
}

/** Where the first number stands that is not below. */
export function lowerBound(numbers: number[], wanted: number): number {
  let [low, high] = [0, numbers.length];
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((numbers[middle] as number) < wanted) low = middle + 1;
    else high = middle;
  }
  return low;
}
