// @ts-types="../config/std.d.ts"
import { assert, assertEquals } from "@std/assert";
import { isAlive, waitUntil } from "../testing/run.ts";
import { commandLine, TestTerminal, whyNoTerminal } from "../testing/terminal.ts";
import { quick, Site } from "../testing/site.ts";

Deno.test({
  name: "attach shows the dashboard of a run; its keys act there, and q leaves everything running",
  ignore: whyNoTerminal() !== null,
  async fn() {
    await using site = await Site.make({ services: [quick("db"), quick("web", { dependencies: ["db"] })] });
    const pid = await site.background();
    const web = await site.pidOf("web");
    await using terminal = await TestTerminal.open({ columns: 100, rows: 30 });
    await terminal.type(commandLine("attach", "--infrastructure", site.path));
    await terminal.shows(/web +● RUNNING/);
    await terminal.shows("q leaves this view");
    await terminal.keys("Down");
    await terminal.keys("Down");
    await terminal.keys("r");
    await waitUntil(async () => await site.pidOf("web").catch(() => web) !== web, "r restarts web");
    await site.running("web");
    await terminal.keys("s");
    await terminal.shows(/web +○ STOPPED/);
    await terminal.keys("S");
    await terminal.shows(/web +● RUNNING/);
    await terminal.keys("q");
    await terminal.ready();
    assert(isAlive(pid));
    assertEquals((await site.run("status")).code, 0);
    await site.run("stop");
  },
});
