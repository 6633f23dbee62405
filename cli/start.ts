/**
 * `orchestrator start`, and what the program does without a command: services are started here, in the background, or
 * where an orchestrator runs already.
 *
 * @module
 */

import type { Given } from "../config/command.ts";
import { UserError } from "../config/errors.ts";
import { findHome } from "../config/settings.ts";
import { BACKGROUND_OPTION, homeOptions, logOptions, namesOf, waitLimitMs } from "./options.ts";
import { readElsewhere } from "./read_elsewhere.ts";
import type { Runs } from "./runs.ts";

/** Starts services. @returns the exit status @throws {UserError} for what users can fix */
export async function run(given: Given, runs: Runs): Promise<number> {
  const options = homeOptions(given);
  if (given.has("version")) return (await import("./version.ts")).run();
  if (given.has("list")) return await (await import("./list.ts")).run(given);
  if (given.has("json")) throw new UserError("--json needs --list.");
  const service = given.one("service");
  if (service !== undefined) {
    if (given.one("services") !== undefined || given.words.length > 0) {
      throw new UserError(
        "--service runs one service in the foreground, --services several; give one of them.",
      );
    }
    return await runs.foreground(service, options);
  }
  const names = [...new Set([...listed(given.one("services")), ...namesOf(given)])];
  const limitMs = waitLimitMs(given);
  const logs = logOptions(given);
  const detached = given.has(BACKGROUND_OPTION);
  if (!detached) {
    const isNamed = namesOf(given).length > 0;
    if (isNamed || given.has("detach")) {
      const { detach, startThere } = await import("./detach.ts");
      const home = findHome(options);
      const status = isNamed ? await startThere(home, names, limitMs) : null;
      if (status !== null) return status;
      if (given.has("detach")) return await detach(home, options.config, limitMs);
    }
    if (given.has("wait")) {
      throw new UserError("--wait needs --detach, or names to start in an orchestrator that runs.");
    }
  }
  await readElsewhere(options);
  return await runs.run(names, { ...options, detached, ...(logs === null ? {} : { logs }) });
}

/** Names that are separated by commas. */
function listed(text: string | undefined): string[] {
  if (text === undefined) return [];
  const names = text.split(",").map((name) => name.trim());
  if (names.includes("")) {
    throw new UserError("--services holds an empty name; for example --services db,web.");
  }
  return names;
}
