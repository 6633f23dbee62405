/**
 * Where the binary begins: bundled, `orchestrator.ts` is a part that others share, and no longer the main module.
 *
 * @module
 */

import { main } from "../orchestrator.ts";

main(Deno.args).then((status) => Deno.exit(status));
