// What there is of a session, in a line, and how many events of each kind.

import { useEffect } from "preact/hooks";
import { useLooked, useNow } from "../hooks.ts";
import { useTongue, useWords } from "../words.ts";
import type { Watch } from "../watch.ts";
import { duration } from "./clock.ts";

/** A day has 24 hours here, as on the axis. */
const LOCALES = { en: "en-GB", fr: "fr" };
/** The door is asked again after so long, if there is more by then. */
const AGAIN_MS = 10_000;

export function Summary({ watch, onKind }: { watch: Watch; onKind: (kind: string) => void }) {
  const words = useWords().look;
  const tongue = useTongue();
  const { log, summary, status, reading } = watch;
  const looked = useLooked();
  const over = status.state === "closed" && status.reason === "over";
  const round = Math.floor(useNow(AGAIN_MS, looked) / AGAIN_MS);
  // Nothing is asked of a session in which nothing has happened.
  const there = log.end > 0 && !reading;
  useEffect(() => {
    if (there && looked && watch.counted !== log.end) void watch.count();
  }, [watch, there, looked, round, over]);
  const count = (n: number) => n.toLocaleString(tongue);
  if (!log.end) return <p class="facts soft">{reading ? "" : words.empty}</p>;
  const first = log.first > 0 ? summary?.first : log.at(log.first);
  const kinds = Object.entries(summary?.types ?? {}).sort(([, one], [, other]) => other - one);
  const facts = [
    words.events(count(log.end)),
    log.first > 0 && words.kept(count(log.end - log.first)),
    first && words.began(new Date(first.ts).toLocaleString(LOCALES[tongue], { dateStyle: "medium", timeStyle: "medium" })),
    first && log.last && words.lasted(duration(log.last.ts - first.ts)),
    (over || summary?.over) && words.over,
    summary?.forked_at !== undefined && words.forked,
  ];
  return (
    <div class="summary">
      <p class="facts soft" id="facts">{facts.filter(Boolean).join(" · ")}</p>
      {kinds.length > 0 && (
        <details class="kinds">
          <summary>{(summary?.uncounted ? words.someKinds : words.kinds)(count(kinds.length))}</summary>
          <ul>
            {kinds.map(([kind, times]) => (
              <li key={kind}><button type="button" class="mono" title={words.filterBy(kind)} onClick={() => onKind(kind)}>{kind} <b>{count(times)}</b></button></li>
            ))}
            {summary?.other_types !== undefined && <li class="soft">{words.others} {count(summary.other_types)}</li>}
          </ul>
        </details>
      )}
    </div>
  );
}
