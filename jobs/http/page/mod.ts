/**
 * Pages: each is one answer with its style and script inside, which may load nothing from anywhere else. The page at `/`
 * is one of them; its script is made of the modules in `browser/`.
 *
 * @module
 */
import { hash } from "node:crypto";
import { gzipSync } from "node:zlib";
import { acceptsGzip, type Route, rows } from "../route.ts";
import { script } from "./asset.ts";
import { baseStyle, pageStyle } from "./style.ts";

// A briefcase as a drawing, so that browsers ask for no icon.
const ICON = `<link rel="icon" href="data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' ` +
  `viewBox='0 0 16 16'%3E%3Crect width='16' height='16' rx='4' fill='%233a4fd0'/%3E%3Cpath d='M4 4h3v3H4zm5 5h3v3H9zM7 6l3 3' ` +
  `fill='%23fff' stroke='%23fff'/%3E%3C/svg%3E">`;

/** What a page is made of, in HTML, CSS and JavaScript. */
interface Page {
  title: string;
  style: string;
  body: string;
  script?: string;
}

/** Answers with a page, which is made when somebody asks for the first time. */
export function pageHandler(make: () => Page): (call: { request: Request }) => Response {
  let made: { html: string; packed: Uint8Array<ArrayBuffer>; headers: Record<string, string> } | undefined;
  return ({ request }) => {
    const { html, packed, headers } = made ??= frame(make());
    if (!acceptsGzip(request)) return new Response(html, { headers });
    return new Response(packed, { headers: { ...headers, "Content-Encoding": "gzip" } });
  };
}

// Nothing from other hosts, no frames around it, no guessing of types.
function frame({ title, style, body, script }: Page) {
  const css = (baseStyle + style).replaceAll("\n", "");
  const html = `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>${title}</title>
${ICON}
<style>${css}</style>
</head>
<body>
${body}${script === undefined ? "" : `<script>${script}</script>`}
</body>
</html>
`;
  return {
    html,
    packed: new Uint8Array(gzipSync(html)),
    headers: {
      "Content-Type": "text/html; charset=utf-8",
      "Content-Security-Policy": `default-src 'none'; style-src ${hashOf(css)}; ` +
        (script === undefined ? "" : `script-src ${hashOf(script)}; connect-src 'self'; `) +
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
      "X-Content-Type-Options": "nosniff",
      "Referrer-Policy": "no-referrer",
      "Cache-Control": "no-cache",
      "Vary": "Accept-Encoding",
    },
  };
}

/** A text as a Content-Security-Policy names what may be used. */
function hashOf(text: string): string {
  return `'sha256-${hash("sha256", text, "base64")}'`;
}

const BODY = `
<noscript>This page needs JavaScript. The same is offered by the HTTP interface and by the command line.</noscript>
<div id="app"></div>
<p id="notice" role="status"></p>
`;

/** The page at `/`. */
export function pageRoutes(): Route[] {
  return [{
    ...rows("public", "Public")(
      "GET",
      "/",
      "The page: jobs, workers and load, after signing in with a client token",
    ),
    answers: { 200: ["The page", "text/html"] },
    handle: pageHandler(() => ({ title: "Jobs", style: pageStyle, body: BODY, script })),
  }];
}
