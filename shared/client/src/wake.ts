// When a page is looked at again, or its network comes or goes. Where there is no page, never.

const NAMES = "online offline pageshow visibilitychange".split(" ");

/** Calls `awake` then; `moved`: the network is another one, so that old connections lead nowhere. The answer ends it. */
export function whenAwake(awake: (moved: boolean) => void): () => void {
  const heard = ({ type }: { type: string }) => {
    if ((globalThis.document as Document | undefined)?.visibilityState !== "hidden") awake(/line/.test(type));
  };
  for (const name of NAMES) globalThis.addEventListener?.(name, heard);
  return () => {
    for (const name of NAMES) globalThis.removeEventListener?.(name, heard);
  };
}
