/**
 * `orchestrator env NAME`: each variable of a service.
 *
 * @module
 */

import { loadServices } from "../config/file.ts";
import { isPort, serviceEnvironment } from "../config/launch.ts";
import { findHome, readEnvironment } from "../config/settings.ts";
import { unknownName } from "../config/suggest.ts";
import type { RunOptions } from "../control/run_options.ts";

/** Each variable of a service, with where it comes from and what it hides. */
export async function explain(name: string, options: RunOptions): Promise<string> {
  const { environmentText, explainEnvironment } = await import("../config/explain.ts");
  const home = findHome(options);
  const services = await loadServices(home, options.config);
  const service = services.find((candidate) => candidate.name === name);
  if (service === undefined) throw unknownName(name, services.map((candidate) => candidate.name));
  const own = Deno.env.toObject();
  const { environment, dotenv } = readEnvironment(home);
  // A variable that is missing or no port is shown, not refused.
  const port = environment[service.portEnv ?? ""] || "1";
  const told = { ...service, envRequired: [], portEnv: isPort(port) ? service.portEnv : null };
  const explained = explainEnvironment({
    service,
    process: own,
    dotenv,
    final: serviceEnvironment(told, environment, home),
  });
  return environmentText(service, explained, home.envFile);
}
