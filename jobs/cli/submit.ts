/**
 * `orchestrator job submit`.
 *
 * @module
 */

import type { Given } from "../../config/command.ts";
import { durationMs } from "../../config/command.ts";
import { UserError } from "../../config/errors.ts";
import type { JsonObject } from "../model/job.ts";
import { isObject } from "../model/json.ts";
import { stripControl } from "../model/text.ts";
import type { JobView } from "../model/wire.ts";
import { isEnded } from "./client.ts";
import type { JobClient } from "./client.ts";
import { clientOf } from "./job.ts";
import type { Paint, Streams } from "./streams.ts";
import { palette, stopSignals, withStreams } from "./streams.ts";

/** Submits a job. @returns 0, or 1 when it is waited for and does not end well or in time */
export function run(given: Given): Promise<number> {
  return withStreams((streams) => submit(clientOf(given), given, streams));
}

async function submit(client: JobClient, given: Given, streams: Streams): Promise<number> {
  const [blueprint = "", text = "{}"] = given.words;
  const data = readData(text === "-" ? await new Response(Deno.stdin.readable).text() : text);
  const timeoutMs = durationMs(given, "timeout", undefined);
  const id = await client.submit(blueprint, data, {
    idempotencyKey: given.one("idempotency-key"),
    webhookUrl: given.one("webhook-url"),
    dispatchTimeout: secondsOf(given, "dispatch-timeout"),
    resultTimeout: secondsOf(given, "result-timeout"),
  });
  const asJson = given.has("json");
  if (!given.has("wait")) {
    streams.out.line(asJson ? JSON.stringify({ status: "accepted", job_id: id }, null, 2) : id);
    return 0;
  }
  return await follow(client, id, asJson, timeoutMs, streams);
}

/** A duration as the seconds that the engine takes. */
function secondsOf(given: Given, option: string): string | undefined {
  const spanMs = durationMs(given, option, undefined);
  return spanMs === undefined ? undefined : String(spanMs / 1_000);
}

function readData(text: string): JsonObject {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new UserError(
      `The job's data is not JSON: ${
        error instanceof Error ? error.message : ""
      }; write an object such as '{"message":"Hello"}'.`,
    );
  }
  if (isObject(value)) return value;
  throw new UserError(`The job's data must be a JSON object such as '{"message":"Hello"}'.`);
}

// Progress goes to stderr, so that stdout holds the result alone.
async function follow(
  client: JobClient,
  id: string,
  asJson: boolean,
  timeoutMs: number | undefined,
  streams: Streams,
): Promise<number> {
  using signals = stopSignals();
  const late = timeoutMs === undefined ? undefined : AbortSignal.timeout(timeoutMs);
  const signal = late === undefined ? signals.stop : AbortSignal.any([signals.stop, late]);
  const paint = palette(streams);
  streams.err.line(`job ${id}`);
  let shown = "";
  let last: JobView | undefined;
  let isAway = false;
  const onAway = (error: Error) => {
    if (!isAway) streams.err.line(`${stripControl(error.message)} Waiting for it.`);
    isAway = true;
  };
  for await (const job of client.watch(id, signal, onAway)) {
    last = job;
    isAway = false;
    const line = progressLine(job, paint);
    if (line !== shown) streams.err.line(line);
    shown = line;
  }
  if (last === undefined || !isEnded(last)) {
    const why = late?.aborted ? "Not ended in time" : "No longer waiting";
    streams.err.line(`${why}; the job goes on: orchestrator job status ${id}`);
    return 1;
  }
  if (asJson) streams.out.line(JSON.stringify(last, null, 2));
  else if (last.status === "finished") streams.out.line(JSON.stringify(last.result ?? {}, null, 2));
  else {streams.err.line(
      `orchestrator: the job is ${last.status}${
        last.error_message ? `: ${stripControl(last.error_message)}` : ""
      }`,
    );}
  return last.status === "finished" ? 0 : 1;
}

function progressLine(job: JobView, paint: Paint): string {
  const { waiting_for: waits, progress } = job;
  const details = waits === undefined ? [] : [
    `for ${waits}`,
    progress?.progress === undefined ? "" : `${Math.round(progress.progress * 100)} %`,
    progress?.message ?? "",
  ];
  const head = `${paint.name(stripControl(job.current_state))}: ${paint.status(job.status)}`;
  return [head, ...details.filter((detail) => detail !== "").map(stripControl)].join(", ");
}
