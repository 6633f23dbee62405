/**
 * Explains the environment of a service: where each variable comes from, what it hides, and no secret in the answer.
 *
 * @module
 */

import type { Dotenv } from "../dotenv.ts";
import type { Environment } from "../orchestrator.ts";
import type { Service } from "../services.ts";

/** Where a value comes from; later ones hide earlier ones. */
export type Origin = "process" | "env file" | "orchestrator" | "services file";

/** One variable of a service. Values are masked. */
export interface Explained {
  name: string;
  value: string;
  from: Origin;
  /** The values of the same variable that this one hides, the nearest first. */
  hides: { value: string; from: Origin }[];
  /** The line of the env file that sets it, where that is known and it does. */
  line: number | null;
  /** `${NAME}` references of the service's own value that are not set anywhere. */
  unset: string[];
}

/** What an explanation is made from. */
export interface EnvironmentSources {
  service: Service;
  /** The environment of this process. */
  process: Environment;
  /** The `.env` file as read, or null without one; `lines` tells on which line a variable is set. */
  dotenv: Pick<Dotenv, "entries"> & { lines?: ReadonlyMap<string, number> } | null;
  /** The environment the service gets in the end. */
  final: Environment;
}

/** Every variable of a service: first those that someone set for it, then those of the process; each by name. */
export function explainEnvironment({ service, process, dotenv, final }: EnvironmentSources): Explained[] {
  const own = (values: Environment, name: string) => Object.hasOwn(values, name) ? values[name] : undefined;
  const explained = Object.entries(final).map(([name, value]): Explained => {
    const inFile = dotenv?.entries.get(name) ?? undefined;
    const written = own(service.environment, name);
    const below: { value: string | undefined; from: Origin }[] = [
      { value: inFile, from: "env file" },
      { value: own(process, name), from: "process" },
    ];
    const known = below.findIndex((layer) => layer.value !== undefined);
    const from = written !== undefined
      ? "services file"
      : known >= 0 && below[known].value === value
      ? below[known].from
      : "orchestrator";
    const hidden = below.slice(from === "services file" || from === "orchestrator" ? 0 : known + 1);
    return {
      name,
      value: maskValue(name, value),
      from,
      hides: hidden.flatMap(({ value, from }) =>
        value === undefined ? [] : [{ value: maskValue(name, value), from }]
      ),
      line: from === "env file" ? dotenv?.lines?.get(name) ?? null : null,
      unset: referencesIn(written ?? "").filter((word) => word !== "PORT" && own(final, word) === undefined),
    };
  });
  const rank = ({ from }: Explained) => from === "process" ? 1 : 0;
  return explained.sort((a, b) => rank(a) - rank(b) || (a.name < b.name ? -1 : 1));
}

/** The names that a text refers to as `${NAME}`, each once. */
export function referencesIn(text: string): string[] {
  return [...new Set(Array.from(text.matchAll(/\$\{([A-Za-z_][A-Za-z0-9_]*)\}/g), ([, name]) => name))];
}

/** An explanation as text, one variable a line, followed by what it hides. */
export function environmentText(service: Service, explained: readonly Explained[], envFile: string): string {
  const origin = (from: Origin, line: number | null = null) =>
    from === "env file" ? `${envFile}${line === null ? "" : `:${line}`}` : from;
  const lines = explained.flatMap(({ name, value, from, hides, line, unset }) => [
    `${name}=${oneLine(value)}  (${origin(from, line)})`,
    ...hides.map((hidden) => `    hides ${oneLine(hidden.value)}  (${origin(hidden.from)})`),
    ...unset.map((word) => `    \${${word}} is not set and stands for nothing`),
  ]);
  const missing = service.envRequired.filter((name) =>
    !explained.some((one) => one.name === name && one.value)
  );
  return [...lines, ...missing.map((name) => `${name} is not set, and "${service.name}" requires it`)].join(
    "\n",
  );
}

/** Control characters would let a value steer the terminal. */
function oneLine(value: string): string {
  return /[\p{C}\u2028\u2029]/u.test(value)
    ? JSON.stringify(value).replace(/[\p{C}\u2028\u2029]/gu, (c) => `\\u{${c.codePointAt(0)?.toString(16)}}`)
    : value;
}

const MASK = "***";

/**
 * A value fit to be shown: all of it masked where the name tells of a secret (`*_TOKEN`, `API_KEY`, `DB_PASS`...),
 * and in any other value the passwords of URLs, of `name=value` and JSON pairs, and bearer tokens. An empty value
 * stays empty. In doubt it masks more.
 *
 * ```ts
 * import { maskValue } from "./env.ts";
 * console.assert(maskValue("BOT_TOKEN", "123:abc") === "***");
 * console.assert(maskValue("DB", "postgres://nc:pw@db/nc?sslpassword=x") === "postgres://nc:***@db/nc?sslpassword=***");
 * ```
 */
export function maskValue(name: string, value: string): string {
  if (value === "") return "";
  const isFolder = name === "PWD" || name === "OLDPWD";
  if (!isFolder && isSecretName(name) || value.includes("PRIVATE KEY-----")) return MASK;
  return maskPairs(maskUrls(value))
    .replace(/\b(bearer|basic)(\s+|%20)[^\s"',;]+/gi, `$1$2${MASK}`)
    .replace(/\beyJ[\w-]+\.[\w-]+\.[\w-]*/g, MASK); // a JSON web token
}

/** Long words count anywhere (`ACCESSTOKEN`), short ones only as a word of the name: not `KEYBOARD`, not `COMPASS`. */
function isSecretName(name: string): boolean {
  const words = name.replace(/([a-z0-9])([A-Z])/g, "$1_$2").toLowerCase();
  return /token|secret|passw|passphrase|credential|private|api_?key|access_?key|connection_?string/.test(
    words,
  ) ||
    /(^|[^a-z])(keys?|pass|pwd|dsn|auth|pin|otp|salt|cookie|session|jwt|bearer|signature|sig|cert)([^a-z]*$|_id)/
      .test(words);
}

function maskUrls(value: string): string {
  // Each URL by itself, so that the last "@" of one is not looked for in the next. The length of a scheme is
  // bounded to keep this linear.
  return value.split(/(?=\b[a-z][a-z0-9+.-]{0,30}(?::|%3a)(?:\/|%2f){2})/i).map((part) =>
    part.replace(/^([^:%]*(?::\/\/|%3a%2f%2f))([\s\S]*)$/i, (_, scheme: string, rest: string) => {
      const userinfo = /^[^\s/?#"']*(?:@|%40)/i.exec(rest) ??
        // A password may hold "/", "?" or "#" unescaped; host:8080/ is none.
        /^[^:/?#@\s"']*:(?!\d{1,5}[/?#])[^\s"']*@/.exec(rest);
      if (!userinfo) return scheme + rest;
      const [credentials] = userinfo;
      const at = /(?:@|%40)$/i.exec(credentials)?.[0] ?? "";
      const user = /^([^:%]*)(:|%3a)/i.exec(credentials);
      return `${scheme}${user ? user[1] + user[2] : ""}${MASK}${at}${rest.slice(credentials.length)}`;
    })
  ).join("");
}

function maskPairs(value: string): string {
  return value
    .replace(
      /(^|[\s?&;,{[(])([\w.%-]{1,100})(\s{0,9}(?:=|%3d)\s{0,9})("[^"]*"|'[^']*'|[^&;,\s]+)/gi,
      maskPair,
    )
    .replace(
      /(["'])([\w.%-]{1,100})(\1\s{0,9}:\s{0,9})("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|[^,}\s]+)/g,
      maskPair,
    )
    .replace(/(^|\s)(--?[\w-]{1,100})(\s+)("[^"]*"|'[^']*'|[^\s-]\S*)/g, maskPair);
}

function maskPair(all: string, before: string, name: string, between: string): string {
  const plain = name.replace(
    /%([0-9a-f]{2})/gi,
    (_, code: string) => String.fromCharCode(parseInt(code, 16)),
  );
  return isSecretName(plain) ? `${before}${name}${between}${MASK}` : all;
}
