/**
 * Makes the standalone binary: `deno task compile [--output PATH]`.
 *
 * The program is bundled first. `deno compile` alone embeds every npm package whole, 16 MB that the binary would read
 * into its memory at each start; bundled, it holds the parts that are used, and still loads them only when needed.
 *
 * @module
 */

// @ts-types="../config/std.d.ts"
import { parseArgs } from "@std/cli/parse-args";
import project from "../deno.json" with { type: "json" };
import { bundle, deno } from "./bundle.ts";
import { ROOT } from "./sources.ts";

const { output } = parseArgs(Deno.args, { string: ["output"], default: { output: `${ROOT}/orchestrator` } });
const folder = await Deno.makeTempDir({ prefix: "orchestrator-parts-" });
try {
  const bundled = await bundle(folder, { split: true });
  if (!bundled) console.error("Not bundled: the binary will be larger and start more slowly.");
  const entry = bundled ? `${folder}/orchestrator.js` : "orchestrator.ts";
  // By the project's own configuration what is loaded lazily would not become part of the binary.
  const config = `${folder}/deno.json`;
  await Deno.writeTextFile(config, JSON.stringify({ imports: project.imports, nodeModulesDir: "none" }));
  const settings = ["--config", config, "--lock", `${ROOT}/deno.lock`, "--no-check", "--output", output];
  Deno.exitCode = await deno("compile", "--quiet", "-A", ...settings, entry) ? 0 : 1;
} finally {
  await Deno.remove(folder, { recursive: true });
}
