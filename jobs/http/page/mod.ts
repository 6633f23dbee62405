/**
 * The page at `/`: one answer with its style and script inside, which may load nothing from anywhere else. The script
 * is made of the modules in `browser/`.
 *
 * @module
 */
import { gzipSync } from "node:zlib";
import { acceptsGzip } from "../responses.ts";
import type { Route } from "../route.ts";
import { script } from "./asset.ts";
import { baseStyle, pageStyle } from "./style.ts";

/** The `integrity` of a text, as a Content-Security-Policy names what may run. */
export async function policyHash(text: string): Promise<string> {
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text));
  return `'sha256-${btoa(String.fromCharCode(...new Uint8Array(digest)))}'`;
}

/** Headers of an answer that people look at: nothing from other hosts, no frames around it, no guessing of types. */
export function pageHeaders(policy: string): HeadersInit {
  return {
    "Content-Type": "text/html; charset=utf-8",
    "Content-Security-Policy":
      `default-src 'none'; ${policy}; img-src data:; base-uri 'none'; form-action 'none'; ` +
      `frame-ancestors 'none'`,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
  };
}

/** A briefcase as a drawing, so that browsers ask for no icon. */
export const icon = `<link rel="icon" href="data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' ` +
  `viewBox='0 0 16 16'%3E%3Crect width='16' height='16' rx='4' fill='%233a4fd0'/%3E%3Cpath d='M4 4h3v3H4zm5 5h3v3H9zM7 6l3 3' ` +
  `fill='%23fff' stroke='%23fff'/%3E%3C/svg%3E">`;

const style = (baseStyle + pageStyle).replaceAll("\n", "");
const html = `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Jobs</title>
${icon}
<style>${style}</style>
</head>
<body>
<noscript>This page needs JavaScript. The same is offered by the HTTP interface and by the command line.</noscript>
<div id="app"></div>
<p id="notice" role="status"></p>
<script>${script}</script>
</body>
</html>
`;
const policy = Promise.all([policyHash(style), policyHash(script)]).then(([style, script]) =>
  pageHeaders(`style-src ${style}; script-src ${script}; connect-src 'self'`)
);

let packed: Uint8Array<ArrayBuffer> | undefined;

/** The page at `/`. */
export function pageRoutes(): Route[] {
  return [{
    method: "GET",
    path: "/",
    access: "public",
    group: "Public",
    summary: "The page: jobs, workers and load, after signing in with a client token",
    answers: { 200: { description: "The page", type: "text/html" } },
    async handle({ request }) {
      const headers = new Headers(await policy);
      headers.set("Vary", "Accept-Encoding");
      if (!acceptsGzip(request)) return new Response(html, { headers });
      headers.set("Content-Encoding", "gzip");
      return new Response(packed ??= new Uint8Array(gzipSync(html)), { headers });
    },
  }];
}
