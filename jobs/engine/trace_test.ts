// @ts-types="../../config/std.d.ts"
import { assert, assertEquals } from "@std/assert";

interface Exported {
  name: string;
  traceId: string;
  spanId: string;
  parentSpanId: string;
}

Deno.test("a job's steps are exported as spans below its client's trace, and go on to the worker", async () => {
  const spans: Exported[] = [];
  const named = (name: string) => spans.filter((span) => span.name === name);
  // The request itself is a span, too, of the one who asks.
  const arrived = Promise.withResolvers<void>();
  const isComplete = () =>
    ["job traced", "state start", "state end"].every((name) => named(name).length > 0) &&
    spans.some((span) => span.name.startsWith("POST")) &&
    spans.some((span) => span.spanId === named("job traced")[0]!.parentSpanId);
  await using collector = Deno.serve({ port: 0, onListen() {} }, async (request) => {
    if (new URL(request.url).pathname !== "/v1/traces") return new Response("{}");
    const { resourceSpans } = await request.json();
    for (const { scopeSpans } of resourceSpans) for (const scope of scopeSpans) spans.push(...scope.spans);
    if (isComplete()) arrived.resolve();
    return new Response("{}", { headers: { "content-type": "application/json" } });
  });
  const traceId = "0af7651916cd43dd8448eb211c80319c";
  const script = `
    import { StateMachineBlueprint } from ${JSON.stringify(import.meta.resolve("../model/blueprint.ts"))};
    import { openTestEngine } from ${JSON.stringify(import.meta.resolve("../testing/engine.ts"))};
    const flow = new StateMachineBlueprint({ name: "traced", apiEndpoint: "/t" })
      .handlerFor("start", { isStart: true }, ({ actions }) =>
        actions.dispatchTask({ taskType: "echo", transitions: { success: "end" } }))
      .handlerFor("end", { isEnd: true });
    const test = await openTestEngine({ blueprints: [flow] });
    await test.register("w", ["echo"]);
    await test.submit("/api/t", {}, { traceparent: "00-${traceId}-b7ad6b7169203331-01" });
    const task = await test.take("w");
    console.log(JSON.stringify(task.tracing_context));
    await test.answer("w", task, { status: "success" });
    await test.engine.stop();
    // Exporting goes on until the one who wants the spans has them.
    for await (const _ of Deno.stdin.readable);`;
  const file = await Deno.makeTempFile({ suffix: ".ts" });
  await Deno.writeTextFile(file, script);
  const child = new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--no-check", "--config", new URL("../../deno.json", import.meta.url).pathname, file],
    env: {
      OTEL_DENO: "true",
      OTEL_EXPORTER_OTLP_PROTOCOL: "http/json",
      OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${collector.addr.port}`,
      OTEL_DENO_CONSOLE: "ignore",
      OTEL_BSP_SCHEDULE_DELAY: "100",
    },
    stdin: "piped",
    stdout: "piped",
    stderr: "inherit",
  }).spawn();
  const output = child.output();
  const timer = setTimeout(arrived.resolve, 60_000);
  await Promise.race([arrived.promise, child.status]);
  clearTimeout(timer);
  await child.stdin.close();
  const { stdout } = await output;
  await Deno.remove(file);
  assert(isComplete(), `exported: ${JSON.stringify(spans)}`);
  const { traceparent } = JSON.parse(new TextDecoder().decode(stdout));
  const [job] = named("job traced");
  assertEquals(job!.traceId, traceId);
  for (const state of ["state start", "state end"]) {
    assertEquals(named(state).map((span) => [span.traceId, span.parentSpanId]), [[traceId, job!.spanId]]);
  }
  assertEquals(traceparent, `00-${traceId}-${job!.spanId}-01`);
});
