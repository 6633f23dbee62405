/**
 * Begins: signs in, follows the engine's events, and does what people ask for. Runs in the browser only; `deno task
 * page` makes one script of it.
 *
 * @module
 */
import type { Status } from "../../../model/job.ts";
import { byId } from "./dom.ts";
import { Engine } from "./engine.ts";
import * as refresh from "./refresh.ts";
import { confirmed, render } from "./render.ts";
import { PAGE_SIZE, place, state, update } from "./state.ts";
import { isEnd } from "./words.ts";

/** Where the token is kept: in this tab. */
const TOKEN_KEY = "client-token";

async function enter(engine: Engine): Promise<void> {
  state.engine?.close();
  update({ engine, refusal: "" });
  render();
  byId("main")?.focus();
  for await (const event of engine.events()) {
    if (event === "opened") refresh.all();
    else if (event === "lost") render();
    else {
      refresh.jobs();
      refresh.dashboard();
      if (event.job_id === place().id) refresh.job();
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
    return leave(refresh.messageOf(error));
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
    refresh.change("The job is cancelled.", `api/jobs/${job.id}/cancel`);
  }
}

/** What buttons and links do, by their `data-do`. */
const ACTIONS: Readonly<Record<string, (data: DOMStringMap) => void>> = {
  leave: () => leave(""),
  skip: () => byId("main")?.focus(),
  filter({ status }) {
    update({ status: status as Status | "", limit: PAGE_SIZE, jobs: undefined });
    refresh.jobs();
  },
  more() {
    update({ limit: state.limit + PAGE_SIZE });
    refresh.jobs();
  },
  retry: () => refresh.change("The job runs again.", `api/jobs/${place().id}/retry`),
  decide: ({ decision }) =>
    refresh.change(`Decided: ${decision}`, `api/jobs/${place().id}/approve`, { decision }),
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
  refresh.jobs();
});
document.addEventListener("keydown", (event) => {
  const row = closest(event, "#jobs li");
  const next = { ArrowDown: row?.nextSibling, ArrowUp: row?.previousSibling }[event.key]?.firstChild;
  if (!(next instanceof HTMLElement)) return;
  event.preventDefault();
  next.focus();
});
document.addEventListener("visibilitychange", () => document.hidden && state.engine?.pause());
addEventListener("hashchange", () => {
  const { view, id } = place();
  const before = state.open?.job.id;
  if (id !== before) update({ open: undefined, missing: "" });
  refresh.all();
  render();
  if (id) arrive(id);
  else if (view === "jobs" && before) {
    document.querySelector<HTMLElement>(`#jobs a[href$="${CSS.escape(before)}"]`)?.focus();
  } else byId("main")?.focus();
});
setInterval(() => {
  if (!state.engine) return;
  refresh.dashboard();
  if (place().view === "load") refresh.workers();
  // That a worker has taken the task is no event of the job.
  if (state.open && !isEnd(state.open.job.status)) refresh.job();
}, 2000);

const kept = sessionStorage.getItem(TOKEN_KEY);
if (kept) enter(new Engine(kept, leave));
else render();
