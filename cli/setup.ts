/**
 * Makes the venv of an infrastructure folder and installs its `requirements.txt` into it.
 *
 * @module
 */

import type { Given } from "../config/command.ts";
import { UserError } from "../config/errors.ts";
import { findProgram } from "../config/launch.ts";
import type { Environment } from "../config/settings.ts";
import { exists, findHome, ifThere, readEnvironment } from "../config/settings.ts";
import { print } from "../terminal/outlet.ts";
import { homeOptions } from "./options.ts";

/** Makes the venv and installs the requirements. */
export async function run(given: Given): Promise<number> {
  const home = findHome(homeOptions(given));
  return await setupVenv(home.infrastructure, readEnvironment(home).environment);
}

/**
 * Makes `venv` in the infrastructure folder, unless it (or `.venv`) is there, and installs or updates what
 * `requirements.txt` names. Uses uv where it is installed. The tools' own progress goes to the terminal.
 *
 * @param environment what pip or uv runs in: proxies and package indexes are set there
 * @param find the file a program name stands for on that environment's PATH
 * @param write gets one sentence at a time about what is about to happen
 * @returns the exit status: 0, or 1 when a tool failed and has printed why
 * @throws {UserError} when there is neither Python nor uv
 */
export async function setupVenv(
  infrastructure: string,
  environment: Environment,
  find: typeof findProgram = findProgram,
  write: (text: string) => void = print,
): Promise<number> {
  const hasPython = (venv: string) => exists(`${venv}/bin/python`, "isFile");
  const venv = [`${infrastructure}/venv`, `${infrastructure}/.venv`].find(hasPython) ??
    `${infrastructure}/venv`;
  const python = `${venv}/bin/python`;
  const requirements = `${infrastructure}/requirements.txt`;
  const uv = find("uv", environment);
  const run = async (program: string, ...args: string[]) => {
    const child = new Deno.Command(program, { args, cwd: infrastructure, env: environment, clearEnv: true });
    return (await child.spawn().status).success;
  };

  if (!hasPython(venv)) {
    const maker = uv ?? find("python3", environment) ?? find("python", environment);
    if (maker === null) {
      throw new UserError(
        "There is no Python on PATH; install python3 (3.9 or newer) or uv, then run setup again.",
      );
    }
    write(`Making ${venv}`);
    const wasThere = exists(venv, "isDirectory");
    if (!await run(maker, ...(uv === null ? ["-m", "venv"] : ["venv"]), venv)) {
      // A half-made venv would pass for a whole one at the next run.
      if (!wasThere && exists(venv, "isDirectory")) await Deno.remove(venv, { recursive: true });
      write(`Could not make ${venv}; on Debian and Ubuntu, Python needs the package python3-venv for it.`);
      return 1;
    }
  }
  if (!exists(requirements, "isFile")) {
    write(`${venv} is ready; there is no ${requirements} to install.`);
    return 0;
  }
  write(`Installing ${requirements} into ${venv}`);
  const install = uv === null ? ["-m", "pip", "install"] : ["pip", "install", "--python", python];
  if (!await run(uv ?? python, ...install, "-r", requirements)) {
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
  if (!exists(`${venv}/lib`, "isDirectory")) return true;
  // Whoever runs pip by hand leaves its time here.
  const pythons = [...Deno.readDirSync(`${venv}/lib`)];
  return pythons.every(({ name }) => changedAt > (modifiedAt(`${venv}/lib/${name}/site-packages`) ?? 0));
}

function modifiedAt(path: string): number | null {
  return ifThere(() => Deno.statSync(path))?.mtime?.getTime() ?? null;
}
