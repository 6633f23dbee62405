// The command line of the jobs, as children of the test.

// @ts-types="../../config/std.d.ts"
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { COMPILED, Folder, freePort, GIVEN, ROOT, Run, runToEnd, waitUntil } from "../../testing/run.ts";
import { StateMachineBlueprint } from "../model/blueprint.ts";
import { Config } from "../engine/config.ts";
import { openTestEngine, type TestEngine } from "../testing/engine.ts";

const FLOW = `${ROOT}/examples/jobs/flow.js`;
const TASKS = `${ROOT}/examples/jobs/tasks.js`;

/** No variable of the tester's own gets in the way. */
const CLEAN = {
  CLIENT_TOKEN: undefined,
  GLOBAL_WORKER_TOKEN: undefined,
  WORKER_TOKEN: undefined,
  ORCHESTRATOR_URL: undefined,
  LOG_FORMAT: undefined,
  NO_COLOR: undefined,
};

for (
  const [args, message] of [
    [["engine"], `"engine" needs --blueprints FILE; examples/jobs/flow.js is one.`],
    [["engine", "--blueprint", "x.js"], `"engine" has no option --blueprint; did you mean --blueprints?`],
    [["engine", "--blueprints", "missing.js"], "There is no file missing.js; check the name."],
    [["engine", "--blueprints", FLOW, "--port", "80x"], "--port must be a whole number from 0 to 65535."],
    [
      ["engine", "--blueprints", FLOW, "--log-level", "LOUD"],
      "--log-level must be one of debug, info, warn, error.",
    ],
    [
      ["engine", "--blueprints", FLOW, "--storage", "postgres://u:s3cret@x"],
      "The storage is not recognized; use memory, sqlite:PATH or redis://HOST:PORT/DB.",
    ],
    [
      ["engine", "--blueprints", FLOW, "--storage", "memory", "--host", "0.0.0.0"],
      "Cannot listen on 0.0.0.0 without tokens: set CLIENT_TOKEN and GLOBAL_WORKER_TOKEN (or a clients and a workers file), or listen on 127.0.0.1.",
    ],
    [
      ["engine", "--blueprints", FLOW, "--storage", "memory", "--clients", "no.toml"],
      "Cannot read no.toml: there is no such file.",
    ],
    [
      ["engine", "--blueprints", FLOW, "--blueprints"],
      "--blueprints needs a value; for example --blueprints FILE.",
    ],
    [
      ["engine", "--blueprints", FLOW, "--port", "1", "--port", "2"],
      "--port is given more than once; give it once.",
    ],
    [
      ["engine", "--blueprints", FLOW, "surplus"],
      '"surplus" is an unexpected argument; orchestrator engine --help lists what it takes.',
    ],
    [
      ["engine", "--blueprints", FLOW, "--env-file", "no.env"],
      "There is no file no.env; check what --env-file names.",
    ],
    [["engine", "--blueprints", "syntax.js"], /^Cannot load syntax.js, line 2: [^\n]+\.$/],
    [["engine", "--blueprints", "throws.js"], "Cannot load throws.js, line 3: out of paper."],
    [
      ["engine", "--blueprints", "nothing.js"],
      "nothing.js exports no blueprint; write: export default ({ StateMachineBlueprint }) => { ...; return flow; };",
    ],
    [
      ["engine", "--blueprints", "notes.txt"],
      'Cannot load notes.txt: ".txt" is no script; use a .js or .ts file.',
    ],
    [
      ["engine", "--blueprints", "no_start.js", "--storage", "memory"],
      'Blueprint "x" has no start state; give one state "isStart: true".',
    ],
    [["worker"], '"worker" needs --tasks FILE or --exec NAME=COMMAND; orchestrator worker --help shows how.'],
    [
      ["worker", "--tasks", TASKS],
      "The worker has no token; set WORKER_TOKEN (or WORKER_INDIVIDUAL_TOKEN) to one that the engine knows.",
    ],
    [
      ["worker", "--tasks", "nothing.js"],
      "nothing.js exports no function; write: export function echo_task(params) { return { status, data }; }",
    ],
    [["worker", "--exec", "echo"], "--exec echo cannot be read; write --exec NAME=COMMAND."],
    [
      ["worker", "--exec", "a=true", "--exec", "a=false", "--token", "t"],
      'The task "a" is there twice; rename one of its functions.',
    ],
    [
      ["worker", "--exec", "a=true", "--limit", "b=1", "--token", "t"],
      '--limit names "b", which is none of this worker\'s tasks.',
    ],
    [
      ["worker", "--exec", "a=true", "--limit", "a=0", "--token", "t"],
      "--limit a=0 is no limit; give a whole number from 1.",
    ],
    [
      ["worker", "--exec", "a=true", "--token", "t", "--max-output", "0"],
      "--max-output 0 cannot be used; give a number from 1 to 1073741824.",
    ],
    [
      ["worker", "--exec", "a=true", "--token", "t", "--url", "nowhere"],
      "Cannot set up the worker: --url must be an address such as http://127.0.0.1:8080.",
    ],
    [
      ["worker", "--exec", "a=true", "--token", "t", "--concurrency", "none"],
      "Cannot set up the worker: --concurrency must be a whole number of at least 1.",
    ],
    [
      ["worker", "--exec", "a=true", "--token", "t", "--grace=-1"],
      '--grace takes a duration, not "-1"; use seconds (10 or 1.5) or a text such as 500ms, 2m or 1h30m.',
    ],
    [
      ["worker", "--exec", "a=true", "--token", "t", "--health-port", "99999"],
      "--health-port must be a whole number from 0 to 65535.",
    ],
    [["job", "sing"], 'There is no command "job sing"; "orchestrator help job" lists the commands.'],
    [["job", "status"], '"job status" needs ID; orchestrator job status --help lists what it takes.'],
    [
      ["job", "approve", "x"],
      '"job approve" needs DECISION; orchestrator job approve --help lists what it takes.',
    ],
    [
      ["job", "status", "x"],
      "There is no client token; set CLIENT_TOKEN to one that the engine knows. An engine without any shows the one it made when it starts.",
    ],
    [
      ["job", "status", "x", "--token", "t", "--url", "x:1"],
      "--url must be an address such as http://127.0.0.1:8080.",
    ],
    [
      ["job", "status", "x", "--token", "-secret", "--url", "x:1"],
      "--url must be an address such as http://127.0.0.1:8080.",
    ],
    [["job", "status", "x", "--token", "--url", "x:1"], "--token needs a value; for example --token TOKEN."],
    [
      ["job", "submit", "x", "[1]", "--token", "t"],
      `The job's data must be a JSON object such as '{"message":"Hello"}'.`,
    ],
    [
      ["job", "submit", "x", "{a:1}", "--token", "t"],
      /^The job's data is not JSON: [^\n]+; write an object such as '\{"message":"Hello"\}'\.$/,
    ],
    [
      ["workers", "--token", "t", "--url", "http://127.0.0.1:1"],
      /^Cannot reach the engine at http:\/\/127\.0\.0\.1:1: [^\n]+\.$/,
    ],
  ] as [string[], string | RegExp][]
) {
  Deno.test(`error: ${args.join(" ").replaceAll(ROOT, "")}`, async () => {
    await using folder = await Folder.make({
      env: null,
      files: {
        "syntax.js": "export default (\n  : );\n",
        "throws.js":
          "export default () => {\n  const paper = 0;\n  if (!paper) throw new Error('out of paper');\n};\n",
        "nothing.js": "export const answer = 42;\n",
        "notes.txt": "",
        "no_start.js":
          "export default ({ StateMachineBlueprint }) => new StateMachineBlueprint({ name: 'x' });\n",
      },
    });
    const { code, out, err } = await runToEnd(null, args, { cwd: folder.path, environment: CLEAN });
    assertEquals([code, out], [2, ""], err);
    const [, reported = err] = /^orchestrator: ([^\n]+)\n$/.exec(err) ?? [];
    if (typeof message === "string") assertEquals(reported, message);
    else assertMatch(reported, message);
    assert(!err.includes("s3cret"), err);
  });
}

for (
  const [args, ...words] of [
    [
      ["engine"],
      "usage: orchestrator engine [options]",
      "--blueprints FILE",
      "(API_PORT)",
      "sqlite:jobs.sqlite",
    ],
    [["worker"], "--exec NAME=COMMAND", "(MAX_CONCURRENT_TASKS)", "ORCHESTRATORS_CONFIG"],
    [["job"], "submit BLUEPRINT [DATA]", "job retry ID"],
    [["job", "submit"], "--wait", "--idempotency-key KEY"],
    [["job", "approve"], "usage: orchestrator job approve ID DECISION [options]"],
    [["workers"], "--json"],
  ] as [string[], ...string[]][]
) {
  Deno.test(`${args.join(" ")} --help shows what there is`, async () => {
    const { code, out, err } = await runToEnd(null, [...args, "--help"]);
    assertEquals([code, err], [0, ""]);
    for (const word of words) assertStringIncludes(out, word);
    assert(out.split("\n").every((line) => line.length <= 140), out);
  });
}

Deno.test("docs/jobs.md names every variable and every option", async () => {
  const docs = await Deno.readTextFile(`${ROOT}/docs/jobs.md`);
  const read = new Set<string>();
  new Config({}, new Proxy({}, { get: (_, name) => void read.add(String(name)) }));
  for (const word of ["engine", "worker"]) {
    const { out } = await runToEnd(null, [word, "--help"]);
    for (const [, name] of out.matchAll(/\(([A-Z_]+)\)/g)) read.add(name!);
    for (const [, name] of out.matchAll(/^ {2}(--[\w-]+)/gm)) read.add(name!);
  }
  read.delete("--help");
  assertEquals([...read].filter((name) => !docs.includes(`\`${name}`) && !docs.includes(`${name} `)), []);
});

Deno.test("without tokens the engine makes them, shows them once, and serves this machine only", async () => {
  await using folder = await Folder.make({ env: null });
  await using run = new Run(null, ["engine", "--blueprints", FLOW, "--storage", "memory", "--port", "0"], {
    cwd: folder.path,
    environment: CLEAN,
  });
  const started = JSON.parse(await run.line('"engine_running"'));
  const token = /^CLIENT_TOKEN=(\S+)$/.exec(await run.err.line("CLIENT_TOKEN="))?.[1] ?? "";
  const workerToken = /^GLOBAL_WORKER_TOKEN=(\S+)/.exec(await run.err.line("GLOBAL_WORKER_TOKEN="))?.[1] ??
    "";
  assertMatch(started.url, /^http:\/\/127\.0\.0\.1:\d+$/);
  const environment = { ...CLEAN, ORCHESTRATOR_URL: started.url, CLIENT_TOKEN: token };
  const submitted = await runToEnd(null, ["job", "submit", "test_flow"], { cwd: folder.path, environment });
  assertEquals(submitted.code, 0, submitted.err);
  const wrong = await runToEnd(null, ["job", "list", "--token", workerToken], {
    cwd: folder.path,
    environment,
  });
  assertEquals(wrong.code, 2);
  assert(!wrong.err.includes(workerToken), wrong.err);
  assertEquals(await run.stop(), 0);
  assert(!run.out.text.includes(token) && !run.out.text.includes(workerToken), "no token is in the log");
});

Deno.test("the engine keeps its jobs in jobs.sqlite, and variables, .env and flags apply in this order", async () => {
  const [port, other] = [freePort(), freePort()];
  await using folder = await Folder.make({
    env: null,
    files: { "infrastructure/.env": `API_PORT=${port}\nCLIENT_TOKEN=from-file\nGLOBAL_WORKER_TOKEN=w\n` },
  });
  const options = {
    cwd: folder.path,
    environment: { ...CLEAN, API_PORT: "1", CLIENT_TOKEN: "from-process" },
  };
  const job = (...args: string[]) => runToEnd(null, ["job", ...args], options);
  let id: string;
  {
    await using run = new Run(null, ["engine", "--blueprints", FLOW], options);
    assertEquals(JSON.parse(await run.line('"engine_running"')).url, `http://127.0.0.1:${port}`);
    const submitted = await job("submit", "test_flow", "--url", `http://127.0.0.1:${port}`);
    assertEquals(submitted.code, 0, submitted.err);
    id = submitted.out.trim();
    assertEquals(await run.stop("SIGINT"), 0);
  }
  assert((await Deno.stat(`${folder.path}/jobs.sqlite`)).isFile);
  await using run = new Run(null, ["engine", "--blueprints", FLOW, "--port", String(other)], options);
  await run.line('"engine_running"');
  const { out } = await job("status", id, "--json", "--url", `http://127.0.0.1:${other}`);
  assertEquals(JSON.parse(out).status, "waiting_for_worker");
  const again = await runToEnd(null, [
    "engine",
    "--blueprints",
    FLOW,
    "--port",
    String(other),
    "--storage",
    "memory",
  ], options);
  assertEquals([again.code, again.err], [
    2,
    `orchestrator: Cannot listen on 127.0.0.1:${other}: the port is taken; ` +
    "stop what listens there or give another --port.\n",
  ]);
});

Deno.test("blueprints come from a folder, as plain exports, as lists and from functions", async () => {
  const blueprint = (name: string) =>
    `new StateMachineBlueprint({ name: "${name}" }).handlerFor("a", { isStart: true }, ({ actions }) => actions.transitionTo("failed"))`;
  const module = `import { StateMachineBlueprint } from "${new URL("../mod.ts", import.meta.url).href}";\n`;
  await using folder = await Folder.make({
    env: null,
    files: {
      "flows/a.js": `export default ({ StateMachineBlueprint }) => [${blueprint("one")}, ${
        blueprint("two")
      }];`,
      "flows/b.js": `export default async ({ StateMachineBlueprint }) => await ${blueprint("three")};`,
      // An artefact has the class in itself: a file that imports it from elsewhere makes blueprints of another one.
      "flows/c.ts": GIVEN === undefined
        ? `${module}export const four: StateMachineBlueprint = ${blueprint("four")};`
        : `export default ({ StateMachineBlueprint }: { StateMachineBlueprint: any }) => ${
          blueprint("four")
        };`,
      "flows/c_test.ts": "throw new Error('tests are not blueprints');",
      "flows/README.md": "",
    },
  });
  await using run = new Run(null, ["engine", "--blueprints", "flows", "--storage", "memory", "--port", "0"], {
    cwd: folder.path,
    environment: CLEAN,
  });
  if (COMPILED) { // it passes over what it cannot run
    assertEquals(JSON.parse(await run.line('"engine_running"')).blueprints, ["one", "two", "three"]);
  } else {
    assertEquals(JSON.parse(await run.line('"engine_running"')).blueprints, ["one", "two", "three", "four"]);
  }
});

Deno.test({
  name: "the compiled program reports plainly that it runs no TypeScript",
  ignore: !COMPILED, // there is no binary to test
  fn: async () => {
    await using folder = await Folder.make({ env: null, files: { "flow.ts": "" } });
    const { code, err } = await runToEnd(null, ["engine", "--blueprints", "flow.ts"], { cwd: folder.path });
    assertEquals([code, err], [
      2,
      "orchestrator: Cannot load flow.ts: this program is compiled and runs JavaScript (.js, .mjs) only. " +
      "Write it in JavaScript, or run the program from its source: deno run -A orchestrator.ts.\n",
    ]);
  },
});

// --- job and workers, against an engine in this process ----------------------------------------------------------

function blueprints(): StateMachineBlueprint[] {
  const work = new StateMachineBlueprint({ name: "work", apiEndpoint: "/jobs/work", apiVersion: "v1" });
  work.handlerFor(
    "start",
    { isStart: true, to: { success: "done", failure: "failed" } },
    ({ actions, initialData }) => actions.dispatchTask({ taskType: "work", params: initialData }),
  );
  work.handlerFor("done", { isEnd: true });
  const ask = new StateMachineBlueprint({ name: "ask", apiEndpoint: "/jobs/ask" });
  ask.handlerFor(
    "start",
    { isStart: true, to: { yes: "done", no: "failed" } },
    ({ actions }) => actions.awaitHumanApproval({ message: "Go \x1b[31mon?" }),
  );
  ask.handlerFor("done", { isEnd: true });
  const inner = new StateMachineBlueprint({ name: "inner" });
  inner.handlerFor(
    "start",
    { isStart: true, to: ["finished"] },
    ({ actions }) => actions.transitionTo("finished"),
  );
  return [work, ask, inner];
}

function client(engine: TestEngine) {
  const options = { environment: { ...CLEAN, ORCHESTRATOR_URL: engine.url, CLIENT_TOKEN: "client-token" } };
  return {
    options,
    run: (...args: string[]) => runToEnd(null, args, options),
    json: async (...args: string[]) => {
      const { code, out, err } = await runToEnd(null, [...args, "--json"], options);
      assertEquals([code, err], [0, ""]);
      return JSON.parse(out);
    },
  };
}

Deno.test("job submit --wait shows progress on stderr and the result on stdout", async () => {
  await using engine = await openTestEngine({ blueprints: blueprints() });
  await engine.register("w1", ["work"]);
  const { options } = client(engine);
  await using run = new Run(null, ["job", "submit", "work", '{"n":1}', "--wait"], options);
  const task = await engine.take("w1", 20);
  assert(task !== undefined);
  assertEquals(task.params, { n: 1 });
  await run.err.line('start: waiting_for_worker, for the result of "work" from worker "w1"');
  await engine.worker("/_worker/events", {
    body: {
      event: "progress_update",
      worker_id: "w1",
      job_id: task.job_id,
      task_id: task.task_id,
      progress: 0.4,
      message: "almost",
    },
  });
  await run.err.line("40 %, almost");
  await engine.answer("w1", task, { status: "success", data: { n: 2 } });
  assertEquals(await run.code(), 0, run.err.text);
  assertEquals(JSON.parse(run.out.text), { n: 2 });
  assertMatch(run.err.text, /^job [\w-]+\n/);
  assertStringIncludes(run.err.text, "done: finished\n");
});

Deno.test("job submit --wait: a bad end, a time-out, an interruption are exit 1", async () => {
  await using engine = await openTestEngine({ blueprints: blueprints() });
  await engine.register("w1", ["work"]);
  const { options, run: command } = client(engine);
  {
    await using run = new Run(null, ["job", "submit", "work", "--wait"], options);
    const task = await engine.take("w1", 20);
    assert(task !== undefined);
    await engine.answer("w1", task, {
      status: "failure",
      error: { code: "PERMANENT_ERROR", message: "no \x1b[2Juse" },
    });
    assertEquals(await run.code(), 1);
    assertEquals(run.out.text, "");
    assertStringIncludes(
      run.err.text,
      "orchestrator: the job is quarantined: Task failed with permanent error: no use\n",
    );
  }
  const late = await command("job", "submit", "work", "--wait", "--timeout", "0.2");
  assertEquals(late.code, 1);
  assertStringIncludes(late.err, "Not ended in time; the job goes on: orchestrator job status ");
  await using run = new Run(null, ["job", "submit", "work", "--wait"], options);
  await run.err.line('for a worker for "work"');
  assertEquals(await run.stop("SIGINT"), 1);
  assertStringIncludes(run.err.text, "No longer waiting");
});

Deno.test("job submit --wait waits through a restart of the engine", async () => {
  const port = freePort();
  await using folder = await Folder.make({ env: null });
  const start = async () => {
    const { openStorage } = await import("../stores/open.ts");
    return await openTestEngine({
      blueprints: blueprints(),
      config: { port },
      storage: await openStorage(`sqlite:${folder.path}/jobs.sqlite`),
    });
  };
  let engine = await start();
  await using run = new Run(null, ["job", "submit", "work", "--wait"], client(engine).options);
  await run.err.line('for a worker for "work"');
  await engine[Symbol.asyncDispose]();
  await run.err.line("Waiting for it.");
  engine = await start();
  await engine.register("w1", ["work"]);
  const task = await engine.take("w1", 20);
  assert(task !== undefined);
  await engine.answer("w1", task, { status: "success", data: { ok: true } });
  assertEquals(await run.code(), 0, run.err.text);
  assertEquals(JSON.parse(run.out.text), { ok: true });
  await engine[Symbol.asyncDispose]();
});

Deno.test("job status, list, history, cancel and retry, for people and as JSON", async () => {
  await using engine = await openTestEngine({ blueprints: blueprints() });
  await engine.register("w1", ["work"]);
  const { run, json } = client(engine);
  const id = await engine.submit("/api/v1/jobs/work", { n: 1 });
  const shown = await run("job", "status", id);
  assertMatch(
    shown.out,
    new RegExp(
      `^Job ${id} is waiting_for_worker\n  blueprint  work\n  state      start\n  waits for  a worker for "work"`,
    ),
  );
  assertEquals((await json("job", "status", id)).initial_data, { n: 1 });
  assertEquals(await json("job", "cancel", id), { status: "cancellation_request_accepted" });
  const again = await run("job", "cancel", id);
  assertEquals([again.code, again.err], [
    2,
    "orchestrator: Job is not in a state that can be cancelled (must be waiting for a worker).\n",
  ]);

  const failed = await engine.submit("/api/v1/jobs/work");
  const task = await engine.take("w1", 20);
  assert(task !== undefined);
  await engine.answer("w1", task, {
    status: "failure",
    error: { code: "PERMANENT_ERROR", message: "no use" },
  });
  const list = await run("job", "list");
  assertMatch(list.out, /^JOB +BLUEPRINT +STATE +STATUS +CREATED +ERROR\n/);
  assertMatch(
    list.out,
    new RegExp(`\n${failed}  work +failed +quarantined .* no use\n${id}  work +start +cancelled`),
  );
  assertEquals(
    (await json("job", "list", "--status", "cancelled")).map((job: { job_id: string }) => job.job_id),
    [id],
  );
  assertStringIncludes((await run("job", "history", failed)).out, "job_quarantined");
  assert((await json("job", "history", failed)).length > 3);
  assertEquals((await run("job", "retry", failed)).out, "The job runs again.\n");
  assert(await engine.take("w1", 20) !== undefined);
  const unknown = await run("job", "status", "no-such-job");
  assertEquals([unknown.code, unknown.err], [2, "orchestrator: Job not found\n"]);
});

Deno.test("job approve decides; the question is shown without what would colour the screen", async () => {
  await using engine = await openTestEngine({ blueprints: blueprints() });
  const { run } = client(engine);
  const { out } = await run("job", "submit", "ask");
  const id = out.trim();
  const shown = await run("job", "status", id);
  assertStringIncludes(shown.out, `asked      Go on? (job approve ${id} yes|no)`);
  assertEquals((await run("job", "approve", id, "perhaps")).code, 2);
  assertEquals((await run("job", "approve", id, "yes")).out, "Decided: yes.\n");
  await engine.until(id, (job) => job.status === "finished");
});

Deno.test("job submit: unknown blueprints, those without an endpoint, repeated keys, data from stdin", async () => {
  await using engine = await openTestEngine({ blueprints: blueprints() });
  const { run, options } = client(engine);
  const unknown = await run("job", "submit", "wrok");
  assertEquals([unknown.code, unknown.err], [
    2,
    'orchestrator: The engine has no blueprint "wrok"; it has work, ask.\n',
  ]);
  assertEquals(
    (await run("job", "submit", "inner")).err,
    'orchestrator: The blueprint "inner" takes no submissions: it has no endpoint.\n',
  );
  const first = await run("job", "submit", "work", '{"n":1}', "--idempotency-key", "k");
  const second = await run("job", "submit", "work", '{"n":1}', "--idempotency-key", "k");
  assertEquals(first.out, second.out);
  const piped = await runToEnd(null, ["job", "submit", "work", "-"], {
    ...options,
    shell: `echo '{"n":7}' | "$@"`,
  });
  const job = await engine.client(`/api/jobs/${piped.out.trim()}`);
  assertEquals(job.json.initial_data, { n: 7 });
});

Deno.test("workers lists them", async () => {
  await using engine = await openTestEngine({ blueprints: blueprints() });
  const { run, json } = client(engine);
  assertEquals(
    (await run("workers")).out,
    "No worker is known; start one with: orchestrator worker --tasks FILE\n",
  );
  await engine.register("w1", ["work", "more"]);
  assertMatch((await run("workers")).out, /^WORKER +TYPE .*\nw1 +test +idle +0 of 10 +work,more +\d{4}-/);
  assertEquals((await json("workers"))[0].worker_id, "w1");
});

Deno.test("the worker answers /health once it is registered, and stops on SIGTERM", async () => {
  await using engine = await openTestEngine({ blueprints: blueprints() });
  const port = freePort();
  await using run = new Run(null, [
    "worker",
    "--exec",
    "work=cat",
    "--url",
    engine.url,
    "--health-port",
    String(port),
  ], {
    environment: { ...CLEAN, WORKER_TOKEN: "worker-token" },
  });
  await run.line('"registered"');
  const health = await fetch(`http://127.0.0.1:${port}/health`);
  assertEquals([health.status, await health.text()], [200, "OK\n"]);
  const id = await engine.submit("/api/v1/jobs/work", { n: 1 });
  assertEquals((await engine.until(id, (job) => job.status === "finished")).result, { n: 1 });
  assertEquals(await run.stop(), 0);
  await run.allGone();
});

Deno.test("a stopped worker ends its commands, whole groups, and gives the tasks back", async () => {
  await using engine = await openTestEngine({ blueprints: blueprints() });
  await using run = new Run(null, [
    "worker",
    "--exec",
    "work=sleep 300 & wait",
    "--url",
    engine.url,
    "--grace",
    "0.1",
  ], {
    environment: { ...CLEAN, WORKER_TOKEN: "worker-token" },
  });
  const id = await engine.submit("/api/v1/jobs/work");
  await waitUntil(() => run.processes().some(({ command }) => command.includes("sleep")), "the command runs");
  assertEquals(await run.stop(), 0);
  await run.allGone();
  await engine.register("w2", ["work"]);
  assertEquals((await engine.take("w2", 20))?.job_id, id);
});
