// The language of the page.

import { createContext } from "preact";
import { useContext } from "preact/hooks";
import { en, type Words } from "./words/en.ts";
import { fr } from "./words/fr.ts";

export type { Words };
export type Tongue = "en" | "fr";

export const TONGUES: Record<Tongue, Words> = { en, fr };

/** What a browser prefers of the two. */
export function preferred(languages: readonly string[]): Tongue {
  const known = languages.map((language) => language.slice(0, 2)).find((language) => language in TONGUES);
  return (known as Tongue | undefined) ?? "en";
}

export const Speech = createContext<{ words: Words; tongue: Tongue }>({ words: en, tongue: "en" });

export function useWords(): Words {
  return useContext(Speech).words;
}

export function useTongue(): Tongue {
  return useContext(Speech).tongue;
}
