import type { JsonObject } from "./job.ts";

/** A client as the engine knows it: never with its token. */
export interface Client {
  name: string;
  plan: string;
  params: JsonObject;
  /** Submissions a calendar month; undefined: as many as it likes. */
  monthlyAttempts?: number;
}
