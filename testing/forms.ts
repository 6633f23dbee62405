/**
 * The three forms that the program is run in: its source, one script made of it, and a binary. Each can be placed in a
 * folder of a machine that has nothing else of ours.
 *
 * @module
 */

import { bundle } from "../build/bundle.ts";
import { decoder } from "../config/bytes.ts";
import type { FolderContents, StartOptions } from "./run.ts";
import { COMPILED, Folder, GIVEN, NOTHING_IGNORED, ROOT, scriptCommand } from "./run.ts";

export type FormName = "source" | "bundle" | "binary";

/** One form of the program. */
export interface Form {
  readonly name: FormName;
  /** What the program's file is called. */
  readonly file: string;
  /** Why it cannot be had here. */
  readonly missing: string | null;
  /** Puts it in a folder that is there. */
  place(folder: string): Promise<void>;
}

/** An artefact, made at first use where none is given. */
function artefact(given: string | undefined, file: string, make: (folder: string) => Promise<void>) {
  let made: Promise<string> | null = null;
  const once = async () => {
    if (given !== undefined) return await Deno.realPath(given);
    const folder = await Deno.makeTempDir({ prefix: "orchestrator-artefact-" });
    addEventListener("unload", () => Deno.removeSync(folder, { recursive: true }));
    await make(folder);
    return `${folder}/${file}`;
  };
  return { file, place: async (folder: string) => await put(await (made ??= once()), `${folder}/${file}`) };
}

/** Links a file, or copies it to another disk. */
async function put(from: string, to: string): Promise<void> {
  await Deno.link(from, to).catch(() => Deno.copyFile(from, to));
}

const compiler = Deno.env.get("DENO_FOR_COMPILE");

export const FORMS: Readonly<Record<FormName, Form>> = {
  source: {
    name: "source",
    file: "orchestrator.ts",
    missing: null,
    place: (folder) => putSource("", folder),
  },
  bundle: {
    name: "bundle",
    missing: null,
    ...artefact(COMPILED ? undefined : GIVEN, "orchestrator.js", async (folder) => {
      if (!await bundle(folder, { split: false })) throw new Error("The program cannot be bundled.");
    }),
  },
  binary: {
    name: "binary",
    missing: COMPILED || compiler || NOTHING_IGNORED
      ? null
      : "set ORCHESTRATOR_BIN to a binary, or DENO_FOR_COMPILE to a deno that can compile",
    ...artefact(COMPILED ? GIVEN : undefined, "orchestrator", async (folder) => {
      if (!compiler) throw new Error("There is neither ORCHESTRATOR_BIN nor DENO_FOR_COMPILE.");
      const args = ["run", "-A", "build/compile.ts", "--output", `${folder}/orchestrator`];
      const command = new Deno.Command(compiler, { args, cwd: ROOT, stdin: "null" });
      const { success, stderr } = await command.output();
      if (!success) throw new Error(decoder.decode(stderr));
    }),
  },
};

/** Folders of the project without code of the product. */
const NO_SOURCE = ["bench", "build", "dist", "docs", "examples", "infrastructure", "testing", "node_modules"];

/** Puts the product's source in a folder, file by file: a script looks for its infrastructure where it really is. */
async function putSource(part: string, folder: string): Promise<void> {
  for await (const { name, isDirectory } of Deno.readDir(`${ROOT}/${part}`)) {
    if (name.startsWith(".") || part === "" && NO_SOURCE.includes(name)) continue;
    const path = `${part}${name}`;
    if (isDirectory) {
      await Deno.mkdir(`${folder}/${path}`, { recursive: true });
      await putSource(`${path}/`, folder);
    } else if (/\.([jt]s|json|lock)$/.test(name) && !name.endsWith("_test.ts")) {
      await put(`${ROOT}/${path}`, `${folder}/${path}`);
    }
  }
}

/** A machine with one form of the program on it. */
export class Machine implements AsyncDisposable {
  private constructor(
    readonly form: Form,
    readonly folder: Folder,
    /** The program and its first arguments. */
    readonly program: readonly string[],
    readonly environment: NonNullable<StartOptions["environment"]>,
  ) {}

  /** Makes it. @param at the folder within its own that the program is placed in */
  static async make(form: Form, contents: FolderContents, at = "city"): Promise<Machine> {
    const folder = await Folder.make({ env: null, ...contents });
    const place = `${folder.path}/${at}`;
    await Deno.mkdir(place, { recursive: true });
    await form.place(place);
    const home = `${folder.path}/home`; // is not there
    const bare = { HOME: home, XDG_CACHE_HOME: undefined, CI: undefined, NO_COLOR: undefined };
    const environments: Record<FormName, StartOptions["environment"]> = {
      source: { CI: undefined, NO_COLOR: undefined }, // its packages are where they are for this test
      bundle: {
        ...bare,
        DENO_DIR: `${folder.path}/deno-dir`,
        NPM_CONFIG_REGISTRY: "http://127.0.0.1:1/", // nobody listens there
        JSR_URL: "http://127.0.0.1:1/",
      },
      binary: { ...bare, DENO_DIR: `${home}/deno` },
    };
    const program = scriptCommand(`${place}/${form.file}`);
    return new Machine(form, folder, program, environments[form.name] ?? {});
  }

  /** How `Run` starts the program from a folder that has nothing to do with it. */
  get start(): StartOptions {
    return { program: this.program, cwd: "/", environment: this.environment };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      for (const kind of this.form.name === "bundle" ? ["npm", "remote", "dl"] : []) {
        const found = await Array.fromAsync(Deno.readDir(`${this.folder.path}/deno-dir/${kind}`)).catch(
          () => [],
        );
        if (found.length > 0) throw new Error(`The bundle has fetched something: ${JSON.stringify(found)}`);
      }
    } finally {
      await this.folder[Symbol.asyncDispose]();
    }
  }
}
