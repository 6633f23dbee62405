import type { Route } from "../http.ts";

/** The page at `/` and what it needs. */
export function pageRoutes(): Route[] {
  return [];
}
