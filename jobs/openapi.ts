import type { Route } from "./http.ts";

/** The OpenAPI document and its page, made from the routes themselves. */
export function openapiRoutes(_routes: () => readonly Route[]): Route[] {
  return [];
}
