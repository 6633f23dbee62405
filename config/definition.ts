/**
 * What a service is: its fields, their defaults, and `defineServices` for definitions in code.
 *
 * @module
 */

/** What a service is to us: ours to keep alive, ours to run once, or only waited for. */
export type Kind = "service" | "task" | "external";

/** When an ended service is started again. */
export type RestartPolicy = "always" | "on-failure" | "never";

/** How the health of a service is checked. `${NAME}` in texts is expanded from the service's environment. */
export type Probe =
  | { kind: "http"; url: string; body: string | null } // any 2xx; `body` is a regular expression that narrows it
  | { kind: "tcp"; port: string } // a port number, or text that expands to one
  | { kind: "command"; command: readonly string[] | string } // healthy with status 0
  | { kind: "log"; pattern: string }; // ready with a line that matches: no liveness

/** Readiness while starting and, unless the probe is `log`, liveness afterwards. */
export interface Health {
  probe: Probe;
  /** Pause between liveness probes. */
  intervalMs: number;
  /** Limit of one probe. */
  timeoutMs: number;
  /** Failures in a row until the service counts as failed. */
  retries: number;
}

/** One service with nothing left out. Paths are relative to the infrastructure folder unless absolute. */
export interface Service {
  name: string;
  title: string;
  /** A list is started as it is; a text is run by `/bin/sh -c`. `python` as first word is the venv's. */
  command: readonly string[] | string;
  workingDir: string;
  /** Over `.env`; `${NAME}` is expanded. */
  environment: Readonly<Record<string, string>>;
  envRequired: readonly string[];
  /** The port it listens on; with `portEnv`, the default of that variable. */
  port: number | null;
  portEnv: string | null;
  dependencies: readonly string[];
  kind: Kind;
  restartPolicy: RestartPolicy;
  /** Starts after a failure within `retryWindowMs` until it counts as failed for good. */
  maxRetries: number;
  retryWindowMs: number;
  retryDelayMs: number;
  retryDelayMaxMs: number;
  timeoutStartMs: number;
  timeoutStopMs: number;
  stopSignal: Deno.Signal;
  /** Whether its failure for good stops everything. */
  critical: boolean;
  restartWithDependencies: boolean;
  /** Whether it starts without being named or needed. */
  autostart: boolean;
  health: Health | null;
}

/** What a field is when a definition does not say it. */
export const DEFAULTS = {
  workingDir: ".",
  environment: {},
  envRequired: [],
  port: null,
  portEnv: null,
  dependencies: [],
  kind: "service",
  restartPolicy: "never",
  maxRetries: 3,
  retryWindowMs: 60_000,
  retryDelayMs: 1_000,
  retryDelayMaxMs: 60_000,
  timeoutStartMs: 30_000,
  timeoutStopMs: 10_000,
  stopSignal: "SIGTERM",
  critical: true,
  restartWithDependencies: false,
  autostart: true,
  health: null,
} as const satisfies Omit<Service, "name" | "title" | "command">;

/** What a health check is when a definition does not say it. */
export const HEALTH_DEFAULTS = { intervalMs: 10_000, timeoutMs: 2_000, retries: 3 } as const;

/** A definition as it is written in code: only the command is required. */
export type Definition<Name extends string = string> =
  & { command: readonly string[] | string; dependencies?: readonly Name[] }
  & Partial<Omit<Service, "name" | "command" | "dependencies">>;

/**
 * Completes definitions with the defaults, in the order written. A misspelt dependency does not compile.
 *
 * ```ts
 * import { defineServices } from "./definition.ts";
 * const services = defineServices({
 *   store: { command: ["python", "main.py"], port: 7301 },
 *   shop: { command: "npm start", dependencies: ["store"] },
 * });
 * console.assert(services[1]?.title === "shop");
 * ```
 */
export function defineServices<const Name extends string>(
  definitions: Record<Name, Definition<NoInfer<Name>>>,
): Service[] {
  return Object.entries<Definition<Name>>(definitions).map(([name, definition]) => ({
    ...DEFAULTS,
    title: name,
    ...definition,
    name,
  }));
}
