// For operators, where the door knows who asks: sessions that are watched, and by whom.

import type { ComponentChildren } from "preact";
import { useEffect, useState } from "preact/hooks";
import { useLooked } from "../hooks.ts";
import { keep, kept } from "../memory.ts";
import { format } from "../route.ts";
import { TokenField } from "../trouble.tsx";
import { useTongue, useWords } from "../words.ts";
import { bytes, duration } from "./clock.ts";
import { ask, isFinal, type ShownConnection, type ShownSession, type Told } from "./lists.ts";

const EVERY_MS = 3000;

interface Props {
  token: string;
  onToken: (token: string) => void;
  /** The session that is looked into. */
  session: string | undefined;
}

export function Operators({ token, onToken, session }: Props) {
  const words = useWords().look.operators;
  // Nobody is asked anything before a person wants it.
  const [open, setOpen] = useState(() => kept<boolean>("operators") ?? false);
  const toggled = (event: Event) => {
    const { open } = event.currentTarget as HTMLDetailsElement;
    setOpen(open);
    keep("operators", "", open || "");
  };
  return (
    <details class="operators card" open={open} onToggle={toggled}>
      <summary>{words.title}</summary>
      {open && (
        <div class="inner">
          {token ? <Lists key={token} token={token} onToken={onToken} session={session} /> : <><p>{words.wanted}</p><TokenField token={token} onToken={onToken} /></>}
        </div>
      )}
    </details>
  );
}

function Lists({ token, onToken, session }: Props) {
  const words = useWords().look.operators;
  const tongue = useTongue();
  const sessions = useList<ShownSession>("sessions", token);
  const connections = useList<ShownConnection>("connections", token);
  const { told } = sessions;
  const refused = typeof told === "string" ? told : typeof connections.told === "string" ? connections.told : null;
  const number = (n: number) => n.toLocaleString(tongue);
  const link = (id: string) => (
    <a class="mono" href={format({ view: "inspect", session: id })} title={words.open(id)} aria-current={id === session ? "true" : undefined}>{id}</a>
  );
  if (isFinal(refused)) {
    return (
      <>
        <p role="status" class={refused === "none" ? "soft" : "wrong"}>{words[refused]}</p>
        {refused !== "none" && <TokenField token={token} onToken={onToken} />}
      </>
    );
  }
  return (
    <>
      <div class="line">
        <p class="soft" role="status">{refused ? words[refused] : told === undefined ? words.asking : words.mine}</p>
        <button type="button" class="quiet" onClick={() => onToken("")}>{words.forget}</button>
      </div>
      <Table list={sessions} name={words.sessions} heads={[words.session, words.viewers, words.last, words.held]}>
        {(one: ShownSession) => (
          <tr key={`${one.root} ${one.session}`}>
            <th scope="row">{link(one.session)}{one.over && <span class="soft"> · {words.over}</span>}</th>
            <td class="number">{number(one.viewers)}</td>
            <td class="number">{one.rings.some(({ last }) => last) ? number(Math.max(...one.rings.map(({ last }) => last))) : "–"}</td>
            <td class="number">{amount(one.rings.map(({ held }) => held), words.frames, tongue)}</td>
          </tr>
        )}
      </Table>
      <Table list={connections} name={words.connections} heads={[words.session, words.who, words.from, words.way, words.since, words.doing, words.lag]}>
        {(one: ShownConnection) => (
          <tr key={one.conn}>
            <th scope="row">{one.session === null ? "–" : link(one.session)}</th>
            <td>{one.user === null ? <span class="soft">{words.unknown}</span> : [one.name ?? one.user, one.role].filter(Boolean).join(", ")}</td>
            <td class="mono">{one.address}</td>
            <td class="mono">{one.route} <span class="soft">{one.view.encoding}</span></td>
            <td class="number">{duration(one.age_s * 1000)}</td>
            <td>{words.is[one.doing as keyof typeof words.is] ?? one.doing}</td>
            <td class="number">{amount([one.lag], words.frames, tongue)}</td>
          </tr>
        )}
      </Table>
    </>
  );
}

function amount(all: { frames: number; bytes: number }[], frames: (n: string) => string, tongue: string): string {
  const sum = (name: "frames" | "bytes") => all.reduce((sum, one) => sum + one[name], 0);
  return sum("frames") ? `${frames(sum("frames").toLocaleString(tongue))}, ${bytes(sum("bytes"), tongue)}` : "0";
}

interface List<Row> {
  told: Told<Row> | undefined;
  /** Behind which row it begins; `null`: with the first. */
  after: string | null;
  turn: (after: string | null) => void;
}

/** A page of a list, asked for every so often while somebody looks. */
function useList<Row>(list: "sessions" | "connections", token: string): List<Row> {
  const [told, tell] = useState<Told<Row>>();
  const [after, turn] = useState<string | null>(null);
  const looked = useLooked();
  const final = isFinal(told);
  useEffect(() => {
    if (!looked || final) return undefined;
    const abort = new AbortController();
    let timer: ReturnType<typeof setTimeout> | undefined;
    const go = async () => {
      const told = await ask<Row>(list, after, token, abort.signal);
      if (abort.signal.aborted) return;
      tell(told);
      timer = setTimeout(() => void go(), EVERY_MS);
    };
    void go();
    return () => {
      abort.abort();
      clearTimeout(timer);
    };
  }, [list, after, token, looked, final]);
  return { told, after, turn };
}

interface TableProps<Row> {
  list: List<Row>;
  name: string;
  heads: string[];
  children: (row: Row) => ComponentChildren;
}

function Table<Row>({ list: { told, after, turn }, name, heads, children }: TableProps<Row>) {
  const words = useWords().look.operators;
  // While the door is away, what was told last is no longer so.
  if (!told || typeof told === "string") return null;
  return (
    <section>
      <h2>{name}</h2>
      <div class="wide" tabIndex={0} role="group" aria-label={name}>
        <table aria-label={name}>
          {told.rows.length > 0 && <thead><tr>{heads.map((head) => <th key={head} scope="col">{head}</th>)}</tr></thead>}
          <tbody>{told.rows.map(children)}</tbody>
        </table>
      </div>
      {!told.rows.length && <p class="soft">{words.nobody}</p>}
      {(after || told.next) && (
        <p class="keys">
          {after && <button type="button" onClick={() => turn(null)}>{words.first}</button>}
          {told.next && <button type="button" onClick={() => turn(told.next)}>{words.more}</button>}
        </p>
      )}
    </section>
  );
}
