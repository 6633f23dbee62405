import type { Storage } from "./store.ts";

/**
 * Opens the storage that a text names: `memory`, `sqlite:PATH` or `redis://[:password@]host[:port][/db]`.
 *
 * @throws ConfigError for another text; what opening throws otherwise.
 */
export function openStorage(_spec: string): Promise<Storage> {
  return Promise.reject(new Error("not yet"));
}
