/**
 * The OpenAPI 3.1 document, made from the route table and from the schemas that check requests: for programs, and as a
 * page for people.
 *
 * @module
 */
import { z } from "zod";
import * as wire from "../model/wire.ts";
import { pageHandler } from "./page/mod.ts";
import { docsStyle } from "./page/style.ts";
import { type Route, rows } from "./route.ts";

/** The document of these routes and of its own, made when somebody looks for the first time, and its page. */
export function docsRoutes(routes: readonly Route[]): Route[] {
  let document: OpenApi | undefined;
  const made = () => document ??= openapiDocument([...routes, ...own]);
  const at = rows("public", "Public");
  const own: Route[] = [
    {
      ...at("GET", "/_public/openapi.json", "This interface as an OpenAPI 3.1 document"),
      answers: { 200: ["The document", "application/json"] },
      handle: made,
    },
    {
      ...at("GET", "/_public/docs", "This interface as a page"),
      answers: { 200: ["The page", "text/html"] },
      handle: pageHandler(() => ({
        title: "Jobs: HTTP interface",
        style: docsStyle,
        body: docsHtml(made()),
      })),
    },
  ];
  return own;
}

// ---- The document ---------------------------------------------------------------------------------------------------

type Schema = z.core.JSONSchema.JSONSchema;
export type OpenApi = ReturnType<typeof openapiDocument>;
/** One method of one path. */
type Operation = ReturnType<typeof operationOf>;

type Security = Record<string, never[]>[];

// Either header carries a client's token.
const CLIENT: Security = [{ clientToken: [] }, { clientTokenShort: [] }];
const SECURITY: Record<Route["access"], Security> = {
  public: [],
  link: [{}, ...CLIENT],
  client: CLIENT,
  worker: [{ workerToken: [] }],
};

const header = (name: string, description: string) => ({ type: "apiKey", in: "header", name, description });
const SECURITY_SCHEMES = {
  clientToken: header("X-Avtomatika-Token", "A client's token"),
  clientTokenShort: header("X-Client-Token", "The same under a shorter name"),
  workerToken: header("X-Worker-Token", "The worker's own token, or the one that all workers share"),
};

/** Makes JSON schemas; those that `wire.ts` exports become `components` under the same names. */
function schemaMaker(components: Record<string, Schema>): (type: z.ZodType) => Schema {
  const metadata = z.registry<{ id: string }>();
  for (const [id, schema] of Object.entries(wire)) {
    if (schema instanceof z.ZodType) metadata.add(schema, { id });
  }
  return (type) => {
    // What is sent is described, also where reading it changes it.
    const json = z.toJSONSchema(type, { metadata, io: "input", unrepresentable: "any" });
    const { $schema: _, $defs = {}, ...schema }: Schema = JSON.parse(
      JSON.stringify(json).replaceAll('"#/$defs/', '"#/components/schemas/'),
    );
    Object.assign(components, $defs);
    return schema;
  };
}

function operationOf(route: Route, operationId: string, schemaOf: (type: z.ZodType) => Schema) {
  const { access, group, path, summary, query = {}, body } = route;
  const parameter = (place: "path" | "query", name: string, description?: string) => (
    { name, in: place, required: place === "path", description, schema: { type: "string" } }
  );
  const pathNames = [...path.matchAll(/\{(\w+)\}/g)].map(([, name = ""]) => name);
  const contentOf = (content: z.ZodType | string): Record<string, { schema?: Schema }> =>
    typeof content === "string" ? { [content]: {} } : { "application/json": { schema: schemaOf(content) } };
  const answers: Route["answers"] = {
    ...body && { 400: "The body cannot be read or has a wrong field" },
    ...access !== "public" && { 401: "No token, or a wrong one" },
    ...path.includes("/{id}") && { 404: "No such job of this client" },
    ...route.answers,
  };
  const responses = Object.entries(answers).map(([status, answer]) => {
    const [description, content] = typeof answer === "string" ? [answer, wire.ErrorAnswer] : answer;
    return [status, { description, content: content && contentOf(content) }] as const;
  });
  return {
    operationId,
    tags: [group],
    summary,
    security: SECURITY[access],
    parameters: [
      ...pathNames.map((name) => parameter("path", name)),
      ...Object.entries(query).map(([name, meaning]) => parameter("query", name, meaning)),
    ],
    requestBody: body && { required: true, content: contentOf(body) },
    responses: Object.fromEntries(responses),
  };
}

/** The document of these routes. */
export function openapiDocument(routes: readonly Route[]) {
  const schemas: Record<string, Schema> = {};
  const schemaOf = schemaMaker(schemas);
  const paths: Record<string, Record<string, Operation>> = {};
  const ids = new Set<string>();
  for (const route of routes) {
    // `/a-b` and `/a_b` are two paths; their ids must be two as well.
    let id = `${route.method} ${route.path}`.toLowerCase().replace(/[^a-z\d]+/g, "_").replace(/_$/, "");
    while (ids.has(id)) id += "_";
    ids.add(id);
    (paths[route.path] ??= {})[route.method.toLowerCase()] = operationOf(route, id, schemaOf);
  }
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
      securitySchemes: SECURITY_SCHEMES,
    },
  };
}

// ---- The page -------------------------------------------------------------------------------------------------------

/** The body of the page for people. */
export function docsHtml({ info, tags, paths, components }: OpenApi): string {
  const operations = Object.entries(paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => ({ method: method.toUpperCase(), path, operation }))
  );
  const groups = tags.map(({ name }) => {
    const id = `group-${name.toLowerCase().replaceAll(" ", "-")}`;
    const own = operations.filter(({ operation }) => operation.tags.includes(name));
    const links = own.map(({ method, path, operation }) =>
      markup`<li><a href="#${operation.operationId}">${method} ${path}</a></li>`
    );
    return {
      contents: markup`<h2><a href="#${id}">${name}</a></h2><ul>${links}</ul>`,
      body: markup`<h2 id="${id}">${name}</h2>${
        own.map(({ method, path, operation }) => operationHtml(method, path, operation))
      }`,
    };
  });
  const tokens = Object.values(components.securitySchemes).map(({ name, description }) =>
    markup`<li><code>${name}</code> ${description}</li>`
  );
  const schemas = Object.entries(components.schemas).map(([name, schema]) =>
    markup`<section class="card" id="schema-${name}"><h3>${name}</h3><p>${schemaHtml(schema)}</p></section>`
  );
  return markup`<nav aria-label="Contents"><p><a href="..">Jobs</a></p>
${groups.map(({ contents }) => contents)}<h2><a href="#schemas">Schemas</a></h2></nav>
<main><h1>HTTP interface</h1>
<p>${info.description} For programs: <a href="openapi.json">openapi.json</a>.</p>
<ul>${tokens}</ul>
${groups.map(({ body }) => body)}
<h2 id="schemas">Schemas</h2>${schemas}</main>`.text;
}

function operationHtml(method: string, path: string, operation: Operation): Html {
  const { operationId, summary, security, parameters, requestBody, responses } = operation;
  const rows = parameters.map(({ name, in: place, description }) =>
    markup`<li><code>${name}</code> <small>in the ${place}</small> ${description}</li>`
  );
  const answers = Object.entries(responses).map(([status, { description, content }]) =>
    markup`<li><b>${status}</b> ${description}${content && markup`: ${contentHtml(content)}`}</li>`
  );
  return markup`<section class="card" id="${operationId}">
<h3><span class="method">${method}</span> <code>${path}</code></h3>
<p>${summary} <small>${accessText(security)}</small></p>
${rows.length > 0 && markup`<h4>Parameters</h4><ul>${rows}</ul>`}
${requestBody && markup`<h4>Body</h4><p>${contentHtml(requestBody.content)}</p>`}
<h4>Answers</h4><ul>${answers}</ul></section>`;
}

function accessText([first, ...more]: Operation["security"]): string {
  if (first === undefined) return "no token needed";
  if (more.length === 0) return "worker token";
  return Object.keys(first).length === 0 ? "client token or the secret of a link" : "client token";
}

function contentHtml(content: NonNullable<Operation["requestBody"]>["content"]): Html[] {
  return Object.entries(content).map(([type, { schema }]) =>
    schema === undefined ? markup`<code>${type}</code>` : schemaHtml(schema)
  );
}

/** A schema in words: `list of JobSummary`, with the fields of an object below. */
function schemaHtml(schema: Schema | boolean): Html {
  if (typeof schema === "boolean") return markup`any JSON`;
  const { $ref, const: fixed, enum: values, anyOf, items, properties, additionalProperties } = schema;
  if ($ref !== undefined) {
    const name = $ref.split("/").at(-1);
    return markup`<a href="#schema-${name}">${name}</a>`;
  }
  if (fixed !== undefined) return markup`<code>${JSON.stringify(fixed)}</code>`;
  if (values !== undefined) return markup`one of <code>${values.join(", ")}</code>`;
  if (anyOf !== undefined) {
    return markup`${anyOf.map((one, index) => [index > 0 && " or ", schemaHtml(one)])}`;
  }
  if (items !== undefined) return markup`list of ${[items].flat().map(schemaHtml)}`;
  if (properties !== undefined) {
    const fields = Object.entries(properties).map(([name, field]) => {
      const note = !schema.required?.includes(name) && markup`<small>optional</small>`;
      return markup`<li><code>${name}</code> ${note} ${schemaHtml(field)}</li>`;
    });
    return markup`object<ul class="fields">${fields}</ul>`;
  }
  if (typeof additionalProperties === "object" && Object.keys(additionalProperties).length > 0) {
    return markup`object, each value ${schemaHtml(additionalProperties)}`;
  }
  const limits = ["minLength", "maxLength", "minimum", "maximum", "pattern"].filter((key) => key in schema)
    .map((key) => `${key} ${schema[key]}`);
  const type = [schema.type ?? "any JSON"].flat().join(" or ");
  return markup`${type} ${limits.length > 0 && markup`<small>${limits.join(", ")}</small>`}`;
}

/** HTML of which everything that was put in shows as text, unless it was made like this itself. */
class Html {
  constructor(readonly text: string) {}
}

type Content = Html | string | false | undefined | readonly Content[];

function markup(parts: TemplateStringsArray, ...contents: Content[]): Html {
  return new Html(String.raw({ raw: parts }, ...contents.map(textOf)));
}

function textOf(content: Content): string {
  if (content instanceof Html) return content.text;
  if (typeof content === "string") return content.replace(/[&<>"']/g, (sign) => ENTITIES[sign] ?? sign);
  return content ? content.map(textOf).join("") : "";
}

const ENTITIES: Record<string, string> = {
  "&": "&amp;",
  "<": "&lt;",
  ">": "&gt;",
  '"': "&quot;",
  "'": "&#39;",
};
