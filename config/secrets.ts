/**
 * Masks what may be a secret before it is shown.
 *
 * @module
 */

const MASK = "***";

/**
 * A value fit to be shown: all of it masked where the name suggests a secret (`*_TOKEN`, `API_KEY`, `DB_PASS`...),
 * and in any other value the passwords of URLs, of `name=value` and JSON pairs, and bearer tokens. An empty value
 * stays empty. In doubt it masks more.
 *
 * ```ts
 * import { maskValue } from "./secrets.ts";
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
      return `${scheme}${user?.slice(1, 3).join("") ?? ""}${MASK}${at}${rest.slice(credentials.length)}`;
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
