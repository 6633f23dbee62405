/**
 * Begins: signs in, follows the engine's events, asks for what the page shows and does what people ask for. Runs in the
 * browser only; `deno task page` makes one script of it.
 *
 * @module
 */
import type { Status } from "../../../model/job.ts";
import type { HistoryEntry, JobSummary, JobView } from "../../../model/wire.ts";
import { byId } from "./dom.ts";
import { Engine } from "./engine.ts";
import type { Graph } from "./layout.ts";
import { confirmed, notify, render } from "./render.ts";
import { type OpenJob, PAGE_SIZE, place, state, update } from "./state.ts";
import { isEnd, STATUS_WORDS } from "./words.ts";

/** Where the token is kept: in this tab. */
const TOKEN_KEY = "client-token";

// ---- What the page shows --------------------------------------------------------------------------------------------

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

const refreshJobs = paced(200, async (engine) => {
  const { status, search, limit } = state;
  const query = new URLSearchParams({ limit: `${limit + 1}`, ...(status && { status }), search });
  const found = await engine.get<JobSummary[]>(`api/jobs?${query}`);
  if (status === state.status && search === state.search) update({ jobs: found });
  else refreshJobs();
});

const refreshDashboard = paced(300, async (engine) => {
  update({ dashboard: await engine.get("api/dashboard") });
});

const refreshWorkers = paced(0, async (engine) => {
  update({ workers: await engine.get("api/workers") });
});

/** The job that the address names. */
const refreshJob = paced(50, async (engine) => {
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

function refreshAll(): void {
  refreshJobs();
  refreshDashboard();
  refreshJob();
  if (place().view === "load") refreshWorkers();
}

/** Sends a change that somebody wants, and shows what became of it. */
async function change(done: string, path: string, body: unknown = {}): Promise<void> {
  try {
    await state.engine?.post(path, body);
    notify(done);
  } catch (error) {
    notify(`Not done: ${messageOf(error)}`);
  }
  refreshJob();
  refreshJobs();
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

// ---- What people do -------------------------------------------------------------------------------------------------

async function enter(engine: Engine): Promise<void> {
  state.engine?.close();
  update({ engine, refusal: "" });
  render();
  byId("main")?.focus();
  for await (const event of engine.events()) {
    if (event === "opened") refreshAll();
    else if (event === "lost") render();
    else {
      refreshJobs();
      refreshDashboard();
      if (event.job_id === place().id) refreshJob();
    }
  }
}

function leave(refusal: string): void {
  sessionStorage.removeItem(TOKEN_KEY);
  state.engine?.close();
  update({ engine: undefined, refusal, jobs: undefined, open: undefined });
  render();
  byId("token")?.focus();
}

async function signIn(token: string): Promise<void> {
  const engine = new Engine(token, leave);
  try {
    update({ dashboard: await engine.get("api/dashboard") });
  } catch (error) {
    // A token with letters that no header can carry fails before it is sent.
    return leave(messageOf(error));
  }
  sessionStorage.setItem(TOKEN_KEY, token);
  enter(engine);
}

/** Moves the focus to a job's title as soon as it is there. */
function arrive(id: string): void {
  const title = byId("job-title");
  if (title && state.open?.job.id === id) title.focus();
  else if (id === place().id && !state.missing) setTimeout(() => arrive(id), 30);
}

async function cancel(): Promise<void> {
  const job = state.open?.job;
  if (job === undefined) return;
  const question = `Cancel this ${job.blueprint_name} job? This cannot be undone.`;
  if (await confirmed(question, "Cancel job")) {
    change("The job is cancelled.", `api/jobs/${job.id}/cancel`);
  }
}

/** What buttons and links do, by their `data-do`. */
const ACTIONS: Readonly<Record<string, (data: DOMStringMap) => void>> = {
  leave: () => leave(""),
  skip: () => byId("main")?.focus(),
  filter({ status }) {
    update({ status: status as Status | "", limit: PAGE_SIZE, jobs: undefined });
    refreshJobs();
  },
  more() {
    update({ limit: state.limit + PAGE_SIZE });
    refreshJobs();
  },
  retry: () => change("The job runs again.", `api/jobs/${place().id}/retry`),
  decide: ({ decision }) => change(`Decided: ${decision}`, `api/jobs/${place().id}/approve`, { decision }),
  cancel,
};

const closest = ({ target }: Event, selector: string) =>
  target instanceof Element ? target.closest<HTMLElement>(selector) : null;

document.addEventListener("click", (event) => {
  const data = closest(event, "[data-do]")?.dataset;
  if (data === undefined) return;
  event.preventDefault();
  ACTIONS[data.do ?? ""]?.(data);
  render();
});
document.addEventListener("submit", (event) => {
  event.preventDefault();
  const field = byId("token");
  const token = field instanceof HTMLInputElement ? field.value.trim() : "";
  if (token) signIn(token);
});
document.addEventListener("input", ({ target }) => {
  if (!(target instanceof HTMLInputElement) || target.id !== "search") return;
  update({ search: target.value.trim(), limit: PAGE_SIZE });
  refreshJobs();
});
document.addEventListener("keydown", (event) => {
  const row = closest(event, "#jobs li");
  const next = { ArrowDown: row?.nextSibling, ArrowUp: row?.previousSibling }[event.key]?.firstChild;
  if (!(next instanceof HTMLElement)) return;
  event.preventDefault();
  next.focus();
});
addEventListener("hashchange", () => {
  const { view, id } = place();
  const before = state.open?.job.id;
  if (id !== before) update({ open: undefined, missing: "" });
  refreshAll();
  render();
  if (id) arrive(id);
  else if (view === "jobs" && before) {
    document.querySelector<HTMLElement>(`#jobs a[href$="${CSS.escape(before)}"]`)?.focus();
  } else byId("main")?.focus();
});
setInterval(() => {
  if (!state.engine) return;
  refreshDashboard();
  if (place().view === "load") refreshWorkers();
  // That a worker has taken the task is no event of the job.
  if (state.open && !isEnd(state.open.job.status)) refreshJob();
}, 2000);

const kept = sessionStorage.getItem(TOKEN_KEY);
if (kept) enter(new Engine(kept, leave));
else render();
