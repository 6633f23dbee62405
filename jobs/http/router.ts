/**
 * Finds the route of a request, checks its token and answers it. The OpenAPI document is made from the same table.
 *
 * @module
 */

import { UserError } from "../../config/errors.ts";
import type { JobEngine } from "../engine/engine.ts";
import { clientOf } from "./access.ts";
import { drain } from "./body.ts";
import { jobRoutes } from "./job_routes.ts";
import { openapiRoutes } from "./docs_page.ts";
import { pageRoutes } from "./page/mod.ts";
import { publicRoutes } from "./public_routes.ts";
import { errorResponse } from "./responses.ts";
import type { RequestContext, Route } from "./route.ts";
import { submission } from "./submission_route.ts";
import { workerRoutes } from "./worker_routes.ts";
import { HttpError, messageOf } from "../model/errors.ts";

interface Node {
  children: Map<string, Node>;
  parameter?: Node;
  routes: Map<string, RouteMatch>;
}

/** A route and the names of the parameters in its path. */
interface RouteMatch {
  route: Route;
  names: string[];
}

function emptyNode(): Node {
  return { children: new Map(), routes: new Map() };
}

function addRoute(root: Node, path: string, route: Route): void {
  let node = root;
  const names: string[] = [];
  for (const segment of path.split("/").slice(1)) {
    const name = /^\{(\w+)\}$/.exec(segment)?.[1];
    if (name !== undefined) {
      names.push(name);
      node = node.parameter ??= emptyNode();
    } else {
      let child = node.children.get(segment);
      if (child === undefined) node.children.set(segment, child = emptyNode());
      node = child;
    }
  }
  node.routes.set(route.method, { route, names });
}

// The route for a method below a node; `values` receives the parameters. A fixed segment goes before a parameter.
function findRoute(
  node: Node,
  segments: readonly string[],
  index: number,
  method: string,
  values: string[],
): RouteMatch | undefined {
  if (index === segments.length) return node.routes.get(method);
  const segment = segments[index] ?? "";
  const child = node.children.get(segment);
  const found = child && findRoute(child, segments, index + 1, method, values);
  if (found !== undefined || node.parameter === undefined || segment === "") return found;
  values.push(segment);
  const below = findRoute(node.parameter, segments, index + 1, method, values);
  if (below === undefined) values.pop();
  return below;
}

const METHODS = ["GET", "POST", "PATCH", "DELETE"];

/** Answers requests for an engine. */
export function handler(
  engine: JobEngine,
): (request: Request) => Promise<Response> {
  const root = emptyNode();
  const table = routes(engine);
  const versions = new Set(
    [...engine.core.blueprints.values()].map((blueprint) => blueprint.apiVersion ?? ""),
  );
  versions.add("");
  for (const route of table) {
    if (!route.path.startsWith("/api/") || route.path.startsWith("/api/{")) addRoute(root, route.path, route);
    else {for (const version of versions) {
        addRoute(root, `/api${version && `/${version}`}${route.path.slice(4)}`, route);
      }}
  }
  for (const blueprint of engine.core.blueprints.values()) {
    if (blueprint.apiEndpoint === undefined) continue;
    const { apiVersion, apiEndpoint } = blueprint;
    addRoute(root, `/api${apiVersion ? `/${apiVersion}` : ""}${apiEndpoint}`, submission(engine, blueprint));
  }
  return async (request) => {
    try {
      const { url } = request;
      const start = url.indexOf("/", url.indexOf("//") + 2);
      const mark = url.indexOf("?", start);
      const path = mark === -1 ? url.slice(start) : url.slice(start, mark);
      const segments = path.split("/");
      const values: string[] = [];
      const method = request.method === "HEAD" ? "GET" : request.method;
      const match = findRoute(root, segments, 1, method, values);
      if (match === undefined) {
        await drain(request);
        const allowed = METHODS.filter((other) => findRoute(root, segments, 1, other, []) !== undefined);
        if (allowed.length === 0) return errorResponse(404, "404: Not Found");
        return errorResponse(405, "405: Method Not Allowed", { allow: allowed.join(", ") });
      }
      const { route } = match;
      const call: RequestContext = {
        request,
        params: values.length === 0 ? NOTHING : named(match.names, values),
        query: mark === -1 ? NO_QUERY : new URLSearchParams(url.slice(mark + 1)),
      };
      if (route.access === "client") call.client = clientOf(engine, request);
      return await route.handle(call);
    } catch (error) {
      if (error instanceof HttpError) {
        await drain(request);
        return errorResponse(error.status, error.message, error.headers);
      }
      if (error instanceof UserError) return errorResponse(400, error.message);
      engine.core.log("error", "request_failed", { method: request.method, error: messageOf(error) });
      // The storage does not work at the moment; nothing was accepted, so a repeat helps.
      return errorResponse(503, "The engine cannot store anything at the moment; try again.", {
        "retry-after": "5",
      });
    }
  };
}

const NOTHING = {} as RequestContext["params"];

const NO_QUERY = new URLSearchParams();

function named(names: readonly string[], values: readonly string[]): RequestContext["params"] {
  const params: Record<string, string> = {};
  for (const [index, name] of names.entries()) {
    const value = values[index] ?? "";
    try {
      params[name] = value.includes("%") ? decodeURIComponent(value) : value;
    } catch (error) {
      if (error instanceof URIError) throw new HttpError(400, "The path is not valid UTF-8.");
      throw error;
    }
  }
  return params as RequestContext["params"];
}

/** The whole table, without the blueprints' submissions. */
export function routes(engine: JobEngine): Route[] {
  const table: Route[] = [
    ...publicRoutes(engine),
    ...jobRoutes(engine),
    ...workerRoutes(engine),
    ...pageRoutes(),
  ];
  const submissions = [...engine.core.blueprints.values()]
    .filter((blueprint) => blueprint.apiEndpoint !== undefined)
    .map((blueprint) => submission(engine, blueprint));
  return [...table, ...openapiRoutes(() => [...submissions, ...table])];
}
