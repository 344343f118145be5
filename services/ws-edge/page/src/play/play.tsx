// A game being played.

import type { Lang, NewsKind } from "@herald/client";
import { useEffect } from "preact/hooks";
import { useWatch } from "../hooks.ts";
import { completed } from "../game.ts";
import { keep, kept } from "../memory.ts";
import { lines } from "../terminal.ts";
import { Failure, TroubleBox } from "../trouble.tsx";
import type { Watch } from "../watch.ts";
import { useTongue } from "../words.ts";
import { Arena } from "./arena.tsx";
import { Control } from "./control.tsx";
import { End } from "./end.tsx";
import { Master } from "./master.tsx";
import { NewsCards } from "./news.tsx";
import { Opinion } from "./opinion.tsx";
import { Public } from "./public.tsx";

export function Play({ watch, token, onToken }: { watch: Watch; token: string; onToken: (token: string) => void }) {
  useWatch(watch);
  const tongue = useTongue();
  const { log, session } = watch;
  const game = completed(log.game, watch.told);

  const begin = async (lang: Lang) => {
    if (await watch.start(lang)) await watch.propose(lang);
  };
  useEffect(() => {
    // Somebody pressed "start" on the way here.
    const wanted = kept<Lang>("wanted", session);
    keep("wanted", session, undefined);
    if (wanted) void begin(wanted);
  }, [watch]);
  // Somebody else began it, in its first turn.
  const late = !game.moods.length && game.turn <= 1 && (!!game.news || !!game.action) && !watch.pending;
  useEffect(() => {
    if (late) void watch.ask();
  }, [late, watch]);
  const choose = (kind: NewsKind) => void watch.choose(kind, tongue);
  const open = !game.settled && !game.verdict && !game.action && !watch.pending;
  return (
    <div class="play">
      <Control watch={watch} game={game} onBegin={() => void begin(watch.lang ?? tongue)} />
      <TroubleBox watch={watch} token={token} onToken={onToken} />
      {game.failure && <Failure failure={game.failure} />}
      {game.end && <End game={game} session={session} />}
      <div class="stage">
        <NewsCards game={game} token={token} lang={watch.lang} asked={watch.pending === "propose"} choose={open ? choose : undefined} />
        <Arena game={game} lang={watch.lang} />
        <Public game={game} lang={watch.lang} />
      </div>
      <div class="wing">
        <Opinion game={game} />
        <Master game={game} lines={lines(log, log.end)} lang={watch.lang} />
      </div>
    </div>
  );
}
