// @ts-types="../../config/std.d.ts"
import { assert, assertEquals, assertMatch } from "@std/assert";
import { StateMachineBlueprint } from "../model/blueprint.ts";
import { ManualClock } from "../../testing/clock.ts";
import { openTestEngine, type TestEngine, unknownId } from "../testing/engine.ts";

function flow() {
  return new StateMachineBlueprint({ name: "test_flow", apiEndpoint: "/jobs/test", apiVersion: "v1" })
    .handlerFor("start", { isStart: true }, ({ initialData, actions }) =>
      actions.dispatchTask({
        taskType: "echo_task",
        params: { ...initialData },
        transitions: { success: "completed", failure: "failed" },
      }))
    .handlerFor("completed", { isEnd: true })
    .handlerFor("failed", { isEnd: true });
}

/** One connection, bytes as they go over it. */
class Raw implements Disposable {
  #rest = new Uint8Array();
  private constructor(readonly connection: Deno.TcpConn) {}

  static async open(test: TestEngine): Promise<Raw> {
    return new Raw(await Deno.connect({ port: Number(new URL(test.url).port), hostname: "127.0.0.1" }));
  }

  async send(text: string | Uint8Array): Promise<void> {
    const bytes = typeof text === "string" ? new TextEncoder().encode(text) : text;
    for (let at = 0; at < bytes.length;) at += await this.connection.write(bytes.subarray(at));
  }

  /** Reads one answer. */
  async answer(): Promise<{ status: number; headers: Map<string, string>; body: string }> {
    for (;;) {
      const text = new TextDecoder("latin1").decode(this.#rest);
      const end = text.indexOf("\r\n\r\n");
      if (end !== -1) {
        const [first, ...lines] = text.slice(0, end).split("\r\n");
        const headers = new Map(lines.map((line) => {
          const colon = line.indexOf(":");
          return [line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim()];
        }));
        const status = Number(first!.split(" ")[1]);
        const length = Number(headers.get("content-length") ?? 0);
        if (this.#rest.length >= end + 4 + length) {
          const body = new TextDecoder().decode(this.#rest.subarray(end + 4, end + 4 + length));
          this.#rest = this.#rest.slice(end + 4 + length);
          return { status, headers, body };
        }
      }
      const buffer = new Uint8Array(65536);
      const count = await this.connection.read(buffer);
      if (count === null) throw new Error(`The connection was closed after: ${text.slice(0, 200)}`);
      const joined = new Uint8Array(this.#rest.length + count);
      joined.set(this.#rest);
      joined.set(buffer.subarray(0, count), this.#rest.length);
      this.#rest = joined;
    }
  }

  async ask(method: string, path: string, headers: Record<string, string>, body = "") {
    const lines = Object.entries({
      "content-length": String(new TextEncoder().encode(body).length),
      ...headers,
    });
    const head = lines.map(([name, value]) => `${name}: ${value}\r\n`).join("");
    await this.send(`${method} ${path} HTTP/1.1\r\nHost: localhost\r\n${head}\r\n${body}`);
    return await this.answer();
  }

  [Symbol.dispose](): void {
    this.connection.close();
  }
}

// What the existing Python worker sends with every request.
const WORKER = {
  "X-Worker-Token": "worker-token",
  Accept: "*/*",
  "Accept-Encoding": "gzip, deflate",
  "User-Agent": "Python/3.11 aiohttp/3.9.5",
};
const WORKER_JSON = { ...WORKER, "Content-Type": "application/json" };
const CLIENT = { "X-Avtomatika-Token": "client-token", "Content-Type": "application/json" };
const PATH = "/api/v1/jobs/test";

Deno.test("the existing worker's conversation, byte by byte", async () => {
  await using test = await openTestEngine({ blueprints: [flow()] });
  using worker = await Raw.open(test);
  const registration = {
    worker_id: "local-test-worker",
    worker_type: "test-worker",
    supported_tasks: ["echo_task"],
    max_concurrent_tasks: 5,
    installed_models: [{ name: "bert", version: "1.0" }],
    hostname: "box",
    ip_address: "127.0.0.1",
    resources: { cpu_cores: 4, gpu_info: null },
  };
  const registered = await worker.ask(
    "POST",
    "/_worker/workers/register",
    WORKER_JSON,
    JSON.stringify(registration),
  );
  assertEquals([registered.status, registered.body], [200, '{"status":"registered"}']);
  const heartbeat = { load: 0, status: "idle", supported_tasks: ["echo_task"], hot_cache: [] };
  const beat = await worker.ask(
    "PATCH",
    "/_worker/workers/local-test-worker",
    WORKER_JSON,
    JSON.stringify(heartbeat),
  );
  assertEquals([beat.status, beat.headers.get("content-type")], [200, "application/json"]);

  using client = await Raw.open(test);
  const accepted = await client.ask("POST", PATH, CLIENT, '{"message": "Gr\\u00fc\\u00dfe", "multiply": 3}');
  assertEquals([accepted.status, accepted.headers.get("content-type")], [202, "application/json"]);
  const { status, job_id } = JSON.parse(accepted.body);
  assertEquals(status, "accepted");
  assertMatch(job_id, /^[\da-f]{8}-[\da-f]{4}-4[\da-f]{3}-[89ab][\da-f]{3}-[\da-f]{12}$/);

  const poll = await worker.ask("GET", "/_worker/workers/local-test-worker/tasks/next", WORKER);
  assertEquals([poll.status, poll.headers.get("content-type")], [200, "application/json"]);
  const task = JSON.parse(poll.body);
  assertEquals([task.job_id, task.type, task.params, task.priority], [
    job_id,
    "echo_task",
    { message: "Grüße", multiply: 3 },
    0,
  ]);
  assertEquals(typeof task.tracing_context, "object");
  const result = {
    job_id,
    task_id: task.task_id,
    worker_id: "local-test-worker",
    result: { status: "success", data: { processed_message: "Grüße Grüße Grüße" } },
  };
  const sent = await worker.ask("POST", "/_worker/tasks/result", WORKER_JSON, JSON.stringify(result));
  assertEquals([sent.status, sent.body], [200, '{"status":"result_accepted_success"}']);
  // It sends again what it believes lost.
  const repeated = await worker.ask("POST", "/_worker/tasks/result", WORKER_JSON, JSON.stringify(result));
  assertEquals([repeated.status, JSON.parse(repeated.body).status], [200, "ignored"]);
  const job = JSON.parse((await client.ask("GET", `/api/v1/jobs/${job_id}`, CLIENT)).body);
  assertEquals([job.current_state, job.status, job.state_history], [
    "completed",
    "finished",
    { processed_message: "Grüße Grüße Grüße" },
  ]);
});

Deno.test("an empty poll is 204 without a body, also for a worker that nobody knows", async () => {
  await using test = await openTestEngine({ blueprints: [flow()], config: { pollTimeoutMs: 30 } });
  using raw = await Raw.open(test);
  for (const id of ["nobody", "w"]) {
    if (id === "w") await test.register("w", ["echo_task"]);
    const answer = await raw.ask("GET", `/_worker/workers/${id}/tasks/next`, WORKER);
    assertEquals([answer.status, answer.body], [204, ""]);
  }
});

Deno.test("a poll that waits when the engine stops is answered", async () => {
  await using test = await openTestEngine({ blueprints: [flow()] });
  await test.register("w", ["echo_task"]);
  const poll = test.worker("/_worker/workers/w/tasks/next");
  while (test.engine.core.dispatcher.waiting === 0) await new Promise((resolve) => setTimeout(resolve, 1));
  await test.engine.stop();
  assertEquals((await poll).status, 204);
});

// method, path, headers, body, status, part of the answer
const deep = (levels: number) => "[".repeat(levels) + "]".repeat(levels);
const REFUSED: [string, string, string, Record<string, string>, string, number, string][] = [
  ["no client token", "POST", PATH, {}, "{}", 401, "Missing X-Avtomatika-Token header"],
  [
    "a wrong client token",
    "POST",
    PATH,
    { "X-Avtomatika-Token": "x" },
    "{}",
    401,
    "Unauthorized: Invalid token",
  ],
  [
    "the worker's token as client",
    "GET",
    "/api/v1/jobs",
    { "X-Avtomatika-Token": "worker-token" },
    "",
    401,
    "Unauthorized: Invalid token",
  ],
  [
    "a token with a zero byte's look",
    "GET",
    "/api/jobs",
    { "X-Avtomatika-Token": "client-token%00" },
    "",
    401,
    "Unauthorized: Invalid token",
  ],
  ["an empty body", "POST", PATH, CLIENT, "", 400, "Invalid JSON body"],
  ["half a body", "POST", PATH, CLIENT, '{"a":', 400, "Invalid JSON body"],
  ["an array", "POST", PATH, CLIENT, "[]", 400, "Invalid JSON body: it must be an object"],
  ["a text", "POST", PATH, CLIENT, '"x"', 400, "Invalid JSON body: it must be an object"],
  ["null", "POST", PATH, CLIENT, "null", 400, "Invalid JSON body: it must be an object"],
  ["NaN", "POST", PATH, CLIENT, '{"a": NaN}', 400, "Invalid JSON body"],
  [
    "depth",
    "POST",
    PATH,
    CLIENT,
    `{"a":${deep(64)}}`,
    400,
    "Invalid JSON body: nested deeper than 64 levels",
  ],
  [
    "a million brackets",
    "POST",
    PATH,
    CLIENT,
    deep(500_000),
    400,
    "Invalid JSON body: nested deeper than 64 levels",
  ],
  [
    "a huge number",
    "POST",
    PATH,
    CLIENT,
    '{"a":1e999}',
    400,
    "Invalid JSON body: a number is too large to be kept",
  ],
  [
    "a huge whole number",
    "POST",
    PATH,
    CLIENT,
    '{"a":123456789012345678901}',
    400,
    "Invalid JSON body: a number is too large to be kept",
  ],
  [
    "__proto__",
    "POST",
    PATH,
    CLIENT,
    '{"a":[{"__proto__":{"x":1}}]}',
    400,
    'Invalid JSON body: the key "__proto__" is not allowed',
  ],
  [
    "an escaped __proto__",
    "POST",
    PATH,
    CLIENT,
    '{"\\u005f_proto__":1}',
    400,
    'Invalid JSON body: the key "__proto__" is not allowed',
  ],
  [
    "constructor.prototype",
    "POST",
    PATH,
    CLIENT,
    '{"constructor":{"prototype":{}}}',
    400,
    'Invalid JSON body: the key "constructor.prototype" is not allowed',
  ],
  ["an unknown path", "GET", "/nothing", CLIENT, "", 404, "404: Not Found"],
  ["an unknown version", "POST", "/api/v9/jobs/test", CLIENT, "{}", 404, "404: Not Found"],
  ["a wrong method", "PUT", "/api/v1/jobs", CLIENT, "", 405, "405: Method Not Allowed"],
  ["a submission by GET reads as a job", "GET", PATH, CLIENT, "", 404, "Job not found"],
  ["an unknown job", "GET", `/api/v1/jobs/${unknownId()}`, CLIENT, "", 404, "Job not found"],
  ["an odd job id", "GET", "/api/v1/jobs/..%2f..%2fetc", CLIENT, "", 404, "Job not found"],
  ["a broken escape", "GET", "/api/v1/jobs/%ff", CLIENT, "", 400, "The path is not valid UTF-8."],
  ["an unknown job's history", "GET", "/api/v1/jobs/x/history", CLIENT, "", 404, "Job not found"],
  ["cancel of an unknown job", "POST", "/api/v1/jobs/x/cancel", CLIENT, "", 404, "Job not found"],
  ["an unknown blueprint", "GET", "/api/v1/blueprints/x/graph", CLIENT, "", 404, "Blueprint not found"],
  [
    "a reload without a file",
    "POST",
    "/api/v1/admin/reload-workers",
    CLIENT,
    "",
    400,
    "WORKERS_CONFIG_PATH is not set, cannot reload configs.",
  ],
  ["flush_db", "POST", "/_public/debug/flush_db", CLIENT, "", 404, "404: Not Found"],
  [
    "the quarantine list without a token",
    "GET",
    "/_public/jobs/quarantined",
    {},
    "",
    401,
    "Missing X-Avtomatika-Token header",
  ],
  ["no worker token", "POST", "/_worker/workers/register", {}, "{}", 401, "Missing X-Worker-Token header"],
  [
    "a wrong worker token",
    "GET",
    "/_worker/workers/w/tasks/next",
    { "X-Worker-Token": "x" },
    "",
    401,
    "Unauthorized: No valid token found",
  ],
  ["a worker's broken body", "POST", "/_worker/workers/register", WORKER_JSON, "{", 400, "Invalid JSON body"],
  [
    "a registration without an id",
    "POST",
    "/_worker/workers/register",
    WORKER_JSON,
    "{}",
    400,
    "Missing required field: worker_id",
  ],
  [
    "a registration without an id nor a right token",
    "POST",
    "/_worker/workers/register",
    { "X-Worker-Token": "x" },
    "{}",
    401,
    "Unauthorized: Invalid token or missing worker_id",
  ],
  [
    "an id with a slash",
    "POST",
    "/_worker/workers/register",
    WORKER_JSON,
    '{"worker_id":"a/b"}',
    400,
    "Invalid field worker_id: must be 1 to 200 printable characters without spaces or slashes",
  ],
  [
    "an id that is a number",
    "POST",
    "/_worker/workers/register",
    WORKER_JSON,
    '{"worker_id":5}',
    400,
    "Missing required field: worker_id",
  ],
  [
    "tasks that are a text",
    "POST",
    "/_worker/workers/register",
    WORKER_JSON,
    '{"worker_id":"w","supported_tasks":"echo"}',
    400,
    "Invalid field supported_tasks: Invalid input: expected array, received string",
  ],
  [
    "a load that is a text",
    "PATCH",
    "/_worker/workers/w",
    WORKER_JSON,
    '{"load":"high"}',
    400,
    "Invalid field load: Invalid input: expected number, received string",
  ],
  [
    "a negative load",
    "PATCH",
    "/_worker/workers/w",
    WORKER_JSON,
    '{"load":-1}',
    400,
    "Invalid field load: Too small: expected number to be >=0",
  ],
  [
    "an endless load",
    "PATCH",
    "/_worker/workers/w",
    WORKER_JSON,
    '{"load":1e999}',
    400,
    "Invalid JSON body: a number is too large to be kept",
  ],
  [
    "a result without ids",
    "POST",
    "/_worker/tasks/result",
    WORKER_JSON,
    '{"worker_id":"w"}',
    400,
    "job_id and task_id are required",
  ],
  [
    "a result with odd ids",
    "POST",
    "/_worker/tasks/result",
    WORKER_JSON,
    '{"worker_id":"w","job_id":{},"task_id":[]}',
    400,
    "job_id and task_id are required",
  ],
  [
    "a result from nobody",
    "POST",
    "/_worker/tasks/result",
    WORKER_JSON,
    '{"job_id":"a","task_id":"b"}',
    400,
    "Could not identify authenticated worker.",
  ],
  ["a result that is no object", "POST", "/_worker/tasks/result", WORKER_JSON, "5", 400, "Invalid JSON body"],
  [
    "an odd wait",
    "GET",
    "/_worker/workers/w/tasks/next?wait=soon",
    WORKER,
    "",
    400,
    "wait must be a number of seconds",
  ],
  [
    "a plain request for a socket",
    "GET",
    "/_worker/ws/w",
    WORKER,
    "",
    426,
    "This path speaks WebSocket only",
  ],
  ["a socket without a token", "GET", "/_worker/ws", {}, "", 401, "Missing X-Worker-Token header"],
  [
    "an odd time-out",
    "POST",
    PATH,
    { ...CLIENT, "X-Result-Timeout": "soon" },
    "{}",
    400,
    "result_timeout must be a number of seconds",
  ],
  [
    "a long idempotency key",
    "POST",
    PATH,
    { ...CLIENT, "Idempotency-Key": "x".repeat(201) },
    "{}",
    400,
    "Idempotency-Key must have 1 to 200 characters",
  ],
];

Deno.test("malformed and hostile requests get a clear refusal, and leave nothing behind", async (step) => {
  await using test = await openTestEngine({ blueprints: [flow()] });
  using raw = await Raw.open(test);
  for (const [name, method, path, headers, body, status, error] of REFUSED) {
    await step.step(name, async () => {
      // All over one connection: no refusal spoils the next request.
      const answer = await raw.ask(method, path, headers, body);
      assertEquals([answer.status, answer.headers.get("content-type")], [status, "application/json"]);
      assertEquals(JSON.parse(answer.body), { error });
    });
  }
  assertEquals(await test.engine.core.storage.list({ limit: 10, offset: 0 }), []);
  assertEquals((await test.client("/api/workers")).json, []);
  assertEquals(({} as Record<string, unknown>).x, undefined);
  assertEquals(test.lines.filter((line) => line.level === "error"), []);
});

Deno.test("a wrong method names the right ones", async () => {
  await using test = await openTestEngine({ blueprints: [flow()] });
  assertEquals(
    (await test.client("/api/v1/jobs/x/quarantine", { method: "GET" })).headers.get("allow"),
    "DELETE",
  );
});

Deno.test("bodies are taken up to their limit and refused with 413 above, with and without a length", async () => {
  await using test = await openTestEngine({
    blueprints: [flow()],
    config: { maxSubmissionBytes: 1000, maxResultBytes: 200_000 },
  });
  const text = (size: number) => `{"a":"${"x".repeat(size - 8)}"}`;
  using raw = await Raw.open(test);
  const chunked = async (path: string, headers: Record<string, string>, body: string) => {
    using other = await Raw.open(test);
    const head = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`).join("");
    await other.send(`POST ${path} HTTP/1.1\r\nHost: a\r\n${head}Transfer-Encoding: chunked\r\n\r\n`);
    for (let at = 0; at < body.length; at += 400) {
      const part = body.slice(at, at + 400);
      await other.send(`${part.length.toString(16)}\r\n${part}\r\n`);
    }
    await other.send("0\r\n\r\n");
    return await other.answer();
  };
  assertEquals((await raw.ask("POST", PATH, CLIENT, text(1000))).status, 202);
  assertEquals((await chunked(PATH, CLIENT, text(1000))).status, 202);
  for (
    const answer of [await raw.ask("POST", PATH, CLIENT, text(1001)), await chunked(PATH, CLIENT, text(1001))]
  ) {
    assertEquals(answer.status, 413);
    assertEquals(JSON.parse(answer.body), {
      error: "The body is larger than the 1000 bytes that are allowed here",
    });
  }
  await test.register("w", ["echo_task"]);
  const task = await test.take("w");
  assert(task !== undefined);
  const result = (size: number) =>
    JSON.stringify({
      job_id: task.job_id,
      task_id: task.task_id,
      worker_id: "w",
      result: { status: "success", data: { blob: "y".repeat(size) } },
    });
  assertEquals((await raw.ask("POST", "/_worker/tasks/result", WORKER_JSON, result(200_000))).status, 413);
  assertEquals((await test.client(`/api/jobs/${task.job_id}`)).json.status, "waiting_for_worker");
  const good = await raw.ask("POST", "/_worker/tasks/result", WORKER_JSON, result(150_000));
  assertEquals(good.body, '{"status":"result_accepted_success"}');
});

Deno.test("the default limits take a submission of 1 MiB and a result of 16 MiB", async () => {
  await using test = await openTestEngine({ blueprints: [flow()] });
  await test.register("w", ["echo_task"]);
  const id = await test.submit(PATH, { a: "x".repeat((1 << 20) - 8) });
  const over = await test.client(PATH, { body: `{"a":"${"x".repeat((1 << 20) - 7)}"}` });
  assertEquals(over.status, 413);
  const task = await test.take("w");
  assert(task?.job_id === id);
  const answer = await test.answer("w", task, {
    status: "success",
    data: { a: "y".repeat((16 << 20) - 300) },
  });
  assertEquals(answer.json, { status: "result_accepted_success" });
  const refused = await test.answer("w", task, { status: "success", data: { a: "y".repeat(16 << 20) } });
  assertEquals(refused.status, 413);
});

Deno.test("bytes that are not UTF-8 are refused", async () => {
  await using test = await openTestEngine({ blueprints: [flow()] });
  using raw = await Raw.open(test);
  const body = new Uint8Array([
    ...new TextEncoder().encode('{"a":"'),
    0xff,
    0xfe,
    ...new TextEncoder().encode('"}'),
  ]);
  await raw.send(
    `POST ${PATH} HTTP/1.1\r\nHost: a\r\nX-Client-Token: client-token\r\ncontent-length: ${body.length}\r\n\r\n`,
  );
  await raw.send(body);
  assertEquals((await raw.answer()).status, 400);
  assertEquals((await raw.ask("POST", PATH, CLIENT, '{"a":"\uFFFD is a character too"}')).status, 202);
});

Deno.test("a body that does not arrive is given up, one that breaks off stores nothing, others are served meanwhile", async () => {
  const clock = new ManualClock();
  await using test = await openTestEngine({ blueprints: [flow()], clock, config: { bodyTimeoutMs: 50 } });
  using slow = await Raw.open(test);
  const head =
    `POST ${PATH} HTTP/1.1\r\nHost: a\r\nX-Client-Token: client-token\r\nContent-Length: 100\r\n\r\n{"a":`;
  await slow.send(head);
  {
    using broken = await Raw.open(test);
    await broken.send(head);
  }
  assertEquals((await test.client(PATH, { body: {} })).status, 202);
  const answer = slow.answer();
  let isOver = false;
  void answer.finally(() => isOver = true);
  while (!isOver) {
    await new Promise((resolve) => setTimeout(resolve, 20));
    await clock.advance(1_000);
  }
  assertEquals((await answer).status, 408);
  assertEquals((await test.client("/api/jobs")).json.length, 1);
});

Deno.test("idle and half-open connections do not keep the engine from others", async () => {
  await using test = await openTestEngine({ blueprints: [flow()] });
  const idle = await Promise.all(Array.from({ length: 200 }, () => Raw.open(test)));
  for (const raw of idle) await raw.send("GET /_public/status HTTP/1.1\r\nHost:");
  assertEquals((await test.client("/_public/status")).json, { status: "ok" });
  for (const raw of idle) raw[Symbol.dispose]();
});

Deno.test("a working worker is never limited, empty heartbeats and polls are, with Retry-After", async () => {
  const clock = new ManualClock();
  await using test = await openTestEngine({
    blueprints: [flow()],
    clock,
    config: { rateLimitPerMinute: 10, pollTimeoutMs: 0 },
  });
  await test.register("w", ["echo_task"]);
  for (let n = 0; n < 30; n++) {
    await test.submit(PATH);
    const task = await test.take("w");
    assert(task !== undefined);
    assertEquals((await test.answer("w", task, { status: "success" })).status, 200);
    await test.register("v", ["other"]);
  }
  for (
    const [method, path] of [["PATCH", "/_worker/workers/w"], [
      "GET",
      "/_worker/workers/w/tasks/next",
    ]]
  ) {
    const statuses: number[] = [];
    let retryAfter: string | null = null;
    for (let n = 0; n < 12; n++) {
      const answer = await test.worker(path!, { method: method! });
      statuses.push(answer.status);
      retryAfter = answer.headers.get("retry-after");
    }
    assertEquals(statuses.slice(9), [method === "PATCH" ? 200 : 204, 429, 429]);
    assertEquals(retryAfter, "60");
    // Another worker has its own measure.
    assertEquals(
      (await test.worker(path!.replace(/\/w(?=$|\/)/, "/v"), { method: method! })).status,
      method === "PATCH" ? 200 : 204,
    );
  }
  // A task is assigned all the same; after the window everything is as before, although requests went on.
  await test.submit(PATH);
  assert(await test.take("w") !== undefined);
  await clock.advance(60_000);
  assertEquals((await test.worker("/_worker/workers/w", { method: "PATCH" })).status, 200);
});

Deno.test("at least 300 heartbeats and empty polls a minute are free", async () => {
  await using test = await openTestEngine({ blueprints: [flow()], config: { pollTimeoutMs: 1 } });
  await test.register("w", ["echo_task"]);
  for (let n = 0; n < 300; n++) {
    assertEquals((await test.worker("/_worker/workers/w", { method: "PATCH" })).status, 200);
    assertEquals((await test.worker("/_worker/workers/w/tasks/next")).status, 204);
  }
});

Deno.test("large answers are compressed in an encoding that the request names, small ones never", async () => {
  await using test = await openTestEngine({ blueprints: [flow()] });
  using raw = await Raw.open(test);
  const small = await raw.ask("POST", PATH, { ...CLIENT, "Accept-Encoding": "gzip, deflate" }, "{}");
  assertEquals([small.headers.get("content-encoding"), JSON.parse(small.body).status], [
    undefined,
    "accepted",
  ]);
  const path = `/api/v1/jobs/${JSON.parse(small.body).job_id}`;
  assertEquals((await raw.ask("GET", path, CLIENT)).headers.get("content-encoding"), undefined);
  const large = await raw.ask("GET", path, { ...CLIENT, "Accept-Encoding": "gzip, deflate" });
  assertEquals([large.headers.get("content-encoding"), large.headers.get("content-type")], [
    "gzip",
    "application/json",
  ]);
});

Deno.test("both names of the client's header are read", async () => {
  await using test = await openTestEngine({ blueprints: [flow()] });
  for (const name of ["X-Avtomatika-Token", "x-client-token"]) {
    const answer = await fetch(`${test.url}/api/v1/workers`, { headers: { [name]: "client-token" } });
    assertEquals([answer.status, await answer.text()], [200, "[]"]);
  }
});

Deno.test("the graph is drawn as DOT, Mermaid and JSON", async () => {
  await using test = await openTestEngine({ blueprints: [flow()] });
  await test.submit(PATH);
  const dot = await test.client("/api/v1/blueprints/test_flow/graph");
  assertEquals(dot.headers.get("content-type"), "text/vnd.graphviz");
  for (
    const part of [
      "digraph {",
      "node [shape=box style=rounded]",
      '"start" -> "completed" [label="on success"]',
    ]
  ) {
    assert(dot.text.includes(part), dot.text);
  }
  assert((await test.client("/api/blueprints/test_flow/graph?format=mermaid")).text.startsWith("flowchart"));
  const json = (await test.client("/api/blueprints/test_flow/graph?format=json")).json;
  assertEquals(json.edges[0], { from: "start", to: "completed", label: "success" });
});

// ---- A generator of nonsense ----------------------------------------------------------------------------------------

function randomOf(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

Deno.test("whatever is sent, the engine answers below 500 and goes on working", async () => {
  const seed = Number(Deno.env.get("JOBS_SEED") ?? Math.floor(Math.random() * 2 ** 31));
  const random = randomOf(seed);
  const pick = <T>(choices: readonly T[]): T => choices[Math.floor(random() * choices.length)]!;
  await using test = await openTestEngine({
    blueprints: [flow()],
    config: { pollTimeoutMs: 1, rateLimiting: false },
  });
  await test.register("w", ["echo_task"]);
  const ids = [await test.submit(PATH), unknownId(), "x", "%00", "a".repeat(3000)];
  const words = [
    "__proto__",
    "constructor",
    "status",
    "success",
    "failure",
    "cancelled",
    "",
    "\u0000",
    "\ud83d",
    "w",
    "echo_task",
  ];
  const value = (depth: number): unknown => {
    const kind = depth > 4 ? Math.floor(random() * 5) : Math.floor(random() * 7);
    if (kind === 0) return pick([0, -1, 1e308, 1.5, 2 ** 53, 123456789]);
    if (kind === 1) return pick([null, true, false]);
    if (kind === 2) return pick(words);
    if (kind === 3) return "z".repeat(Math.floor(random() * 2000));
    if (kind === 4) return pick(ids);
    if (kind === 5) return Array.from({ length: Math.floor(random() * 4) }, () => value(depth + 1));
    return Object.fromEntries(
      Array.from({ length: Math.floor(random() * 4) }, () => [pick(words), value(depth + 1)]),
    );
  };
  const fields = [
    "worker_id",
    "job_id",
    "task_id",
    "result",
    "status",
    "data",
    "error",
    "supported_tasks",
    "supported_skills",
    "resources",
    "installed_models",
    "load",
    "hot_cache",
    "decision",
    "event",
    "progress",
  ];
  const body = (): string => {
    const kind = random();
    if (kind < 0.1) return pick(["", "{", "nul", "[1,", '"\\u12"', "\u0000", "{}{}", "1e999", deep(100)]);
    if (kind < 0.3) return JSON.stringify(value(0));
    const chosen = fields.filter(() => random() < 0.4);
    const text = JSON.stringify(
      Object.fromEntries(chosen.map((name) => [name, random() < 0.3 ? pick(["w", ids[0]]) : value(1)])),
    );
    return random() < 0.1 ? text.slice(0, Math.floor(random() * text.length)) : text;
  };
  const paths = [
    PATH,
    "/api/v1/jobs",
    "/api/v1/jobs/ID",
    "/api/v1/jobs/ID/cancel",
    "/api/v1/jobs/ID/history",
    "/api/jobs/ID/retry",
    "/api/jobs/ID/approve",
    "/api/jobs/ID/quarantine",
    "/api/jobs/ID/approval-link",
    "/api/workers",
    "/api/dashboard",
    "/api/blueprints/ID/graph",
    "/api/admin/reload-workers",
    "/_public/webhooks/approval/ID",
    "/_public/metrics",
    "/_worker/workers/register",
    "/_worker/workers/w",
    "/_worker/workers/ID",
    "/_worker/workers/w/tasks/next",
    "/_worker/tasks/result",
    "/_worker/events",
    "//",
    "/api/v1//jobs",
  ];
  for (let n = 0; n < 1500; n++) {
    const path = pick(paths).replace("ID", () => encodeURIComponent(pick(ids))) +
      (random() < 0.2
        ? `?${pick(["limit", "offset", "status", "wait", "secret", "format"])}=${
          pick(["1", "x", "-1", "%ff", ""])
        }`
        : "");
    const method = pick(["GET", "POST", "PATCH", "DELETE", "PUT", "HEAD", "OPTIONS"]);
    const text = method === "GET" || method === "HEAD" ? undefined : body();
    const response = await fetch(test.url + path, {
      method: method!,
      body: text ?? null,
      headers: {
        ...(random() < 0.9 ? { "x-client-token": "client-token" } : {}),
        ...(random() < 0.9 ? { "x-worker-token": "worker-token" } : {}),
        ...(random() < 0.1 ? { "idempotency-key": pick(["a", "b", "__proto__"]) } : {}),
      },
    });
    const answer = await response.text();
    assert(
      response.status < 500,
      `seed ${seed}, request ${n}: ${method} ${path} ${text?.slice(0, 300)} -> ${response.status} ${answer}`,
    );
    if (response.status >= 400 && method !== "HEAD") {
      assertEquals(typeof JSON.parse(answer).error, "string", `seed ${seed}, request ${n}`);
    }
  }
  assertEquals(test.lines.filter((line) => line.level === "error"), []);
  await test.register("fresh", ["echo_task"]);
  await test.worker("/_worker/workers/fresh", { method: "PATCH", body: { supported_tasks: ["echo_task"] } });
  const id = await test.submit(PATH, { last: true });
  for (;;) {
    const task = await test.take("fresh");
    assert(task !== undefined);
    await test.answer("fresh", task, { status: "success" });
    if (task.job_id === id) break;
  }
  assertEquals((await test.until(id, (job) => job.status === "finished")).current_state, "completed");
});
