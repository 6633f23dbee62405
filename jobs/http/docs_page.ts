/**
 * The OpenAPI document as a page for people, and the routes of both.
 *
 * @module
 */

import type { OpenApi, Operation, Schema } from "./openapi.ts";
import { openapiDocument } from "./openapi.ts";
import { icon, pageHeaders, policyHash } from "./page/mod.ts";
import { baseStyle, docsStyle } from "./page/style.ts";
import type { Route } from "./route.ts";

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

function escaped(text: string): string {
  const names: Record<string, string> = {
    "&": "&amp;",
    "<": "&lt;",
    ">": "&gt;",
    '"': "&quot;",
    "'": "&#39;",
  };
  return text.replace(/[&<>"']/g, (sign) => names[sign] ?? sign);
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
  const schemes = security.flatMap(Object.keys);
  const access = schemes.includes("workerToken")
    ? "worker token"
    : !schemes.includes("clientToken")
    ? "no token needed"
    : security.some((one) => Object.keys(one).length === 0)
    ? "client token or the secret of a link"
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
  const body = requestBody?.content["application/json"]?.schema;
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
