// What the commands about jobs show.

// @ts-types="../../config/std.d.ts"
import { assertEquals } from "@std/assert";
import { tableOf } from "./job.ts";

Deno.test("a table shows what strangers wrote in straight columns, on one line each, without control codes", async () => {
  const rows = [["日本", "two\nlines", "end"], ["plain", "\x1b[31mred\x07", "end"]];
  assertEquals(
    await tableOf(["JOB", "ERROR", ""], rows),
    [
      "JOB    ERROR",
      "日本   two lines  end",
      "plain  red        end",
    ].join("\n"),
  );
});
