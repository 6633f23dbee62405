// Settings of a worker: what is refused, and in which words.

// @ts-types="../../config/std.d.ts"
import { assert, assertMatch, assertThrows } from "@std/assert";
import { readSettings, WorkerError } from "./settings.ts";

for (
  const [variable, value, words] of [
    ["ORCHESTRATOR_URL", "localhost", "must be an address"],
    ["ORCHESTRATORS_CONFIG", '[{"token":"s3cret"}]', "must be JSON like"],
    ["MULTI_ORCHESTRATOR_MODE", "ALL", "must be FAILOVER or ROUND_ROBIN"],
    ["WORKER_ID", "a b", "without spaces"],
    ["MAX_CONCURRENT_TASKS", "0", "at least 1"],
    ["MAX_CONCURRENT_TASKS", "many", "whole number"],
    ["HEARTBEAT_INTERVAL", "-1", "must be seconds (10 or 1.5) or a text such as 500ms, 2m or 1h30m."],
    ["TASK_POLL_TIMEOUT", "soon", "must be seconds (10 or 1.5) or a text such as 500ms, 2m or 1h30m."],
    ["INSTALLED_MODELS", "llama", "must be JSON like"],
    ["WORKER_ENABLE_WEBSOCKETS", "perhaps", "true or false"],
  ] as const
) {
  Deno.test(`${variable}=${value} is refused by name`, () => {
    const error = assertThrows(
      () => readSettings({ environment: { WORKER_TOKEN: "t", [variable]: value } }),
      WorkerError,
      words,
    );
    assertMatch(error.message, new RegExp(`Cannot set up the worker: ${variable} `));
    assert(!error.message.includes("s3cret"));
  });
}

Deno.test("all faults of the settings are told at once, and a missing token is one", () => {
  const error = assertThrows(() =>
    readSettings({ environment: { WORKER_TOKEN: "t", WORKER_ID: "a/b", CPU_CORES: "x" } })
  );
  assert(error.message.includes("WORKER_ID") && error.message.includes("CPU_CORES"), error.message);
  assertThrows(() => readSettings({ environment: {} }), WorkerError, "no token");
});
