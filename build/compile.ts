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

const ROOT = `${import.meta.dirname}/..`;

/** Runs the Deno that runs this, with its messages on the terminal. */
async function deno(...args: string[]): Promise<boolean> {
  // Bundling fetches esbuild from the npm registry: through a company's proxy, with the certificates of the system.
  const env = { DENO_TLS_CA_STORE: Deno.env.get("DENO_TLS_CA_STORE") ?? "system,mozilla" };
  return (await new Deno.Command(Deno.execPath(), { args, env, cwd: ROOT }).spawn().status).success;
}

const { output } = parseArgs(Deno.args, { string: ["output"], default: { output: `${ROOT}/orchestrator` } });
const folder = await Deno.makeTempDir({ prefix: "orchestrator-bundle-" });
try {
  const split = ["--platform", "deno", "--code-splitting", "--outdir", folder];
  const bundled = await deno("bundle", "--quiet", ...split, "build/main.ts");
  if (!bundled) console.error("Not bundled: the binary will be larger and start more slowly.");
  const entry = bundled ? `${folder}/main.js` : "orchestrator.ts";
  const config = ["--config", `${ROOT}/deno.json`, "--no-check", "--output", output];
  Deno.exitCode = await deno("compile", "--quiet", "-A", ...config, entry) ? 0 : 1;
} finally {
  await Deno.remove(folder, { recursive: true });
}
