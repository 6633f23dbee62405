/**
 * Checks a services file: each field by the schema, then what only shows when fields and services are seen together.
 * Loaded only for a file that has changed: it brings the YAML parser and the schema library.
 *
 * @module
 */

import type * as zod from "zod/mini";
import type { Service } from "./definition.ts";
import { DEFAULTS } from "./definition.ts";
import { MAX_SHOWN, orList, quote } from "./errors.ts";
import { inOrder } from "./graph.ts";
import type { Schemas, Zod } from "./schema.ts";
import { fileSchemas, PROBES, toService } from "./schema.ts";
import type { Path } from "./source.ts";
import { isRecord, SourceFile } from "./source.ts";

/**
 * What the text of a services file means.
 *
 * @throws {ServicesFileError} with every problem of the file
 */
export async function checkSource(path: string, text: string): Promise<Service[]> {
  // A CommonJS package: all it exports is its default, which bundlers do not spread over names as runtimes do.
  const [{ default: yaml }, z] = await Promise.all([import("yaml"), import("zod/mini")]);
  const source = new SourceFile(path, yaml);
  const root = source.read(text);
  const schemas = fileSchemas(z);
  const result = z.safeParse(schemas.file, root);
  for (const issue of result.error?.issues ?? []) source.reportIssue(issue, schemas);
  const items = isRecord(root) && Array.isArray(root.services) ? root.services : [];
  checkTogether(draftsOf(items, schemas, z), source);
  source.throwProblems();
  if (!result.success) throw result.error; // every issue is a problem, so this is not reached
  return result.data.services.map(toService);
}

type Draft = ReturnType<typeof draftsOf>[number];

/** The services as far as they can be understood: a field that is wrong by itself counts as not written. */
function draftsOf(items: readonly unknown[], { service: { shape } }: Schemas, z: Zod) {
  const valid = <S extends zod.ZodMiniType>(schema: S, value: unknown): zod.output<S> | undefined =>
    z.safeParse(schema, value).data;
  return items.map((item, index) => {
    const raw = isRecord(item) ? item : {};
    return {
      index,
      raw,
      at: (...fields: Path) => ["services", index, ...fields],
      name: valid(shape.name, raw.name),
      kind: isRecord(item) ? valid(shape.kind, raw.kind) : undefined,
      port: valid(shape.port, raw.port),
      port_env: valid(shape.port_env, raw.port_env),
      delayMs: valid(shape.retry_delay, raw.retry_delay),
      delayMaxMs: valid(shape.retry_delay_max, raw.retry_delay_max),
      dependencies: Array.isArray(raw.dependencies)
        ? raw.dependencies.map((name) => valid(z.string(), name))
        : [],
    };
  });
}

function checkTogether(drafts: readonly Draft[], source: SourceFile): void {
  reportDoubles(drafts, "name", "name", source);
  reportDoubles(drafts, "port", "port", source);
  reportDoubles(drafts, "port_env", "port variable", source);
  const names = drafts.flatMap(({ name }) => name ?? []);
  const known = new Set(names);
  for (const draft of drafts) {
    for (const [index, dependency] of draft.dependencies.entries()) {
      if (dependency === undefined || known.has(dependency)) continue;
      const who = quote(draft.name ?? "this service");
      const text = `${who} depends on ${quote(dependency)}, which is not in this file`;
      source.reportName(draft.at("dependencies", index), text, dependency, names);
    }
    const rules = [...serviceRules(draft), ...delayRules(draft), ...healthRules(draft)];
    for (const [isBroken, field, text] of rules) {
      if (isBroken) source.report(draft.at(...field.split(".")), text);
    }
  }
  reportCycles(drafts, source);
}

/** Reports values that two services have. */
function reportDoubles(
  drafts: readonly Draft[],
  field: "name" | "port" | "port_env",
  meaning: string,
  source: SourceFile,
): void {
  for (const [value, [first, ...others]] of Map.groupBy(drafts, (draft) => draft[field])) {
    if (value === undefined || first === undefined || others.length === 0) continue;
    const { index, name = "", at } = first;
    const who = `services[${index}] ${quote(name)} (line ${source.lineOf(at(field))})`;
    const text = `${quote(value)} is already the ${meaning} of ${who}; each needs its own`;
    for (const draft of others) source.report(draft.at(field), text);
  }
}

type Rule = readonly [isBroken: boolean, field: string, text: string];

function serviceRules({ name, kind, raw }: Draft): Rule[] {
  const isTask = kind === "task";
  const isExternal = kind === "external";
  const [hasCommand, hasHealth] = [raw.command !== undefined, raw.health !== undefined];
  const noCommand = "missing; use a list of words, or a text for /bin/sh -c";
  const noAlways = `"always" is not allowed for a task, which runs once; use on-failure or never`;
  return [
    [name === "orchestrator", "name", "the orchestrator itself has this name in logs; use another"],
    [kind !== undefined && !isExternal && !hasCommand, "command", noCommand],
    [isExternal && hasCommand, "command", "not allowed; an external service is waited for, not started"],
    [isExternal && !hasHealth, "health", "missing; an external service is waited for by its health check"],
    [isTask && hasHealth, "health", "not allowed for a task; it is done when it ends with status 0"],
    [isTask && raw.restart_policy === "always", "restart_policy", noAlways],
  ];
}

function delayRules({ raw, delayMs, delayMaxMs }: Draft): Rule[] {
  if (delayMs === undefined || delayMaxMs === undefined) return [];
  const { retry_delay: delay = DEFAULTS.retryDelayMs / 1000 } = raw;
  const { retry_delay_max: delayMax = DEFAULTS.retryDelayMaxMs / 1000 } = raw;
  const field = raw.retry_delay === undefined ? "retry_delay_max" : "retry_delay";
  const text = `retry_delay ${delay} is above retry_delay_max ${delayMax}; use a higher retry_delay_max`;
  return [[delayMs > delayMaxMs, field, text]];
}

function healthRules({ kind, raw: { health } }: Draft): Rule[] {
  if (!isRecord(health)) return [];
  const has = (field: string) => health[field] !== undefined;
  const [first, ...others] = PROBES.filter(has);
  const second = `a second probe beside ${first}; keep one of them`;
  const unread = "not allowed for an external service, whose output nobody reads; use http, tcp or command";
  const once =
    "only for liveness, and a log probe only shows readiness; remove this, or use http, tcp or command";
  return [
    [first === undefined, "health", `no probe is named; use one of ${orList(PROBES)}`],
    ...others.map((other) => [true, `health.${other}`, second] as const),
    [has("body") && !has("http"), "health.body", "only an http probe has a body; use http or remove this"],
    [has("log") && kind === "external", "health.log", unread],
    [has("log") && has("interval"), "health.interval", once],
    [has("log") && has("retries"), "health.retries", once],
  ];
}

function reportCycles(drafts: readonly Draft[], source: SourceFile): void {
  const byName = Map.groupBy(drafts, ({ name }) => name);
  const needsOf = ({ dependencies }: Draft) =>
    dependencies.flatMap((name) => name === undefined ? [] : byName.get(name)?.[0] ?? []);
  for (const cycle of inOrder(drafts, needsOf, MAX_SHOWN).cycles) {
    const shown = cycle.map(({ name }) => name);
    if (shown.length > 20) shown.splice(10, shown.length - 20, "...");
    const text = `${shown.join(" -> ")} is a cycle; remove one of these dependencies`;
    if (cycle[0]) source.report(cycle[0].at("dependencies"), text);
  }
}
