/**
 * Reads requests: whose they are, their parameters, and their bodies, which are bounded in size and time before anything
 * is parsed.
 *
 * @module
 */
import type { z } from "zod";
import type { EngineCore } from "../engine/core.ts";
import type { JobEngine } from "../engine/engine.ts";
import type { Client } from "../engine/tokens.ts";
import { HttpError } from "../model/errors.ts";
import type { JsonValue } from "../model/job.ts";
import { parseBody } from "../model/json.ts";

/** The most entries that a list gives at once. */
export const LIST_LIMIT = 1000;

/** Bodies that are refused are read to their end up to this size. */
const DRAIN_BYTES = 64 << 20;

export function clientOf({ core }: JobEngine, { headers }: Request): Client {
  const token = headers.get("x-avtomatika-token") ?? headers.get("x-client-token");
  if (token === null) throw new HttpError(401, "Missing X-Avtomatika-Token header");
  const client = core.authenticator.client(token);
  if (client === undefined) throw new HttpError(401, "Unauthorized: Invalid token");
  return client;
}

export function workerToken({ headers }: Request): string {
  const token = headers.get("x-worker-token");
  if (token === null) throw new HttpError(401, "Missing X-Worker-Token header");
  return token;
}

/** Milliseconds of a parameter in seconds. */
export function secondsOf(text: string | null, name: string): number | undefined {
  if (text === null) return undefined;
  const seconds = Number(text);
  if (text.trim() === "" || !(seconds > 0 && seconds <= 1e9)) {
    throw new HttpError(400, `${name} must be a number of seconds`);
  }
  return seconds * 1000;
}

/** The part of a list that is asked for. */
export function pageOf(query: URLSearchParams, limit: number, most = LIST_LIMIT) {
  const wholeNumber = (name: string, fallback: number) => {
    const text = query.get(name);
    if (text === null) return fallback;
    if (!/^\d{1,9}$/.test(text)) throw new HttpError(400, "Invalid limit/offset parameter");
    return Number(text);
  };
  return { limit: Math.min(wholeNumber("limit", limit), most), offset: wholeNumber("offset", 0) };
}

/** A body that a schema accepts. */
export function check<T>(schema: z.ZodType<T>, value: unknown): T {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const [issue] = result.error.issues;
  const { path, message } = issue ?? { path: [], message: "The body cannot be read." };
  const where = path.join(".");
  throw new HttpError(400, where === "" ? message : `Invalid field ${where}: ${message}`);
}

/** Reads what a client sends. */
export async function readSubmission({ core }: JobEngine, request: Request): Promise<JsonValue> {
  const { maxSubmissionBytes, maxDepth } = core.config;
  return parseBody(await readText(core, request, maxSubmissionBytes), maxDepth, true);
}

/** Reads a body that is neither too large nor too slow. @throws HttpError */
export async function readText({ arrivals }: EngineCore, request: Request, limit: number): Promise<string> {
  const length = request.headers.get("content-length");
  if (length !== null && Number(length) > limit) {
    await drain(request);
    throw tooLarge(limit);
  }
  try {
    if (length === null) {
      return request.body === null ? "" : await arrivals.wait(readChunks(request.body, limit));
    }
    const text = await arrivals.wait(request.text());
    // What is not UTF-8 was read as U+FFFD, and has another length then.
    if (text.includes("\uFFFD") && new TextEncoder().encode(text).length !== Number(length)) {
      throw new HttpError(400, "Invalid JSON body");
    }
    return text;
  } catch (error) {
    if (error instanceof HttpError) throw error;
    // Broken chunks, a closed connection, bytes that are not UTF-8.
    throw new HttpError(400, "Invalid JSON body");
  }
}

async function readChunks(chunks: ReadableStream<Uint8Array>, limit: number): Promise<string> {
  const decoder = new TextDecoder("utf-8", { fatal: true });
  let text = "";
  let size = 0;
  for await (const chunk of chunks) {
    size += chunk.length;
    if (size > limit) throw tooLarge(limit);
    text += decoder.decode(chunk, { stream: true });
  }
  return text + decoder.decode();
}

function tooLarge(limit: number): HttpError {
  return new HttpError(413, `The body is larger than the ${limit} bytes that are allowed here`);
}

/** Reads a body to its end for nothing: a refusal sent before gets lost when the connection is reset. */
export async function drain({ body, bodyUsed, headers }: Request): Promise<void> {
  if (body === null || bodyUsed || Number(headers.get("content-length") ?? Infinity) > DRAIN_BYTES) return;
  // Where it breaks off or takes too long, nobody is left who reads the answer.
  const late = new AbortController();
  const timer = setTimeout(() => late.abort(), 5_000);
  await body.pipeTo(new WritableStream(), { signal: late.signal }).catch(() => {});
  clearTimeout(timer);
}
