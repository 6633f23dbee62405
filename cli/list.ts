/**
 * `orchestrator --list`: the services as a table or as JSON.
 *
 * @module
 */

import { loadServices } from "../config/file.ts";
import { entryPoint, portOf } from "../config/launch.ts";
import { findHome, readEnvironment } from "../config/settings.ts";
import type { RunOptions } from "../control/run_options.ts";
import { tableText } from "../terminal/table.ts";

/** The services as a table or as JSON. */
export async function listServices(json: boolean, options: RunOptions): Promise<string> {
  const home = findHome(options);
  const services = await loadServices(home, options.config);
  const { environment } = readEnvironment(home);
  const rows = services.map((service) => ({
    alias: service.name,
    service: service.title,
    port: portOf(service, environment),
    entry: entryPoint(service),
    dependencies: service.dependencies,
  }));
  if (json) return JSON.stringify(rows, null, 2);
  const cells = [
    ["Alias", "Service", "Port", "Entry point", "Depends on"],
    ...rows.map(({ alias, service, port, entry, dependencies }) => [
      alias,
      service,
      `${port ?? "-"}`,
      entry,
      dependencies.join(", ") || "-",
    ]),
  ];
  return await tableText(cells);
}
