// What views share: following a watch, clocks, sizes, colours.

import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import type { Watch } from "./watch.ts";

/** Draws the view again whenever the watch has changed. */
export function useWatch(watch: Watch | undefined): void {
  const [, draw] = useState(0);
  useEffect(() => watch?.subscribe(() => draw((n) => n + 1)), [watch]);
}

/** The time, every so often while `on`. */
export function useNow(ms: number, on = true): number {
  const [now, set] = useState(Date.now());
  useEffect(() => {
    if (!on) return undefined;
    set(Date.now());
    const timer = setInterval(() => set(Date.now()), ms);
    return () => clearInterval(timer);
  }, [ms, on]);
  return now;
}

/** An element's width, as it changes. */
export function useWidth<E extends HTMLElement>(): [ref: { current: E | null }, width: number] {
  const ref = useRef<E>(null);
  const [width, set] = useState(0);
  useLayoutEffect(() => {
    const element = ref.current;
    if (!element) return undefined;
    const look = () => set(Math.floor(element.clientWidth));
    look();
    const observer = new ResizeObserver(look);
    observer.observe(element);
    return () => observer.disconnect();
  }, []);
  return [ref, width];
}

const probes = new Map<string, string>();

/** A colour of the style sheet as canvases know colours. */
export function colour(name: string): string {
  const known = probes.get(name);
  if (known) return known;
  const probe = document.createElement("span");
  probe.style.color = `var(--${name})`;
  probe.hidden = true;
  document.body.append(probe);
  const value = getComputedStyle(probe).color;
  probe.remove();
  probes.set(name, value);
  return value;
}

/** Counts the changes of colours: by the system, or by hand. */
export function useColours(): number {
  const [count, add] = useState(0);
  useEffect(() => {
    const changed = () => {
      probes.clear();
      add((n) => n + 1);
    };
    const system = matchMedia("(prefers-color-scheme: dark)");
    system.addEventListener("change", changed);
    const observer = new MutationObserver(changed);
    observer.observe(document.documentElement, { attributes: true, attributeFilter: ["data-theme"] });
    return () => {
      system.removeEventListener("change", changed);
      observer.disconnect();
    };
  }, []);
  return count;
}

/** Whether the page is looked at. */
export function useLooked(): boolean {
  const [looked, set] = useState(!document.hidden);
  useEffect(() => {
    const changed = () => set(!document.hidden);
    document.addEventListener("visibilitychange", changed);
    return () => document.removeEventListener("visibilitychange", changed);
  }, []);
  return looked;
}
