// Signature only; the storage follows.
import type { Storage } from "./store.ts";

/** Keeps jobs in a Redis server. */
export const RedisStorage = {
  open(_url: string): Promise<Storage> {
    return Promise.reject(new Error("not yet"));
  },
};
