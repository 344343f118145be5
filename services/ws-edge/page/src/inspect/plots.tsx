// How many events come, and how late, over the time that is seen.

import { useMemo } from "preact/hooks";
import type { Log } from "../log.ts";
import { Plot, type Series } from "../plot.tsx";
import { useWords } from "../words.ts";
import { bins } from "./bins.ts";
import type { Range } from "./timeline.tsx";

const PIECES = 120;
const COLOURS: Record<string, string> = { gm: "mark-turn", arena: "mark-voice" };
const FURTHER = ["mark-tool", "mark-state", "mark-text"];

export function Plots({ log, range, version }: { log: Log; range: Range; version: number }) {
  const words = useWords().look;
  const { t0, t1 } = range;
  const found = useMemo(() => bins(log, t0, t1, PIECES), [log, version, t0, t1]);
  const rates = useMemo(() => {
    let further = 0;
    return [...found.rates].map(([root, values]): Series => ({ label: root, colour: COLOURS[root] ?? (FURTHER[further++ % 3] as string), values, steps: true }));
  }, [found]);
  const lags = useMemo((): Series[] => [{ label: "max", colour: "accent", values: found.lags, points: true }], [found]);
  const times: [number, number] = [t0 / 1000, t1 / 1000];
  const late = found.lags.some((lag) => lag !== null);
  return (
    <div class="plots">
      <figure>
        <figcaption class="soft">{words.rate}</figcaption>
        <Plot xs={found.xs} series={rates} height={120} times={times} />
      </figure>
      <figure>
        <figcaption class="soft">{late ? words.lag : words.noLag}</figcaption>
        {late && <Plot xs={found.xs} series={lags} height={120} times={times} />}
      </figure>
    </div>
  );
}
