/**
 * The services of this orchestrator: what a user edits. A services file in the infrastructure folder takes their place.
 *
 * @module
 */

import type { Service } from "./config/definition.ts";
import { defineServices } from "./config/definition.ts";

/** The built-in services, in the order they are listed and, dependencies allowing, started. */
export const SERVICES: readonly Service[] = defineServices({
  db: {
    title: "Database Service",
    command: ["python", "main.py"],
    workingDir: "services/database_service/src",
    port: 8001,
    portEnv: "DATABASE_SERVICE_PORT",
  },
  web: {
    title: "Web Service",
    command: ["python", "main.py"],
    workingDir: "services/web_service/src",
    port: 8003,
    portEnv: "WEB_SERVICE_PORT",
    dependencies: ["db"],
  },
  bot: {
    title: "Bot Service",
    command: ["python", "main.py"],
    workingDir: "services/bot_service/src",
    dependencies: ["db"],
  },
});
