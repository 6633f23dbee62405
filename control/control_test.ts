// @ts-types="../config/std.d.ts"
import { assertEquals } from "@std/assert";
import { waitUntil } from "../testing/run.ts";
import { Supervisor } from "../supervisor/supervisor.ts";
import { VERSION } from "../config/version.ts";
import { Control } from "./control.ts";

Deno.test("a run may end while its socket is being put back", async () => {
  const infrastructure = await Deno.makeTempDir({ prefix: "orchestrator-control-" });
  const home = { infrastructure, envFile: `${infrastructure}/.env`, envFileNamed: false };
  const supervisor = new Supervisor([], home);
  const messages: string[] = [];
  supervisor.listen({ event: (event) => event.kind === "log" && messages.push(event.message) });
  const nothing = () => {};
  const control = await Control.open({
    supervisor,
    version: VERSION,
    names: [],
    known: [],
    options: {},
    stop: nothing,
    restartSelf: nothing,
  });
  control.start();
  const socket = `${infrastructure}/.orchestrator/control.sock`;
  await waitUntil(() => Deno.lstat(socket).catch(() => null), "it listens");

  // The record is written just before the old server is closed.
  let closed: Promise<void> | null = null;
  const snapshot = supervisor.snapshot.bind(supervisor);
  supervisor.snapshot = () => {
    queueMicrotask(() => closed ??= control.close(null, false));
    return snapshot();
  };
  await Deno.remove(socket);
  await waitUntil(() => closed !== null, "it is put back");
  await closed;
  assertEquals(messages, []);
  await Deno.remove(infrastructure, { recursive: true });
});
