import { storeContract } from "../testing/store_contract.ts";
import { MemoryStorage } from "./memory.ts";

storeContract("memory", () => Promise.resolve({ storage: new MemoryStorage() }));
