// @ts-types="../config/std.d.ts"
import { assert, assertEquals } from "@std/assert";
import { systemClock } from "../config/clock.ts";
import type { Health } from "../config/definition.ts";
import { runProbe } from "./probe.ts";
import { ManualClock } from "../testing/clock.ts";
import { Folder, freePort, isAlive, LIMIT_MS, outputOf, waitUntil } from "../testing/run.ts";

const ELSEWHERE = { environment: Deno.env.toObject(), cwd: "/", infrastructure: "/" };

/** Probes once, with a limit that a test machine keeps. */
function probeOnce(
  probe: Exclude<Health["probe"], { kind: "log" }>,
  environment: Record<string, string> = {},
) {
  const target = { ...ELSEWHERE, environment: { ...ELSEWHERE.environment, ...environment } };
  return runProbe(probe, target, {
    timeoutMs: 20_000,
    stop: new AbortController().signal,
    clock: systemClock,
  });
}

for (
  const [path, body, fault] of [
    ["/200", null, null],
    ["/204", null, null],
    ["/500", null, "HTTP 500"],
    ["/404", null, "HTTP 404"],
    ["/200", "status: (ok|fine)", null],
    ["/200", "^status: bad$", "answered without the expected text"],
    ["/500", "status", "HTTP 500"],
  ] as const
) {
  Deno.test(`a probe by http at ${path}${body === null ? "" : ` for ${body}`} is ${fault ?? "healthy"}`, async () => {
    await using server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen() {} }, ({ url }) => {
      const status = Number(new URL(url).pathname.slice(1));
      return new Response(status === 204 ? null : "status: ok", { status });
    });
    const url = "http://127.0.0.1:${PORT}" + path;
    assertEquals(await probeOnce({ kind: "http", url, body }, { PORT: String(server.addr.port) }), fault);
  });
}

Deno.test("a probe by tcp is healthy when the port accepts a connection", async () => {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const port = String(listener.addr.port);
  assertEquals(await probeOnce({ kind: "tcp", port: "${PORT}" }, { PORT: port }), null);
  listener.close();
  assertEquals(await probeOnce({ kind: "tcp", port }), "Connection refused");
});

Deno.test("a probe by tcp finds a service that listens on IPv6 only", async () => {
  const listener = Deno.listen({ hostname: "::1", port: 0 });
  assertEquals(await probeOnce({ kind: "tcp", port: String(listener.addr.port) }), null);
  listener.close();
});

for (
  const [command, fault] of [
    ["exit 0", null],
    ["exit 3", "its check ended with status 3"],
    [["test", "${ANSWER}", "=", "42"], null],
    [["python", "-c", "raise SystemExit(4)"], "its check ended with status 4"],
  ] as const
) {
  Deno.test(`a probe by the command ${JSON.stringify(command)} is ${fault ?? "healthy"}`, async () => {
    assertEquals(await probeOnce({ kind: "command", command }, { ANSWER: "42" }), fault);
  });
}

Deno.test("a probe that takes too long ends in time, with all that it has started", async () => {
  await using folder = await Folder.make();
  const command = `echo $$ >${folder.path}/pid; sleep 1000; true`;
  const clock = new ManualClock();
  const stop = new AbortController().signal;
  const answer = runProbe({ kind: "command", command }, ELSEWHERE, { timeoutMs: 300, stop, clock });
  await waitUntil(async () => await folder.read("pid") !== "", "the check runs");
  await clock.advance(300);
  const fault = await answer;
  assertEquals(fault, "no answer within 300 ms");
  const group = Number(await folder.read("pid"));
  await waitUntil(() => !isAlive(group), "the check is gone");
  const left = (await outputOf("ps", "-eo", "pgid=,stat=")).split("\n").filter((line) => {
    const [itsGroup, state] = line.trim().split(/\s+/);
    return Number(itsGroup) === group && !state!.startsWith("Z");
  });
  assertEquals(left, []);
});

Deno.test("a probe that is stopped ends at once", async () => {
  const stop = new AbortController();
  const probing = runProbe({ kind: "command", command: "sleep 1000" }, ELSEWHERE, {
    timeoutMs: LIMIT_MS,
    stop: stop.signal,
    clock: systemClock,
  });
  stop.abort();
  assert(await probing !== null);
});

Deno.test("what a probe reports holds no value of the environment", async () => {
  const environment = { TOKEN: "s3cret", PORT: String(freePort()) };
  const faults = [
    await probeOnce(
      { kind: "http", url: "http://127.0.0.1:${PORT}/health?token=${TOKEN}", body: null },
      environment,
    ),
    await probeOnce(
      { kind: "http", url: "http://user:${TOKEN}@127.0.0.1:${PORT}/", body: null },
      environment,
    ),
    await probeOnce({ kind: "command", command: ["${TOKEN}", "x"] }, environment),
    await probeOnce({ kind: "tcp", port: "${TOKEN}" }, environment),
  ];
  for (const fault of faults) assert(fault !== null && !fault.includes("s3cret"), fault ?? "well");
  assertEquals(faults[0], "tcp connect error: Connection refused");
});
