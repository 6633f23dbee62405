// Settings of a worker: what is refused, and in which words.

// @ts-types="../../config/std.d.ts"
import { assertEquals, assertThrows } from "@std/assert";
import { DURATION_FORMS } from "../../config/duration.ts";
import { readSettings, WorkerError, type WorkerOptions } from "./settings.ts";

function problemOf(environment: Record<string, string>, options: WorkerOptions = {}): string {
  const all = { WORKER_TOKEN: "t", ...environment };
  return assertThrows(() => readSettings({ environment: all, ...options }), WorkerError).message;
}

for (
  const [variable, value, must] of [
    ["ORCHESTRATOR_URL", "localhost", "an address such as http://127.0.0.1:8080"],
    ["ORCHESTRATORS_CONFIG", '[{"token":"s3cret"}]', `JSON like [{"url": "http://one:8080", "priority": 1}]`],
    ["MULTI_ORCHESTRATOR_MODE", "ALL", "one of FAILOVER, ROUND_ROBIN"],
    ["WORKER_ID", "a b", "1 to 200 printable characters without spaces or slashes"],
    ["WORKER_TYPE", "x".repeat(201), "a text of at most 200 characters"],
    ["MAX_CONCURRENT_TASKS", "0", "a whole number of at least 1"],
    ["MAX_CONCURRENT_TASKS", "many", "a whole number of at least 1"],
    ["GPU_VRAM_GB", "-1", "a number of at least 0"],
    ["HEARTBEAT_INTERVAL", "-1", DURATION_FORMS],
    ["TASK_POLL_TIMEOUT", "soon", DURATION_FORMS],
    ["INSTALLED_MODELS", "llama", `JSON like [{"name": "llama", "version": "3"}]`],
    ["WORKER_ENABLE_WEBSOCKETS", "perhaps", "true or false"],
  ] as const
) {
  Deno.test(`${variable}=${value.slice(0, 30)} is refused by name`, () => {
    assertEquals(problemOf({ [variable]: value }), `Cannot set up the worker: ${variable} must be ${must}.`);
  });
}

Deno.test("all problems are named at once, those of options by their variable", () => {
  assertEquals(
    problemOf({ WORKER_ID: "a/b", CPU_CORES: "x" }, { maxConcurrentTasks: 0.5 }),
    "Cannot set up the worker: WORKER_ID must be 1 to 200 printable characters without spaces or slashes. " +
      "MAX_CONCURRENT_TASKS must be a whole number of at least 1. CPU_CORES must be a whole number of at least 1.",
  );
});

Deno.test("a missing token is a problem", () => {
  assertEquals(
    problemOf({ WORKER_TOKEN: " " }),
    "The worker has no token; set WORKER_TOKEN (or WORKER_INDIVIDUAL_TOKEN) to one that the engine knows.",
  );
});

Deno.test("options win over the environment, which is read where they say nothing", () => {
  const environment = { WORKER_TOKEN: "t", WORKER_ID: "one", WORKER_TYPE: "gpu", ORCHESTRATORS_CONFIG: "" };
  const { id, type, engines } = readSettings({
    environment,
    id: "other",
    workerType: undefined,
    url: "http://x/",
  });
  assertEquals([id, type, engines], ["other", "gpu", [{ url: "http://x", token: "t" }]]);
});
