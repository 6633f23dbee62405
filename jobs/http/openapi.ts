/**
 * The OpenAPI document, made from the route table and from the schemas that check requests, and a page to read it.
 *
 * @module
 */
import { z } from "zod";
import type { Route } from "./route.ts";
import { icon, pageHeaders, policyHash } from "./page/mod.ts";
import { baseStyle, docsStyle } from "./page/style.ts";
import * as wire from "../model/wire.ts";

/** A JSON schema, as far as it is read here. */
export interface Schema {
  $ref?: string;
  type?: string | string[];
  properties?: Record<string, Schema>;
  required?: string[];
  items?: Schema;
  anyOf?: Schema[];
  enum?: unknown[];
  const?: unknown;
  additionalProperties?: Schema | boolean;
  [more: string]: unknown;
}

/** One method of one path. */
export interface Operation {
  operationId: string;
  tags: string[];
  summary: string;
  security: Record<string, string[]>[];
  parameters: {
    name: string;
    in: "path" | "query";
    required: boolean;
    description?: string;
    schema: Schema;
  }[];
  requestBody?: { required: boolean; content: Record<string, { schema: Schema }> };
  responses: Record<string, { description: string; content?: Record<string, { schema?: Schema }> }>;
}

/** An OpenAPI 3.1 document. */
export interface OpenApi {
  openapi: "3.1.0";
  info: { title: string; version: string; description: string };
  tags: { name: string }[];
  paths: Record<string, Record<string, Operation>>;
  components: {
    schemas: Record<string, Schema>;
    securitySchemes: Record<string, { type: "apiKey"; in: "header"; name: string; description: string }>;
  };
}

// Either header carries a client's token.
const SECURITY: Record<Route["access"], Record<string, string[]>[]> = {
  public: [],
  client: [{ clientToken: [] }, { clientTokenShort: [] }],
  worker: [{ workerToken: [] }],
};

/** The document of these routes. Schemas that `wire.ts` exports are components under the same names. */
export function openapiDocument(routes: readonly Route[]): OpenApi {
  const names = z.registry<{ id: string }>();
  for (const [id, schema] of Object.entries(wire)) {
    if (schema instanceof z.ZodType) names.add(schema, { id });
  }
  const schemas: Record<string, Schema> = {};
  // What is sent is described, also where reading it changes it: `io: "input"`.
  const schemaOf = (type: z.ZodType): Schema => {
    const json = z.toJSONSchema(type, { metadata: names, io: "input", unrepresentable: "any" });
    const { $schema: _, $defs = {}, ...schema }: Schema & { $defs?: Record<string, Schema> } = JSON.parse(
      JSON.stringify(json).replaceAll('"#/$defs/', '"#/components/schemas/'),
    );
    Object.assign(schemas, $defs);
    return schema;
  };
  const paths: OpenApi["paths"] = {};
  const ids = new Set<string>();
  // `/a-b` and `/a_b` are two paths; their ids must be two as well.
  const idOf = (text: string): string => {
    let id = text.toLowerCase().replace(/[^a-z\d]+/g, "_").replace(/_$/, "");
    while (ids.has(id)) id += "_";
    ids.add(id);
    return id;
  };
  for (const route of routes) {
    const inPath = [...route.path.matchAll(/\{(\w+)\}/g)].map(([, name]) => ({
      name,
      in: "path" as const,
      required: true,
      schema: { type: "string" },
    }));
    const inQuery = Object.entries(route.query ?? {}).map(([name, description]) => ({
      name,
      in: "query" as const,
      required: false,
      description,
      schema: { type: "string" },
    }));
    const answers = Object.entries(route.answers).map(([status, { description, schema, type }]) => {
      const content = schema === undefined && type === undefined ? {} : {
        content: { [type ?? "application/json"]: schema === undefined ? {} : { schema: schemaOf(schema) } },
      };
      return [status, { description, ...content }];
    });
    (paths[route.path] ??= {})[route.method.toLowerCase()] = {
      operationId: idOf(`${route.method} ${route.path}`),
      tags: [route.group],
      summary: route.summary,
      security: SECURITY[route.access],
      parameters: [...inPath, ...inQuery],
      ...(route.body === undefined ? {} : {
        requestBody: { required: true, content: { "application/json": { schema: schemaOf(route.body) } } },
      }),
      responses: Object.fromEntries(answers),
    };
  }
  const header = (name: string, description: string) => ({
    type: "apiKey" as const,
    in: "header" as const,
    name,
    description,
  });
  return {
    openapi: "3.1.0",
    info: {
      title: "Jobs",
      version: "1",
      description:
        "Clients submit jobs and follow them; workers pull their tasks. What stands here below /api " +
        'also exists below /api/{version} for the version of each blueprint. Errors are {"error": text}.',
    },
    tags: [...new Set(routes.map((route) => route.group))].map((name) => ({ name })),
    paths,
    components: {
      schemas: Object.fromEntries(Object.entries(schemas).sort(([a], [b]) => a < b ? -1 : 1)),
      securitySchemes: {
        clientToken: header("X-Avtomatika-Token", "A client's token"),
        clientTokenShort: header("X-Client-Token", "The same under a shorter name"),
        workerToken: header("X-Worker-Token", "The worker's own token, or the one that all workers share"),
      },
    },
  };
}

// ---- The page -------------------------------------------------------------------------------------------------------

function escaped(text: string): string {
  const names: Record<string, string> = {
    "&": "&amp;",
    "<": "&lt;",
    ">": "&gt;",
    '"': "&quot;",
    "'": "&#39;",
  };
  return text.replace(/[&<>"']/g, (sign) => names[sign]);
}

/** A schema in words, as HTML: `list of JobSummary`, with the fields of an object below. */
function schemaHtml(schema: Schema | undefined): string {
  if (schema === undefined) return "";
  if (schema.$ref !== undefined) {
    const name = escaped(schema.$ref.split("/").at(-1) ?? "");
    return `<a href="#schema-${name}">${name}</a>`;
  }
  if (schema.const !== undefined) return `<code>${escaped(JSON.stringify(schema.const))}</code>`;
  if (schema.enum !== undefined) return `one of <code>${escaped(schema.enum.map(String).join(", "))}</code>`;
  if (schema.anyOf !== undefined) return schema.anyOf.map(schemaHtml).join(" or ");
  if (schema.items !== undefined) return `list of ${schemaHtml(schema.items)}`;
  if (schema.properties !== undefined) {
    const required = new Set(schema.required);
    const fields = Object.entries(schema.properties).map(([name, field]) =>
      `<li><code>${escaped(name)}</code>${required.has(name) ? "" : ` <small>optional</small>`} ${
        schemaHtml(field)
      }</li>`
    );
    return `object<ul class="fields">${fields.join("")}</ul>`;
  }
  if (
    typeof schema.additionalProperties === "object" && Object.keys(schema.additionalProperties).length > 0
  ) {
    return `object, each value ${schemaHtml(schema.additionalProperties)}`;
  }
  const limits = ["minLength", "maxLength", "minimum", "maximum", "pattern"].filter((key) => key in schema)
    .map((key) => `${key} ${schema[key]}`);
  const type = [schema.type ?? "any JSON"].flat().join(" or ");
  return escaped(type) + (limits.length > 0 ? ` <small>${escaped(limits.join(", "))}</small>` : "");
}

function operationHtml(path: string, method: string, operation: Operation): string {
  const { operationId, summary, security, parameters, requestBody, responses } = operation;
  const access = security.length === 0
    ? "no token needed"
    : "workerToken" in security[0]
    ? "worker token"
    : "client token";
  const rows = parameters.map(({ name, in: place, description }) =>
    `<li><code>${escaped(name)}</code> <small>in the ${place}</small> ${escaped(description ?? "")}</li>`
  );
  const answers = Object.entries(responses).map(([status, { description, content = {} }]) => {
    const types = Object.entries(content).map(([type, { schema }]) =>
      schema === undefined ? `<code>${escaped(type)}</code>` : schemaHtml(schema)
    );
    return `<li><b>${status}</b> ${escaped(description)}${
      types.length > 0 ? `: ${types.join(", ")}` : ""
    }</li>`;
  });
  const body = requestBody?.content["application/json"].schema;
  return `<section class="card" id="${operationId}"><h3><span class="method">${method.toUpperCase()}</span> ` +
    `<code>${escaped(path)}</code></h3><p>${escaped(summary)} <small>${access}</small></p>` +
    (rows.length > 0 ? `<h4>Parameters</h4><ul>${rows.join("")}</ul>` : "") +
    (body === undefined ? "" : `<h4>Body</h4><p>${schemaHtml(body)}</p>`) +
    `<h4>Answers</h4><ul>${answers.join("")}</ul></section>`;
}

/** The page for people. */
export function docsHtml(document: OpenApi, style: string): string {
  const all = Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => ({ path, method, operation }))
  );
  const groups = document.tags.map(({ name }) => {
    const own = all.filter(({ operation }) => operation.tags.includes(name));
    return {
      name,
      id: `group-${name.toLowerCase().replaceAll(" ", "-")}`,
      links: own.map(({ path, method, operation }) =>
        `<li><a href="#${operation.operationId}">${method.toUpperCase()} ${escaped(path)}</a></li>`
      ).join(""),
      body: own.map(({ path, method, operation }) => operationHtml(path, method, operation)).join(""),
    };
  });
  const schemas = Object.entries(document.components.schemas).map(([name, schema]) =>
    `<section class="card" id="schema-${escaped(name)}"><h3>${escaped(name)}</h3><p>${
      schemaHtml(schema)
    }</p></section>`
  );
  const tokens = Object.values(document.components.securitySchemes).map(({ name, description }) =>
    `<li><code>${name}</code> ${escaped(description)}</li>`
  );
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Jobs: HTTP interface</title>${icon}<style>${style}</style></head><body>
<nav aria-label="Contents"><p><a href="..">Jobs</a></p>${
    groups.map(({ name, id, links }) => `<h2><a href="#${id}">${escaped(name)}</a></h2><ul>${links}</ul>`)
      .join("")
  }<h2><a href="#schemas">Schemas</a></h2></nav>
<main><h1>HTTP interface</h1><p>${
    escaped(document.info.description)
  } For programs: <a href="openapi.json">openapi.json</a>.</p>
<ul>${tokens.join("")}</ul>
${groups.map(({ name, id, body }) => `<h2 id="${id}">${escaped(name)}</h2>${body}`).join("")}
<h2 id="schemas">Schemas</h2>${schemas.join("")}</main></body></html>
`;
}

/** The document and its page. `routes` is asked when somebody looks for the first time. */
export function openapiRoutes(routes: () => readonly Route[]): Route[] {
  let document: OpenApi | undefined;
  const made = () => document ??= openapiDocument([...routes(), ...own]);
  const own: Route[] = [
    {
      method: "GET",
      path: "/_public/openapi.json",
      access: "public",
      group: "Public",
      summary: "This interface as an OpenAPI 3.1 document",
      answers: { 200: { description: "The document", type: "application/json" } },
      handle: () => Response.json(made()),
    },
    {
      method: "GET",
      path: "/_public/docs",
      access: "public",
      group: "Public",
      summary: "This interface as a page",
      answers: { 200: { description: "The page", type: "text/html" } },
      handle: async () => {
        const style = (baseStyle + docsStyle).replaceAll("\n", "");
        const headers = pageHeaders(`style-src ${await policyHash(style)}`);
        return new Response(docsHtml(made(), style), { headers });
      },
    },
  ];
  return own;
}
