// Follows.
import type { Storage } from "./store.ts";
export declare const MemoryStorage: new () => Storage;
