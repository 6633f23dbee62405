/**
 * `orchestrator --detach`: a run in the background, which this process only follows. Apart from `start.ts`, which that
 * run goes through: it needs none of what is loaded here.
 *
 * @module
 */

import { systemClock } from "../config/clock.ts";
import { systemReason, UserError } from "../config/errors.ts";
import { loadServices } from "../config/file.ts";
import type { Home } from "../config/settings.ts";
import { findHome } from "../config/settings.ts";
import { ask, findRun, PAUSE_MS, Unreachable } from "../control/client.ts";
import { conclude, Mirror, waitFor } from "../control/mirror.ts";
import { makePrivateFolder, RunFolder } from "../control/run_folder.ts";
import type { RunOptions } from "../control/run_options.ts";
import { ownCommand } from "../process/exec.ts";
import { print } from "../terminal/outlet.ts";
import { statusTable } from "./running.ts";

// The standard streams lead to a file: what the runtime itself prints when it dies is kept.
const INTO_FILE = 'exec "$@" </dev/null >>"$0" 2>&1';

/**
 * Starts this program again in a session of its own and waits until its services are ready.
 *
 * @returns the exit status: 0 when all are ready, 1 when one failed or it takes too long
 * @throws {UserError} for errors in the services file, when an orchestrator runs already, or its log folder can't be written
 */
export async function detach(options: RunOptions, limitMs: number): Promise<number> {
  const home = findHome(options);
  const folder = new RunFolder(home.infrastructure);
  const present = await findRun(home);
  if (present !== null) throw folder.alreadyRuns(present.orchestrator.pid);
  const outFile = prepareFile(home);
  // Read here, so that an error is reported at once and the run finds the file checked: it needs no parser then.
  try {
    makePrivateFolder(folder.path);
  } catch {
    // The run itself reports what is wrong with it.
  }
  await loadServices(home, options.config);
  const { program, args } = ownCommand([...Deno.args, "--in-background"]);
  const child = new Deno.Command("/bin/sh", {
    args: ["-c", INTO_FILE, outFile, program, ...args],
    detached: true, // a session of its own: it outlives this terminal
    stdin: "null",
    stdout: "null",
    stderr: "null",
  }).spawn();
  child.unref();
  let ended: Deno.CommandStatus | null = null;
  child.status.then((status) => ended = status);

  const lateAt = performance.now() + limitMs;
  for (;;) {
    const record = folder.read();
    if (record?.orchestrator.pid === child.pid) {
      try {
        using mirror = await Mirror.open(record.socket, 1_000);
        const leftMs = Math.max(1, lateAt - performance.now());
        const result = await waitFor(mirror, { names: null, goal: "running", limitMs: leftMs });
        if (result.kind === "reached") print(await statusTable(await ask(record.socket, "/status")));
        if (result.kind !== "exit") return await conclude(mirror, result);
      } catch (error) {
        if (!(error instanceof Unreachable)) throw error; // not yet, or no more
      }
    }
    const status: Deno.CommandStatus | null = ended;
    if (status !== null) return reportEnd(outFile, status);
    if (performance.now() > lateAt) {
      print(
        `orchestrator: PID ${child.pid} is still starting; "orchestrator status" shows more.`,
        Deno.stderr,
      );
      return 1;
    }
    await systemClock.sleep(PAUSE_MS);
  }
}

/** The run was over before anyone could follow it: what it printed shows why. */
function reportEnd(outFile: string, status: Deno.CommandStatus): number {
  const text = Deno.readTextFileSync(outFile).trimEnd();
  if (text !== "") print(text, Deno.stderr);
  if (status.signal !== null) print(`orchestrator: It was killed by ${status.signal}.`, Deno.stderr);
  return status.signal === null ? status.code : 1;
}

/** The file for what is printed outside of the logs, empty. @throws {UserError} when the folder can't be written */
function prepareFile({ infrastructure }: Home): string {
  const path = `${infrastructure}/logs/orchestrator.out`;
  try {
    Deno.mkdirSync(`${infrastructure}/logs`, { recursive: true });
    Deno.writeTextFileSync(path, "", { mode: 0o640 });
    return path;
  } catch (error) {
    if (!(error instanceof Error)) throw error;
    throw new UserError(
      `Cannot write ${path}, which a run in the background needs (${systemReason(error)}); ` +
        `make the folder writable, or start it without --detach.`,
    );
  }
}
