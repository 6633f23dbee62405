/**
 * What a services file may say: the zod schemas, the JSON Schema for editors, and how a checked file becomes services.
 *
 * @module
 */

import type * as zod from "zod/mini";
import type { Probe, Service } from "./definition.ts";
import { DEFAULTS, HEALTH_DEFAULTS } from "./definition.ts";
import { DURATION, DURATION_FORMS, spanOf } from "./duration.ts";
import { orList } from "./errors.ts";

/** The JSON Schema of a services file, as the text kept in `services.schema.json`. */
export async function servicesJsonSchema(): Promise<string> {
  const z = await import("zod/mini");
  return JSON.stringify(z.toJSONSchema(fileSchemas(z).file, { io: "input", target: "draft-07" }), null, 2) +
    "\n";
}

/** Timers hold no more than 2^31 ms. */
const MAX_SPAN_MS = 24 * 86_400_000;

export type Zod = typeof import("zod/mini");

export type Schemas = ReturnType<typeof fileSchemas>;

type Written = zod.infer<Schemas["service"]>;

const STOP_SIGNALS = [
  "SIGTERM",
  "SIGINT",
  "SIGQUIT",
  "SIGHUP",
  "SIGUSR1",
  "SIGUSR2",
  "SIGWINCH",
  "SIGABRT",
  "SIGKILL",
] as const satisfies readonly Deno.Signal[];

export const PROBES = ["http", "tcp", "command", "log"] as const;

/** A table: every field of a services file with its meaning and what it may be. The JSON Schema is made from it, too. */
export function fileSchemas(z: Zod) {
  /** Tells editors what a value means, and with `more`, in JSON Schema, what `checkTogether` checks. */
  const about = <S extends zod.core.$ZodType>(description: string, schema: S, more: object = {}): S => {
    z.globalRegistry.add(schema, { description, ...more });
    return schema;
  };
  const text = (allowed: string, pattern = /^[^\0]*[^\s\0][^\0]*$/) =>
    z.string(allowed).check(z.regex(pattern, allowed));
  const choice = <const C extends readonly string[]>(choices: C, standard: C[number]) =>
    z._default(z.enum(choices, `use ${orList(choices)}`), standard);
  const flag = (standard: boolean) => z._default(z.boolean("use true or false"), standard);
  const count = (least: number, standard: number) => {
    const allowed = `use a whole number, ${least} or more`;
    return z._default(z.int(allowed).check(z.minimum(least, allowed)), standard);
  };
  const list = <S extends zod.ZodMiniType>(item: S, allowed: string) =>
    z._default(z.array(item, allowed), []);
  const span = (leastMs: number, standardMs: number) => {
    const allowed = `use ${DURATION_FORMS}, ${leastMs > 0 ? "more than 0" : "0 or more"} and at most 24 days`;
    const number = z.number(allowed).check(z.minimum(0, allowed));
    const either = z.union([number, z.string(allowed).check(z.regex(DURATION, allowed))], allowed);
    const rangeMs = z.number(allowed).check(z.minimum(leastMs, allowed), z.maximum(MAX_SPAN_MS, allowed));
    return z.prefault(z.pipe(z.pipe(either, z.transform(spanOf)), rangeMs), standardMs / 1000);
  };
  const variable = (allowed: string) => text(allowed, /^[^\s=\0]+$/);
  const port = () => {
    const allowed = "use a whole number from 1 to 65535";
    return z.int(allowed).check(z.minimum(1, allowed), z.maximum(65535, allowed));
  };
  const portText = "use a port number from 1 to 65535, or ${NAME} of a variable that holds one";
  const word = (allowed: string) => {
    const words = z.string(allowed).check(z.regex(/^[^\0]*$/, allowed));
    return z.pipe(z.union([words, z.number(), z.boolean()], allowed), z.transform(String));
  };
  const command = () => {
    const allowed = "use a list of words, or a text for /bin/sh -c";
    const words = z.array(word(allowed)).check(z.minLength(1, allowed));
    return z.optional(z.union([words, text(allowed)], allowed));
  };
  const pattern = () => {
    const allowed = "use a regular expression as JavaScript knows them";
    return z.optional(text(allowed, /^[\s\S]+$/).check(z.refine(compiles, allowed)));
  };
  const nameText =
    "use a name without spaces, commas and slashes, at most 60 characters, that does not begin with - or .";
  const url = "use a URL that begins with http:// or https://";

  const health = z.strictObject({
    http: about(
      "URL that answers with a 2xx status; ${NAME} is expanded, for example http://127.0.0.1:${PORT}/health",
      z.optional(text(url).check(z.refine(isHttpUrl, url))),
    ),
    body: about("Regular expression that the body of the http answer must match.", pattern()),
    tcp: about(
      "Port that accepts a connection, as a number or a text such as ${PORT}.",
      z.optional(z.union([port(), text(portText, /\$\{[^}]+\}/)], portText)),
    ),
    command: about("Command that ends with status 0: a list of words, or a text for /bin/sh -c.", command()),
    log: about("Regular expression; a line of output that matches means ready (no liveness).", pattern()),
    interval: about("Pause between liveness probes.", span(1, HEALTH_DEFAULTS.intervalMs)),
    timeout: about("Longest time of one probe.", span(1, HEALTH_DEFAULTS.timeoutMs)),
    retries: about(
      "Failures in a row until the service counts as failed.",
      count(1, HEALTH_DEFAULTS.retries),
    ),
  }, "use a map with one of http, tcp, command or log");

  const service = z.strictObject({
    name: about(
      "Unique name: what --services takes, and the prefix of its log lines.",
      text(nameText, /^[^\s,/\\.-][^\s,/\\]{0,59}$/).check(z.refine(isOneLine, nameText)),
    ),
    title: about(
      "Shown in tables; default: the name.",
      z.optional(text("use one line of text").check(z.refine(isOneLine, "use one line of text"))),
    ),
    command: about(
      "A list of words is started as it is, a text is run by /bin/sh -c. `python` as first word is the venv's.",
      command(),
    ),
    working_dir: about(
      "Folder it runs in, relative to the infrastructure folder unless absolute.",
      z._default(text("use the path of a folder"), DEFAULTS.workingDir),
    ),
    environment: about(
      "Variables for this service, over those of .env; ${NAME} is expanded.",
      z.prefault(
        z.record(
          variable("use a name without spaces and ="),
          word('use a text ("" for an empty one)'),
          "use a map of names and values",
        ),
        DEFAULTS.environment,
      ),
    ),
    env_required: about(
      "Names of variables that must be set before it starts.",
      list(variable("use the name of a variable"), "use a list of names"),
    ),
    port: about("Port it listens on; with port_env, the default of that variable.", z.optional(port())),
    port_env: about("Variable that holds the port.", z.optional(variable("use the name of a variable"))),
    dependencies: about(
      "Names of services that must be ready before it starts.",
      list(text("use the name of a service"), "use a list of service names"),
    ),
    kind: about(
      "service: kept running. task: runs once, dependents wait until it ends with 0. external: not started, only waited for.",
      choice(["service", "task", "external"], DEFAULTS.kind),
    ),
    restart_policy: about(
      "When it is started again after it ended.",
      choice(["always", "on-failure", "never"], DEFAULTS.restartPolicy),
    ),
    max_retries: about("Restarts after failures within retry_window.", count(0, DEFAULTS.maxRetries)),
    retry_window: about(
      "Span in which retries are counted; a run longer than this clears the count.",
      span(1, DEFAULTS.retryWindowMs),
    ),
    retry_delay: about("Pause before the first retry; doubled each time.", span(0, DEFAULTS.retryDelayMs)),
    retry_delay_max: about("Longest pause before a retry.", span(0, DEFAULTS.retryDelayMaxMs)),
    timeout_start: about("Longest time until it is ready.", span(1, DEFAULTS.timeoutStartMs)),
    timeout_stop: about("Time from the stop signal to SIGKILL.", span(0, DEFAULTS.timeoutStopMs)),
    stop_signal: about("Signal that asks it to stop.", choice(STOP_SIGNALS, DEFAULTS.stopSignal)),
    critical: about(
      "true: when it has failed for good, everything stops. false: the rest run on.",
      flag(DEFAULTS.critical),
    ),
    restart_with_dependencies: about(
      "true: restarted after one of its dependencies was restarted.",
      flag(DEFAULTS.restartWithDependencies),
    ),
    autostart: about(
      "false: started only when named, or needed by one that is named.",
      flag(DEFAULTS.autostart),
    ),
    health: about(
      "Readiness and, after that, liveness: one of http, tcp, command or log.",
      z.optional(health),
      { oneOf: PROBES.map((probe) => ({ required: [probe] })) },
    ),
  }, "use a map with name and command");
  about("One service.", service, {
    if: { properties: { kind: { const: "external" } }, required: ["kind"] },
    then: { required: ["health"], not: { required: ["command"] } },
    else: { required: ["command"] },
  });

  const file = z.strictObject({
    $schema: z.optional(z.string()),
    services: about(
      "The services, in the order they are listed and, dependencies allowing, started.",
      z.array(service, "use a list of services, each beginning with - name: NAME").check(
        z.minLength(1, "name at least one service"),
      ),
    ),
  }, 'use a map with the list "services:"');
  about("Services of the orchestrator. Fields that begin with x- are free, a place for anchors.", file, {
    patternProperties: { "^x-": {} },
  });
  return { file, service, health };
}

export function toService({ name, health, ...written }: Written): Service {
  return {
    name,
    title: written.title ?? name,
    command: written.command ?? [],
    workingDir: written.working_dir,
    environment: written.environment,
    envRequired: written.env_required,
    port: written.port ?? DEFAULTS.port,
    portEnv: written.port_env ?? DEFAULTS.portEnv,
    dependencies: [...new Set(written.dependencies)],
    kind: written.kind,
    restartPolicy: written.restart_policy,
    maxRetries: written.max_retries,
    retryWindowMs: written.retry_window,
    retryDelayMs: written.retry_delay,
    retryDelayMaxMs: written.retry_delay_max,
    timeoutStartMs: written.timeout_start,
    timeoutStopMs: written.timeout_stop,
    stopSignal: written.stop_signal,
    critical: written.critical,
    restartWithDependencies: written.restart_with_dependencies,
    autostart: written.autostart,
    health: health === undefined ? DEFAULTS.health : {
      probe: probeOf(health),
      intervalMs: health.interval,
      timeoutMs: health.timeout,
      retries: health.retries,
    },
  };
}

function probeOf({ http, body, tcp, log, command }: zod.infer<Schemas["health"]>): Probe {
  if (http !== undefined) return { kind: "http", url: http, body: body ?? null };
  if (tcp !== undefined) return { kind: "tcp", port: String(tcp) };
  if (log !== undefined) return { kind: "log", pattern: log };
  return { kind: "command", command: command ?? [] };
}

/** Whether a text has no control character; a regular expression of the schema could not say it for every editor. */
const isOneLine = (text: string) => !/\p{Cc}/u.test(text);

function compiles(pattern: string): boolean {
  try {
    return Boolean(new RegExp(pattern));
  } catch (error) {
    if (error instanceof SyntaxError) return false;
    throw error;
  }
}

function isHttpUrl(text: string): boolean {
  return /^https?:\/\//i.test(text) && URL.canParse(text.replace(/\$\{[^}]*\}/g, "1"));
}
