// The events as a list, of which only what is seen is there.

import { useLayoutEffect, useRef, useState } from "preact/hooks";
import { summary, toneOf } from "../entry.ts";
import type { Log } from "../log.ts";
import { useWords } from "../words.ts";
import { clock } from "./clock.ts";
import { lowerBound } from "./timeline.tsx";

const ROW = 28;
const ROOM = 8;
const HEIGHT = 420;

interface Props {
  log: Log;
  /** Indices of what is shown, ascending. */
  found: number[];
  /** The index behind the moment: what lies ahead is faint. */
  end: number;
  picked: number | null;
  onPick: (index: number) => void;
  /** New events are shown as they come: to who looks at the end of the list. */
  live: boolean;
}

export function List({ log, found, end, picked, onPick, live }: Props) {
  const words = useWords();
  const box = useRef<HTMLDivElement>(null);
  const [top, setTop] = useState(0);
  const atEnd = useRef(true);
  const height = box.current?.clientHeight || HEIGHT;
  const place = lowerBound(found, end);
  const at = picked === null ? -1 : lowerBound(found, picked);
  const chosen = found[at] === picked ? at : -1;

  const show = (row: number) => {
    const element = box.current;
    if (!element) return;
    if (row * ROW < element.scrollTop) element.scrollTop = row * ROW;
    else if ((row + 1) * ROW > element.scrollTop + element.clientHeight) element.scrollTop = (row + 1) * ROW - element.clientHeight;
  };
  useLayoutEffect(() => {
    if (place > 0 && (!live || atEnd.current)) show(place - 1);
  }, [live, place]);
  useLayoutEffect(() => {
    if (chosen >= 0) show(chosen);
  }, [picked]);

  const key = (event: KeyboardEvent) => {
    const by = { ArrowDown: 1, ArrowUp: -1, PageDown: 10, PageUp: -10, Home: -Infinity, End: Infinity }[event.key];
    if (by === undefined || !found.length) return;
    event.preventDefault();
    const from = chosen >= 0 ? chosen : Math.max(place - 1, 0);
    const to = Math.min(Math.max(chosen >= 0 ? from + by : from, 0), found.length - 1);
    onPick(found[to] as number);
  };
  const scrolled = ({ currentTarget: { scrollTop, scrollHeight, clientHeight } }: { currentTarget: HTMLElement }) => {
    atEnd.current = scrollHeight - scrollTop - clientHeight < 2 * ROW;
    setTop(scrollTop);
  };
  const first = Math.max(0, Math.floor(top / ROW) - ROOM);
  const last = Math.min(found.length, Math.ceil((top + height) / ROW) + ROOM);
  const rows = [];
  for (let row = first; row < last; row++) {
    const index = found[row] as number;
    const entry = log.at(index);
    if (!entry) continue;
    rows.push(
      <div key={index} id={`row-${index}`} role="option" aria-selected={row === chosen} aria-posinset={row + 1} aria-setsize={found.length}
        class={`row tone-${toneOf(entry.event)}${index >= end ? " ahead" : ""}`} style={{ top: `${row * ROW}px` }} onClick={() => onPick(index)}>
        <span class="seq">{entry.seq}</span><span class="when">{clock(entry.ts)}</span><span class="name">{entry.event}</span><span class="what">{summary(entry.data)}</span>
      </div>,
    );
  }
  return (
    <div class="list" ref={box} role="listbox" tabIndex={0} aria-label={words.look.list} {...(chosen >= first && chosen < last ? { "aria-activedescendant": `row-${picked}` } : {})}
      onScroll={scrolled} onKeyDown={key}>
      <div class="all" role="presentation" style={{ height: `${found.length * ROW}px` }}>{rows}</div>
    </div>
  );
}
