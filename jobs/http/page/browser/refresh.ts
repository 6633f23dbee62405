/**
 * Asks the engine for what the page shows: soon after something has happened, once for many events.
 *
 * @module
 */
import type { HistoryEntry, JobSummary, JobView } from "../../../model/wire.ts";
import type { Engine } from "./engine.ts";
import type { Graph } from "./layout.ts";
import { notify, render } from "./render.ts";
import { type OpenJob, place, state, update } from "./state.ts";
import { STATUS_WORDS } from "./words.ts";

/** Runs `action` soon, at most once at a time, and not while the page cannot be seen. */
function paced(delayMs: number, action: (engine: Engine) => Promise<void>): () => void {
  let timer: number | undefined;
  let isRunning = false;
  let isWanted = false;
  const run = async () => {
    timer = undefined;
    isWanted = isRunning;
    if (isRunning || document.hidden) return;
    isRunning = true;
    try {
      if (state.engine) await action(state.engine);
    } catch {
      // The next event or tick asks again; that the engine is away is shown by the light at the top.
    }
    isRunning = false;
    render();
    if (isWanted) want();
  };
  const want = () => {
    timer ??= setTimeout(run, delayMs);
  };
  return want;
}

/** The list, as it is searched and filtered. */
export const jobs = paced(200, async (engine) => {
  const { status, search, limit } = state;
  const query = new URLSearchParams({ limit: `${limit + 1}`, ...(status && { status }), search });
  const found = await engine.get<JobSummary[]>(`api/jobs?${query}`);
  if (status === state.status && search === state.search) update({ jobs: found });
  else jobs();
});

/** Counts, queues and the last minutes. */
export const dashboard = paced(300, async (engine) => {
  update({ dashboard: await engine.get("api/dashboard") });
});

/** The workers. */
export const workers = paced(0, async (engine) => {
  update({ workers: await engine.get("api/workers") });
});

/** The job that the address names. */
export const job = paced(50, async (engine) => {
  const { id } = place();
  if (!id) return;
  const isStale = () => id !== place().id || engine !== state.engine;
  try {
    const open = await openJob(engine, id);
    if (isStale()) return;
    const before = state.open?.job;
    update({ open, missing: "" });
    const { status, blueprint_name: name } = open.job;
    if (before?.id === id && before.status !== status) notify(`${name}: ${STATUS_WORDS[status]}`);
  } catch (error) {
    if (!isStale()) update({ open: undefined, missing: messageOf(error) });
  }
});

async function openJob(engine: Engine, id: string): Promise<OpenJob> {
  const [job, history] = await Promise.all([
    engine.get<JobView>(`api/jobs/${id}`),
    engine.get<HistoryEntry[]>(`api/jobs/${id}/history`),
  ]);
  const name = encodeURIComponent(job.blueprint_name);
  const graph = await engine.get<Graph>(`api/blueprints/${name}/graph?format=json`)
    .catch(() => ({ states: [], edges: [] })); // the blueprint may be gone, the job is still there
  return { job, history, graph };
}

/** Everything that is shown. */
export function all(): void {
  jobs();
  dashboard();
  job();
  if (place().view === "load") workers();
}

/** Sends a change that somebody wants, and shows what became of it. */
export async function change(done: string, path: string, body?: unknown): Promise<void> {
  try {
    await state.engine?.post(path, body);
    notify(done);
  } catch (error) {
    notify(`Not done: ${messageOf(error)}`);
  }
  job();
  jobs();
}

/** What went wrong, in words. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
