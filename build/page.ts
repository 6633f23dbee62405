/**
 * Makes the script of the engine's page: `deno task page` checks the modules in `jobs/http/page/browser/` with the types
 * of browsers, which the rest of the project does not know, and bundles them into `jobs/http/page/asset.ts`. That file
 * is committed, so that the program runs from a fresh clone.
 *
 * @module
 */

import { NETWORK, ROOT } from "./bundle.ts";

const BROWSER = "jobs/http/page/browser";

/** What the generated file must hold. @throws when the modules have errors; Deno has said which */
export async function pageAsset(): Promise<string> {
  // No package becomes part of it, so there is nothing to lock.
  const settings = ["--check", "--config", `${BROWSER}/deno.json`, "--import-map", "deno.json", "--no-lock"];
  const output = ["--minify", "--platform", "browser", "--format", "iife"];
  const { success, stdout } = await new Deno.Command(Deno.execPath(), {
    args: ["bundle", "--quiet", ...settings, ...output, `${BROWSER}/main.ts`],
    env: NETWORK,
    cwd: ROOT,
    stderr: "inherit",
  }).output();
  if (!success) throw new Error(`The modules in ${BROWSER}/ could not be bundled.`);
  const script = new TextDecoder().decode(stdout).trim();
  // The script stands in a page, and one letter beyond ASCII would make V8 keep two bytes for each.
  if (/<\/script|[^\x00-\x7f]/.test(script)) throw new Error("The script holds what it may not hold.");
  return [
    "// Generated from the modules in browser/ by `deno task page`; change those and run it again.",
    "// deno-fmt-ignore-file",
    "// deno-lint-ignore-file",
    `export const script: string = ${JSON.stringify(script)};\n`,
  ].join("\n");
}

if (import.meta.main) await Deno.writeTextFile(`${ROOT}/jobs/http/page/asset.ts`, await pageAsset());
