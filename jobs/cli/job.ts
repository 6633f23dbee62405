/**
 * What clients do: `orchestrator job ...` and `orchestrator workers`.
 *
 * @module
 */

// @ts-types="../../config/std.d.ts"
import { cyan, green, red, yellow } from "@std/fmt/colors";
import { durationMs, type Given } from "../../config/command.ts";
import { UserError } from "../../config/errors.ts";
import { print } from "../../terminal/outlet.ts";
import { oneLine, stripControl, tableText, useColors } from "../../terminal/text.ts";
import { messageOf } from "../model/errors.ts";
import type { JsonObject } from "../model/job.ts";
import { isObject } from "../model/json.ts";
import type { JobView } from "../model/wire.ts";
import { isEnded, JobClient } from "./client.ts";
import { type Environment, stopSignals, withVariables } from "./environment.ts";

/** Runs a command of a client. @returns 0, or 1 when a job is waited for and does not end well or in time */
export function run(given: Given): Promise<number> {
  return withVariables(given, async (environment) => {
    const client = clientOf(environment);
    const ask = QUESTIONS[given.command.name];
    if (ask === undefined) return await submit(client, given); // which asks more than once
    const { answer, text } = await ask(client, given.words, given);
    print(given.has("json") ? json(answer) : text);
    return 0;
  });
}

function clientOf(
  { ORCHESTRATOR_URL: url = "http://127.0.0.1:8080", CLIENT_TOKEN: token = "" }: Environment,
): JobClient {
  if (!/^https?:\/\/[^\s/]+/i.test(url)) {
    throw new UserError("ORCHESTRATOR_URL must be an address such as http://127.0.0.1:8080.");
  }
  if (token !== "") return new JobClient(url, token);
  throw new UserError(
    "There is no client token; set CLIENT_TOKEN to one that the engine knows. An engine without any shows the one it made when it starts.",
  );
}

/** Asks the engine once. Its answer is shown with `--json`, otherwise a text. */
type Question = (
  client: JobClient,
  words: readonly string[],
  given: Given,
) => Promise<{ answer: unknown; text: string }>;

const QUESTIONS: Readonly<Record<string, Question>> = {
  "job status": async (client, [id = ""]) => {
    const job = await client.job(id);
    return { answer: job, text: describe(job) };
  },
  "job cancel": async (client, [id = ""]) => ({
    answer: await client.change(id, "cancel"),
    text: "Cancelled.",
  }),
  "job approve": async (client, [id = "", decision = ""]) => ({
    answer: await client.change(id, "approve", { decision }),
    text: `Decided: ${decision}.`,
  }),
  "job retry": async (client, [id = ""]) => ({
    answer: await client.change(id, "retry"),
    text: "The job runs again.",
  }),
  "job history": async (client, [id = ""]) => {
    const entries = await client.history(id);
    const rows = entries.map((entry) => [
      entry.timestamp,
      entry.event_type,
      entry.state,
      [
        entry.next_state === undefined ? "" : `-> ${entry.next_state}`,
        entry.worker_id === undefined ? "" : `worker ${entry.worker_id}`,
        entry.attempt_number === undefined ? "" : `attempt ${entry.attempt_number}`,
        entry.duration_ms === undefined ? "" : `${Math.round(entry.duration_ms)} ms`,
        entry.error ?? "",
      ].filter((part) => part !== "").join(", "),
    ]);
    return { answer: entries, text: await tableOf(["TIME", "EVENT", "STATE", "DETAIL"], rows) };
  },
  "job list": async (client, _, given) => {
    const query = ["status", "blueprint", "search", "limit", "offset"].flatMap((name) => {
      const value = given.one(name);
      return value === undefined ? [] : [[name, value]];
    });
    const jobs = await client.jobs(Object.fromEntries(query));
    if (jobs.length === 0) return { answer: jobs, text: "No job." };
    const rows = jobs.map((job) => [
      job.job_id,
      job.blueprint_name,
      job.state,
      job.status,
      job.created_at,
      (job.error_message ?? "").slice(0, 80),
    ]);
    const heads = ["JOB", "BLUEPRINT", "STATE", "STATUS", "CREATED", "ERROR"];
    const paint = (cell: string, row: number, column: number) =>
      row > 0 && heads[column] === "STATUS" ? paintStatus(cell) : cell;
    return { answer: jobs, text: await tableOf(heads, rows, paint) };
  },
  workers: async (client) => {
    const workers = await client.workers();
    if (workers.length === 0) {
      const text = "No worker is known; start one with: orchestrator worker --tasks FILE";
      return { answer: workers, text };
    }
    const rows = workers.map((worker) => [
      worker.worker_id,
      worker.worker_type,
      worker.status,
      `${worker.held_tasks} of ${worker.max_concurrent_tasks}`,
      worker.supported_tasks.join(","),
      worker.last_heartbeat_at,
    ]);
    const heads = ["WORKER", "TYPE", "STATUS", "RUNNING", "TASKS", "LAST HEARTBEAT"];
    return { answer: workers, text: await tableOf(heads, rows) };
  },
};

/** Texts of strangers, in columns under headings; `paint` may colour a cell. */
export function tableOf(
  heads: readonly string[],
  rows: readonly (readonly string[])[],
  paint?: Parameters<typeof tableText>[1],
): Promise<string> {
  return tableText([heads, ...rows.map((row) => row.map(oneLine))], paint);
}

function json(value: unknown): string {
  return JSON.stringify(value, null, 2);
}

function paintStatus(status: string): string {
  if (!useColors()) return status;
  const paint = status === "finished" ? green : ["failed", "quarantined"].includes(status) ? red : yellow;
  return paint(status);
}

/** A name that stands out. */
function paintName(name: string): string {
  return useColors() ? cyan(name) : name;
}

function describe(job: JobView): string {
  const { approval } = job;
  const rows: [string, string | undefined][] = [
    ["blueprint", job.blueprint_name],
    ["state", job.current_state],
    ["waits for", job.waiting_for],
    ["asked", approval && `${approval.message} (job approve ${job.id} ${approval.decisions.join("|")})`],
    ["progress", progressOf(job).join(" ")],
    ["worker", job.task_worker_id ?? undefined],
    ["created", job.created_at],
    ["ended", job.ended_at],
    ["error", job.error_message ?? undefined],
    ["data", JSON.stringify(job.initial_data)],
    [job.result === undefined ? "so far" : "result", JSON.stringify(job.result ?? job.state_history)],
  ];
  const lines = rows.flatMap(([name, value]) => value ? [`  ${name.padEnd(9)}  ${stripControl(value)}`] : []);
  return [`Job ${paintName(job.id)} is ${paintStatus(job.status)}`, ...lines].join("\n");
}

/** How far a job's task is, and the message of its worker. */
function progressOf({ progress: of }: JobView): string[] {
  const percent = of?.progress === undefined ? "" : `${Math.round(of.progress * 100)} %`;
  return [percent, of?.message ?? ""].filter((text) => text !== "");
}

async function submit(client: JobClient, given: Given): Promise<number> {
  const [blueprint = "", text = "{}"] = given.words;
  const data = readData(text === "-" ? await new Response(Deno.stdin.readable).text() : text);
  const timeoutMs = durationMs(given, "timeout", undefined);
  const id = await client.submit(blueprint, data, {
    "Idempotency-Key": given.one("idempotency-key"),
    "X-Webhook-Url": given.one("webhook-url"),
    "X-Dispatch-Timeout": secondsOf(given, "dispatch-timeout"),
    "X-Result-Timeout": secondsOf(given, "result-timeout"),
  });
  if (given.has("wait")) return await follow(client, id, given.has("json"), timeoutMs);
  print(given.has("json") ? json({ status: "accepted", job_id: id }) : id);
  return 0;
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
    const why = messageOf(error);
    throw new UserError(
      `The job's data is not JSON: ${why}; write an object such as '{"message":"Hello"}'.`,
    );
  }
  if (isObject(value)) return value;
  throw new UserError(`The job's data must be a JSON object such as '{"message":"Hello"}'.`);
}

// Progress goes to stderr, so that stdout holds the result alone.
async function follow(client: JobClient, id: string, asJson: boolean, timeoutMs: number | undefined) {
  using signals = stopSignals();
  const late = timeoutMs === undefined ? undefined : AbortSignal.timeout(timeoutMs);
  const signal = late === undefined ? signals.stop : AbortSignal.any([signals.stop, late]);
  const report = (text: string) => print(text, Deno.stderr);
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
  const isFinished = last.status === "finished";
  if (asJson) print(json(last));
  else if (isFinished) print(json(last.result ?? {}));
  else {
    const why = last.error_message ? `: ${stripControl(last.error_message)}` : "";
    report(`orchestrator: the job is ${last.status}${why}`);
  }
  return isFinished ? 0 : 1;
}

function progressLine(job: JobView): string {
  const { waiting_for: waits } = job;
  const details = waits === undefined ? [] : [`for ${waits}`, ...progressOf(job)];
  const head = `${paintName(oneLine(job.current_state))}: ${paintStatus(job.status)}`;
  return [head, ...details.map(oneLine)].join(", ");
}
