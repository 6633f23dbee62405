// @ts-types="./std.d.ts"
import { assert, assertEquals, assertMatch, assertRejects } from "@std/assert";
import { UserError } from "./errors.ts";
import { defineServices } from "./definition.ts";
import { readServicesFile } from "./file.ts";
import { SERVICES } from "../services.ts";
import { servicesJsonSchema } from "./schema.ts";

/** Reads a services file with this content, as `services.yaml` of a folder that is gone afterwards. */
async function read(content: string | Uint8Array) {
  const folder = await Deno.makeTempDir();
  try {
    const path = `${folder}/services.yaml`;
    await Deno.writeFile(path, typeof content === "string" ? new TextEncoder().encode(content) : content);
    return await readServicesFile(path);
  } catch (error) {
    if (error instanceof UserError) error.message = error.message.replaceAll(`${folder}/`, "");
    throw error;
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

/** The problems of a services file with this content, one a line. */
async function problemsOf(content: string | Uint8Array): Promise<string[]> {
  const error = await assertRejects(() => read(content), UserError);
  return error.message.split("\n");
}

/** A services file with one good service and, in it from line 4 on, these fields. */
const withFields = (fields: string) =>
  `services:\n  - name: db\n    command: [python, main.py]\n${fields.replace(/^/gm, "    ")}\n`;

Deno.test("a definition in code is completed with the defaults, its name and its title", () => {
  const [store, shop] = defineServices({
    store: { command: ["a"], port: 7301 },
    shop: { command: "b", title: "Shop", dependencies: ["store"] },
  });
  assertEquals([store!.name, store!.title, store!.port, store!.restartPolicy], [
    "store",
    "store",
    7301,
    "never",
  ]);
  assertEquals([shop!.title, shop!.dependencies, shop!.timeoutStopMs], ["Shop", ["store"], 10_000]);
});

Deno.test("a service of a file that says only what it must is the same as one defined in code", async () => {
  assertEquals(await read("services: [{name: a, command: [x]}]"), defineServices({ a: { command: ["x"] } }));
});

Deno.test("Nord City has db, web and bot, each after what it depends on", () => {
  assertEquals(SERVICES.map(({ name, port, dependencies }) => [name, port, dependencies]), [
    ["db", 8001, []],
    ["web", 8003, ["db"]],
    ["bot", null, ["db"]],
  ]);
});

const EVERY_FIELD = `
# yaml-language-server: $schema=../services.schema.json
x-shared: &policy { restart_policy: on-failure, max_retries: 5 }
services:
  - name: db
    title: Database Service
    command: [python, main.py, 1.10, true]
    working_dir: services/database_service/src
    environment: { LOG_LEVEL: info, VERSION: 1.10, DEBUG: yes, EMPTY: "", MODE: 0o17, constructor: x }
    env_required: [TOKEN]
    port: 8001
    port_env: DATABASE_SERVICE_PORT
    dependencies: [кэш, migrate, кэш]
    <<: *policy
    max_retries: 7
    retry_window: 2m
    retry_delay: 500ms
    retry_delay_max: 1h30m
    timeout_start: 1.5
    timeout_stop: 0
    stop_signal: SIGINT
    critical: false
    restart_with_dependencies: true
    autostart: false
    health:
      http: http://127.0.0.1:\${PORT}/health
      body: "ok|fine"
      interval: 5
      timeout: 250ms
      retries: 1
  - { name: migrate, kind: task, command: ./migrate.sh && true, <<: [*policy] }
  - { name: кэш, kind: external, health: { tcp: 6379 } }
  - { name: worker, command: [w], health: { log: "^ready" } }
  - { name: tcp, command: [w], health: { tcp: "\${PORT}" } }
  - { name: probe, command: [w], health: { command: [pg_isready, -p, 5432] } }
`;

Deno.test("every field of a services file arrives, spans in milliseconds, texts as they were written", async () => {
  const [db, migrate, cache, ...probed] = await read(EVERY_FIELD);
  assertEquals(db, {
    name: "db",
    title: "Database Service",
    command: ["python", "main.py", "1.10", "true"],
    workingDir: "services/database_service/src",
    environment: {
      LOG_LEVEL: "info",
      VERSION: "1.10",
      DEBUG: "yes",
      EMPTY: "",
      MODE: "0o17",
      constructor: "x",
    },
    envRequired: ["TOKEN"],
    port: 8001,
    portEnv: "DATABASE_SERVICE_PORT",
    dependencies: ["кэш", "migrate"],
    kind: "service",
    restartPolicy: "on-failure",
    maxRetries: 7,
    retryWindowMs: 120_000,
    retryDelayMs: 500,
    retryDelayMaxMs: 5_400_000,
    timeoutStartMs: 1500,
    timeoutStopMs: 0,
    stopSignal: "SIGINT",
    critical: false,
    restartWithDependencies: true,
    autostart: false,
    health: {
      probe: { kind: "http", url: "http://127.0.0.1:${PORT}/health", body: "ok|fine" },
      intervalMs: 5000,
      timeoutMs: 250,
      retries: 1,
    },
  });
  assertEquals([migrate!.kind, migrate!.command, migrate!.maxRetries], ["task", "./migrate.sh && true", 5]);
  assertEquals([cache!.kind, cache!.command, cache!.health?.probe], ["external", [], {
    kind: "tcp",
    port: "6379",
  }]);
  assertEquals(probed.map(({ health }) => health?.probe), [
    { kind: "log", pattern: "^ready" },
    { kind: "tcp", port: "${PORT}" },
    { kind: "command", command: ["pg_isready", "-p", "5432"] },
  ]);
});

Deno.test("JSON is read as well, with tabs, a byte order mark and its $schema", async () => {
  const json =
    '\ufeff{\n\t"$schema": "x",\n\t"services": [\n\t\t{ "name": "a", "command": ["x", "\\u0430"] }\n\t]\n}\n';
  assertEquals((await read(json))[0]!.command, ["x", "а"]);
});

Deno.test("all errors are reported at once, in the order of the file, with place, path, what is found and allowed", async () => {
  const problems = await problemsOf(`services:
  - name: web
    command: [python, main.py]
    dependencies: [dbb]
    restart_policy: allways
    port: 99999
  - name: db
    comand: [python]
    retry_delay: soon
    health: {htp: "http://x", interval: 0}
`);
  assertEquals(problems, [
    'services.yaml:4:20 services[0].dependencies[0]: "web" depends on "dbb", which is not in this file; did you mean "db"?',
    'services.yaml:5:5 services[0].restart_policy: "allways" is not allowed; use always, on-failure or never; did you mean "always"?',
    "services.yaml:6:5 services[0].port: 99999 is not allowed; use a whole number from 1 to 65535",
    "services.yaml:7:5 services[1].command: missing; use a list of words, or a text for /bin/sh -c",
    'services.yaml:8:5 services[1].comand: not a known field; did you mean "command"?',
    'services.yaml:9:5 services[1].retry_delay: "soon" is not allowed; use seconds (10 or 1.5) or a text such as 500ms, 2m or 1h30m, 0 or more and at most 24 days',
    "services.yaml:10:5 services[1].health: no probe is named; use one of http, tcp, command or log",
    'services.yaml:10:14 services[1].health.htp: not a known field; did you mean "http"?',
    "services.yaml:10:31 services[1].health.interval: 0 is not allowed; use seconds (10 or 1.5) or a text such as 500ms, 2m or 1h30m, more than 0 and at most 24 days",
  ]);
});

// Each row: fields of a service, and their problems from the line on.
for (
  const [fields, ...problems] of [
    ["port: 0", "4:5 services[0].port: 0 is not allowed; use a whole number from 1 to 65535"],
    ["port: 80.5", "4:5 services[0].port: 80.5 is not allowed; use a whole number from 1 to 65535"],
    ['port: "8001"', '4:5 services[0].port: "8001" is not allowed; use a whole number from 1 to 65535'],
    ["port: null", "4:5 services[0].port: an empty value is not allowed; use a whole number from 1 to 65535"],
    ["critical: yes", '4:5 services[0].critical: "yes" is not allowed; use true or false'],
    [
      "stop_signal: SIGTRM",
      '4:5 services[0].stop_signal: "SIGTRM" is not allowed; use SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGUSR1, SIGUSR2, SIGWINCH, SIGABRT or SIGKILL; did you mean "SIGTERM"?',
    ],
    [
      "stop_signal: SIGSTOP",
      '4:5 services[0].stop_signal: "SIGSTOP" is not allowed; use SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGUSR1, SIGUSR2, SIGWINCH, SIGABRT or SIGKILL',
    ],
    ["max_retries: -1", "4:5 services[0].max_retries: -1 is not allowed; use a whole number, 0 or more"],
    [
      "timeout_start: 0",
      "4:5 services[0].timeout_start: 0 is not allowed; use seconds (10 or 1.5) or a text such as 500ms, 2m or 1h30m, more than 0 and at most 24 days",
    ],
    [
      "timeout_start: .inf",
      "4:5 services[0].timeout_start: Infinity is not allowed; use seconds (10 or 1.5) or a text such as 500ms, 2m or 1h30m, more than 0 and at most 24 days",
    ],
    [
      "timeout_start: -5",
      "4:5 services[0].timeout_start: -5 is not allowed; use seconds (10 or 1.5) or a text such as 500ms, 2m or 1h30m, more than 0 and at most 24 days",
    ],
    [
      "timeout_start: 25d",
      '4:5 services[0].timeout_start: "25d" is not allowed; use seconds (10 or 1.5) or a text such as 500ms, 2m or 1h30m, more than 0 and at most 24 days',
    ],
    [
      'timeout_start: ""',
      '4:5 services[0].timeout_start: "" is not allowed; use seconds (10 or 1.5) or a text such as 500ms, 2m or 1h30m, more than 0 and at most 24 days',
    ],
    [
      "retry_delay: 2m",
      "4:5 services[0].retry_delay: retry_delay 2m is above retry_delay_max 60; use a higher retry_delay_max",
    ],
    [
      "retry_delay_max: 500ms",
      "4:5 services[0].retry_delay_max: retry_delay 1 is above retry_delay_max 500ms; use a higher retry_delay_max",
    ],
    ["title: [a]", "4:5 services[0].title: a list is not allowed; use one line of text"],
    ['title: "a\\nb"', '4:5 services[0].title: "a\\nb" is not allowed; use one line of text'],
    ['working_dir: "  "', '4:5 services[0].working_dir: "  " is not allowed; use the path of a folder'],
    [
      'working_dir: "a\\0b"',
      '4:5 services[0].working_dir: "a\\u0000b" is not allowed; use the path of a folder',
    ],
    ["dependencies: db", '4:5 services[0].dependencies: "db" is not allowed; use a list of service names'],
    [
      "dependencies: [db]",
      "4:5 services[0].dependencies: db -> db is a cycle; remove one of these dependencies",
    ],
    [
      "dependencies: [nothing]",
      '4:20 services[0].dependencies[0]: "db" depends on "nothing", which is not in this file; use db',
    ],
    [
      "environment: [A=b]",
      "4:5 services[0].environment: a list is not allowed; use a map of names and values",
    ],
    [
      'environment: {"A B": c}',
      '4:19 services[0].environment["A B"]: this value is not allowed; use a map of names and values',
    ],
    [
      "environment: {A: null}",
      '4:19 services[0].environment.A: an empty value is not allowed; use a text ("" for an empty one)',
    ],
    [
      "env_required: [A=B]",
      '4:20 services[0].env_required[0]: "A=B" is not allowed; use the name of a variable',
    ],
    [
      "kind: task\nrestart_policy: always",
      '5:5 services[0].restart_policy: "always" is not allowed for a task, which runs once; use on-failure or never',
    ],
    [
      "kind: task\nhealth: {tcp: 1}",
      "5:5 services[0].health: not allowed for a task; it is done when it ends with status 0",
    ],
    [
      "kind: external",
      "2:5 services[0].health: missing; an external service is waited for by its health check",
      "3:5 services[0].command: not allowed; an external service is waited for, not started",
    ],
    [
      "kind: external\nhealth: {log: x}",
      "3:5 services[0].command: not allowed; an external service is waited for, not started",
      "5:14 services[0].health.log: not allowed for an external service, whose output nobody reads; use http, tcp or command",
    ],
    [
      "health: 5",
      "4:5 services[0].health: 5 is not allowed; use a map with one of http, tcp, command or log",
    ],
    [
      "health: {http: 'http://a', tcp: 1}",
      "4:32 services[0].health.tcp: a second probe beside http; keep one of them",
    ],
    [
      "health: {http: 'ftp://user:secret@a'}",
      '4:14 services[0].health.http: "ftp://***@a" is not allowed; use a URL that begins with http:// or https://',
    ],
    [
      "health: {http: 'http://[1'}",
      '4:14 services[0].health.http: "http://[1" is not allowed; use a URL that begins with http:// or https://',
    ],
    [
      "health: {http: 'http://a', body: '('}",
      '4:32 services[0].health.body: "(" is not allowed; use a regular expression as JavaScript knows them',
    ],
    [
      "health: {tcp: 1, body: a}",
      "4:22 services[0].health.body: only an http probe has a body; use http or remove this",
    ],
    [
      "health: {tcp: 70000}",
      "4:14 services[0].health.tcp: 70000 is not allowed; use a whole number from 1 to 65535",
    ],
    [
      "health: {tcp: http}",
      '4:14 services[0].health.tcp: "http" is not allowed; use a port number from 1 to 65535, or ${NAME} of a variable that holds one',
    ],
    [
      "health: {log: '[', interval: 1}",
      '4:14 services[0].health.log: "[" is not allowed; use a regular expression as JavaScript knows them',
      "4:24 services[0].health.interval: only for liveness, and a log probe only shows readiness; remove this, or use http, tcp or command",
    ],
    [
      "health: {log: a, interval: 1}",
      "4:22 services[0].health.interval: only for liveness, and a log probe only shows readiness; remove this, or use http, tcp or command",
    ],
    [
      "health: {command: []}",
      "4:14 services[0].health.command: an empty list is not allowed; use a list of words, or a text for /bin/sh -c",
    ],
    ["name: web", "4:5 services[0].name: stands here a second time; the first is in line 2"],
    [
      "restartPolicy: never",
      '4:5 services[0].restartPolicy: not a known field; did you mean "restart_policy"?',
    ],
    [
      "zzz: 1",
      "4:5 services[0].zzz: not a known field; use name, title, command, working_dir, environment, env_required, port, port_env, dependencies, kind, restart_policy, max_retries, retry_window, retry_delay, retry_delay_max, timeout_start, timeout_stop, stop_signal, critical, restart_with_dependencies, autostart or health",
    ],
    ["__proto__: {a: 1}", "4:5 services[0].__proto__: not a name that a field can have"],
    [
      "environment: {__proto__: a}",
      "4:19 services[0].environment.__proto__: not a name that a field can have",
    ],
    ["? [a, b]\n: c", "4:7 services[0]: the name of a field here is not a text"],
    [
      "title: *nowhere",
      "4:12 services[0].title: an alias of no anchor above it; put a text that begins with * in quotes",
    ],
    [
      "environment: &e {A: *e}",
      "4:25 services[0].environment.A: an alias of no anchor above it; put a text that begins with * in quotes",
    ],
    ["<<: 5", "4:5 services[0].<<: only maps can be merged"],
    ["title: !!python/object:os.system x", "4:12 cannot be read as YAML: unresolved tag"],
    ["title: a\n\tport: 1", "5:5 a tab can't indent in YAML; use spaces"],
    ["title: 'a", "5:1 cannot be read as YAML: missing closing 'quote"],
    [
      "port: {",
      "5:1 cannot be read as YAML: flow map in block collection must be sufficiently indented and end with a }",
    ],
    ["title", "4:5 a name of a field without its colon; write NAME: VALUE"],
    ["title: a: b", "4:12 a second colon in this line; put a text that holds a colon and a space in quotes"],
    ["  title: a", "4:1 cannot be read as YAML: all mapping items must start at the same column"],
    [
      'title: "\\e[31m"\nport: "\\u009b\\u202ex"',
      '4:5 services[0].title: "\\u001b[31m" is not allowed; use one line of text',
      '5:5 services[0].port: "\\u{9b}\\u{202e}x" is not allowed; use a whole number from 1 to 65535',
    ],
  ] as const
) {
  Deno.test(`a service with ${JSON.stringify(fields)} is refused: ${problems.join(" ")}`, async () => {
    assertEquals(await problemsOf(withFields(fields)), problems.map((problem) => `services.yaml:${problem}`));
  });
}

for (const name of ["db", "база-данных", "сервис_№1", "🚀", "a.b"]) {
  Deno.test(`the name ${JSON.stringify(name)} is taken`, async () => {
    const file = JSON.stringify({ services: [{ name, command: ["x"] }] });
    assertEquals((await read(file))[0]!.name, name);
  });
}

const NO_NAME =
  "is not allowed; use a name without spaces, commas and slashes, at most 60 characters, that does not begin with - or .";
for (
  const [name, problem] of [
    ["a b", `"a b" ${NO_NAME}`],
    ["a,b", `"a,b" ${NO_NAME}`],
    ["a/b", `"a/b" ${NO_NAME}`],
    ["..", `".." ${NO_NAME}`],
    ["-a", `"-a" ${NO_NAME}`],
    ["", `"" ${NO_NAME}`],
    ["x".repeat(61), `"${"x".repeat(60)}..." ${NO_NAME}`],
    ["orchestrator", "the orchestrator itself has this name in logs; use another"],
  ] as const
) {
  Deno.test(`the name ${JSON.stringify(name)} is refused`, async () => {
    const file = JSON.stringify({ services: [{ name, command: ["x"] }] });
    assertEquals(await problemsOf(file), [`services.yaml:1:15 services[0].name: ${problem}`]);
  });
}

Deno.test("what two services both claim names both of them", async () => {
  assertEquals(
    await problemsOf(`services:
  - {name: db, command: [x], port: 8001, port_env: P}
  - {name: web, command: [x], port: 8001, port_env: P}
  - {name: db, command: [x]}
`),
    [
      'services.yaml:3:31 services[1].port: 8001 is already the port of services[0] "db" (line 2); each needs its own',
      'services.yaml:3:43 services[1].port_env: "P" is already the port variable of services[0] "db" (line 2); each needs its own',
      'services.yaml:4:6 services[2].name: "db" is already the name of services[0] "db" (line 2); each needs its own',
    ],
  );
});

Deno.test("a retry delay may be as long as its limit", async () => {
  assertEquals((await read(withFields("retry_delay: 60\nretry_delay_max: 1m")))[0]!.retryDelayMs, 60_000);
});

Deno.test("a cycle of 20 names is shown whole, and none of what was passed on the way to it", async () => {
  const cycle = Array.from({ length: 19 }, (_, index) => `s${index}`);
  const services = [...cycle, "aside"].map((name, index) => ({
    name,
    command: "x",
    dependencies: name === "aside" ? [] : ["aside", cycle[(index + 1) % cycle.length]],
  }));
  const [problem] = await problemsOf(JSON.stringify({ services }));
  const path = [...cycle, "s0"].join(" -> ");
  assertEquals(
    problem,
    `services.yaml:1:41 services[0].dependencies: ${path} is a cycle; remove one of these dependencies`,
  );
});

Deno.test("every cycle is shown as the way around it", async () => {
  const needs = { a: "b", b: "c", c: "a", d: "a", e: "f", f: "e" };
  const services = Object.entries(needs).map(([name, need]) => ({
    name,
    command: "x",
    dependencies: [need],
  }));
  const problems = await problemsOf(JSON.stringify({ services }));
  assertEquals(problems.map((line) => line.replace(/.*: (.*) is a cycle.*/, "$1")), [
    "a -> b -> c -> a",
    "e -> f -> e",
  ]);
});

Deno.test("what stands under environment is never shown, nor is a text that YAML trips over", async () => {
  for (
    const fields of [
      "environment: hunter2",
      "environment: [TOKEN=hunter2]",
      "environment: {A: [hunter2], B: {c: hunter2}}",
      "environment: {A: *hunter2}",
      'environment: {A: "x" hunter2}',
      "environment:\n  A: !hunter2 x",
      'environment:\n  A: "\\q hunter2"',
      "environment:\n  A: b: hunter2",
      "environment:\n  A: 'hunter2",
      "environment:\n  A: |hunter2",
      "environment:\n  A: @hunter2",
      "environment:\n  A: %hunter2",
      "environment:\n  A: &a &hunter2 b",
      "environment:\n  A: x\n hunter2",
      "environment:\n  A: [hunter2",
      'environment: {A: "hunter2\\0"}',
      "environment: {A: 1}\nTOKEN: hunter2",
    ]
  ) {
    assertEquals(
      (await problemsOf(withFields(fields))).filter((line) => line.includes("hunter2")),
      [],
      fields,
    );
  }
});

// Hostile files: each ends as a few plain sentences, soon. Where the place depends on how deep the parser comes, the
// problem stands without it.
const HOSTILE: [string, string | Uint8Array, string][] = [
  [
    "an empty file",
    "",
    'services.yaml:1:1 nothing is in it; it needs a list "services:" (orchestrator init writes a first one)',
  ],
  [
    "only comments",
    "# later\n",
    'services.yaml:1:1 nothing is in it; it needs a list "services:" (orchestrator init writes a first one)',
  ],
  [
    "an empty document",
    "---\n",
    'services.yaml:1:1 an empty value is not allowed; use a map with the list "services:"',
  ],
  [
    "no services",
    "services: []",
    "services.yaml:1:1 services: an empty list is not allowed; name at least one service",
  ],
  ["a list", "- name: a", 'services.yaml:1:1 a list is not allowed; use a map with the list "services:"'],
  ["a text", "hello", 'services.yaml:1:1 "hello" is not allowed; use a map with the list "services:"'],
  [
    "a map of services",
    "services: {db: {command: x}}",
    "services.yaml:1:1 services: a map is not allowed; use a list of services, each beginning with - name: NAME",
  ],
  [
    "half a file",
    "services:\n  - name: db\n    comm",
    "services.yaml:3:5 a name of a field without its colon; write NAME: VALUE",
  ],
  [
    "half a JSON file",
    '{"services": [{"name": "db", "comm',
    'services.yaml:1:35 cannot be read as YAML: missing closing "quote',
  ],
  [
    "a file of 10 MB",
    "#".repeat(10_000_000),
    "Cannot read the services file services.yaml: it has 10000000 bytes, and a services file may have 524288 (512 KiB).",
  ],
  [
    "Latin-1",
    new Uint8Array([0x61, 0x3a, 0xe4]),
    "Cannot read the services file services.yaml: it is not UTF-8 text; save it as UTF-8.",
  ],
  [
    "UTF-16",
    new Uint8Array([0xff, 0xfe, 0x61, 0x00]),
    "Cannot read the services file services.yaml: it is not UTF-8 text; save it as UTF-8.",
  ],
  [
    "binary",
    new Uint8Array(1000),
    `services.yaml:1:1 "${"\\u0000".repeat(60)}..." is not allowed; use a map with the list "services:"`,
  ],
  ["10,000 lists in lists", "[".repeat(10_000) + "]".repeat(10_000), "nested too deeply for a services file"],
  [
    "10,000 maps in maps",
    "{a: ".repeat(10_000) + "}".repeat(10_000),
    "nested too deeply for a services file",
  ],
  ["10,000 items in items", "- ".repeat(10_000) + "x", "nested too deeply for a services file"],
  [
    "500 lists in lists",
    `services: ${"[".repeat(500)}${"]".repeat(500)}`,
    "nested too deeply for a services file",
  ],
  ["lists never closed", "[".repeat(500_000), "nested too deeply for a services file"],
  [
    "a billion laughs",
    "x-0: &a0 [lol,lol,lol,lol,lol,lol,lol,lol,lol,lol]\n" +
    Array.from({ length: 9 }, (_, i) => `x-${i + 1}: &a${i + 1} [${Array(10).fill(`*a${i}`)}]\n`).join("") +
    "services: *a9\n",
    "services.yaml:6:11 its aliases stand for more than 200000 values; write fewer *aliases",
  ],
  [
    "a quadratic blowup",
    `x-0: &a [${"1,".repeat(50_000)}]\nservices: [{name: a, command: [${"*a,".repeat(50_000)}]}]`,
    "services.yaml:2:38 its aliases stand for more than 200000 values; write fewer *aliases",
  ],
  ["100,000 mistakes", "services:\n" + "- a\n".repeat(100_000), "... and 99950 more errors"],
  [
    "100,000 fields",
    "services: [{" + Array.from({ length: 60_000 }, (_, i) => `k${i}`).join() + "}]",
    "... and 59952 more errors",
  ],
  [
    "two documents",
    "services: [{name: a, command: x}]\n---\n{}",
    "services.yaml:2:1 a second document begins here; a services file is one document",
  ],
  [
    "documents without end",
    "---\n".repeat(120_000),
    "services.yaml:2:1 a second document begins here; a services file is one document",
  ],
  [
    "brackets only",
    "]".repeat(500_000),
    "services.yaml:1:1 cannot be read as YAML from here on; check quotes, brackets and indentation",
  ],
];
for (const [what, content, problem] of HOSTILE) {
  Deno.test(`a services file that is ${what} ends as a plain error, soon`, async () => {
    const startedAt = performance.now();
    const problems = await problemsOf(content);
    const lines = problems.flatMap((line) => [line, line.replace(/^services\.yaml:\d+:\d+ /, "")]);
    assert(lines.includes(problem), problems.slice(0, 5).join("\n"));
    assert(
      problems.length <= 51 && problems.every((line) => line.length < 1000),
      "not more than one can read",
    );
    assert(performance.now() - startedAt < 20_000, "not soon");
  });
}

Deno.test("10,000 services in one chain of dependencies are read without recursion", async () => {
  const line = (i: number) => `{name: s${i}, command: x, dependencies: [${i ? `s${i - 1}` : ""}]}`;
  const chain = Array.from({ length: 8_000 }, (_, i) => line(i));
  assertEquals((await read(`services: [${chain.join()}]`)).length, 8_000);
  const ring = chain.join().replace("dependencies: []", "dependencies: [s7999]");
  const names = (from: number, to: number) =>
    Array.from({ length: from - to + 1 }, (_, i) => `s${from - i}`).join(" -> ");
  const path = `s0 -> ${names(7999, 7991)} -> ... -> ${names(9, 0)}`;
  assertEquals(await problemsOf(`services: [${ring}]`), [
    `services.yaml:1:35 services[0].dependencies: ${path} is a cycle; remove one of these dependencies`,
  ]);
});

Deno.test("a file below the current folder is named as one would type it", async () => {
  const file = `${Deno.cwd()}/testing/dotenv-cases.json`; // any text that is no services file
  const { message } = await assertRejects(() => readServicesFile(file), UserError);
  assertEquals(
    message,
    'testing/dotenv-cases.json:1:1 a list is not allowed; use a map with the list "services:"',
  );
});

Deno.test("a file that cannot be read says why", async () => {
  const folder = await Deno.makeTempDir();
  try {
    const file = `${folder}/services.yaml`;
    const assertReason = async (reason: string) => {
      const { message } = await assertRejects(() => readServicesFile(file), UserError);
      assertEquals(message, `Cannot read the services file ${file}: ${reason}.`);
    };
    await assertReason("there is no such file");
    await Deno.mkdir(file);
    await assertReason("it is a folder; put a file there, or name another one with --config");
    await Deno.remove(file);
    await new Deno.Command("mkfifo", { args: [file] }).output();
    await assertReason("it is not a regular file");
    await Deno.remove(file);
    await Deno.symlink(`${folder}/gone`, file);
    await assertReason("there is no such file");
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("docs/services.md has a row for every field, with its default", async () => {
  const docs = await Deno.readTextFile(new URL("../docs/services.md", import.meta.url));
  const [service, health] = docs.split("## Fields of ").slice(1);
  const schema = JSON.parse(await servicesJsonSchema()).properties.services.items.properties;
  for (const [table, fields] of [[service, schema], [health, schema.health.properties]]) {
    const rows = [...table.matchAll(/^\| `(\w+)` +\|[^|]+\|([^|]*)\|/gm)];
    const written = rows.map(([, name, standard]) => [name, standard.trim().replaceAll("`", "")]);
    const defined = Object.keys(fields).map((name) => {
      const standard: unknown = fields[name].default;
      return [
        name,
        standard === undefined ? "" : typeof standard === "string" ? standard : JSON.stringify(standard),
      ];
    });
    assertEquals(written, defined);
  }
});

for (const example of ["tasks", "node"]) {
  Deno.test(`examples/${example} is a valid services file with the address of the schema for editors`, async () => {
    const folder = `${import.meta.dirname}/../examples/${example}`;
    assert((await readServicesFile(`${folder}/services.yaml`)).length > 0);
    const text = await Deno.readTextFile(`${folder}/services.yaml`);
    assertMatch(text, /^# yaml-language-server: \$schema=\.\.\/\.\.\/services\.schema\.json\n/);
  });
}

Deno.test("the YAML of docs/services.md is valid", async () => {
  const docs = await Deno.readTextFile(new URL("../docs/services.md", import.meta.url));
  const [sample] = [...docs.matchAll(/```yaml\n(x-[\s\S]*?)```/g)].map(([, yaml]) => yaml);
  const [db, web] = await read(sample!);
  assertEquals([db!.maxRetries, web!.maxRetries, web!.restartPolicy], [5, 10, "on-failure"]);
});

Deno.test("an unchanged file is read from what was kept, a changed one and a broken note are not", async () => {
  const folder = await Deno.makeTempDir();
  try {
    const path = `${folder}/services.yaml`;
    const memory = `${folder}/memory`;
    const note = `${memory}/services.cache.json`;
    await Deno.writeTextFile(path, "services:\n  - {name: a, command: [sleep, 1]}\n");
    const fresh = await readServicesFile(path, memory); // no such folder: nothing is kept
    assertEquals(await readServicesFile(path), fresh);

    await Deno.mkdir(memory);
    await readServicesFile(path, memory);
    const kept = JSON.parse(await Deno.readTextFile(note));
    assertEquals(kept.services, JSON.parse(JSON.stringify(fresh)));
    kept.services[0].title = "from the note";
    await Deno.writeTextFile(note, JSON.stringify(kept));
    assertEquals((await readServicesFile(path, memory))[0]!.title, "from the note");

    await Deno.writeTextFile(note, JSON.stringify({ ...kept, key: kept.key.replace("60000", "50000") }));
    assertEquals((await readServicesFile(path, memory))[0]!.title, "a");
    await Deno.writeTextFile(note, JSON.stringify(kept).slice(0, 40));
    assertEquals((await readServicesFile(path, memory))[0]!.title, "a");
    await Deno.writeTextFile(path, "services:\n  - {name: b, command: [sleep, 1]}\n");
    assertEquals((await readServicesFile(path, memory))[0]!.name, "b");
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
