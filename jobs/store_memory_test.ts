import { storeContract } from "./store_contract.ts";
import { MemoryStorage } from "./store_memory.ts";

storeContract("memory", () => Promise.resolve({ storage: new MemoryStorage() }));
