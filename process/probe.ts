/**
 * Runs one probe of a service: HTTP, TCP or a command.
 *
 * @module
 */

import type { Clock } from "../config/clock.ts";
import type { Probe } from "../config/definition.ts";
import { formatSpan } from "../config/duration.ts";
import { expand, findPython } from "../config/launch.ts";
import type { Environment } from "../config/settings.ts";
import { signalGroup } from "./signals.ts";

/** What a probe needs of the service that it checks. */
export interface ProbeTarget {
  environment: Environment;
  cwd: string;
  infrastructure: string;
}

/** Connects to a port of this machine; throws the error of the system. */
async function connect(port: number, signal: AbortSignal): Promise<void> {
  for (const hostname of ["127.0.0.1", "::1"]) {
    try {
      return (await Deno.connect({ hostname, port, signal })).close();
    } catch (error) {
      if (hostname === "::1" || signal.aborted) throw error;
    }
  }
}

/** Why a probe failed, in the system's words. The URL or command is left out: it may hold a secret. */
function probeFailure(error: unknown, kind: Probe["kind"]): string {
  if (!(error instanceof Error)) throw error;
  if (kind === "command") return "its check could not be started";
  const { message } = error.cause instanceof Error ? error.cause : error;
  const words = kind === "http" ? /client error \(\w+\): (.*)/.exec(message)?.[1] : message;
  return words?.split("\n")[0]?.replace(/ \(os error.*/, "") ?? "the request failed";
}

async function askByHttp(url: string, wanted: string | null, signal: AbortSignal): Promise<string | null> {
  const answer = await fetch(url, { signal, headers: { connection: "close" } });
  const body = wanted === null ? await answer.body?.cancel() : await answer.text();
  if (!answer.ok) return `HTTP ${answer.status}`;
  return wanted === null || new RegExp(wanted).test(body ?? "") ? null : "answered without the expected text";
}

async function runCheck([name = "", ...args]: string[], target: ProbeTarget, signal: AbortSignal) {
  const python = name === "python" ? findPython(target.infrastructure, target.environment) : null;
  const child = new Deno.Command(python ?? name, {
    args,
    cwd: target.cwd,
    env: target.environment,
    clearEnv: true,
    detached: true,
    stdin: "null",
    stdout: "null",
    stderr: "null",
  }).spawn();
  signal.addEventListener("abort", () => signalGroup(child.pid, "SIGKILL"));
  const status = await child.status;
  signal.throwIfAborted();
  return status.success ? null : `its check ended with status ${status.code}`;
}

/**
 * Checks once whether a service is healthy.
 *
 * @param options after `timeoutMs` the answer is that there was none; `stop` ends it early
 * @returns `null` when it is, or the reason why not; never throws for what the service does
 */
export async function runProbe(
  probe: Exclude<Probe, { kind: "log" }>,
  target: ProbeTarget,
  { timeoutMs, stop, clock }: { timeoutMs: number; stop: AbortSignal; clock: Clock },
): Promise<string | null> {
  const limit = new AbortController();
  const end = () => limit.abort();
  const cancel = clock.wake(timeoutMs, end);
  stop.addEventListener("abort", end);
  const known = (text: string) => expand(text, target.environment);
  try {
    switch (probe.kind) {
      case "tcp":
        await connect(Number(known(probe.port)), limit.signal);
        return null;
      case "http":
        return await askByHttp(known(probe.url), probe.body, limit.signal);
      case "command": {
        const words = typeof probe.command === "string" ? ["/bin/sh", "-c", probe.command] : probe.command;
        return await runCheck(words.map(known), target, limit.signal);
      }
    }
  } catch (error) {
    if (limit.signal.aborted) return `no answer within ${formatSpan(timeoutMs)}`;
    return probeFailure(error, probe.kind);
  } finally {
    cancel();
    stop.removeEventListener("abort", end);
  }
}
