/**
 * Files of blueprints and tasks: scripts of users.
 *
 * @module
 */

import { basename, extname, join, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { UserError } from "../../config/errors.ts";
import { stripControl } from "../../terminal/text.ts";
import { StateMachineBlueprint } from "../model/blueprint.ts";
import type { TaskHandler } from "../worker/task.ts";

const SCRIPTS = [".js", ".mjs"];
const TYPED_SCRIPTS = [".ts", ".mts"];

/** Blueprints of a file, or of all files in a folder. */
export async function loadBlueprints(path: string): Promise<StateMachineBlueprint[]> {
  const files = await scriptsOf(path);
  return (await Promise.all(files.map(async (file) => {
    const { default: main, ...named } = await loadModule(file);
    const made: unknown = typeof main === "function"
      ? await attempt(file, () => main({ StateMachineBlueprint }))
      : main;
    const found = [made, ...Object.values(named)].flat().filter((value): value is StateMachineBlueprint =>
      value instanceof StateMachineBlueprint
    );
    if (found.length > 0) return [...new Set(found)];
    throw new UserError(
      `${file} exports no blueprint; write: export default ({ StateMachineBlueprint }) => { ...; return flow; };`,
    );
  }))).flat();
}

/** The tasks of a file: its exported functions by name, and those in an object that is its default export. */
export async function loadTasks(path: string): Promise<[string, TaskHandler][]> {
  const { default: main, ...named } = await loadModule(path);
  const listed = typeof main === "object" && main !== null ? Object.entries(main) : [];
  const tasks = [...Object.entries(named), ...listed].filter((entry): entry is [string, TaskHandler] =>
    typeof entry[1] === "function"
  );
  if (tasks.length > 0) return tasks;
  throw new UserError(
    `${path} exports no function; write: export function echo_task(params) { return { status, data }; }`,
  );
}

async function scriptsOf(path: string): Promise<string[]> {
  if (!(await infoOf(path)).isDirectory) return [path];
  const usable = Deno.build.standalone ? SCRIPTS : [...SCRIPTS, ...TYPED_SCRIPTS];
  const names = (await Array.fromAsync(Deno.readDir(path))).map(({ name }) => name).sort();
  const files = names.filter((name) => usable.includes(extname(name)) && !/[._]test\.\w+$/.test(name));
  if (files.length > 0) return files.map((name) => join(path, name));
  throw new UserError(`There is no blueprint in ${path}: it has no ${usable.join(" or ")} file.`);
}

async function infoOf(path: string): Promise<Deno.FileInfo> {
  try {
    return await Deno.stat(path);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
    throw new UserError(`There is no file ${path}; check the name.`);
  }
}

/** What a script exports. @throws UserError when it cannot be run here */
async function loadModule(path: string): Promise<Record<string, unknown>> {
  const kind = extname(path);
  if (![...SCRIPTS, ...TYPED_SCRIPTS].includes(kind)) {
    throw new UserError(`Cannot load ${path}: "${kind}" is no script; use a .js or .ts file.`);
  }
  if (Deno.build.standalone && !SCRIPTS.includes(kind)) {
    throw new UserError(
      `Cannot load ${path}: this program is compiled and runs JavaScript (.js, .mjs) only. ` +
        `Write it in JavaScript, or run the program from its source: deno run -A orchestrator.ts.`,
    );
  }
  await infoOf(path);
  return await attempt(path, () => import(pathToFileURL(resolve(path)).href));
}

// Runs a script, or a function of it. The error has its first line, and where in the file it is.
async function attempt<T>(path: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    const [message = ""] = (error instanceof Error ? error.message : String(error)).split("\n");
    const at = new RegExp(`${RegExp.escape(basename(path))}:(\\d+):\\d+`);
    const [, line] = error instanceof Error ? at.exec(`${error.message}\n${error.stack}`) ?? [] : [];
    const place = line === undefined ? path : `${path}, line ${line}`;
    throw new UserError(
      `Cannot load ${place}: ${stripControl(message).replace(/ at file:\S+$/, "").replace(/\.$/, "")}.`,
    );
  }
}
