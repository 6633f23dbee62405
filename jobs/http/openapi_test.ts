import { routes } from "./router.ts";
import { StateMachineBlueprint } from "../mod.ts";
import type { OpenApi } from "./openapi.ts";
import { docsHtml, openapiDocument } from "./openapi.ts";
import { openTestEngine } from "../testing/engine.ts";
// @ts-types="../../config/std.d.ts"
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";

const openEngine = () =>
  openTestEngine({
    blueprints: [
      new StateMachineBlueprint({ name: "greet", apiEndpoint: "/jobs/greet", apiVersion: "v1" })
        .handlerFor("start", { isStart: true, to: ["done"] }, ({ actions }) => actions.transitionTo("done"))
        .handlerFor("done", { isEnd: true }),
    ],
  });

async function readDocument(): Promise<{ document: OpenApi; engineRoutes: ReturnType<typeof routes> }> {
  await using engine = await openEngine();
  const response = await fetch(`${engine.url}/_public/openapi.json`); // no token
  assertEquals([response.status, response.headers.get("content-type")], [200, "application/json"]);
  return { document: await response.json(), engineRoutes: routes(engine.engine) };
}

/** All values below `value` under the key `name`. */
function valuesOf(value: unknown, name: string): unknown[] {
  if (typeof value !== "object" || value === null) return [];
  return Object.entries(value).flatMap((
    [key, inner],
  ) => [...(key === name ? [inner] : []), ...valuesOf(inner, name)]);
}

Deno.test("every route is in the OpenAPI document, blueprints' submissions too", async () => {
  const { document, engineRoutes } = await readDocument();
  assertEquals(document.openapi, "3.1.0");
  const described = Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.keys(methods).map((method) => `${method.toUpperCase()} ${path}`)
  );
  const expected = [
    ...engineRoutes.map(({ method, path }) => `${method} ${path}`),
    "POST /api/v1/jobs/greet",
  ];
  assertEquals(described.toSorted(), expected.toSorted());
});

Deno.test("the document holds together: references, parameters, tokens, names", async () => {
  const { document, engineRoutes } = await readDocument();
  for (const ref of valuesOf(document, "$ref")) {
    const name = /^#\/components\/schemas\/(\w+)$/.exec(String(ref))?.[1];
    assert(name !== undefined && name in document.components.schemas, `${ref} leads nowhere`);
  }
  const operations = Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => ({ path, method, operation }))
  );
  assertEquals(new Set(operations.map(({ operation }) => operation.operationId)).size, operations.length);
  for (const { path, method, operation } of operations) {
    const inPath = operation.parameters.filter((parameter) => parameter.in === "path").map(({ name }) =>
      name
    );
    assertEquals(inPath, [...path.matchAll(/\{(\w+)\}/g)].map(([, name]) => name));
    for (const scheme of operation.security.flatMap(Object.keys)) {
      assert(scheme in document.components.securitySchemes, scheme);
    }
    const access = engineRoutes.find((route) => route.path === path && route.method === method.toUpperCase())
      ?.access;
    if (access !== undefined) assertEquals(operation.security.length === 0, access === "public", path);
    assert(Object.keys(operation.responses).length > 0 && operation.tags.length === 1);
  }
});

Deno.test("a request body is described by the schema that checks it", async () => {
  const { document } = await readDocument();
  const register = document.paths["/_worker/workers/register"]!.post;
  assertEquals(register?.requestBody?.content["application/json"]?.schema, {
    $ref: "#/components/schemas/Registration",
  });
  const { Registration, JobView, JobStatus } = document.components.schemas;
  assertEquals(Registration!.required, ["worker_id"]);
  assertEquals(Registration!.properties?.max_concurrent_tasks, {
    type: "integer",
    minimum: 1,
    maximum: 1_000_000,
  });
  assertEquals(JobView!.properties?.status, { $ref: "#/components/schemas/JobStatus" });
  assert(JobStatus!.enum?.includes("quarantined"));
  // The engine refuses what the document forbids.
  await using engine = await openEngine();
  const body = { worker_id: "w", max_concurrent_tasks: 0 };
  assertEquals((await engine.worker("/_worker/workers/register", { body })).status, 400);
});

Deno.test("the reference page names every path and may run nothing", async () => {
  await using engine = await openEngine();
  const response = await fetch(`${engine.url}/_public/docs`);
  const html = await response.text();
  assertEquals([response.status, response.headers.get("content-type")], [200, "text/html; charset=utf-8"]);
  assertMatch(
    response.headers.get("content-security-policy") ?? "",
    /^default-src 'none'; style-src 'sha256-\S+'; img-src data:;/,
  );
  for (const { method, path } of routes(engine.engine)) {
    assertStringIncludes(html, `<span class="method">${method}</span> <code>${path}</code>`);
  }
  // Every link inside leads somewhere, and ids are unique.
  const ids = [...html.matchAll(/ id="([^"]+)"/g)].map(([, id]) => id);
  assertEquals(new Set(ids).size, ids.length);
  for (const [, id] of html.matchAll(/href="#([^"]+)"/g)) assert(ids.includes(id), `#${id} leads nowhere`);
});

Deno.test("paths that differ only in signs get ids that differ", () => {
  const route = (path: string) => ({
    method: "GET" as const,
    path,
    access: "public" as const,
    group: "Public" as const,
    summary: "",
    answers: { 200: [""] as const },
    handle: () => new Response(),
  });
  const { paths } = openapiDocument([route("/a-b"), route("/a_b"), route("/a.b")]);
  assertEquals(new Set(Object.values(paths).map(({ get }) => get!.operationId)).size, 3);
});

Deno.test("text of routes is shown as text on the reference page", () => {
  const hostile = `<script>"&'`;
  const document = openapiDocument([{
    method: "GET",
    path: `/${hostile}`,
    access: "public",
    group: "Public",
    summary: hostile,
    query: { [hostile]: hostile },
    answers: { 200: [hostile] },
    handle: () => new Response(),
  }]);
  const html = docsHtml(document);
  assertEquals(html.includes(hostile), false);
  assertStringIncludes(html, "&lt;script&gt;&quot;&amp;&#39;");
});
