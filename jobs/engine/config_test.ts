// @ts-types="../../config/std.d.ts"
import { assert, assertEquals, assertThrows } from "@std/assert";
import { Config } from "./config.ts";
import { ConfigError } from "../model/errors.ts";
import { Authenticator, readClients, readWorkers } from "./tokens.ts";

Deno.test("settings come from the environment, with those of the program over them", () => {
  const environment = {
    API_HOST: "0.0.0.0",
    API_PORT: "9000",
    CLIENT_TOKEN: "c",
    GLOBAL_WORKER_TOKEN: "w",
    WORKER_TIMEOUT_SECONDS: "1.5",
    JOB_MAX_RETRIES: "0",
    RATE_LIMITING_ENABLED: "False",
    LOG_LEVEL: "warn",
    LOG_FORMAT: "TEXT",
    WEBHOOK_HOSTS: "a.example, *.b.example",
    TZ: "Europe/Berlin",
  };
  const config = new Config({ port: 1 }, environment);
  assertEquals([config.host, config.port, config.clientToken, config.workerToken], ["0.0.0.0", 1, "c", "w"]);
  assertEquals([config.workerTimeoutMs, config.jobMaxRetries, config.rateLimiting], [1500, 0, false]);
  assertEquals([config.logLevel, config.logFormat, config.timeZone], ["warn", "text", "Europe/Berlin"]);
  assertEquals(config.webhookHosts, ["a.example", "*.b.example"]);
});

Deno.test("defaults: this machine only, a file for storage, no tokens, the original's times", () => {
  const config = new Config();
  assertEquals([config.host, config.port, config.storage], ["127.0.0.1", 8080, "sqlite:jobs.sqlite"]);
  assertEquals([config.clientToken, config.workerToken], ["", ""]);
  assertEquals([config.workerTimeoutMs, config.pollTimeoutMs, config.healthCheckMs], [
    300_000,
    30_000,
    60_000,
  ]);
  assertEquals([config.maxSubmissionBytes, config.maxResultBytes], [1 << 20, 16 << 20]);
  assertEquals(new Config({}, { REDIS_HOST: "cache", REDIS_DB: "2" }).storage, "redis://cache:6379/2");
});

Deno.test("all settings that cannot be used are named at once, without their values", () => {
  const environment = {
    API_PORT: "secret1",
    WORKER_TIMEOUT_SECONDS: "secret2",
    LOG_LEVEL: "secret3",
    RATE_LIMITING_ENABLED: "secret4",
    LOG_FORMAT: "secret5",
  };
  const error = assertThrows(() => new Config({}, environment), ConfigError);
  assertEquals(
    error.message,
    "API_PORT must be a whole number from 0 to 65535. " +
      "WORKER_TIMEOUT_SECONDS must be seconds (10 or 1.5) or a text such as 500ms, 2m or 1h30m. " +
      "RATE_LIMITING_ENABLED must be true or false. LOG_LEVEL must be one of debug, info, warn, error. " +
      "LOG_FORMAT must be one of json, text.",
  );
});

for (
  const [text, message] of [
    ["ann = 5", 'use clients.toml: client "ann" is not a table; write [ann]'],
    ["[ann]\nplan = 'x'", 'use clients.toml: client "ann" needs a "token" text'],
    ["[ann]\ntoken = 5", 'use clients.toml: client "ann" needs a "token" text'],
    ["[ann]\ntoken = 't'\nplan = 5", 'use clients.toml: client "ann" has a "plan" that is not a text'],
    [
      "[ann]\ntoken = 't'\nmonthly_attempts = 'many'",
      'use clients.toml: client "ann" has "monthly_attempts" that is not a whole number',
    ],
    [
      "[ann]\ntoken = 't'\nmonthly_attempts = 1.5",
      'use clients.toml: client "ann" has "monthly_attempts" that is not a whole number',
    ],
    ["[ann]\ntoken = 't'\nparams = 5", 'use clients.toml: client "ann" has "params" that is not a table'],
    [
      "[ann]\ntoken = 'top-secret'\n[bob]\ntoken = 'top-secret'",
      'use clients.toml: client "bob" has the same token as "ann"; give each its own',
    ],
    ["[ann]\ntoken = 'top-secret", "read clients.toml: it is not valid TOML (line 2)"],
  ] as const
) {
  Deno.test(`a clients file ${JSON.stringify(text)} is refused`, () => {
    const error = assertThrows(() => readClients(text, "clients.toml"), ConfigError);
    assertEquals(error.message, `Cannot ${message}.`);
  });
}

Deno.test("clients have plan, quota and params, and no token", () => {
  const [client] = readClients(
    `[ann]\ntoken = "t"\nplan = "gold"\nmonthly_attempts = 5\nregion = "eu"\n`,
    "c.toml",
  );
  assertEquals([client!.name, client!.plan, client!.monthlyAttempts, client!.params], ["ann", "gold", 5, {
    region: "eu",
  }]);
  assert(!JSON.stringify(client).includes('"t"'));
});

Deno.test("a worker's own token goes before its pattern's, the longest pattern before shorter ones", () => {
  const warnings: string[] = [];
  const text =
    `["*"]\ntoken = "any"\n["gpu-*"]\ntoken = "gpu"\n["gpu-7"]\ntoken = "seven"\n["a.b*"]\ntoken = "dot"\n[none]\n`;
  const guard = new Authenticator([], readWorkers(text, "w.toml", (line) => warnings.push(line)), undefined);
  const right = (id: string) =>
    ["any", "gpu", "seven", "dot"].filter((token) => guard.checkWorker(id, token) === "ok");
  assertEquals(right("gpu-7"), ["seven"]);
  assertEquals(right("gpu-8"), ["gpu"]);
  assertEquals(right("cpu"), ["any"]);
  assertEquals(right("a.b1"), ["dot"]);
  assertEquals(right("axb1"), ["any"]);
  assertEquals(warnings.length, 1);
});
