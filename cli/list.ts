/**
 * `orchestrator list`: the services as a table or as JSON.
 *
 * @module
 */

import type { Given } from "../config/command.ts";
import { loadServices } from "../config/file.ts";
import { entryPoint, portOf } from "../config/launch.ts";
import { findHome, readEnvironment } from "../config/settings.ts";
import { print } from "../terminal/outlet.ts";
import { tableText } from "../terminal/table.ts";
import { homeOptions } from "./options.ts";

/** Shows the services. @throws {UserError} when they or their ports can't be read */
export async function run(given: Given): Promise<number> {
  const options = homeOptions(given);
  const home = findHome(options);
  const services = await loadServices(home, options.config);
  const { environment } = readEnvironment(home);
  const rows = services.map((service) => ({
    name: service.name,
    service: service.title,
    port: portOf(service, environment),
    entry: entryPoint(service),
    dependencies: service.dependencies,
  }));
  if (given.has("json")) {
    print(JSON.stringify(rows, null, 2));
    return 0;
  }
  const cells = rows.map(({ name, service, port, entry, dependencies }) => [
    name,
    service,
    `${port ?? "-"}`,
    entry,
    dependencies.join(", ") || "-",
  ]);
  print(await tableText([["Alias", "Service", "Port", "Entry point", "Depends on"], ...cells]));
  return 0;
}
