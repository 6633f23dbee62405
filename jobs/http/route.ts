/**
 * One row of the route table: the router finds it, the OpenAPI document describes it.
 *
 * @module
 */
import type { z } from "zod";
import type { Client } from "../engine/tokens.ts";

/** A request that found its route and passed its token check. */
export interface RequestContext {
  request: Request;
  /** Values of `{name}` in the route's path, decoded. */
  params: Record<string, string>;
  query: URLSearchParams;
  /** Set on routes with access `client`. */
  client?: Client;
}

/** One row of the route table. */
export interface Route {
  method: "GET" | "POST" | "PATCH" | "DELETE";
  /** Below `/api`, the same route also exists below each version: `/api/jobs/{id}` and `/api/v1/jobs/{id}`. */
  path: string;
  access: "public" | "client" | "worker";
  group: "Public" | "Jobs" | "Workers" | "Worker protocol" | "Administration";
  summary: string;
  /** Names and meanings of query parameters. */
  query?: Record<string, string>;
  body?: z.ZodType;
  answers: Record<number, { description: string; schema?: z.ZodType; type?: string }>;
  handle(call: RequestContext): Response | Promise<Response>;
}
