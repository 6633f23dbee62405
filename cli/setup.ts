/**
 * Makes the venv of an infrastructure folder and installs its `requirements.txt` into it.
 *
 * @module
 */

import type { Given } from "../config/command.ts";
import { homeOptions } from "./options.ts";
import { print } from "../terminal/outlet.ts";
import { findProgram } from "../config/launch.ts";
import { findHome, ifThere, readEnvironment } from "../config/settings.ts";
import { UserError } from "../config/errors.ts";
import type { Environment } from "../config/settings.ts";

/** Makes the venv and installs the requirements. */
export async function run(given: Given): Promise<number> {
  const home = findHome(homeOptions(given));
  const { environment } = readEnvironment(home);
  return await setupVenv({ infrastructure: home.infrastructure, environment, findProgram, write: print });
}

/** What a set-up needs to know and use. */
export interface SetupInput {
  infrastructure: string;
  /** The environment that pip or uv runs in: proxies and package indexes are set there. */
  environment: Environment;
  /** The file a program name stands for on that environment's PATH, or null. */
  findProgram: (name: string, environment: Environment) => string | null;
  /** Told what is about to happen, one sentence at a time; the tools write for themselves. */
  write: (text: string) => void;
}

/**
 * Makes `venv` in the infrastructure folder, unless it (or `.venv`) is there, and installs or updates what
 * `requirements.txt` names. Uses uv where it is installed. The tools' own progress goes to the terminal.
 *
 * @returns the exit status: 0, or 1 when a tool failed and has printed why
 * @throws {UserError} when there is neither Python nor uv
 */
export async function setupVenv(
  { infrastructure, environment, findProgram, write }: SetupInput,
): Promise<number> {
  const venv = ["venv", ".venv"].map((name) => `${infrastructure}/${name}`).find(hasPython) ??
    `${infrastructure}/venv`;
  const python = `${venv}/bin/python`;
  const requirements = `${infrastructure}/requirements.txt`;
  const uv = findProgram("uv", environment);
  const run = async (program: string, ...args: string[]) => {
    const child = new Deno.Command(program, { args, cwd: infrastructure, env: environment, clearEnv: true });
    return (await child.spawn().status).success;
  };

  if (!hasPython(venv)) {
    const base = findProgram("python3", environment) ?? findProgram("python", environment);
    if (uv === null && base === null) {
      throw new UserError(
        "There is no Python on PATH; install python3 (3.9 or newer) or uv, then run setup again.",
      );
    }
    write(`Making ${venv}`);
    const wasThere = exists(venv);
    const made = uv !== null ? await run(uv, "venv", venv) : await run(base ?? "", "-m", "venv", venv);
    if (!made) {
      // A half-made venv would pass for a whole one at the next run.
      if (!wasThere && exists(venv)) await Deno.remove(venv, { recursive: true });
      write(`Could not make ${venv}; on Debian and Ubuntu, Python needs the package python3-venv for it.`);
      return 1;
    }
  }
  if (!exists(requirements)) {
    write(`${venv} is ready; there is no ${requirements} to install.`);
    return 0;
  }
  write(`Installing ${requirements} into ${venv}`);
  const installed = uv !== null
    ? await run(uv, "pip", "install", "--python", python, "-r", requirements)
    : await run(python, "-m", "pip", "install", "-r", requirements);
  if (!installed) {
    write(`Could not install everything that ${requirements} names; the reason stands above.`);
    return 1;
  }
  // Nothing to do leaves no trace by itself, and `check` compares these times.
  const now = new Date();
  await Deno.utime(`${venv}/pyvenv.cfg`, now, now);
  write(`${venv} is ready.`);
  return 0;
}

/** Whether `requirements.txt` was changed after the last installation into a venv. False without either of them. */
export function isVenvOutdated(infrastructure: string, venv: string): boolean {
  const changedAt = modifiedAt(`${infrastructure}/requirements.txt`);
  const installedAt = modifiedAt(`${venv}/pyvenv.cfg`);
  if (changedAt === null || installedAt === null || changedAt <= installedAt) return false;
  if (!exists(`${venv}/lib`)) return true;
  // Whoever runs pip by hand leaves its time here.
  const folders = Array.from(
    Deno.readDirSync(`${venv}/lib`),
    ({ name }) => `${venv}/lib/${name}/site-packages`,
  );
  return folders.every((folder) => changedAt > (modifiedAt(folder) ?? 0));
}

function modifiedAt(path: string): number | null {
  return ifThere(() => Deno.statSync(path))?.mtime?.getTime() ?? null;
}

const exists = (path: string) => modifiedAt(path) !== null;

const hasPython = (venv: string) => exists(`${venv}/bin/python`);
