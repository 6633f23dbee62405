/**
 * The routes of the control socket. `docs/control.md` lists what each takes and answers.
 *
 * @module
 */

import { UserError } from "../config/errors.ts";
import { withDependents } from "../supervisor/plan.ts";
import type { Answers, Change } from "./protocol.ts";
import type { RunContext } from "./run_options.ts";
import type { Definitions } from "./reload.ts";
import type { ControlAnswer, ControlRequest, Follower } from "./server.ts";
import type { About } from "./status.ts";
import { statusOf } from "./status.ts";

/** What a route is given. */
interface Call {
  query: URLSearchParams;
  body: Record<string, unknown>;
}

interface Route {
  method: "GET" | "POST";
  answer(call: Call): ControlAnswer | Promise<ControlAnswer>;
}

/** What the routes act on. */
export interface Controlled {
  context: RunContext;
  about(): About;
  follow(client: Follower, recent: number): void;
  definitions(): Promise<Definitions>;
  /** Reads the definitions again and carries out what changed. @returns the changes */
  reload(dryRun: boolean): Promise<readonly Change[]>;
}

/** Answers requests. What a user can fix is answered with a sentence. */
export function makeAnswer(controlled: Controlled): (request: ControlRequest) => Promise<ControlAnswer> {
  const routes = routesOf(controlled);
  return async ({ method, path, query, body }) => {
    const route = routes.get(path);
    if (route === undefined) {
      return {
        status: 404,
        body: { error: `There is no ${path}; there are ${[...routes.keys()].join(", ")}.` },
      };
    }
    if (method !== route.method) {
      return { status: 405, body: { error: `Use ${route.method} for ${path}.` } };
    }
    try {
      return await route.answer({ query, body });
    } catch (error) {
      if (!(error instanceof UserError)) throw error;
      const status = controlled.context.supervisor.stopping ? 409 : 400;
      return { status, body: { error: error.message } };
    }
  };
}

/** A table: every path with what it does. */
function routesOf(controlled: Controlled): Map<string, Route> {
  const { context } = controlled;
  const { supervisor } = context;
  const all = () => supervisor.services.map(({ name }) => name);
  const routes: Record<keyof Answers | "/events", Route> = {
    "/status": {
      method: "GET",
      answer: () => ({ status: 200, body: statusOf(supervisor.snapshot(), controlled.about()) }),
    },
    "/events": {
      method: "GET",
      answer: ({ query }) => {
        const recent = recentOf(query);
        return { status: 200, follow: (client) => controlled.follow(client, recent) };
      },
    },
    "/start": {
      method: "POST",
      answer: async ({ body }) => accepted((await controlled.definitions()).start(namesOf(body))),
    },
    "/restart": {
      method: "POST",
      answer: async ({ body }) => {
        const more = { dependents: flagOf(body, "dependents"), dependencies: flagOf(body, "dependencies") };
        return accepted((await controlled.definitions()).restart(namesOf(body), more));
      },
    },
    "/stop": {
      method: "POST",
      answer: ({ body }) => {
        if (body.names === undefined) {
          context.stop();
          return accepted(all());
        }
        const names = namesOf(body);
        supervisor.setDesired(names, "stopped");
        return accepted([...withDependents(supervisor.services, names)]);
      },
    },
    "/reload": {
      method: "POST",
      answer: async ({ body }) => ({
        status: 200,
        body: { changes: await controlled.reload(flagOf(body, "dryRun")) },
      }),
    },
    "/self-restart": {
      method: "POST",
      answer: () => {
        context.restartSelf();
        return accepted(all());
      },
    },
  };
  return new Map(Object.entries(routes));
}

function accepted(names: readonly string[]): ControlAnswer {
  return { status: 202, body: { names } };
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
