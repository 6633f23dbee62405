/**
 * The OpenAPI document, made from the route table and from the schemas that check requests, and a page to read it.
 *
 * @module
 */

import { z } from "zod";
import type { Route } from "./route.ts";
import { answersOf } from "./route.ts";
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
  link: [{}, { clientToken: [] }, { clientTokenShort: [] }],
  client: [{ clientToken: [] }, { clientTokenShort: [] }],
  worker: [{ workerToken: [] }],
};

const header = (name: string, description: string) => ({
  type: "apiKey" as const,
  in: "header" as const,
  name,
  description,
});

const SECURITY_SCHEMES = {
  clientToken: header("X-Avtomatika-Token", "A client's token"),
  clientTokenShort: header("X-Client-Token", "The same under a shorter name"),
  workerToken: header("X-Worker-Token", "The worker's own token, or the one that all workers share"),
};

/** Makes JSON schemas; those that `wire.ts` exports are components under the same names. */
class Schemas {
  readonly components: Record<string, Schema> = {};
  readonly #names = z.registry<{ id: string }>();

  constructor() {
    for (const [id, schema] of Object.entries(wire)) {
      if (schema instanceof z.ZodType) this.#names.add(schema, { id });
    }
  }

  /** What is sent is described, also where reading it changes it: `io: "input"`. */
  of(type: z.ZodType): Schema {
    const json = z.toJSONSchema(type, { metadata: this.#names, io: "input", unrepresentable: "any" });
    const { $schema: _, $defs = {}, ...schema }: Schema & { $defs?: Record<string, Schema> } = JSON.parse(
      JSON.stringify(json).replaceAll('"#/$defs/', '"#/components/schemas/'),
    );
    Object.assign(this.components, $defs);
    return schema;
  }
}

function operationOf(route: Route, operationId: string, schemas: Schemas): Operation {
  const inPath = [...route.path.matchAll(/\{(\w+)\}/g)].map(([, name = ""]) => ({
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
  const answers = answersOf(route).map(([status, { description, schema, type }]) => {
    const content = schema === undefined && type === undefined ? {} : {
      content: { [type ?? "application/json"]: schema === undefined ? {} : { schema: schemas.of(schema) } },
    };
    return [status, { description, ...content }];
  });
  return {
    operationId,
    tags: [route.group],
    summary: route.summary,
    security: SECURITY[route.access],
    parameters: [...inPath, ...inQuery],
    ...(route.body === undefined ? {} : {
      requestBody: { required: true, content: { "application/json": { schema: schemas.of(route.body) } } },
    }),
    responses: Object.fromEntries(answers),
  };
}

/** The document of these routes. */
export function openapiDocument(routes: readonly Route[]): OpenApi {
  const schemas = new Schemas();
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
    const operation = operationOf(route, idOf(`${route.method} ${route.path}`), schemas);
    (paths[route.path] ??= {})[route.method.toLowerCase()] = operation;
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
      schemas: Object.fromEntries(Object.entries(schemas.components).sort(([a], [b]) => a < b ? -1 : 1)),
      securitySchemes: SECURITY_SCHEMES,
    },
  };
}
