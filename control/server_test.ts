// @ts-types="../config/std.d.ts"
import { assert, assertEquals, assertLess, assertRejects } from "@std/assert";
import { waitUntil } from "../testing/run.ts";
import { ask, lines, request, Unreachable } from "./client.ts";
import { ControlServer, type Follower } from "./server.ts";

interface Desk extends AsyncDisposable {
  socket: string;
  followers: Set<Follower>;
}

async function serve(): Promise<Desk> {
  const folder = await Deno.makeTempDir({ prefix: "orchestrator-socket-" });
  const followers = new Set<Follower>();
  const socket = `${folder}/control.sock`;
  const server = new ControlServer(socket, ({ method, path, query, body }) => {
    if (path !== "/events") return { status: 200, body: { method, path, query: query.toString(), body } };
    return {
      status: 200,
      follow: (client) => {
        followers.add(client);
        client.ended.then(() => followers.delete(client));
      },
    };
  });
  return {
    socket,
    followers,
    async [Symbol.asyncDispose]() {
      await server.close();
      await Deno.remove(folder, { recursive: true });
    },
  };
}

/** The JSON value that a request is answered with. */
async function exchange(...sent: Parameters<typeof request>): Promise<unknown> {
  return await (await request(...sent)).json();
}

/** Sends bytes as they are and reads what comes back until the end. */
async function raw(socket: string, ...parts: (string | Uint8Array)[]): Promise<string> {
  const connection = await Deno.connect({ transport: "unix", path: socket });
  const answer = new Response(connection.readable).text().catch((error) => String(error));
  try {
    for (const part of parts) {
      let rest = typeof part === "string" ? new TextEncoder().encode(part) : part;
      while (rest.length > 0) rest = rest.subarray(await connection.write(rest));
    }
  } catch (error) {
    // It had heard enough, and the end of its answer closed our side.
    if (!(error instanceof Deno.errors.BrokenPipe || error instanceof Deno.errors.BadResource)) throw error;
  }
  return await answer;
}

/** A whole answer as it comes over the socket. */
function answer(status: string, body: unknown): string {
  const text = `${JSON.stringify(body, null, 2)}\n`;
  return `HTTP/1.1 ${status}\r\ncontent-type: application/json\r\ncontent-length: ${text.length}\r\n` +
    `connection: close\r\n\r\n${text}`;
}

const STATUS = "GET /status HTTP/1.1\r\n\r\n";

const STATUS_ANSWER = answer("200 OK", { method: "GET", path: "/status", query: "", body: {} });

Deno.test("a request is answered, the body read as JSON", async () => {
  await using desk = await serve();
  assertEquals(await exchange(desk.socket, "POST", "/stop?x=1", { names: ["db"] }), {
    method: "POST",
    path: "/stop",
    query: "x=1",
    body: { names: ["db"] },
  });
});

Deno.test("only its owner may use the socket", async () => {
  await using desk = await serve();
  const { mode } = await Deno.stat(desk.socket);
  assertEquals((mode ?? 0) & 0o777, 0o600);
});

const BAD: [name: string, parts: (string | Uint8Array)[], status: string, error: string][] = [
  [
    "bytes that are no text",
    [crypto.getRandomValues(new Uint8Array(64)).map((byte) => byte | 0x80)],
    "400 Bad Request",
    "This is not HTTP.",
  ],
  ["a line that is no request", ["HELLO\r\n\r\n"], "400 Bad Request", "This is not HTTP."],
  ["another protocol", ["GET / SPDY/9\r\n\r\n"], "400 Bad Request", "This is not HTTP."],
  [
    "a body that is no JSON",
    ["POST /stop HTTP/1.1\r\ncontent-length: 3\r\n\r\n{{{"],
    "400 Bad Request",
    "The body is not a JSON object.",
  ],
  [
    "a body that is a list",
    ["POST /stop HTTP/1.1\r\ncontent-length: 2\r\n\r\n[]"],
    "400 Bad Request",
    "The body is not a JSON object.",
  ],
  [
    "a length that is no number",
    ["POST /stop HTTP/1.1\r\ncontent-length: -5\r\n\r\n"],
    "400 Bad Request",
    "The content-length is no number.",
  ],
  [
    "a chunked body",
    ["POST /stop HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"],
    "411 Length Required",
    "Send the body with a content-length.",
  ],
  [
    "a head without end",
    [`GET / HTTP/1.1\r\n${"x: y\r\n".repeat(10_000)}`],
    "431 Request Header Fields Too Large",
    "The head of the request is too long.",
  ],
  [
    "a body of 100 MB",
    [
      "POST /stop HTTP/1.1\r\ncontent-length: 100000000\r\n\r\n",
      ...Array<Uint8Array>(100).fill(new Uint8Array(1_000_000)),
    ],
    "413 Content Too Large",
    "The body has 100000000 bytes; at most 65536 are taken.",
  ],
];
for (const [name, parts, status, error] of BAD) {
  Deno.test(`${name} is answered with ${status}, and the next request is served`, async () => {
    await using desk = await serve();
    assertEquals(await raw(desk.socket, ...parts), answer(status, { error }));
    assertEquals(await raw(desk.socket, STATUS), STATUS_ANSWER);
  });
}

for (
  const [sent, error] of [
    ["GET /sta", "The request ends in its head."],
    ["POST /stop HTTP/1.1\r\ncontent-length: 10\r\n\r\n{", "The request ends in its body."],
  ] as const
) {
  Deno.test(`half a request holds nobody up and is answered when it is given up: ${error}`, async () => {
    await using desk = await serve();
    const half = await Deno.connect({ transport: "unix", path: desk.socket });
    await half.write(new TextEncoder().encode(sent));
    assertEquals(await raw(desk.socket, STATUS), STATUS_ANSWER);
    await half.closeWrite();
    assertEquals(await new Response(half.readable).text(), answer("400 Bad Request", { error }));
  });
}

Deno.test("a hundred clients at once are all answered", async () => {
  await using desk = await serve();
  const answers = await Promise.all(
    Array.from({ length: 100 }, (_, index) => exchange(desk.socket, "GET", `/status?${index}`)),
  );
  assertEquals(new Set(answers.map((answer) => JSON.stringify(answer))).size, 100);
});

Deno.test("a socket where nobody answers is unreachable, with the reason", async () => {
  const folder = await Deno.makeTempDir({ prefix: "orchestrator-socket-" });
  const path = `${folder}/control.sock`;
  const fails = async (message: string) => {
    const error = await assertRejects(() => ask(path, "/status"), Unreachable);
    assertEquals(error.message, message);
  };
  await fails("No such file or directory");
  await Deno.writeTextFile(path, "");
  await fails("Connection refused");
  const answers = [
    ["", "connection closed before message completed"],
    ["HTTP/1.1 200 OK\r\ncontent-le", "connection closed before message completed"],
    ["HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{", "the answer is cut off"],
    ["HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n{", "the answer is cut off"],
  ] as const;
  await Deno.remove(path);
  for (const [answer, message] of answers) {
    const listener = Deno.listen({ transport: "unix", path });
    const answering = listener.accept().then(async (client) => {
      await client.read(new Uint8Array(1_024));
      await client.write(new TextEncoder().encode(answer));
      client.close();
      listener.close();
    });
    await Promise.all([fails(message), answering]);
  }
  await Deno.remove(folder, { recursive: true });
});

Deno.test("settings of proxies do not keep a client from the socket", async () => {
  await using desk = await serve();
  const settings = { HTTP_PROXY: "http://127.0.0.1:9", NO_PROXY: "*,localhost,127.0.0.1" };
  const before = Object.keys(settings).map((name) => [name, Deno.env.get(name)] as const);
  for (const [name, value] of Object.entries(settings)) Deno.env.set(name, value);
  try {
    assertEquals(await exchange(desk.socket, "GET", "/status"), {
      method: "GET",
      path: "/status",
      query: "",
      body: {},
    });
  } finally {
    for (const [name, value] of before) {
      value === undefined ? Deno.env.delete(name) : Deno.env.set(name, value);
    }
  }
});

/** What this test's own isolate holds, in bytes: the resident memory is that of all tests that run side by side. */
function ownMemory(): number {
  const { heapUsed, external } = Deno.memoryUsage();
  return heapUsed + external;
}

Deno.test("a reader that reads nothing is dropped, one that reads gets all, memory stays bounded", async () => {
  await using desk = await serve();
  const stuck = await Deno.connect({ transport: "unix", path: desk.socket });
  await stuck.write(new TextEncoder().encode("GET /events HTTP/1.1\r\n\r\n"));
  await waitUntil(() => desk.followers.size === 1, "it follows");
  const reply = await request(desk.socket, "GET", "/events");
  await waitUntil(() => desk.followers.size === 2, "both follow");
  const [first, second] = desk.followers;
  let seen = 0;
  const reading = (async () => {
    for await (const line of lines(reply)) seen += line.length + 1;
  })();
  const block = new TextEncoder().encode(`${"x".repeat(65_535)}\n`);
  const before = ownMemory();
  for (let sent = 0; sent < 2_000; sent++) { // 128 MB
    for (const follower of [first, second]) follower!.send(block.slice());
    const behind = sent * block.length - seen;
    if (behind > 1_000_000) {
      await waitUntil(() => sent * block.length - seen < 500_000, "the reader has read");
    }
  }
  await waitUntil(() => seen === 2_000 * block.length, "all of it is read");
  await waitUntil(() => desk.followers.size === 1, "the stuck one is dropped");
  assertLess(ownMemory() - before, 100_000_000);
  stuck.close();
  await second!.close(1_000);
  await reading;
});

Deno.test("curl can talk to it", async () => {
  await using desk = await serve();
  const args = ["-s", "--unix-socket", desk.socket, "-d", '{"a":1}', "http://localhost/start"];
  const { stdout, success } = await new Deno.Command("curl", { args }).output();
  assert(success);
  assertEquals(JSON.parse(new TextDecoder().decode(stdout)).body, { a: 1 });
});
