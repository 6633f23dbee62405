/**
 * The OpenAPI 3.1 document, made from the route table and from the schemas that check requests.
 *
 * @module
 */
import { z } from "zod";
import * as wire from "../model/wire.ts";
import type { Route } from "./route.ts";

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

export type OpenApi = ReturnType<typeof openapiDocument>;
/** One method of one path. */
export type Operation = ReturnType<typeof operationOf>;

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
    const { $schema: _, $defs = {}, ...schema }: Schema & { $defs?: Record<string, Schema> } = JSON.parse(
      JSON.stringify(json).replaceAll('"#/$defs/', '"#/components/schemas/'),
    );
    Object.assign(components, $defs);
    return schema;
  };
}

function operationOf(route: Route, operationId: string, schemaOf: (type: z.ZodType) => Schema) {
  const { access, group, path, summary, query = {}, body } = route;
  const text: Schema = { type: "string" };
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
      ...pathNames.map((name) => ({
        name,
        in: "path",
        required: true,
        description: undefined,
        schema: text,
      })),
      ...Object.entries(query).map(([name, description]) => (
        { name, in: "query", required: false, description, schema: text }
      )),
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
