/**
 * Runs one probe of a service: HTTP, TCP or a command.
 *
 * @module
 */

import type { Probe } from "../config/definition.ts";
import { formatSpan } from "../config/duration.ts";
import { expand, findPython } from "../config/launch.ts";
import type { Environment } from "../config/settings.ts";
import { signalGroup } from "./group.ts";

/** What a probe needs of the service it looks at. */
export interface ProbeTarget {
  environment: Environment;
  cwd: string;
  infrastructure: string;
}

/** Connects to a port of this machine; throws what the system says. */
async function connect(port: number, signal: AbortSignal): Promise<void> {
  for (const hostname of ["127.0.0.1", "::1"]) {
    try {
      const pending = Deno.connect({ hostname, port });
      const late = new Promise<null>((resolve) => signal.addEventListener("abort", () => resolve(null)));
      const connection = await Promise.race([pending, late]);
      if (connection === null) {
        pending.then((answer) => answer.close(), () => {}); // nobody waits for it any more
        throw new Deno.errors.TimedOut("no answer in time");
      }
      return connection.close();
    } catch (error) {
      if (hostname === "::1" || signal.aborted) throw error;
    }
  }
}

/** Why a look failed, in the system's words. The URL or command is left out: it may hold a secret. */
function probeFailure(error: unknown, kind: Probe["kind"]): string {
  if (!(error instanceof Error)) throw error;
  if (kind === "command") return "its check could not be started";
  const { message } = error.cause instanceof Error ? error.cause : error;
  const words = kind === "http" ? /client error \(\w+\): (.*)/.exec(message)?.[1] : message;
  return words?.split("\n")[0].replace(/ \(os error.*/, "") ?? "the request failed";
}

/**
 * Looks once whether a service is well.
 *
 * @returns `null` when it is, or the reason why not; never throws for what the service does
 */
export async function runProbe(
  probe: Exclude<Probe, { kind: "log" }>,
  target: ProbeTarget,
  timeoutMs: number,
  stop: AbortSignal,
): Promise<string | null> {
  const limit = new AbortController();
  const late = setTimeout(() => limit.abort(), timeoutMs);
  const end = () => limit.abort();
  stop.addEventListener("abort", end);
  try {
    switch (probe.kind) {
      case "tcp":
        await connect(Number(expand(probe.port, target.environment)), limit.signal);
        return null;
      case "http": {
        const url = expand(probe.url, target.environment);
        const answer = await fetch(url, { signal: limit.signal, headers: { connection: "close" } });
        const wanted = probe.body === null ? null : new RegExp(probe.body);
        const body = wanted === null ? await answer.body?.cancel() : await answer.text();
        if (!answer.ok) return `answered ${answer.status}`;
        return wanted === null || wanted.test(body ?? "") ? null : "answered without the expected text";
      }
      case "command": {
        const words = typeof probe.command === "string" ? ["/bin/sh", "-c", probe.command] : probe.command;
        const [name, ...args] = words.map((word) => expand(word, target.environment));
        const python = name === "python" ? findPython(target.infrastructure, target.environment) : null;
        const child = new Deno.Command(python ?? name, {
          args,
          cwd: target.cwd,
          env: { ...target.environment },
          clearEnv: true,
          detached: true,
          stdin: "null",
          stdout: "null",
          stderr: "null",
        }).spawn();
        limit.signal.addEventListener("abort", () => signalGroup(child.pid, "SIGKILL"));
        const status = await child.status;
        limit.signal.throwIfAborted();
        return status.success ? null : `its check ended with status ${status.code}`;
      }
    }
  } catch (error) {
    if (limit.signal.aborted) return `no answer within ${formatSpan(timeoutMs)}`;
    return probeFailure(error, probe.kind);
  } finally {
    clearTimeout(late);
    stop.removeEventListener("abort", end);
  }
}
