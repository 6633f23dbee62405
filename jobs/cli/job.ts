/**
 * `orchestrator job ...`: what a client does with jobs that exist.
 *
 * @module
 */

// @ts-types="../../config/std.d.ts"
import { cyan, green, red, yellow } from "@std/fmt/colors";
import type { Given } from "../../config/command.ts";
import { UserError } from "../../config/errors.ts";
import { print } from "../../terminal/outlet.ts";
import { useColors } from "../../terminal/palette.ts";
import { oneLine, stripControl, tableText } from "../../terminal/text.ts";
import type { JobView } from "../model/wire.ts";
import { JobClient } from "./client.ts";
import { readVariables } from "./streams.ts";

/** The engine as a client sees it. @throws {UserError} when its address or the token is missing or wrong */
export function clientOf(given: Given): JobClient {
  const { environment, inWordsOfOptions } = readVariables(given);
  const { ORCHESTRATOR_URL: url = "http://127.0.0.1:8080", CLIENT_TOKEN: token = "" } = environment;
  if (!/^https?:\/\/[^\s/]+/i.test(url)) {
    throw inWordsOfOptions(new Error("ORCHESTRATOR_URL must be an address such as http://127.0.0.1:8080."));
  }
  if (token === "") {
    throw new UserError(
      "There is no client token; set CLIENT_TOKEN to one that the engine knows. An engine without any shows the one it made when it starts.",
    );
  }
  return new JobClient(url, token);
}

/** What a command shows: the engine's answer with `--json`, otherwise a text. */
interface Shown {
  answer: unknown;
  text: string;
}

/** Asks the engine and shows its answer. */
export async function show(
  given: Given,
  ask: (client: JobClient, words: readonly string[]) => Promise<Shown>,
): Promise<number> {
  const { answer, text } = await ask(clientOf(given), given.words);
  print(given.has("json") ? JSON.stringify(answer, null, 2) : text);
  return 0;
}

/** What strangers have said, in columns under headings; `paint` may colour a cell. */
export function tableOf(
  heads: readonly string[],
  rows: readonly (readonly string[])[],
  paint?: Parameters<typeof tableText>[1],
): Promise<string> {
  return tableText([heads, ...rows.map((row) => row.map(oneLine))], paint);
}

/** A status in its colour. */
export function paintStatus(status: string): string {
  if (!useColors()) return status;
  const paint = status === "finished" ? green : ["failed", "quarantined"].includes(status) ? red : yellow;
  return paint(status);
}

/** A name that stands out. */
export function paintName(name: string): string {
  return useColors() ? cyan(name) : name;
}

/** `job status ID` */
export function showJob(given: Given): Promise<number> {
  return show(given, async (client, [id = ""]) => {
    const job = await client.job(id);
    return { answer: job, text: describe(job) };
  });
}

/** `job cancel ID` */
export function cancelJob(given: Given): Promise<number> {
  return show(given, async (client, [id = ""]) => ({
    answer: { status: await client.cancel(id) },
    text: "Cancelled.",
  }));
}

/** `job approve ID DECISION` */
export function approveJob(given: Given): Promise<number> {
  return show(given, async (client, [id = "", decision = ""]) => ({
    answer: { status: await client.approve(id, decision) },
    text: `Decided: ${decision}.`,
  }));
}

/** `job retry ID` */
export function retryJob(given: Given): Promise<number> {
  return show(given, async (client, [id = ""]) => ({
    answer: { status: await client.retry(id) },
    text: "The job runs again.",
  }));
}

/** `job history ID` */
export function showHistory(given: Given): Promise<number> {
  return show(given, async (client, [id = ""]) => {
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
  });
}

/** `job list` */
export function listJobs(given: Given): Promise<number> {
  return show(given, async (client) => {
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
  });
}

function describe(job: JobView): string {
  const { progress, approval } = job;
  const rows: [string, string | undefined][] = [
    ["blueprint", job.blueprint_name],
    ["state", job.current_state],
    ["waits for", job.waiting_for],
    ["asked", approval && `${approval.message} (job approve ${job.id} ${approval.decisions.join("|")})`],
    [
      "progress",
      progress &&
      [
        progress.progress === undefined ? "" : `${Math.round(progress.progress * 100)} %`,
        progress.message ?? "",
      ].join(" ").trim(),
    ],
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
