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
import { MAX_SHOWN } from "./source.ts";

/**
 * Complains of what only shows when fields and services are seen together. A field that is wrong by itself counts
 * as not said here, so that one mistake does not hide another.
 */
export function checkTogether(
  items: readonly unknown[],
  { service: { shape } }: Schemas,
  z: Zod,
  source: SourceFile,
) {
  const said = <S extends zod.ZodMiniType>(schema: S, value: unknown): zod.output<S> | undefined =>
    z.safeParse(schema, value).data;
  const drafts = items.map((item, index) => {
    const raw = isRecord(item) ? item : {};
    return {
      index,
      raw,
      at: (...fields: PropertyKey[]) => ["services", index, ...fields],
      name: said(shape.name, raw.name),
      port: said(shape.port, raw.port),
      port_env: said(shape.port_env, raw.port_env),
      dependencies: Array.isArray(raw.dependencies)
        ? raw.dependencies.map((name) => said(z.string(), name))
        : [],
    };
  });

  const firstWith = (field: "name" | "port" | "port_env", meaning: string) => {
    const first = new Map<unknown, typeof drafts[number]>();
    for (const draft of drafts) {
      const value = draft[field];
      const other = first.get(value);
      if (value === undefined) continue;
      if (!other) first.set(value, draft);
      else {
        const who = `${showPath(other.at())} ${quote(other.name ?? "")} (line ${
          source.lineOf(other.at(field))
        })`;
        source.report(
          draft.at(field),
          `${quote(value)} is already the ${meaning} of ${who}; each needs its own`,
        );
      }
    }
    return first;
  };
  const byName = firstWith("name", "name");
  firstWith("port", "port");
  firstWith("port_env", "port variable");

  const names = drafts.flatMap(({ name }) => name ?? []);
  for (const { index, raw, at, name, dependencies } of drafts) {
    if (name === "orchestrator") {
      source.report(at("name"), "the orchestrator itself has this name in logs; use another");
    }
    dependencies.forEach((dependency, i) => {
      if (dependency === undefined || byName.has(dependency)) return;
      const text = `${quote(name ?? "this service")} depends on ${
        quote(dependency)
      }, which is not in this file`;
      source.reportName(at("dependencies", i), text, dependency, names);
    });

    const kind = said(shape.kind, raw.kind);
    const command = "use a list of words, or a text for /bin/sh -c";
    if (kind === "external") {
      if (raw.command !== undefined) {
        source.report(at("command"), "not allowed; an external service is waited for, not started");
      }
      if (raw.health === undefined) {
        source.report(at("health"), "missing; an external service is waited for by its health check");
      }
    } else if (kind !== undefined && isRecord(items[index]) && raw.command === undefined) {
      source.report(at("command"), `missing; ${command}`);
    }
    if (kind === "task") {
      const policy = `"always" is not allowed for a task, which runs once; use on-failure or never`;
      if (raw.restart_policy === "always") source.report(at("restart_policy"), policy);
      if (raw.health !== undefined) {
        source.report(at("health"), "not allowed for a task; it is done when it ends with status 0");
      }
    }

    const [delay, longest] = [
      said(shape.retry_delay, raw.retry_delay),
      said(shape.retry_delay_max, raw.retry_delay_max),
    ];
    if (delay !== undefined && longest !== undefined && parseDuration(delay) > parseDuration(longest)) {
      const field = raw.retry_delay === undefined ? "retry_delay_max" : "retry_delay";
      source.report(
        at(field),
        `retry_delay ${delay} is above retry_delay_max ${longest}; say a higher retry_delay_max`,
      );
    }
    if (isRecord(raw.health)) {
      checkProbe(raw.health, kind, (field, text) => source.report(at("health", ...field), text));
    }
  }

  const needs = drafts.map(({ dependencies }) =>
    dependencies.flatMap((name) => byName.get(name)?.index ?? [])
  );
  for (const cycle of cyclesOf(needs)) {
    const shown = cycle.map((index) => drafts[index].name);
    if (shown.length > 20) shown.splice(10, shown.length - 20, "...");
    const text = `${shown.join(" -> ")} is a cycle; remove one of these dependencies`;
    source.report(drafts[cycle[0]].at("dependencies"), text);
  }
}

function checkProbe(
  health: Record<string, unknown>,
  kind: Kind | undefined,
  complain: (field: Path, text: string) => void,
) {
  const [first, ...others] = PROBES.filter((probe) => health[probe] !== undefined);
  if (first === undefined) complain([], `no probe is named; use one of ${orList(PROBES)}`);
  for (const other of others) complain([other], `a second probe beside ${first}; keep one of them`);
  if (health.body !== undefined && health.http === undefined) {
    complain(["body"], "only an http probe has a body; use http or remove this");
  }
  if (health.log === undefined) return;
  if (kind === "external") {
    complain(
      ["log"],
      "not allowed for an external service, whose output nobody reads; use http, tcp or command",
    );
  }
  for (const field of ["interval", "retries"].filter((field) => health[field] !== undefined)) {
    complain(
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
        for (const next of needs[node].toReversed()) todo.push(next);
      }
    }
  }
  return cycles;
}
