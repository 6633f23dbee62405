/**
 * Opens a storage by its text. Only the code of the storage that is named gets loaded.
 *
 * @module
 */
import { ConfigError } from "../model/errors.ts";
import type { Storage } from "../model/store.ts";

/**
 * Opens the storage that a text names: `memory`, `sqlite:PATH` or `redis://[:password@]host[:port][/db]`.
 *
 * @throws ConfigError for another text, or when the storage cannot be used.
 */
export async function openStorage(spec: string): Promise<Storage> {
  if (spec === "memory") return new (await import("./memory.ts")).MemoryStorage();
  if (spec.startsWith("sqlite:") && spec.length > "sqlite:".length) {
    return new (await import("./sqlite.ts")).SqliteStorage(spec.slice("sqlite:".length));
  }
  if (/^(redis|rediss|valkey):\/\//.test(spec)) {
    const { RedisStorage } = await import("./redis.ts");
    return await RedisStorage.open(spec);
  }
  // A storage text may hold a password, so it is not repeated.
  throw new ConfigError(
    "The storage is not recognized; use memory, sqlite:PATH or redis://HOST:PORT/DB.",
  );
}
