/**
 * How requests are answered: JSON, compressed where that pays, and errors as a status and a sentence.
 *
 * @module
 */

import { gzipSync } from "node:zlib";
import type { RequestContext } from "./route.ts";

// One header and no more: the runtime has a shorter way for such answers.
export const JSON_TYPE = { "content-type": "application/json" };

/** Answers below this size are not worth the work of compressing them. */
const COMPRESS_FROM_CHARACTERS = 500;

export function json(value: unknown, status = 200, headers: Record<string, string> = {}): Response {
  return new Response(JSON.stringify(value), { status, headers: { ...JSON_TYPE, ...headers } });
}

export function raw(text: string): Response {
  return new Response(text, { headers: JSON_TYPE });
}

/** Whether a request allows an answer that is compressed with gzip. */
export function acceptsGzip(request: Request): boolean {
  return /\bgzip\b(?!\s*;\s*q=0(\.0*)?\s*(,|$))/.test(request.headers.get("accept-encoding") ?? "");
}

// An answer that may be large: compressed where the request allows it.
export function largeJson({ request }: RequestContext, value: unknown): Response {
  const text = JSON.stringify(value);
  if (text.length < COMPRESS_FROM_CHARACTERS || !acceptsGzip(request)) return raw(text);
  const headers = { ...JSON_TYPE, "content-encoding": "gzip", vary: "Accept-Encoding" };
  return new Response(new Uint8Array(gzipSync(text, { level: 1 })), { headers });
}

export function errorResponse(status: number, error: string, headers: Record<string, string> = {}): Response {
  return json({ error }, status, headers);
}
