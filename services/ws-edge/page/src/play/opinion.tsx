// Public opinion: four gauges and how they came there.

import { useMemo } from "preact/hooks";
import { Bar } from "../bar.tsx";
import { INDICES, type Game, type Mood } from "../game.ts";
import { Plot, type Series } from "../plot.tsx";
import { useTongue, useWords } from "../words.ts";
import { signed } from "./news.tsx";

export function Opinion({ game, plot = true }: { game: Game; plot?: boolean }) {
  const words = useWords();
  const { moods } = game;
  const [now, before] = [moods.at(-1), moods.at(-2)];
  return (
    <section class="opinion card" aria-labelledby="opinion-title">
      <h2 id="opinion-title">{words.indices.title}</h2>
      {!now && <p class="soft empty">{words.indices.unknown}</p>}
      {now && (
        <>
          <ul class="gauges">
            {INDICES.map((index) => (
              <li key={index}><Gauge name={words.indices[index]} tone={index} value={now.indices[index]} before={before?.indices[index]} /></li>
            ))}
          </ul>
          <Loss value={now.decerebration} before={before?.decerebration} />
          {plot && moods.length > 1 && <History moods={moods} />}
        </>
      )}
    </section>
  );
}

function Gauge({ name, tone, value, before }: { name: string; tone: string; value: number; before: number | undefined }) {
  const words = useWords();
  const tongue = useTongue();
  const shown = Math.max(0, Math.min(100, Number(value) || 0));
  const change = before === undefined ? 0 : value - before;
  return (
    <div class={`gauge tone-${tone}`} role="meter" aria-label={name} aria-valuemin={0} aria-valuemax={100} aria-valuenow={Math.round(shown)}
      aria-valuetext={change ? `${Math.round(shown)}, ${words.indices.change(signed(change, tongue))}` : `${Math.round(shown)}`}>
      <svg viewBox="0 0 100 58" aria-hidden="true">
        <path class="back" d="M8 52a42 42 0 0 1 84 0" pathLength={100} />
        <path class="front" d="M8 52a42 42 0 0 1 84 0" pathLength={100} stroke-dasharray={`${shown} 200`} />
        <text x="50" y="50" text-anchor="middle">{Math.round(shown)}</text>
      </svg>
      <span class="name">{name}</span>
      <span class="change soft">{change ? signed(change, tongue) : " "}</span>
    </div>
  );
}

function Loss({ value, before }: { value: number; before: number | undefined }) {
  const words = useWords();
  const tongue = useTongue();
  const change = before === undefined ? 0 : value - before;
  return (
    <div class="loss">
      <span>{words.indices.decerebration}</span>
      <Bar name={words.indices.decerebration} value={value} />
      <span class="figure">{(Math.round(value * 10) / 10).toLocaleString(tongue)}{change ? <span class="soft"> {signed(change, tongue)}</span> : null}</span>
    </div>
  );
}

function History({ moods }: { moods: readonly Mood[] }) {
  const words = useWords();
  const turns = useMemo(() => moods.map((_, at) => at), [moods]);
  const series = useMemo<Series[]>(
    () => [
      ...INDICES.map((index) => ({ label: words.indices[index], colour: `tone-${index}`, values: moods.map(({ indices }) => Number(indices[index])) })),
      { label: words.indices.decerebration, colour: "ink-soft", dashed: true, values: moods.map(({ decerebration }) => decerebration) },
    ],
    [moods, words],
  );
  const name = (turn: number) => (moods[turn] ? (moods[turn].turn === 0 ? words.indices.start : String(moods[turn].turn)) : "");
  return (
    <figure class="history">
      <figcaption class="soft">{words.indices.history}</figcaption>
      <Plot xs={turns} series={series} height={150} range={[0, 100]} xName={name} />
      <div class="unseen"><table>
        <caption>{words.indices.history}</caption>
        <thead><tr><th scope="col">{words.end.turn}</th>{series.map(({ label }) => <th key={label} scope="col">{label}</th>)}</tr></thead>
        <tbody>{turns.map((turn) => <tr key={turn}><th scope="row">{name(turn)}</th>{series.map(({ label, values }) => <td key={label}>{values[turn]}</td>)}</tr>)}</tbody>
      </table></div>
    </figure>
  );
}
