/**
 * The rows of the route table: the router finds them, the OpenAPI document describes them, and their handlers answer.
 *
 * @module
 */
import type { z } from "zod";
import type { Client } from "../engine/tokens.ts";

/** A request that found its route and passed its token check. */
export interface RequestContext {
  request: Request;
  /** What `{id}` or the like in the route's path stands for, decoded; empty where its path has none. */
  id: string;
  query: URLSearchParams;
  /** Who asks; missing where the route's access is not `client`. */
  client: Client;
  /** Not checked yet; missing where the route's access is not `worker`. */
  token: string;
}

/** What an answer means, and its content: JSON of this schema, or this other type. An error is a sentence alone. */
export type Answer = string | readonly [meaning: string, content?: z.ZodType | string];

export interface Route {
  /** `link`: by a client's token or the secret of a one-time link; the route itself checks which. */
  access: "public" | "client" | "worker" | "link";
  group: "Public" | "Jobs" | "Workers" | "Worker protocol" | "Administration";
  method: "GET" | "POST" | "PATCH" | "DELETE";
  /** With one parameter at most. What is below `/api` is also below each version: `/api/v1/jobs/{id}`. */
  path: string;
  summary: string;
  /** Names and meanings of query parameters. */
  query?: Record<string, string>;
  /** Without one, what is sent is read and thrown away before `handle` is called. */
  body?: z.ZodType;
  /** What it answers besides what follows from its access, path and body. */
  answers: Record<number, Answer>;
  /** What is not a `Response` is answered as JSON. */
  handle(call: RequestContext): object | Promise<object>;
}

/** The first columns of a group of rows: `...at("GET", "/path", "What it is for")`. */
export function rows(access: Route["access"], group: Route["group"]) {
  return (method: Route["method"], path: string, summary: string) => ({
    access,
    group,
    method,
    path,
    summary,
  });
}

export const JSON_TYPE = "application/json";

/** Answers with a text as it is. One header and no more: the runtime has a shorter way for such answers. */
export function textResponse(text: string, type = JSON_TYPE, status = 200): Response {
  return new Response(text, { status, headers: { "content-type": type } });
}

/** Whether a request allows an answer that is compressed with gzip. */
export function acceptsGzip(request: Request): boolean {
  return /\bgzip\b(?!\s*;\s*q=0(\.0*)?\s*(,|$))/.test(request.headers.get("accept-encoding") ?? "");
}
