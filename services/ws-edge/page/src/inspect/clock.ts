// Times as people read them. Pure.

/** `14:03:07.250`, in the time of this device. */
export function clock(ts: number, thousandths = true): string {
  const date = new Date(ts);
  const two = (n: number) => String(n).padStart(2, "0");
  const text = `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
  return thousandths ? `${text}.${String(date.getMilliseconds()).padStart(3, "0")}` : text;
}

/** Distances between marks of an axis, ms. */
const DISTANCES = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 15e3, 3e4, 6e4, 12e4, 3e5, 6e5, 9e5, 18e5, 36e5, 72e5, 216e5, 432e5, 864e5];

/** Where marks of an axis stand from `t0` to `t1`, `most` at most; and whether seconds are enough to name them. */
export function marks(t0: number, t1: number, most: number): { at: number[]; seconds: boolean } {
  const distance = DISTANCES.find((one) => (t1 - t0) / one <= most) ?? Math.ceil((t1 - t0) / most / 864e5) * 864e5;
  const at: number[] = [];
  for (let mark = Math.ceil(t0 / distance) * distance; mark <= t1 && at.length <= most; mark += distance) at.push(mark);
  return { at, seconds: distance >= 1000 };
}

/** `3 min 20 s`: the two largest units, in one piece. */
export function duration(ms: number): string {
  const seconds = Math.max(0, Math.round(ms / 1000));
  const units: [number, string][] = [[86_400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  const at = Math.max(0, units.findIndex(([size]) => seconds >= size));
  if (!seconds) return `${Math.max(0, Math.round(ms))}\u00a0ms`;
  const [[size, name], smaller] = [units[at] as [number, string], units[at + 1]];
  const rest = smaller ? Math.floor((seconds % size) / smaller[0]) : 0;
  return `${Math.floor(seconds / size)}\u00a0${name}${smaller && rest ? `\u00a0${rest}\u00a0${smaller[1]}` : ""}`;
}

/** `12.3 kB`. */
export function bytes(n: number, tongue: string): string {
  const [size, unit] = n < 1e3 ? [1, "B"] : n < 1e6 ? [1e3, "kB"] : [1e6, "MB"];
  return `${(n / size).toLocaleString(tongue, { maximumFractionDigits: 1 })}\u00a0${unit}`;
}
