/**
 * Bundles the program: `deno task bundle` writes `dist/orchestrator.js`, one script that needs nothing beside it, and
 * the same step makes the parts that `compile.ts` joins to a binary.
 *
 * @module
 */

import { builtinModules } from "node:module";
import { pathToFileURL } from "node:url";
import project from "../deno.json" with { type: "json" };
import { ROOT } from "./sources.ts";

/** Bundling fetches esbuild from the npm registry: through a company's proxy, with the certificates of the system. */
export const NETWORK = { DENO_TLS_CA_STORE: Deno.env.get("DENO_TLS_CA_STORE") ?? "system,mozilla" };

/** Runs the Deno that runs this, with its messages on the terminal. @returns whether it succeeded */
export async function deno(...args: string[]): Promise<boolean> {
  return (await new Deno.Command(Deno.execPath(), { args, env: NETWORK, cwd: ROOT }).spawn().status).success;
}

/**
 * Writes the program and all packages that it uses to `folder`, beginning with `orchestrator.js`.
 *
 * @param split whether what is loaded lazily becomes a file of its own
 * @returns whether it succeeded; Deno has printed what is wrong otherwise
 */
export async function bundle(folder: string, { split }: { split: boolean }): Promise<boolean> {
  const stubs = await Deno.makeTempDir({ prefix: "orchestrator-stubs-" });
  try {
    const config = split ? `${ROOT}/deno.json` : await writeLazyConfig(stubs);
    const settings = ["--config", config, "--lock", `${ROOT}/deno.lock`, "--frozen", "--platform", "deno"];
    const output = ["--outdir", folder, ...split ? ["--code-splitting"] : []];
    if (!await deno("bundle", "--quiet", ...settings, ...output, "build/orchestrator.ts")) return false;
  } finally {
    await Deno.remove(stubs, { recursive: true });
  }
  const packages = new Map<string, string>();
  for (const { name } of Deno.readDirSync(folder)) {
    const path = `${folder}/${name}`;
    await Deno.writeTextFile(path, clean(await Deno.readTextFile(path), packages));
  }
  const entry = `${folder}/orchestrator.js`;
  await Deno.writeTextFile(entry, ascii(licences(packages)), { append: true });
  await Deno.chmod(entry, 0o755);
  return true;
}

/**
 * A configuration in which modules of the runtime are loaded when they are first used. One file imports all of them
 * at its top otherwise, also for `--version`: 25 ms and 8 MB at each start.
 */
async function writeLazyConfig(folder: string): Promise<string> {
  const imports: Record<string, string> = { ...project.imports };
  for (const name of [...builtinModules, "sqlite"]) { // the list lacks it: it has no name without "node:"
    const path = `${folder}/${name.replaceAll("/", "_")}.cjs`;
    await Deno.writeTextFile(path, `module.exports = process.getBuiltinModule("node:${name}");\n`);
    imports[`node:${name}`] = pathToFileURL(path).href;
  }
  await Deno.writeTextFile(`${folder}/deno.json`, JSON.stringify({ imports, nodeModulesDir: "none" }));
  return `${folder}/deno.json`;
}

/** What a bundle begins with where a package calls `require`. It would load the loader of Node's modules at each start. */
const EAGER_REQUIRE =
  /import \{ createRequire as (\w+) \} from "node:module";\nvar __require = \1\(import\.meta\.url\);/;
const LAZY_REQUIRE =
  `var __require = (name) => process.getBuiltinModule("node:module").createRequire(import.meta.url)(name);`;

/** A file of a package, as comments and names of a bundle give it: its folder, the package and the version. */
const PACKAGE_FILE = /^(\/\/ | *")([^"\n]*\/npm\/[^/"\n]+\/((?:@[^/"\n]+\/)?[^/"\n]+)\/([^/"\n]+))\//gm;

/** A bundled file as it is published: nothing in it depends on the machine it was made on. */
function clean(text: string, packages: Map<string, string>): string {
  const published = text
    .replace(EAGER_REQUIRE, LAZY_REQUIRE)
    .replace(PACKAGE_FILE, (_, start, path, name, version) => {
      packages.set(`${name} ${version}`, path);
      return `${start}npm:${name}@${version}/`;
    })
    .replace(/^(\/\/ | *")[^"\n]*\/orchestrator-stubs-[^/"\n]+\/(\w+)\.cjs/gm, "$1node:$2");
  return ascii(published);
}

/** With escapes: a single letter beyond ASCII, which only comments have, makes V8 keep two bytes for each of a file. */
function ascii(text: string): string {
  return text.replace(
    /[^\x00-\x7f]/g,
    (letter) => `\\u${letter.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}

/** The licences of packages, which ask to go with every copy, as comments. */
function licences(packages: ReadonlyMap<string, string>): string {
  const texts = [...packages].sort().map(([name, path]) => {
    const folder = `${ROOT}/${path}`;
    const { license } = JSON.parse(Deno.readTextFileSync(`${folder}/package.json`));
    const file = [...Deno.readDirSync(folder)].find((entry) => /^licen[cs]e/i.test(entry.name))?.name;
    const text = file === undefined ? "" : Deno.readTextFileSync(`${folder}/${file}`).trim();
    return `${name}, licence ${license}\n\n${text}`.trim();
  });
  const lines = ["This file holds parts of these packages.", ...texts].join("\n\n").split("\n");
  return lines.map((line) => `// ${line}`.trimEnd() + "\n").join("");
}

if (import.meta.main) Deno.exitCode = await bundle(`${ROOT}/dist`, { split: false }) ? 0 : 1;
