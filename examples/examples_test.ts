// Runs the services files of this folder as a reader would, on ports of its own.

// @ts-types="../config/std.d.ts"
import { assert, assertEquals, assertMatch } from "@std/assert";
import { Folder, freePort, ROOT, Run, waitUntil } from "../testing/run.ts";

Deno.test("examples/tasks: a task runs once, an external one is waited for, a failing one is started again", async () => {
  await using data = await Folder.make();
  const port = freePort();
  const environment = { ORDER_SERVICE_PORT: String(port), DATA_DIR: data.path };
  await using run = new Run(null, ["--infrastructure", `${ROOT}/examples/tasks`], { environment });
  await run.line("[orchestrator] storage is available");
  await run.line("[orchestrator] migrate finished");
  await run.line("[orchestrator] orders is running");
  assertMatch(await run.line(/customer exited with status \d+; restarting/), /in \d+ s, attempt 1 of 3/);
  await run.line("[orchestrator] customer is running", 2);
  const order = run.out.lines.filter((line) =>
    /is available|migrate finished|(orders|customer) is running/.test(line)
  );
  assertEquals(order.slice(0, 4).map((line) => line.split(" ")[1]), [
    "storage",
    "migrate",
    "orders",
    "customer",
  ]);
  assertEquals(await run.stop(), 0);
  await run.allGone();
});

Deno.test({
  name: "examples/node: npm, its shell, the server and its helper end together",
  ignore: !hasNpm(),
  fn: async () => {
    const port = freePort();
    const environment = { CLOCK_SERVICE_PORT: String(port) };
    await using run = new Run(null, ["--infrastructure", `${ROOT}/examples/node`], { environment });
    await run.line("[orchestrator] clock is running");
    const answer = await fetch(`http://127.0.0.1:${port}/health`);
    assertMatch(await answer.text(), /^\d{4}-\d{2}-\d{2}T/);
    await waitUntil(
      () => run.processes().some(({ command }) => command.includes("helper.js")),
      "the helper runs",
    );
    assertEquals(await run.stop("SIGINT"), 0);
    await run.allGone();
    assert(run.out.text.includes("helper stopped"), run.out.text);
  },
});

function hasNpm(): boolean {
  try {
    return new Deno.Command("npm", { args: ["--version"], stdout: "null", stderr: "null" }).outputSync()
      .success;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}
