// Places, changes and delays: in which order, and for how long.

// @ts-types="../../config/std.d.ts"
import { assert, assertEquals } from "@std/assert";
import { systemClock } from "../../config/clock.ts";
import { Backoff, Notifier, Slots } from "./run_state.ts";

const never = new AbortController().signal;

Deno.test("a place that is given back goes to who waits longest for it", async () => {
  const slots = new Slots(1);
  assert(slots.tryAcquire() && !slots.tryAcquire());
  const order: string[] = [];
  const waiting = ["first", "second"].map((name) => slots.acquire(never).then(() => order.push(name)));
  slots.release();
  slots.release();
  await Promise.all(waiting);
  assertEquals([order, slots.free], [["first", "second"], 0]);
});

Deno.test("who stops waiting for a place gets none, and leaves it to the next", async () => {
  const slots = new Slots(0);
  const stop = new AbortController();
  const left = slots.acquire(stop.signal);
  const next = slots.acquire(never);
  stop.abort();
  slots.release();
  assertEquals([await left, await next, await slots.acquire(stop.signal)], [false, true, false]);
});

Deno.test("all that wait are woken by a change, and by the end of their scope", async () => {
  const notifier = new Notifier(systemClock);
  const stop = new AbortController();
  const both = [notifier.wait(1e6, never), notifier.wait(1e6, stop.signal)];
  notifier.notify();
  await Promise.all(both);
  const last = notifier.wait(1e6, stop.signal);
  stop.abort();
  await last;
  await notifier.wait(1e6, stop.signal);
});

Deno.test("delays double up to their limit, vary by a quarter, and begin again", () => {
  const middle = new Backoff(100, 500, () => 0.5);
  assertEquals([1, 2, 3, 4, 5].map(() => middle.nextMs()), [100, 200, 400, 500, 500]);
  middle.reset();
  assertEquals(middle.nextMs(), 100);
  assertEquals([new Backoff(100, 500, () => 0).nextMs(), new Backoff(100, 500, () => 1).nextMs()], [75, 125]);
});
