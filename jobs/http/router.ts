/**
 * Finds the route of a request, checks its token and answers it. The OpenAPI document is made from the same table.
 *
 * @module
 */
import { UserError } from "../../config/errors.ts";
import type { JobEngine } from "../engine/engine.ts";
import { HttpError, messageOf } from "../model/errors.ts";
import { docsRoutes } from "./docs_page.ts";
import { jobRoutes, submissionRoutes } from "./job_routes.ts";
import { overviewRoutes } from "./overview_routes.ts";
import { pageRoutes } from "./page/mod.ts";
import { clientOf, drain } from "./request.ts";
import type { RequestContext, Route } from "./route.ts";
import { JSON_TYPE } from "./route.ts";
import { workerRoutes } from "./worker_routes.ts";

/** The whole table, without the blueprints' submissions. */
export function routes(engine: JobEngine): Route[] {
  const table = [...jobRoutes(engine), ...overviewRoutes(engine), ...workerRoutes(engine), ...pageRoutes()];
  return [...table, ...docsRoutes([...submissionRoutes(engine), ...table])];
}

/** A tree of paths, segment by segment; the first step is the method. */
interface Node {
  children: Map<string, Node>;
  parameter?: Node;
  /** With the names of the parameters on the way. */
  match?: { route: Route; names: readonly string[] };
}

function addRoute(root: Node, path: string, route: Route): void {
  let node = root;
  const names: string[] = [];
  for (const segment of [route.method, ...path.split("/").slice(1)]) {
    const name = /^\{(\w+)\}$/.exec(segment)?.[1];
    const known = name === undefined ? node.children.get(segment) : node.parameter;
    const next = known ?? { children: new Map() };
    if (name === undefined) node.children.set(segment, next);
    else {
      node.parameter = next;
      names.push(name);
    }
    node = next;
  }
  node.match = { route, names };
}

/** What stands below a node; `values` receives the parameters. A fixed segment goes before a parameter. */
function find(
  node: Node | undefined,
  segments: readonly string[],
  index: number,
  values: string[],
): Node["match"] {
  const segment = segments[index];
  if (node === undefined || segment === undefined) return node?.match;
  const found = find(node.children.get(segment), segments, index + 1, values);
  if (found !== undefined || node.parameter === undefined || segment === "") return found;
  values.push(segment);
  const below = find(node.parameter, segments, index + 1, values);
  if (below === undefined) values.pop();
  return below;
}

function treeOf(engine: JobEngine): Node {
  const root: Node = { children: new Map() };
  const prefixes = new Set(["/api/"]);
  for (const { apiVersion } of engine.core.blueprints.values()) {
    if (apiVersion !== undefined) prefixes.add(`/api/${apiVersion}/`);
  }
  for (const route of routes(engine)) {
    for (const prefix of prefixes) addRoute(root, route.path.replace(/^\/api\//, prefix), route);
  }
  for (const route of submissionRoutes(engine)) addRoute(root, route.path, route);
  return root;
}

const METHODS = ["GET", "POST", "PATCH", "DELETE"];
const NO_QUERY = new URLSearchParams();

/** Answers requests for an engine. */
export function handler(engine: JobEngine): (request: Request) => Promise<Response> {
  const root = treeOf(engine);
  return async (request) => {
    try {
      const { url, method } = request;
      const start = url.indexOf("/", url.indexOf("//") + 2);
      const mark = url.indexOf("?", start);
      const segments = (mark === -1 ? url.slice(start) : url.slice(start, mark)).split("/");
      segments[0] = method === "HEAD" ? "GET" : method;
      const values: string[] = [];
      const match = find(root, segments, 0, values);
      if (match === undefined) {
        const allowed = METHODS.filter((other) => find(root, segments.with(0, other), 0, []) !== undefined);
        if (allowed.length === 0) throw new HttpError(404, "404: Not Found");
        throw new HttpError(405, "405: Method Not Allowed", { allow: allowed.join(", ") });
      }
      const { route, names } = match;
      const params = Object.fromEntries(names.map((name, index) => [name, decoded(values[index] ?? "")]));
      const client = route.access === "client" ? clientOf(engine, request) : undefined;
      if (route.body === undefined) await drain(request);
      const query = mark === -1 ? NO_QUERY : new URLSearchParams(url.slice(mark + 1));
      return await route.handle({ request, params, query, client } as RequestContext);
    } catch (error) {
      await drain(request);
      if (error instanceof HttpError) return errorResponse(error);
      if (error instanceof UserError) return errorResponse(new HttpError(400, error.message));
      engine.core.log("error", "request_failed", { method: request.method, error: messageOf(error) });
      // The storage does not work at the moment; nothing was accepted, so a repeat helps.
      const message = "The engine cannot store anything at the moment; try again.";
      return errorResponse(new HttpError(503, message, { "retry-after": "5" }));
    }
  };
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch (error) {
    if (error instanceof URIError) throw new HttpError(400, "The path is not valid UTF-8.");
    throw error;
  }
}

function errorResponse({ status, message, headers }: HttpError): Response {
  return new Response(JSON.stringify({ error: message }), { status, headers: { ...JSON_TYPE, ...headers } });
}
