// Three news, of which one goes out.

import type { Lang, News, NewsKind } from "@herald/client";
import { useEffect, useRef, useState } from "preact/hooks";
import { INDICES, KINDS, type Game } from "../game.ts";
import { useTongue, useWords, type Tongue } from "../words.ts";

interface Props {
  game: Game;
  token: string;
  lang: Lang | undefined;
  /** They were asked for just now. */
  asked?: boolean;
  /** Absent: it can't be chosen now. */
  choose: ((kind: NewsKind) => void) | undefined;
}

export function NewsCards({ game, token, lang, asked, choose }: Props) {
  const words = useWords();
  const list = useRef<HTMLUListElement>(null);
  const { news, posters } = game;
  const writing = asked || game.action?.kind === "propose";
  // Left and right go from one to the next, beside Tab.
  const move = (event: KeyboardEvent) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    const all = [...(list.current?.querySelectorAll<HTMLElement>(".publish") ?? [])];
    const place = all.indexOf(document.activeElement as HTMLElement);
    if (!step || place < 0) return;
    event.preventDefault();
    all.at((place + step) % all.length)?.focus();
  };
  return (
    <section class="news" aria-labelledby="news-title">
      <h2 id="news-title">{words.news.title}</h2>
      {game.commentary && <blockquote lang={lang}><p>{game.commentary}</p><footer>{words.news.commentary}</footer></blockquote>}
      {!news && <p class="soft empty">{writing ? words.news.waiting : words.news.none}</p>}
      {(news || writing) && (
        <ul class="cards" ref={list} onKeyDown={move}>
          {KINDS.map((kind) => (
            <li key={kind}>
              {news ? <Card kind={kind} news={news[kind]} chosen={game.chosen === kind} aside={game.chosen !== null && game.chosen !== kind}
                poster={posters ? `${posters.paths[kind]}?v=${posters.seq}` : ""} token={token} lang={lang} choose={choose} /> : <Blank kind={kind} />}
            </li>
          ))}
        </ul>
      )}
      {game.verdict && <blockquote class="verdict" lang={lang}><p>{game.verdict}</p><footer>{words.news.commentary}</footer></blockquote>}
    </section>
  );
}

interface CardProps extends Omit<Props, "game" | "asked"> {
  kind: NewsKind;
  news: News;
  chosen: boolean;
  aside: boolean;
  poster: string;
}

function Card({ kind, news, chosen, aside, poster, token, lang, choose }: CardProps) {
  const words = useWords();
  const tongue = useTongue();
  const [open, setOpen] = useState(false);
  const name = words.kinds[kind];
  return (
    <article class={`card is-${kind}${chosen ? " is-chosen" : ""}${aside ? " is-aside" : ""}`} aria-labelledby={`news-${kind}`}>
      <Poster path={poster} token={token} text={words.news.poster(name)} />
      <div class="inside">
        <div class="headline">
          <p class="kind">{name}</p>
          <h3 id={`news-${kind}`} lang={lang}>{news.text}</h3>
        </div>
        <div class={open ? "article" : "article folded"} id={`article-${kind}`} lang={lang}>
          {news.body.split(/\n\n+/).map((part, at) => <p key={at}>{part}</p>)}
        </div>
        {news.body && (
          <button type="button" class="quiet unfold" aria-expanded={open} aria-controls={`article-${kind}`} onClick={() => setOpen(!open)}>
            {open ? words.news.fold : words.news.read}
          </button>
        )}
        <dl class="impact" aria-label={words.news.impact}>
          {INDICES.map((index) => {
            const change = Number(news.stat_impact[index] ?? 0);
            return change ? <div key={index}><dt>{words.indices[index]}</dt><dd>{signed(change, tongue)}</dd></div> : null;
          })}
        </dl>
        <button type="button" class="publish" data-kind={kind} aria-disabled={!choose} aria-pressed={chosen} aria-describedby={`news-${kind}`} onClick={() => choose?.(kind)}>
          {chosen ? words.news.chosen : words.news.choose}
        </button>
      </div>
    </article>
  );
}

function Blank({ kind }: { kind: NewsKind }) {
  const words = useWords();
  return (
    <div class={`card blank is-${kind}`} aria-hidden="true">
      <div class="poster" />
      <div class="inside"><div class="headline"><p class="kind">{words.kinds[kind]}</p><i /><i /></div><i /><i /></div>
    </div>
  );
}

/** A poster; where the door wants a token, it is fetched with it, as pictures can't bring one. */
function Poster({ path, token, text }: { path: string; token: string; text: string }) {
  const words = useWords();
  const [source, set] = useState("");
  const [failed, fail] = useState(false);
  useEffect(() => {
    fail(false);
    if (!path) return set("");
    const url = new URL(path.replace(/^\/+/, ""), new URL(".", location.href));
    if (!token) return set(url.href);
    const abort = new AbortController();
    let blob = "";
    fetch(url, { headers: { authorization: `Bearer ${token}` }, signal: abort.signal })
      .then((answer) => (answer.ok ? answer.blob() : Promise.reject(answer.status)))
      .then((picture) => set((blob = URL.createObjectURL(picture))))
      .catch(() => abort.signal.aborted || fail(true));
    return () => {
      abort.abort();
      URL.revokeObjectURL(blob);
    };
  }, [path, token]);
  const shown = source && !failed;
  return (
    <div class="poster">
      {shown ? <img src={source} alt={text} width={160} height={224} loading="eager" onError={() => fail(true)} /> : <span class="soft">{path ? "" : words.news.noPoster}</span>}
    </div>
  );
}

export function signed(value: number, tongue: Tongue): string {
  const text = (Math.round(Math.abs(value) * 10) / 10).toLocaleString(tongue);
  return value > 0 ? `+${text}` : value < 0 ? `−${text}` : "±0";
}
