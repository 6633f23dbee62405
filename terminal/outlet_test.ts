// @ts-types="../config/std.d.ts"
import { assert, assertEquals } from "@std/assert";
import { Outlet } from "./outlet.ts";
import { decoder, encoder } from "../config/bytes.ts";
import { waitUntil } from "../testing/run.ts";
import { Sink } from "../testing/sink.ts";

Deno.test("what is written goes out in order and whole, also where a sink takes little at a time", async () => {
  const sink = new Sink(3);
  const outlet = new Outlet(sink);
  for (const text of ["one\n", "", "two\n", "three\n"]) outlet.write(encoder.encode(text));
  await outlet.flush();
  assertEquals(sink.taken, "one\ntwo\nthree\n");
});

Deno.test("what is written in one turn goes out together", async () => {
  const sink = new Sink();
  const outlet = new Outlet(sink);
  for (let index = 0; index < 100; index++) outlet.write(encoder.encode(`${index}\n`));
  await outlet.flush();
  assertEquals([sink.writes, sink.taken.split("\n").length], [1, 101]);
});

Deno.test("a sink that takes nothing makes pipes wait, until it takes again", async () => {
  const sink = new Sink(Infinity, true);
  const outlet = new Outlet(sink);
  assertEquals(outlet.backpressure(), null);
  for (let times = 0; times < 40; times++) outlet.write(new Uint8Array(65_536));
  const room = outlet.backpressure();
  assert(room !== null);
  await outlet.flush(50); // gives up
  assert(outlet.backpressure() !== null);
  sink.unblock();
  await room;
  await outlet.flush();
  assertEquals([outlet.backpressure(), sink.taken.length], [null, 40 * 65_536]);
});

Deno.test("bytes are the sink's until it has taken them, and the caller's as soon as they are queued", async () => {
  const turn = () => new Promise((resolve) => setTimeout(resolve, 0));
  const taken: string[] = [];
  const outlet = new Outlet({
    async write(bytes) {
      await turn();
      const part = bytes.subarray(0, 300_000);
      taken.push(decoder.decode(part));
      return part.length;
    },
  });
  const mine = new Uint8Array(100_000);
  let expected = "";
  for (let index = 0; index < 60; index++) {
    mine.fill(65 + index % 26);
    expected += decoder.decode(mine);
    outlet.write(mine);
    if (index % 7 === 0) await turn();
  }
  await outlet.flush();
  assert(taken.join("") === expected);
});

Deno.test("a sink that fails is no fault: what nobody reads is dropped", async () => {
  const outlet = new Outlet({ write: () => Promise.reject(new Deno.errors.BrokenPipe("gone")) });
  for (let times = 0; times < 40; times++) outlet.write(new Uint8Array(65_536));
  await outlet.flush();
  assertEquals(outlet.backpressure(), null);
  outlet.write(new Uint8Array(10));
  await outlet.flush();
});

Deno.test("lines that follow a write closely go out with the next one, and at once when all is flushed", async () => {
  const sink = new Sink();
  const outlet = new Outlet(sink, 60_000);
  outlet.line("one");
  await waitUntil(() => sink.writes === 1, "the first line is out");
  for (const line of ["two", "three"]) {
    outlet.line(line);
    await Promise.resolve();
  }
  assertEquals(sink.taken, "one\n");
  await outlet.flush();
  assertEquals([sink.taken, sink.writes], ["one\ntwo\nthree\n", 2]);
});

Deno.test("lines that nobody takes are dropped, and their number is written when somebody reads again", async () => {
  const sink = new Sink(Infinity, true);
  const outlet = new Outlet(sink);
  const line = "x".repeat(1_000_000);
  for (let count = 0; count < 12; count++) outlet.line(line);
  sink.unblock();
  await outlet.flush();
  outlet.line("more");
  await outlet.flush();
  const [lost, more] = sink.taken.split("\n").slice(-3);
  assertEquals([lost, more], ["(3 lines were not written: nobody read them)", "more"]);
});
