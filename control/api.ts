/**
 * What a run answers on its control socket: the routes, the figures of `GET /status` and the readers of `GET /events`,
 * who get the state of the run first and then what happens. `docs/control.md` lists what each takes and answers.
 *
 * @module
 */

import { decoder, encoder } from "../config/bytes.ts";
import { UserError } from "../config/errors.ts";
import { processes, residentBytes } from "../process/procfs.ts";
import type { Event, RunResult } from "../supervisor/model.ts";
import { withDependents } from "../supervisor/plan.ts";
import { describeState } from "../terminal/messages.ts";
import type { LogFiles } from "./log_files.ts";
import type { Answers, Message, ServiceStatus, Status } from "./protocol.ts";
import { Definitions } from "./reload.ts";
import type { RunContext } from "./run_options.ts";
import type { ControlAnswer, ControlRequest, Follower, RequestHandler } from "./server.ts";

type Route = readonly [method: "GET" | "POST", answer: RequestHandler];

/** Answers for one run. */
export class ControlApi {
  readonly definitions: Definitions;
  readonly #run: RunContext;
  readonly #startedAt: string;
  readonly #logs: LogFiles | null;
  readonly #routes: ReadonlyMap<string, Route>;
  readonly #followers = new Set<Follower>();

  /** @param startedAt ISO time */
  constructor(run: RunContext, startedAt: string, logs: LogFiles | null) {
    this.#run = run;
    this.definitions = new Definitions(run);
    this.#startedAt = startedAt;
    this.#logs = logs;
    this.#routes = new Map(Object.entries(this.#table()));
  }

  /** Answers a request. What a user can fix is answered with a sentence. */
  async answer(request: ControlRequest): Promise<ControlAnswer> {
    const { method, path } = request;
    const route = this.#routes.get(path);
    if (route === undefined) {
      return failed(404, `There is no ${path}; there are ${[...this.#routes.keys()].join(", ")}.`);
    }
    const [expected, answer] = route;
    if (method !== expected) return failed(405, `Use ${expected} for ${path}.`);
    try {
      return await answer(request);
    } catch (error) {
      if (!(error instanceof UserError)) throw error;
      return failed(this.#run.supervisor.stopping ? 409 : 400, error.message);
    }
  }

  /** Something has happened. */
  event(event: Event): void {
    if (this.#followers.size === 0) return;
    if (event.kind === "output") {
      const { kind, time, service, stream, lines } = event;
      const log = this.#logs?.position(service);
      this.#send({ kind, time, service, stream, text: decoder.decode(lines), log });
    } else if (event.kind === "services") this.#send(event);
    else this.#send({ ...event, log: this.#logs?.position(null) });
  }

  /** The run has ended. */
  exit({ status, remaining }: RunResult, restarting: boolean): void {
    this.#send({ kind: "exit", time: Date.now(), status, restarting, remaining });
  }

  /** A table: every path with what it does. */
  #table(): Record<keyof Answers | "/events", Route> {
    const { supervisor, stop, restartSelf } = this.#run;
    return {
      "/status": ["GET", () => ({ status: 200, body: this.#status() })],
      "/events": ["GET", ({ query }) => {
        const recent = recentOf(query);
        return { status: 200, follow: (client) => this.#follow(client, recent) };
      }],
      "/start": ["POST", ({ body }) => accepted(this.definitions.start(namesOf(body)))],
      "/restart": ["POST", ({ body }) => {
        const more = { dependents: flagOf(body, "dependents"), dependencies: flagOf(body, "dependencies") };
        return accepted(this.definitions.restart(namesOf(body), more));
      }],
      "/stop": ["POST", ({ body }) => {
        if (body.names === undefined) {
          stop();
          return accepted(this.#serviceNames());
        }
        const names = namesOf(body);
        supervisor.setDesired(names, "stopped");
        return accepted([...withDependents(supervisor.services, names)]);
      }],
      "/reload": ["POST", async ({ body }) => {
        const changes = await this.definitions.reload(flagOf(body, "dryRun"));
        return { status: 200, body: { changes } };
      }],
      "/self-restart": ["POST", () => {
        restartSelf();
        return accepted(this.#serviceNames());
      }],
    };
  }

  #status(): Status {
    const { supervisor, version, options } = this.#run;
    const { at, stopping, services: rows } = supervisor.snapshot();
    const usage = usageByGroup();
    const services = rows.map((row): ServiceStatus => {
      const { name, title, kind, port, state } = row;
      const pid = "pid" in state ? state.pid : null;
      return {
        name,
        title,
        kind,
        state: state.kind,
        pid,
        port,
        uptimeMs: "since" in state ? Math.max(0, Math.round(at - state.since)) : null,
        restarts: state.restarts,
        lastExit: ("exit" in state ? state.exit : null) ?? state.lastExit,
        note: describeState(row, at),
        ...(usage.get(pid) ?? { cpuMs: null, memoryBytes: null }),
      };
    });
    return {
      running: true,
      pid: Deno.pid,
      version,
      infrastructure: supervisor.home.infrastructure,
      detached: options.detached ?? false,
      startedAt: this.#startedAt,
      logs: this.#logs?.folder ?? null,
      stopping,
      memoryBytes: residentBytes(Deno.pid),
      healthy: services.every(isHealthy),
      services,
    };
  }

  #follow(client: Follower, recent: number): void {
    const { supervisor, version } = this.#run;
    const { at, stopping, services } = supervisor.snapshot(recent);
    const logs = this.#logs === null ? null : {
      folder: this.#logs.folder,
      own: this.#logs.position(null),
      services: Object.fromEntries(services.map(({ name }) => [name, this.#logs!.position(name)])),
    };
    const { pid } = Deno;
    client.send(line({ kind: "hello", time: Date.now(), at, version, pid, stopping, services, logs }));
    this.#followers.add(client);
    client.ended.then(() => this.#followers.delete(client));
  }

  #serviceNames(): string[] {
    return this.#run.supervisor.services.map(({ name }) => name);
  }

  #send(message: Message): void {
    if (this.#followers.size === 0) return;
    const bytes = line(message);
    for (const follower of this.#followers) follower.send(bytes);
  }
}

function line(message: Message): Uint8Array {
  return encoder.encode(`${JSON.stringify(message)}\n`);
}

function accepted(names: readonly string[]): ControlAnswer {
  return { status: 202, body: { names } };
}

function failed(status: number, error: string): ControlAnswer {
  return { status, body: { error } };
}

function recentOf(query: URLSearchParams): number {
  const text = query.get("recent") ?? "0";
  if (!/^[0-9]{1,4}$/.test(text)) throw new UserError("recent is a number of lines from 0 to 9999.");
  return Number(text);
}

function namesOf({ names }: Record<string, unknown>): string[] {
  const isList = Array.isArray(names) && names.length > 0;
  if (!isList || !names.every((name): name is string => typeof name === "string")) {
    throw new UserError(`Name the services: {"names": ["db", "web"]}.`);
  }
  return names;
}

function flagOf(body: Record<string, unknown>, name: string): boolean {
  const value = body[name] ?? false;
  if (typeof value !== "boolean") throw new UserError(`${name} is true or false.`);
  return value;
}

/** Whether a service is as it should be. */
function isHealthy({ kind, state, lastExit }: ServiceStatus): boolean {
  if (state === "running") return true;
  return kind === "task" && state === "stopped" && lastExit?.kind === "exited" && lastExit.code === 0;
}

/** What the processes of each group take together, by the PID of its leader. */
function usageByGroup(): Map<number | null, { cpuMs: number; memoryBytes: number }> {
  const usage = new Map<number | null, { cpuMs: number; memoryBytes: number }>();
  for (const { pid, group, cpuMs } of processes()) {
    if (group === 0) continue; // the kernel's own
    const sum = usage.get(group) ?? { cpuMs: 0, memoryBytes: 0 };
    usage.set(group, {
      cpuMs: sum.cpuMs + cpuMs,
      memoryBytes: sum.memoryBytes + (residentBytes(pid) ?? 0),
    });
  }
  return usage;
}
