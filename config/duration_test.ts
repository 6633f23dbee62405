// @ts-types="./std.d.ts"
import { assertEquals } from "@std/assert";
import { formatSpan, spanOf } from "./duration.ts";

for (
  const [duration, ms] of [
    [10, 10_000],
    [0, 0],
    [1.5, 1500],
    ["10", 10_000],
    ["0.25", 250],
    ["500ms", 500],
    ["1.5s", 1500],
    ["2m", 120_000],
    ["1h30m", 5_400_000],
    ["1h 30m", 5_400_000],
    ["1d2h3m4s5ms", 93_784_005],
    [" 5s ", 5000],
    ["", null],
    ["-5", null],
    [-5, null],
    ["5 m", null],
    ["m", null],
    ["30m1h", null],
    ["1m1m", null],
    ["1e3", null],
    ["1,5s", null],
    ["5M", null],
    ["9".repeat(400), null],
    [NaN, null],
    [Infinity, null],
  ] as const
) {
  Deno.test(`the duration ${JSON.stringify(duration)} is ${ms === null ? "refused" : `${ms} ms`}`, () => {
    assertEquals(spanOf(duration), ms);
  });
}

for (
  const [ms, words] of [
    [0, "0 ms"],
    [999.4, "999 ms"],
    [1_000, "1 s"],
    [1_449, "1.4 s"],
    [12_345, "12 s"],
    [59_400, "59 s"],
    [59_999, "1 min"],
    [125_000, "2 min 5 s"],
    [3_600_000, "1 h"],
    [11_040_000, "3 h 4 min"],
    [360_000_000, "100 h"],
  ] as const
) Deno.test(`a span of ${ms} ms is ${words}`, () => assertEquals(formatSpan(ms), words));
