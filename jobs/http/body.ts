/** Bodies of requests: bounded in size and time before anything is parsed. */
import { HttpError } from "../model/errors.ts";
import type { Arrivals } from "../engine/timers.ts";

/** Bodies that are refused are read to their end up to this size. */
const DRAIN_BYTES = 64 << 20;

/** Reads a body that is neither too large nor too slow. @throws HttpError */
export async function readText(request: Request, limit: number, arrivals: Arrivals): Promise<string> {
  const length = request.headers.get("content-length");
  if (length !== null && Number(length) > limit) {
    await drain(request);
    throw new HttpError(413, `The body is larger than the ${limit} bytes that are allowed here`);
  }
  try {
    if (length === null) {
      if (request.body === null) return "";
      const bytes = await arrivals.wait(readStream(request.body, limit));
      return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
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

async function readStream(stream: ReadableStream<Uint8Array>, limit: number): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  let size = 0;
  for await (const part of stream) {
    size += part.length;
    if (size > limit) {
      throw new HttpError(413, `The body is larger than the ${limit} bytes that are allowed here`);
    }
    parts.push(part);
  }
  const bytes = new Uint8Array(size);
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

/** Reads a body to its end for nothing: a refusal sent before gets lost when the connection is reset. */
export async function drain(request: Request): Promise<void> {
  if (request.body === null || request.bodyUsed) return;
  if (Number(request.headers.get("content-length") ?? Infinity) > DRAIN_BYTES) return;
  const reader = request.body.getReader();
  let size = 0;
  const timer = setTimeout(() => void reader.cancel().catch(() => {}), 5_000);
  try {
    for (;;) {
      const { done, value } = await reader.read();
      size += value?.length ?? 0;
      if (done || size > DRAIN_BYTES) return;
    }
  } catch {
    // It broke off: there is nobody left to answer.
  } finally {
    clearTimeout(timer);
  }
}
