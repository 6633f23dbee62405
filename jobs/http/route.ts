/**
 * One row of the route table: the router finds it, the OpenAPI document describes it.
 *
 * @module
 */
import type { z } from "zod";
import { ErrorAnswer } from "../model/wire.ts";
import type { Client } from "../engine/tokens.ts";

/** A request that found its route and passed its token check. */
export interface RequestContext {
  request: Request;
  /** Values of `{id}` and the like in the route's path, decoded; those that its path does not have are missing. */
  params: Readonly<Record<"id" | "worker_id" | "name", string>>;
  query: URLSearchParams;
  /** Set on routes with access `client`. */
  client?: Client;
}

/** An answer as the OpenAPI document describes it. */
export interface Answer {
  description: string;
  schema?: z.ZodType;
  type?: string;
}

/** One row of the route table. */
export interface Route {
  method: "GET" | "POST" | "PATCH" | "DELETE";
  /** Below `/api`, the same route also exists below each version: `/api/jobs/{id}` and `/api/v1/jobs/{id}`. */
  path: string;
  /** `link`: by a client's token or the secret of a one-time link; the route itself checks which. */
  access: "public" | "client" | "worker" | "link";
  group: "Public" | "Jobs" | "Workers" | "Worker protocol" | "Administration";
  summary: string;
  /** Names and meanings of query parameters. */
  query?: Record<string, string>;
  body?: z.ZodType;
  /** What it answers besides what follows from its access, path and body. An error is a sentence. */
  answers: Record<number, Answer | string>;
  handle(call: RequestContext): Response | Promise<Response>;
}

type Place = Pick<Route, "method" | "path" | "group" | "access">;

/** Where a route without a token stands. */
export function publicRoute(method: Route["method"], path: string, group: Route["group"]): Place {
  return { method, path, group, access: "public" };
}

/** Where a route for clients stands. */
export function clientRoute(method: Route["method"], path: string, group: Route["group"]): Place {
  return { method, path, group, access: "client" };
}

/** Where a route of the worker protocol stands. */
export function workerRoute(method: Route["method"], path: string, group: Route["group"]): Place {
  return { method, path, group, access: "worker" };
}

/** Everything that a route answers: what it says itself, and what follows from its access, path and body. */
export function answersOf({ access, path, body, answers }: Route): [status: string, answer: Answer][] {
  const all: Route["answers"] = {};
  if (body !== undefined) all[400] = "The body cannot be read or has a wrong field";
  if (access !== "public") all[401] = "No token, or a wrong one";
  if (path.includes("/{id}")) all[404] = "No such job of this client";
  Object.assign(all, answers);
  return Object.entries(all).map(([status, answer]) => [
    status,
    typeof answer === "string" ? { description: answer, schema: ErrorAnswer } : answer,
  ]);
}
