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
import { print } from "../../terminal/outlet.ts";
import { oneLine, stripControl } from "../../terminal/text.ts";
import type { JobView } from "../model/wire.ts";
import { isEnded } from "./client.ts";
import type { JobClient } from "./client.ts";
import { clientOf, paintName, paintStatus } from "./job.ts";
import { stopSignals } from "./streams.ts";

/** Submits a job. @returns 0, or 1 when it is waited for and does not end well or in time */
export async function run(given: Given): Promise<number> {
  const client = clientOf(given);
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
    print(asJson ? JSON.stringify({ status: "accepted", job_id: id }, null, 2) : id);
    return 0;
  }
  return await follow(client, id, asJson, timeoutMs);
}

// Progress goes to stderr, so that stdout holds the result alone.
function report(text: string): void {
  print(text, Deno.stderr);
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

async function follow(
  client: JobClient,
  id: string,
  asJson: boolean,
  timeoutMs: number | undefined,
): Promise<number> {
  using signals = stopSignals();
  const late = timeoutMs === undefined ? undefined : AbortSignal.timeout(timeoutMs);
  const signal = late === undefined ? signals.stop : AbortSignal.any([signals.stop, late]);
  report(`job ${id}`);
  let shown = "";
  let last: JobView | undefined;
  let isAway = false;
  const onAway = (error: Error) => {
    if (!isAway) report(`${stripControl(error.message)} Waiting for it.`);
    isAway = true;
  };
  for await (const job of client.watch(id, signal, onAway)) {
    last = job;
    isAway = false;
    const line = progressLine(job);
    if (line !== shown) report(line);
    shown = line;
  }
  if (last === undefined || !isEnded(last)) {
    const why = late?.aborted ? "Not ended in time" : "No longer waiting";
    report(`${why}; the job goes on: orchestrator job status ${id}`);
    return 1;
  }
  if (asJson) print(JSON.stringify(last, null, 2));
  else if (last.status === "finished") print(JSON.stringify(last.result ?? {}, null, 2));
  else {
    const why = last.error_message ? `: ${stripControl(last.error_message)}` : "";
    report(`orchestrator: the job is ${last.status}${why}`);
  }
  return last.status === "finished" ? 0 : 1;
}

function progressLine(job: JobView): string {
  const { waiting_for: waits, progress } = job;
  const details = waits === undefined ? [] : [
    `for ${waits}`,
    progress?.progress === undefined ? "" : `${Math.round(progress.progress * 100)} %`,
    progress?.message ?? "",
  ];
  const head = `${paintName(oneLine(job.current_state))}: ${paintStatus(job.status)}`;
  return [head, ...details.filter((detail) => detail !== "").map(oneLine)].join(", ");
}
