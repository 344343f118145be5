// Lists that follow their end, unless somebody has scrolled away from it.

import { useLayoutEffect, useRef } from "preact/hooks";

const NEAR = 40;

/** To be spread on the element that scrolls; `mark` changes with its content. */
export function useScroll<E extends HTMLElement>(mark: unknown): { ref: { current: E | null }; onScroll: () => void } {
  const ref = useRef<E>(null);
  const follows = useRef(true);
  useLayoutEffect(() => {
    const element = ref.current;
    if (element && follows.current) element.scrollTop = element.scrollHeight;
  }, [mark]);
  const onScroll = () => {
    const element = ref.current;
    if (element) follows.current = element.scrollHeight - element.scrollTop - element.clientHeight < NEAR;
  };
  return { ref, onScroll };
}
