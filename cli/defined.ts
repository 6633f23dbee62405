/**
 * The commands that show what is defined, whether it runs or not: `list` and `env`.
 *
 * @module
 */

import type { Given } from "../config/command.ts";
import { explainEnvironment } from "../config/explain.ts";
import { entryPoint, isPort, portOf, serviceEnvironment } from "../config/launch.ts";
import { readEnvironment } from "../config/settings.ts";
import { serviceNamed } from "../config/errors.ts";
import { print } from "../terminal/outlet.ts";
import { tableText } from "../terminal/text.ts";
import { readServices, show } from "./options.ts";

/** Shows the services as a table or as JSON. @throws {UserError} when they or their ports can't be read */
export async function list(given: Given): Promise<number> {
  const { home, services } = await readServices(given);
  const { environment } = readEnvironment(home);
  const rows = services.map((service) => ({
    name: service.name,
    service: service.title,
    port: portOf(service, environment),
    entry: entryPoint(service),
    dependencies: service.dependencies,
  }));
  await show(given, rows, () => {
    const cells = rows.map(({ name, service, port, entry, dependencies }) => [
      name,
      service,
      `${port ?? "-"}`,
      entry,
      dependencies.join(", ") || "-",
    ]);
    return tableText([["Alias", "Service", "Port", "Entry point", "Depends on"], ...cells]);
  });
  return 0;
}

/** Explains the environment of a service. @throws {UserError} for a name that is none */
export async function env(given: Given): Promise<number> {
  const { home, services } = await readServices(given);
  const service = serviceNamed(given.words[0] ?? "", services);
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
