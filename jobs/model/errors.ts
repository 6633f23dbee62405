/** Why a request failed, in the words a reader needs. */
import { z } from "zod";

/** What lies at the bottom of an error: `fetch` wraps what happened in words about the request. */
export function reasonOf(error: unknown): string {
  let at = error;
  while (at instanceof Error && at.cause instanceof Error) at = at.cause;
  return at instanceof Error ? at.message.replace(/ \(os error \d+\)$/, "") : String(at);
}

/** A JSON text's value; undefined when it is none, which the schema that reads it next refuses. */
export function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** The `error` of an answer, if it has one. */
export function errorIn(text: string): string | undefined {
  return z.looseObject({ error: z.string() }).safeParse(parseJson(text)).data?.error;
}
