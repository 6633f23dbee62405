/**
 * What an engine counts: metrics in Prometheus' text form, and the last minutes by second for the dashboard.
 *
 * @module
 */

/** A point of the dashboard's plots. */
export interface Sample {
  seconds: number;
  submitted: number;
  ended: number;
  queued: number;
  held: number;
}

const KEPT_SAMPLES = 300;
const BOUNDS_SECONDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800];

interface Tallied {
  submitted: number;
  failed: number;
  ended: Map<string, number>;
  durationSum: number;
  durations: number[];
  count: number;
}

/** The counters of one engine since it started. */
export class Metrics {
  #blueprints = new Map<string, Tallied>();
  #tasks = new Map<string, number>();
  #samples: Sample[] = [];
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
    counts.count++;
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

  #of(blueprint: string): Tallied {
    let counts = this.#blueprints.get(blueprint);
    if (counts === undefined) {
      counts = {
        submitted: 0,
        failed: 0,
        ended: new Map(),
        durationSum: 0,
        durations: new Array(BOUNDS_SECONDS.length + 1).fill(0),
        count: 0,
      };
      this.#blueprints.set(blueprint, counts);
    }
    return counts;
  }

  /** Closes the current second's point. */
  sample(seconds: number, queued: number, held: number): void {
    this.#samples.push({ seconds, submitted: this.#submitted, ended: this.#ended, queued, held });
    if (this.#samples.length > KEPT_SAMPLES) this.#samples.shift();
    this.#submitted = 0;
    this.#ended = 0;
  }

  get samples(): readonly Sample[] {
    return this.#samples;
  }

  /** All metrics as text. */
  text(
    now: {
      queues: readonly { type: string; queued: number; held: number }[];
      workers: number;
      polls: number;
    },
  ): string {
    const lines: string[] = [];
    const family = (name: string, kind: string, help: string) =>
      lines.push(`# HELP ${name} ${help}`, `# TYPE ${name} ${kind}`);
    const row = (name: string, labels: Record<string, string>, value: number) => {
      const inside = Object.entries(labels).map(([key, text]) => `${key}="${escaped(text)}"`).join(",");
      lines.push(`${name}${inside === "" ? "" : `{${inside}}`} ${value}`);
    };
    family("orchestrator_jobs_total", "counter", "Jobs submitted.");
    for (const [blueprint, { submitted }] of this.#blueprints) {
      row("orchestrator_jobs_total", { blueprint }, submitted);
    }
    family("orchestrator_jobs_failed_total", "counter", "Jobs that ended failed or quarantined.");
    for (const [blueprint, { failed }] of this.#blueprints) {
      row("orchestrator_jobs_failed_total", { blueprint }, failed);
    }
    family("orchestrator_jobs_ended_total", "counter", "Jobs that ended, by status.");
    for (const [blueprint, { ended }] of this.#blueprints) {
      for (const [status, count] of ended) row("orchestrator_jobs_ended_total", { blueprint, status }, count);
    }
    family("orchestrator_job_duration_seconds", "histogram", "From submission to end.");
    for (const [blueprint, { durations, durationSum, count }] of this.#blueprints) {
      let sum = 0;
      for (const [index, bound] of BOUNDS_SECONDS.entries()) {
        sum += durations[index] ?? 0;
        row("orchestrator_job_duration_seconds_bucket", { blueprint, le: String(bound) }, sum);
      }
      row("orchestrator_job_duration_seconds_bucket", { blueprint, le: "+Inf" }, count);
      row("orchestrator_job_duration_seconds_sum", { blueprint }, durationSum);
      row("orchestrator_job_duration_seconds_count", { blueprint }, count);
    }
    family("orchestrator_tasks_total", "counter", "Tasks by what became of them.");
    for (const [result, count] of this.#tasks) row("orchestrator_tasks_total", { result }, count);
    family("orchestrator_task_queue_length", "gauge", "Tasks that wait for a worker.");
    for (const { type, queued } of now.queues) row("orchestrator_task_queue_length", { type }, queued);
    family("orchestrator_tasks_running", "gauge", "Tasks assigned to workers.");
    for (const { type, held } of now.queues) row("orchestrator_tasks_running", { type }, held);
    family("orchestrator_active_workers", "gauge", "Workers whose time has not run out.");
    row("orchestrator_active_workers", {}, now.workers);
    family("orchestrator_waiting_polls", "gauge", "Polls that wait for a task.");
    row("orchestrator_waiting_polls", {}, now.polls);
    return lines.join("\n") + "\n";
  }
}

function escaped(text: string): string {
  return text.replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("\n", "\\n");
}
