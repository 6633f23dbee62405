/**
 * Finds the route of a request, checks its token and answers it. The OpenAPI document is made from the same table.
 *
 * @module
 */
import { gzipSync } from "node:zlib";
import { UserError } from "../../config/errors.ts";
import type { JobEngine } from "../engine/engine.ts";
import { HttpError, messageOf } from "../model/errors.ts";
import { jobRoutes, submissionRoutes } from "./job_routes.ts";
import { docsRoutes } from "./openapi.ts";
import { overviewRoutes } from "./overview_routes.ts";
import { pageRoutes } from "./page/mod.ts";
import { clientOf, drain, workerToken } from "./request.ts";
import { acceptsGzip, JSON_TYPE, type RequestContext, type Route, textResponse } from "./route.ts";
import { workerRoutes } from "./worker_routes.ts";

/** The whole table, without the blueprints' submissions. */
export function routes(engine: JobEngine): Route[] {
  const table = [...jobRoutes(engine), ...overviewRoutes(engine), ...workerRoutes(engine), ...pageRoutes()];
  return [...table, ...docsRoutes([...submissionRoutes(engine), ...table])];
}

/** Routes without a parameter by method and path, and the others with what stands around it: they have one each. */
interface RouteTable {
  fixed: Map<string, Route>;
  patterns: { route: Route; before: string; after: string }[];
}

function tableOf(engine: JobEngine): RouteTable {
  const table: RouteTable = { fixed: new Map(), patterns: [] };
  const add = (path: string, route: Route) => {
    const [before = "", after] = path.split(/\{\w+\}/);
    if (after === undefined) table.fixed.set(`${route.method} ${path}`, route);
    else table.patterns.push({ route, before, after });
  };
  const prefixes = new Set(["/api/"]);
  for (const { apiVersion } of engine.core.blueprints.values()) {
    if (apiVersion !== undefined) prefixes.add(`/api/${apiVersion}/`);
  }
  for (const route of routes(engine)) {
    if (!route.path.startsWith("/api/")) add(route.path, route);
    else for (const prefix of prefixes) add(route.path.replace("/api/", prefix), route);
  }
  for (const route of submissionRoutes(engine)) add(route.path, route);
  return table;
}

/** The route for a method and a path. A fixed path goes before one with a parameter. */
function find({ fixed, patterns }: RouteTable, method: string, path: string) {
  const route = fixed.get(`${method} ${path}`);
  if (route !== undefined) return { route, id: "" };
  for (const { route, before, after } of patterns) {
    if (route.method !== method || !path.startsWith(before) || !path.endsWith(after)) continue;
    const id = path.slice(before.length, path.length - after.length);
    if (id !== "" && !id.includes("/")) return { route, id };
  }
}

/** Answers below this size are not worth the work of compressing them. */
const COMPRESS_FROM_CHARACTERS = 500;
const METHODS = ["GET", "POST", "PATCH", "DELETE"];
const NO_QUERY = new URLSearchParams();

/** Answers requests for an engine. */
export function handler(engine: JobEngine): (request: Request) => Promise<Response> {
  const table = tableOf(engine);
  return async (request) => {
    try {
      const { url, method } = request;
      const start = url.indexOf("/", url.indexOf("//") + 2);
      const mark = url.indexOf("?", start);
      const path = mark === -1 ? url.slice(start) : url.slice(start, mark);
      const match = find(table, method === "HEAD" ? "GET" : method, path);
      if (match === undefined) {
        const allowed = METHODS.filter((other) => find(table, other, path) !== undefined);
        if (allowed.length === 0) throw new HttpError(404, "404: Not Found");
        throw new HttpError(405, "405: Method Not Allowed", { allow: allowed.join(", ") });
      }
      const { route } = match;
      const id = decoded(match.id);
      const client = route.access === "client" ? clientOf(engine, request) : undefined;
      const token = route.access === "worker" ? workerToken(request) : undefined;
      if (route.body === undefined) await drain(request);
      const query = mark === -1 ? NO_QUERY : new URLSearchParams(url.slice(mark + 1));
      const answer = await route.handle({ request, id, query, client, token } as RequestContext);
      return answer instanceof Response ? answer : json(request, answer);
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

/** Answers with JSON, compressed where that pays and the request allows it. */
function json(request: Request, value: object): Response {
  const text = JSON.stringify(value);
  if (text.length < COMPRESS_FROM_CHARACTERS || !acceptsGzip(request)) return textResponse(text);
  const headers = { "content-type": JSON_TYPE, "content-encoding": "gzip", vary: "Accept-Encoding" };
  return new Response(new Uint8Array(gzipSync(text, { level: 1 })), { headers });
}

function errorResponse({ status, message, headers }: HttpError): Response {
  return new Response(JSON.stringify({ error: message }), {
    status,
    headers: { "content-type": JSON_TYPE, ...headers },
  });
}
