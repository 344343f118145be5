// Lines over turns or time, by uPlot.

import { useEffect, useLayoutEffect, useRef } from "preact/hooks";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { clock } from "./inspect/clock.ts";
import { colour, useColours, useWidth } from "./hooks.ts";

export interface Series {
  label: string;
  /** Its name in the style sheet. */
  colour: string;
  values: (number | null)[];
  dashed?: boolean;
  /** Filled down to the axis, as steps: for what is counted. */
  steps?: boolean;
  /** Points without lines: for what is measured now and then. */
  points?: boolean;
}

interface Props {
  xs: number[];
  series: Series[];
  height: number;
  /** Of the values; by itself otherwise. */
  range?: [number, number];
  /** Of the axis below, where it is time: seconds since 1970. */
  times?: [number, number];
  /** What stands below a value of it. */
  xName?: (x: number) => string;
}

export function Plot({ xs, series, height, range, times, xName }: Props) {
  const [place, width] = useWidth<HTMLDivElement>();
  const colours = useColours();
  const plot = useRef<uPlot | null>(null);
  const names = series.map(({ label, colour }) => `${label} ${colour}`).join("|");
  const nameOf = useRef(xName);
  nameOf.current = xName;
  const bounds = useRef(times);
  bounds.current = times;

  useLayoutEffect(() => {
    if (!place.current || !width) return undefined;
    const axis = { stroke: colour("ink-soft"), grid: { stroke: colour("line"), width: 1 }, ticks: { show: false }, font: "11px system-ui, sans-serif" };
    const ofSeries = series.map(({ label, colour: name, dashed, steps, points }): uPlot.Series => ({
      label,
      stroke: colour(name),
      width: points ? 0 : 1.75,
      ...(dashed ? { dash: [5, 4] } : {}),
      ...(steps ? { fill: faded(colour(name)), paths: uPlot.paths.stepped?.({ align: 1 }) as uPlot.Series.PathBuilder } : {}),
      points: points ? { show: true, size: 4, fill: colour(name), width: 0 } : { show: !steps && xs.length < 60, size: 4 },
    }));
    const made = new uPlot(
      {
        width, height, padding: [8, 8, 0, 0],
        legend: { show: false }, cursor: { show: false }, select: { show: false, left: 0, top: 0, width: 0, height: 0 },
        scales: {
          x: { time: times !== undefined, range: (_, low, high) => bounds.current ?? [low, Math.max(high, low + 1)] },
          y: range ? { range: () => range } : { range: (_, __, high) => [0, Math.max(1, high * 1.1)] },
        },
        axes: [
          {
            ...axis, size: 26,
            ...(times ? { space: 80, values: (_: uPlot, all: number[], __: number, ___: number, step: number) => all.map((x) => clock(x * 1000, step < 1)) } : {}),
            ...(xName ? { splits: (self: uPlot) => Array.from(self.data[0]), values: (_: uPlot, all: number[]) => all.map((x) => nameOf.current?.(x) ?? "") } : {}),
          },
          { ...axis, size: 40 },
        ],
        series: [{}, ...ofSeries],
      },
      [xs, ...series.map(({ values }) => values)] as uPlot.AlignedData,
      place.current,
    );
    plot.current = made;
    return () => {
      made.destroy();
      plot.current = null;
    };
    // What is drawn anew when the data changes is not made anew.
  }, [width, height, names, colours, times !== undefined]);
  useEffect(() => {
    plot.current?.setData([xs, ...series.map(({ values }) => values)] as uPlot.AlignedData);
  }, [xs, series, times?.[0], times?.[1]]);

  return (
    <div class="plot" aria-hidden="true">
      <div ref={place} class="canvas" />
      <ul class="legend">
        {series.map(({ label, colour, dashed }) => <li key={label}><i class={`key-${colour}${dashed ? " dashed" : ""}`} />{label}</li>)}
      </ul>
    </div>
  );
}

function faded(colour: string): string {
  return colour.replace(/^rgb\((.*)\)$/, "rgba($1, 0.25)");
}
