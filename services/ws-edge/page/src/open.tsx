// The field by which a session is opened; what can be none is said, and not passed over.

import { useState } from "preact/hooks";
import { format, isSession, type View } from "./route.ts";
import { useWords } from "./words.ts";

interface Props {
  view: View;
  label: string;
  /** What stands in it at first. */
  session?: string;
  /** What the address names and can be no session. */
  wrong?: string | undefined;
  hint?: string;
  class: string;
}

export function OpenSession({ view, label, session = "", wrong: told, hint, class: style }: Props) {
  const words = useWords();
  const [value, set] = useState(told ?? session);
  const [wrong, setWrong] = useState(told);
  const open = (event: Event) => {
    event.preventDefault();
    // The address of a page with a session in it is as good as its id.
    const id = value.trim().split("/").at(-1) ?? "";
    const good = isSession(id);
    setWrong(good ? undefined : id);
    if (good) location.hash = format({ view, session: id });
  };
  const bad = wrong !== undefined;
  return (
    <form class={`line ${style}`} onSubmit={open} noValidate>
      <label>
        <span>{label}</span>
        <input class="mono" value={value} spellcheck={false} autocomplete="off" onInput={(event) => set(event.currentTarget.value)}
          aria-invalid={bad} {...(bad ? { "aria-describedby": "open-wrong" } : hint ? { "aria-describedby": "open-hint" } : {})} />
      </label>
      <button type="submit">{words.home.open}</button>
      {bad ? <p class="wrong" id="open-wrong" role="alert">{words.noSession(wrong)}</p> : hint && <small id="open-hint">{hint}</small>}
    </form>
  );
}
