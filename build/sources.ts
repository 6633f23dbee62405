/**
 * The sources of the product: no tests, benches, samples, nor what a build writes.
 *
 * @module
 */

/** The root of the project. */
export const ROOT = decodeURIComponent(new URL("..", import.meta.url).pathname).replace(/\/$/, "");

/** Folders that hold no part of the product. */
const OUTSIDE = ["bench", "build", "dist", "docs", "examples", "infrastructure", "testing", "node_modules"];

/** One file of the product. */
export interface Source {
  /** From the root of the project. */
  path: string;
  text: string;
}

/** Every file of the product, sorted by path. */
export function sources(folder = ""): Source[] {
  const entries = [...Deno.readDirSync(`${ROOT}/${folder}`)].sort((one, other) =>
    one.name < other.name ? -1 : 1
  );
  return entries.flatMap((entry) => {
    const path = `${folder}${entry.name}`;
    if (entry.isDirectory) {
      const isOutside = entry.name.startsWith(".") || entry.name === "testing" || OUTSIDE.includes(path);
      return isOutside ? [] : sources(`${path}/`);
    }
    if (!/\.[jt]s$/.test(path) || /_test\.ts$|\.d\.ts$/.test(path)) return [];
    const text = Deno.readTextFileSync(`${ROOT}/${path}`);
    return text.startsWith("// Generated") ? [] : [{ path, text }];
  });
}
