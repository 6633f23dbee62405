#!/usr/bin/env -S deno run -A
/**
 * Where a bundle begins: `orchestrator.ts`, run a turn of the event loop later.
 *
 * @module
 */

import { main } from "../orchestrator.ts";

export * from "../orchestrator.ts";

// When its top level is through, the runtime keeps the script's compiled form for the next start: 40 ms less. And V8 reads
// a top level anew, all of a bundle, for the stack of an error that comes up while it runs: another 30 ms.
if (import.meta.main) {
  const { port1: next, port2: now } = new MessageChannel(); // a timer would take 5 ms
  next.onmessage = async () => Deno.exit(await main(Deno.args));
  now.postMessage(null);
}
