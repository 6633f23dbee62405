// A request and how it fails.

// @ts-types="../../config/std.d.ts"
import { assertEquals } from "@std/assert";
import { freePort } from "../../testing/run.ts";
import { httpCall } from "./http_call.ts";

/** Sends a request to a server that answers as given. */
async function callTo(
  answer: (request: Request) => Response | Promise<Response>,
  call: Partial<Parameters<typeof httpCall>[1]> = {},
) {
  await using server = Deno.serve({ port: 0, hostname: "127.0.0.1", onListen() {} }, answer);
  const url = `http://127.0.0.1:${server.addr.port}/`;
  const { status, text, headers } = await httpCall(url, { method: "GET", timeoutMs: 60_000, ...call });
  return { status, text, location: headers.get("Location") };
}

Deno.test("a body is JSON, and headers that are not defined are left out", async () => {
  const answer = await callTo(
    async (request) => {
      const { "x-a": a, "x-b": b, "content-type": type } = Object.fromEntries(request.headers);
      return Response.json([a, b, type, await request.text()]);
    },
    { method: "POST", body: "{}", headers: { "X-A": "1", "X-B": undefined } },
  );
  assertEquals(answer, { status: 200, text: '["1",null,"application/json","{}"]', location: null });
});

Deno.test("a redirect is not followed: its target must not get the token", async () => {
  const answer = await callTo(() => new Response(null, { status: 302, headers: { Location: "/other" } }));
  assertEquals(answer, { status: 302, text: "", location: "/other" });
});

Deno.test("a body without an end holds up nobody who skips it", async () => {
  const answer = await callTo(() => new Response(new ReadableStream({ pull() {} })), { skipsBody: true });
  assertEquals(answer, { status: 200, text: "", location: null });
});

Deno.test("no connection, no answer in time and an abort are a status 0 with its reason", async () => {
  const url = `http://127.0.0.1:${freePort()}/`;
  const refused = await httpCall(url, { method: "GET", timeoutMs: 60_000 });
  assertEquals([refused.status, refused.text.includes("refused")], [0, true]);
  const gone = new AbortController();
  const silent = () =>
    new Promise<Response>((resolve) => gone.signal.addEventListener("abort", () => resolve(new Response())));
  await using server = Deno.serve({ port: 0, hostname: "127.0.0.1", onListen() {} }, silent);
  const silentUrl = `http://127.0.0.1:${server.addr.port}/`;
  const late = await httpCall(silentUrl, { method: "GET", timeoutMs: 20 });
  assertEquals([late.status, late.text], [0, "no answer in time"]);
  const stop = new AbortController();
  const call = httpCall(silentUrl, { method: "GET", timeoutMs: 60_000, signal: stop.signal });
  stop.abort();
  const stopped = await call;
  assertEquals([stopped.status, stopped.text], [0, "stopped"]);
  gone.abort();
});
