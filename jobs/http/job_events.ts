/**
 * Changes of jobs as a stream of server-sent events.
 *
 * @module
 */

import type { JobEngine } from "../engine/engine.ts";
import { jobSummary } from "../model/wire.ts";

const SERVER_EVENTS_PING_MS = 15_000;

export function jobEvents(engine: JobEngine, client: string | undefined, gone: AbortSignal): Response {
  const encoder = new TextEncoder();
  let end = () => {};
  const stream = new ReadableStream<Uint8Array>({
    start(controller) {
      const send = (text: string) => {
        // A reader that does not keep up misses changes rather than filling the memory; it can ask for the list.
        if ((controller.desiredSize ?? 0) > -1000) controller.enqueue(encoder.encode(text));
      };
      const unhear = engine.onJob((job) => {
        if (job.client === client) send(`event: job\ndata: ${JSON.stringify(jobSummary(job))}\n\n`);
      });
      const timer = setInterval(() => send(": still here\n\n"), SERVER_EVENTS_PING_MS);
      const close = () => {
        end();
        controller.close();
      };
      end = () => {
        unhear();
        clearInterval(timer);
        engine.core.stopping.removeEventListener("abort", close);
        end = () => {};
      };
      engine.core.stopping.addEventListener("abort", close);
      gone.addEventListener("abort", () => end());
      send(": hello\n\n");
    },
    cancel: () => end(),
  });
  return new Response(stream, {
    headers: { "content-type": "text/event-stream", "cache-control": "no-store" },
  });
}
