// @ts-types="../config/std.d.ts"
import { assertEquals, assertRejects } from "@std/assert";
import { UserError } from "../config/errors.ts";
import { ask } from "../control/client.ts";
import { socketPath } from "../control/run_folder.ts";
import { FORMS, Machine } from "../testing/forms.ts";
import { Run } from "../testing/run.ts";
import { quick } from "../testing/site.ts";
import { smokeTests } from "../testing/smoke.ts";

smokeTests("source");

Deno.test("a run whose program is removed meanwhile still answers, and stops in order", async () => {
  const services = [quick("db"), quick("web", { dependencies: ["db"] })];
  await using machine = await Machine.make(FORMS.source, {
    files: { "city/infrastructure/services.json": JSON.stringify({ services }) },
  });
  await using run = new Run(null, ["--no-dashboard"], machine.start);
  await run.line("web is running");
  const city = `${machine.folder.path}/city`;
  const program = [...Deno.readDirSync(city)].filter(({ name }) => name !== "infrastructure");
  for (const { name } of program) await Deno.remove(`${city}/${name}`, { recursive: true });

  const socket = socketPath(`${city}/infrastructure`);
  assertEquals((await ask(socket, "/restart", { names: ["web"] })).names, ["web"]);
  assertEquals((await ask(socket, "/status")).services.map(({ name }) => name), ["db", "web"]);
  const path = `${city}/infrastructure/services.json`;
  await Deno.writeTextFile(path, JSON.stringify({ services: [quick("db")] }));
  const error = await assertRejects(() => ask(socket, "/reload", { dryRun: false }), UserError);
  assertEquals(
    error.message,
    `Cannot read the services file ${path}: its parser cannot be loaded ` +
      `(Module not found "file://${city}/config/rules.ts".); ` +
      "if the program was replaced while it runs, orchestrator self-restart takes the new one.",
  );
  assertEquals(await run.stop("SIGTERM"), 0);
});
