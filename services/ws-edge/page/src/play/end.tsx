// The end, and what the Game Master wanted all along.

import type { Game } from "../game.ts";
import { format } from "../route.ts";
import { useWords } from "../words.ts";

export function End({ game, session }: { game: Game; session: string }) {
  const words = useWords();
  const { end, reveal } = game;
  const nameOf = (kind: string) => words.kinds[kind as keyof typeof words.kinds] ?? kind;
  return (
    <section class={`end card ${end?.lose ? "is-lost" : "is-kept"}`} aria-labelledby="end-title">
      <h2 id="end-title">{words.end.title}</h2>
      <p class="lead">{end?.lose ? words.end.lost : end?.win ? words.end.won : words.end.kept}</p>
      {reveal?.score && (
        <p>{words.end.score(reveal.score.successful_manipulations, reveal.score.total_turns)} {reveal.score.verdict}</p>
      )}
      {reveal && reveal.manipulation_history.length > 0 && (
        <div class="scroll" tabIndex={0} role="region" aria-label={words.end.reveal}>
          <table>
            <caption>{words.end.reveal}</caption>
            <thead><tr><th scope="col">{words.end.turn}</th><th scope="col">{words.end.wanted}</th><th scope="col">{words.end.took}</th><th scope="col">{words.end.tactic}</th></tr></thead>
            <tbody>
              {reveal.manipulation_history.map((one) => (
                <tr key={one.turn}>
                  <th scope="row">{one.turn}</th><td>{nameOf(one.desired_pick)}</td>
                  <td>{nameOf(one.actual_pick)} <span class="soft">({one.success ? words.end.yes : words.end.no})</span></td><td>{one.manipulation_tactic}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
      <p class="acts">
        <a class="button primary" href={format({ view: "home" })}>{words.newGame}</a>
        <a class="button" href={format({ view: "inspect", session })}>{words.end.rewind}</a>
      </p>
    </section>
  );
}
