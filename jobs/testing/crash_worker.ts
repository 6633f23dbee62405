// A worker to be killed. Arguments: its id, how many tasks at once, and the engines' addresses; it uses whichever
// answers. Prints a line for each of its results that an engine has counted.
const [id, slots, ...urls] = Deno.args;
const ENOUGH_MS = 10_000;
let turn = urls.length - 1;

// Tries one engine after the other until one gives an answer that is no server's fault.
async function ask(path: string, method: string, body?: unknown): Promise<Response> {
  for (;; turn++) {
    try {
      const response = await fetch(`${urls[turn % urls.length]}${path}`, {
        method,
        headers: { "x-worker-token": "worker-token" },
        body: body === undefined ? null : JSON.stringify(body),
        signal: AbortSignal.timeout(ENOUGH_MS),
      });
      if (response.status < 500) return response;
      await response.body?.cancel();
    } catch {
      // That engine is dead at the moment.
    }
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

const registration = { worker_id: id, supported_tasks: ["work"], max_concurrent_tasks: Number(slots) };
await (await ask("/_worker/workers/register", "POST", registration)).body?.cancel();

async function beat(): Promise<never> {
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, 500));
    const response = await ask(`/_worker/workers/${id}`, "PATCH", { supported_tasks: ["work"] });
    await response.body?.cancel();
  }
}

async function work(): Promise<never> {
  for (;;) {
    turn++;
    const poll = await ask(`/_worker/workers/${id}/tasks/next?wait=1`, "GET");
    if (poll.status !== 200) {
      await poll.body?.cancel();
      continue;
    }
    const task = await poll.json();
    await new Promise((resolve) => setTimeout(resolve, 5));
    const { label, part } = task.params;
    const result = { status: "success", data: { [part]: `${label} by ${id}` } };
    const answer = await ask("/_worker/tasks/result", "POST", {
      ...{ job_id: task.job_id, task_id: task.task_id, worker_id: id },
      result,
    });
    const { status } = await answer.json();
    if (status !== "ignored") console.log(`${task.task_id} ${status}`);
  }
}

await Promise.all([beat(), ...Array.from({ length: Number(slots) }, work)]);
