/**
 * What only shows when fields and services are seen together: cycles, ports, names.
 *
 * @module
 */

import type * as zod from "zod/mini";
import type { Kind } from "./definition.ts";
import { parseDuration } from "./duration.ts";
import type { Schemas, Zod } from "./schema.ts";
import { PROBES } from "./schema.ts";
import type { Path } from "./wording.ts";
import type { SourceFile } from "./source.ts";
import { isRecord, orList, quote, showPath } from "./wording.ts";
import { MAX_SHOWN } from "./errors.ts";

type Draft = ReturnType<typeof draftsOf>[number];

/**
 * Reports what only shows when fields and services are seen together. A field that is wrong by itself counts as not
 * written here, so that one error does not hide another.
 */
export function checkTogether(items: readonly unknown[], schemas: Schemas, z: Zod, source: SourceFile): void {
  const drafts = draftsOf(items, schemas, z);
  const byName = reportDoubles(drafts, "name", "name", source);
  reportDoubles(drafts, "port", "port", source);
  reportDoubles(drafts, "port_env", "port variable", source);

  const names = drafts.flatMap(({ name }) => name ?? []);
  for (const draft of drafts) {
    const { at, name, raw } = draft;
    if (name === "orchestrator") {
      source.report(at("name"), "the orchestrator itself has this name in logs; use another");
    }
    for (const [index, dependency] of draft.dependencies.entries()) {
      if (dependency === undefined || byName.has(dependency)) continue;
      const who = quote(name ?? "this service");
      const text = `${who} depends on ${quote(dependency)}, which is not in this file`;
      source.reportName(at("dependencies", index), text, dependency, names);
    }
    checkKind(draft, source);
    checkDelays(draft, source);
    if (isRecord(raw.health)) {
      checkProbe(raw.health, draft.kind, (field, text) => source.report(at("health", ...field), text));
    }
  }
  reportCycles(drafts, byName, source);
}

/** The services as far as they can be understood. */
function draftsOf(items: readonly unknown[], { service: { shape } }: Schemas, z: Zod) {
  const valid = <S extends zod.ZodMiniType>(schema: S, value: unknown): zod.output<S> | undefined =>
    z.safeParse(schema, value).data;
  return items.map((item, index) => {
    const raw = isRecord(item) ? item : {};
    return {
      index,
      raw,
      isMap: isRecord(item),
      at: (...fields: PropertyKey[]) => ["services", index, ...fields],
      name: valid(shape.name, raw.name),
      kind: valid(shape.kind, raw.kind),
      port: valid(shape.port, raw.port),
      port_env: valid(shape.port_env, raw.port_env),
      retry_delay: valid(shape.retry_delay, raw.retry_delay),
      retry_delay_max: valid(shape.retry_delay_max, raw.retry_delay_max),
      dependencies: Array.isArray(raw.dependencies)
        ? raw.dependencies.map((name) => valid(z.string(), name))
        : [],
    };
  });
}

/** Reports values that two services have. @returns the first service with each value */
function reportDoubles(
  drafts: readonly Draft[],
  field: "name" | "port" | "port_env",
  meaning: string,
  source: SourceFile,
): Map<unknown, Draft> {
  const first = new Map<unknown, Draft>();
  for (const draft of drafts) {
    const value = draft[field];
    const other = first.get(value);
    if (value === undefined) continue;
    if (other === undefined) first.set(value, draft);
    else {
      const line = source.lineOf(other.at(field));
      const who = `${showPath(other.at())} ${quote(other.name ?? "")} (line ${line})`;
      source.report(
        draft.at(field),
        `${quote(value)} is already the ${meaning} of ${who}; each needs its own`,
      );
    }
  }
  return first;
}

function checkKind({ at, kind, raw, isMap }: Draft, source: SourceFile): void {
  if (kind === "external") {
    if (raw.command !== undefined) {
      source.report(at("command"), "not allowed; an external service is waited for, not started");
    }
    if (raw.health === undefined) {
      source.report(at("health"), "missing; an external service is waited for by its health check");
    }
  } else if (kind !== undefined && isMap && raw.command === undefined) {
    source.report(at("command"), "missing; use a list of words, or a text for /bin/sh -c");
  }
  if (kind !== "task") return;
  if (raw.restart_policy === "always") {
    const text = `"always" is not allowed for a task, which runs once; use on-failure or never`;
    source.report(at("restart_policy"), text);
  }
  if (raw.health !== undefined) {
    source.report(at("health"), "not allowed for a task; it is done when it ends with status 0");
  }
}

function checkDelays({ at, raw, retry_delay, retry_delay_max }: Draft, source: SourceFile): void {
  if (retry_delay === undefined || retry_delay_max === undefined) return;
  if (parseDuration(retry_delay) <= parseDuration(retry_delay_max)) return;
  const field = raw.retry_delay === undefined ? "retry_delay_max" : "retry_delay";
  const text = `retry_delay ${retry_delay} is above retry_delay_max ${retry_delay_max}`;
  source.report(at(field), `${text}; use a higher retry_delay_max`);
}

function reportCycles(
  drafts: readonly Draft[],
  byName: ReadonlyMap<unknown, Draft>,
  source: SourceFile,
): void {
  const needs = drafts.map(({ dependencies }) =>
    dependencies.flatMap((name) => byName.get(name)?.index ?? [])
  );
  for (const cycle of cyclesOf(needs)) {
    const shown = cycle.map((index) => drafts[index]?.name);
    if (shown.length > 20) shown.splice(10, shown.length - 20, "...");
    const text = `${shown.join(" -> ")} is a cycle; remove one of these dependencies`;
    source.report(["services", cycle[0] ?? 0, "dependencies"], text);
  }
}

function checkProbe(
  health: Record<string, unknown>,
  kind: Kind | undefined,
  report: (field: Path, text: string) => void,
) {
  const [first, ...others] = PROBES.filter((probe) => health[probe] !== undefined);
  if (first === undefined) report([], `no probe is named; use one of ${orList(PROBES)}`);
  for (const other of others) report([other], `a second probe beside ${first}; keep one of them`);
  if (health.body !== undefined && health.http === undefined) {
    report(["body"], "only an http probe has a body; use http or remove this");
  }
  if (health.log === undefined) return;
  if (kind === "external") {
    report(
      ["log"],
      "not allowed for an external service, whose output nobody reads; use http, tcp or command",
    );
  }
  for (const field of ["interval", "retries"].filter((field) => health[field] !== undefined)) {
    report(
      [field],
      "only for liveness, and a log probe tells readiness; remove this, or use http, tcp or command",
    );
  }
}

/** Cycles of a graph as walks that end where they began; at most `MAX_SHOWN` of them. Without recursion. */
function cyclesOf(needs: readonly (readonly number[])[]): number[][] {
  const cycles: number[][] = [];
  const done = new Set<number>();
  for (const start of needs.keys()) {
    const walk: number[] = [];
    const placeInWalk = new Map<number, number>();
    const todo = [start]; // ~n stands for: all that n needs has been seen
    for (let node = todo.pop(); node !== undefined && cycles.length < MAX_SHOWN; node = todo.pop()) {
      const place = placeInWalk.get(node);
      if (node < 0) {
        walk.pop();
        placeInWalk.delete(~node);
        done.add(~node);
      } else if (place !== undefined) cycles.push([...walk.slice(place), node]);
      else if (!done.has(node)) {
        placeInWalk.set(node, walk.push(node) - 1);
        todo.push(~node);
        for (const next of needs[node]?.toReversed() ?? []) todo.push(next);
      }
    }
  }
  return cycles;
}
