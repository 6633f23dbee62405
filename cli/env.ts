/**
 * `orchestrator env NAME`: each variable of a service.
 *
 * @module
 */

import { loadServices } from "../config/file.ts";
import { isPort, serviceEnvironment } from "../config/launch.ts";
import { findHome, readEnvironment } from "../config/settings.ts";
import { unknownName } from "../config/suggest.ts";
import type { Given } from "../config/command.ts";
import { explainEnvironment } from "../config/explain.ts";
import { print } from "../terminal/outlet.ts";
import { homeOptions } from "./options.ts";

/** Explains the environment of a service. @throws {UserError} for a name that is none */
export async function run(given: Given): Promise<number> {
  const [name = ""] = given.words;
  const options = homeOptions(given);
  const home = findHome(options);
  const services = await loadServices(home, options.config);
  const service = services.find((candidate) => candidate.name === name);
  if (service === undefined) throw unknownName(name, services.map((candidate) => candidate.name));
  const { environment, dotenv } = readEnvironment(home);
  // A variable that is missing or no port is shown, not refused.
  const port = environment[service.portEnv ?? ""] || "1";
  const shown = { ...service, envRequired: [], portEnv: isPort(port) ? service.portEnv : null };
  print(explainEnvironment({
    service,
    process: Deno.env.toObject(),
    dotenv,
    envFile: home.envFile,
    final: serviceEnvironment(shown, environment, home),
  }));
  return 0;
}
