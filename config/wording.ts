/**
 * Words of a complaint about a file. What stands in it is a stranger's text: shortened, and nothing in it can steer a
 * terminal.
 *
 * @module
 */

export type Path = readonly PropertyKey[];

// Words of a complaint. What stands in the file is a stranger's text: shortened, and nothing in it can steer a terminal.

export const isContainer = (value: unknown): value is object => typeof value === "object" && value !== null;

export const isRecord = (value: unknown): value is Record<string, unknown> =>
  isContainer(value) && !Array.isArray(value);

export const orList = (words: readonly string[]) => words.join(", ").replace(/, ([^,]*)$/, " or $1");

export function quote(value: unknown): string {
  const text = String(value).replace(/\/\/[^/\s@]*@/g, "//***@"); // a URL may carry a password
  const short = text.length > 60 ? `${text.slice(0, 60)}...` : text;
  return typeof value === "string" ? printable(JSON.stringify(short)) : short;
}

export function describeValue(value: unknown, secret: boolean): string {
  if (value === null) return "an empty value";
  if (Array.isArray(value)) return value.length > 0 ? "a list" : "an empty list";
  if (isRecord(value)) return "a map";
  return secret ? "this value" : quote(value);
}

const printable = (text: string) =>
  text.replace(/[\p{C}\u2028\u2029]/gu, (char) => `\\u{${char.codePointAt(0)?.toString(16)}}`);

export function showPath(path: Path): string {
  return path.map((key, i) =>
    typeof key === "number"
      ? `[${key}]`
      : /^[\w$<-]{1,60}$/.test(String(key))
      ? `${i > 0 ? "." : ""}${String(key)}`
      : `[${quote(String(key))}]`
  ).join("");
}
