/**
 * Paths, and whether something is there.
 *
 * @module
 */

/** Names under which a services file is looked for, in this order. */
export const SERVICES_FILES = ["services.yaml", "services.yml", "services.json"] as const;

/** The services file of an infrastructure folder, or null when the built-in registry applies. */
export function findServicesFile(infrastructure: string): string | null {
  let names: Set<string>;
  try {
    // One look at the folder: three at files that are not there take longer.
    names = new Set(Array.from(Deno.readDirSync(infrastructure), ({ name }) => name));
  } catch (error) {
    if (error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotADirectory) return null;
    // A folder that may be entered but not listed: what is wrong is told by the one who reads the file.
    names = new Set(SERVICES_FILES.filter((name) => mayBeThere(`${infrastructure}/${name}`)));
  }
  const found = SERVICES_FILES.find((name) => names.has(name));
  return found === undefined ? null : `${infrastructure}/${found}`;
}

function mayBeThere(path: string): boolean {
  try {
    Deno.lstatSync(path);
    return true;
  } catch (error) {
    return !(error instanceof Deno.errors.NotFound);
  }
}

export function exists(path: string, kind: "isFile" | "isDirectory"): boolean {
  try {
    return Deno.statSync(path)[kind];
  } catch (error) {
    // Whatever can't be looked at is not there for us: the start that needs it says so.
    if (error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotADirectory) return false;
    if (error instanceof Deno.errors.PermissionDenied || error instanceof Deno.errors.FilesystemLoop) {
      return false;
    }
    throw error;
  }
}

export function dirname(path: string): string {
  return path.slice(0, path.lastIndexOf("/")) || "/";
}

/** `path` seen from `folder`, without `.` and `..` parts. */
export function resolvePath(folder: string, path: string): string {
  const parts: string[] = [];
  for (const part of (path.startsWith("/") ? path : `${folder}/${path}`).split("/")) {
    if (part === "..") parts.pop();
    else if (part !== "" && part !== ".") parts.push(part);
  }
  return "/" + parts.join("/");
}
