// @ts-types="../config/std.d.ts"
import { assertEquals } from "@std/assert";
import { encoder } from "../config/bytes.ts";
import { binary, Sink } from "../testing/sink.ts";
import { Outlet } from "./outlet.ts";
import { lineView } from "./view.ts";

Deno.test("the stream has one line per line, behind names of one width, and keeps bytes as they are", async () => {
  const taken: number[] = [];
  const outlet = new Outlet({ write: (bytes) => Promise.resolve(taken.push(...bytes) && bytes.length) });
  const names = ["db", "web"];
  const view = lineView(outlet, () => names, { terminal: false, colors: false });
  const output = (service: string, lines: Uint8Array) =>
    view.event({ kind: "output", time: 0, service, stream: "out", lines });
  output("db", Uint8Array.of(0xff, 27, 91, 50, 74, 10));
  output("web", encoder.encode("a\n\nb\n"));
  view.event({ kind: "log", time: 0, level: "info", message: "all is well" });
  view.event({ kind: "log", time: 0, level: "debug", message: "unseen" });
  await view.close();
  assertEquals(
    binary(Uint8Array.from(taken)),
    "[ db] \xff\x1b[2J\n[web] a\n[web] \n[web] b\n[orchestrator] all is well\n",
  );
});

Deno.test("on a terminal the stream holds no control codes of a service, colours apart", async () => {
  const sink = new Sink();
  const view = lineView(new Outlet(sink), () => ["db"], { terminal: true, colors: false });
  const lines = encoder.encode("\x1b[2J\x1b[31mx\x07\n");
  view.event({ kind: "output", time: 0, service: "db", stream: "out", lines });
  await view.close();
  assertEquals(sink.taken, "[db] x\n");
});
