// One event, whole.

import { useState } from "preact/hooks";
import type { Entry } from "../entry.ts";
import { useWords } from "../words.ts";
import { clock } from "./clock.ts";
import { curl } from "./curl.ts";

export function Detail({ entry, session, token }: { entry: Entry | undefined; session: string; token: boolean }) {
  const words = useWords().look;
  const [said, say] = useState("");
  if (!entry) {
    return (
      <section class="detail card" aria-labelledby="detail-title">
        <h2 id="detail-title">{words.detail}</h2>
        <p class="soft empty">{words.pick}</p>
      </section>
    );
  }
  const { event, seq, ts, lag, data } = entry;
  const json = JSON.stringify(data, null, 2) ?? "null";
  const copy = async (text: string) => {
    try {
      await navigator.clipboard.writeText(text);
      say(words.copied);
    } catch {
      // Pages that came over plain HTTP may not.
      say(words.notCopied);
    }
  };
  const line = curl(new URL(".", location.href), session, seq, token);
  return (
    <section class="detail card" aria-labelledby="detail-title">
      <h2 id="detail-title" class="mono">{event}</h2>
      <dl class="facts">
        <div><dt>{words.seq}</dt><dd class="mono">{seq}</dd></div>
        <div><dt>{words.stored}</dt><dd class="mono">{new Date(ts).toLocaleDateString()} {clock(ts)}</dd></div>
        {lag !== null && <div><dt>{words.delay}</dt><dd class="mono">{lag} ms</dd></div>}
        <div><dt>{words.size}</dt><dd class="mono">{JSON.stringify(data)?.length ?? 0}</dd></div>
      </dl>
      <p class="acts">
        <button type="button" id="copy-json" onClick={() => void copy(JSON.stringify({ event, data, seq, ts }))}>{words.copyJson}</button>
        <button type="button" id="copy-curl" onClick={() => void copy(line)}>{words.copyCurl}</button>
        <span class="soft" role="status">{said}</span>
      </p>
      <pre class="json" tabIndex={0}>{json}</pre>
      <pre class="json curl" tabIndex={0}>{line}</pre>
    </section>
  );
}
