/**
 * What an engine counts: metrics in Prometheus' text form, and the last minutes by second for the dashboard.
 *
 * @module
 */

import type { QueueDepth } from "../model/store.ts";
import type { Dashboard } from "../model/wire.ts";

type Sample = Dashboard["samples"][number];

const KEPT_SAMPLES = 300;
const BOUNDS_SECONDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800];

class BlueprintCounts {
  submitted = 0;
  failed = 0;
  ended = new Map<string, number>();
  durationSum = 0;
  /** Jobs by the first bound that their duration keeps; those beyond all bounds are last. */
  durations = new Array<number>(BOUNDS_SECONDS.length + 1).fill(0);
}

type Labels = Record<string, string>;
/** A line of a metric; the suffix is added to the metric's name. */
type Line = [labels: Labels, value: number, suffix?: string];

/** The counters of one engine since it started. */
export class Metrics {
  readonly #blueprints = new Map<string, BlueprintCounts>();
  readonly #tasks = new Map<string, number>();
  readonly #samples: Sample[] = [];
  #submitted = 0;
  #ended = 0;

  submitted(blueprint: string): void {
    this.#of(blueprint).submitted++;
    this.#submitted++;
  }

  ended(blueprint: string, status: string, seconds: number): void {
    const counts = this.#of(blueprint);
    if (status === "failed" || status === "quarantined") counts.failed++;
    counts.ended.set(status, (counts.ended.get(status) ?? 0) + 1);
    counts.durationSum += seconds;
    const bucket = BOUNDS_SECONDS.findIndex((bound) => seconds <= bound);
    const slot = bucket === -1 ? BOUNDS_SECONDS.length : bucket;
    counts.durations[slot] = (counts.durations[slot] ?? 0) + 1;
    this.#ended++;
  }

  /** A task had this end: success, failure, timeout, redelivered ... */
  task(result: string): void {
    this.#tasks.set(result, (this.#tasks.get(result) ?? 0) + 1);
  }

  #of(blueprint: string): BlueprintCounts {
    return this.#blueprints.getOrInsertComputed(blueprint, () => new BlueprintCounts());
  }

  /** Closes the current second's point. */
  sample(seconds: number, queues: readonly QueueDepth[]): void {
    const sum = (key: "queued" | "held") => queues.reduce((total, queue) => total + queue[key], 0);
    const [submitted, ended] = [this.#submitted, this.#ended];
    this.#samples.push({ seconds, submitted, ended, queued: sum("queued"), held: sum("held") });
    if (this.#samples.length > KEPT_SAMPLES) this.#samples.shift();
    this.#submitted = 0;
    this.#ended = 0;
  }

  get samples(): readonly Sample[] {
    return this.#samples;
  }

  /** All metrics as text. */
  text(now: { queues: readonly QueueDepth[]; workers: number; polls: number }): string {
    const lines: string[] = [];
    const metric = (kind: string, name: string, help: string, values: readonly Line[]) => {
      lines.push(`# HELP orchestrator_${name} ${help}`, `# TYPE orchestrator_${name} ${kind}`);
      for (const [labels, value, suffix = ""] of values) {
        const inside = Object.entries(labels).map(([key, text]) => `${key}="${escaped(text)}"`).join(",");
        lines.push(`orchestrator_${name}${suffix}${inside === "" ? "" : `{${inside}}`} ${value}`);
      }
    };
    const blueprints = [...this.#blueprints];
    const counts = (key: "submitted" | "failed") =>
      blueprints.map(([blueprint, counted]): Line => [{ blueprint }, counted[key]]);
    const depths = (key: "queued" | "held") =>
      now.queues.map(({ type, ...depth }): Line => [{ type }, depth[key]]);
    const ends = blueprints.flatMap(([blueprint, { ended }]) =>
      [...ended].map(([status, count]): Line => [{ blueprint, status }, count])
    );
    const tasks = [...this.#tasks].map(([result, count]): Line => [{ result }, count]);
    metric("counter", "jobs_total", "Jobs submitted.", counts("submitted"));
    metric("counter", "jobs_failed_total", "Jobs that ended failed or quarantined.", counts("failed"));
    metric("counter", "jobs_ended_total", "Jobs that ended, by status.", ends);
    metric("histogram", "job_duration_seconds", "From submission to end.", blueprints.flatMap(durations));
    metric("counter", "tasks_total", "Tasks by what became of them.", tasks);
    metric("gauge", "task_queue_length", "Tasks that wait for a worker.", depths("queued"));
    metric("gauge", "tasks_running", "Tasks assigned to workers.", depths("held"));
    metric("gauge", "active_workers", "Workers whose time has not run out.", [[{}, now.workers]]);
    metric("gauge", "waiting_polls", "Polls that wait for a task.", [[{}, now.polls]]);
    return lines.join("\n") + "\n";
  }
}

function durations([blueprint, { durations, durationSum }]: [string, BlueprintCounts]): Line[] {
  let count = 0;
  const buckets = [...BOUNDS_SECONDS, "+Inf"].map((bound, index): Line => {
    count += durations[index] ?? 0;
    return [{ blueprint, le: String(bound) }, count, "_bucket"];
  });
  return [...buckets, [{ blueprint }, durationSum, "_sum"], [{ blueprint }, count, "_count"]];
}

function escaped(text: string): string {
  return text.replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("\n", "\\n");
}
