/**
 * Makes `docs/messages.txt`: every text of the program that holds more than one word, by file, for review. A text that
 * is put together shows what is put in between braces.
 *
 * @module
 */

import { sources } from "./sources.ts";

/** Texts for other readers than people: queries, programs of other languages, and what the page and its styles are. */
const OTHER_LANGUAGES = /^jobs\/(?:http\/page\/|stores\/(?:sqlite|redis)_?\w*\.ts$)/;

/** A literal as it stands in a source. */
interface Literal {
  start: number;
  end: number;
  text: string;
}

/** The whole list. */
export function messages(): string {
  return sources().flatMap(({ path, text }) => {
    if (OTHER_LANGUAGES.test(path)) return [];
    const found = joined(literals(text), text).filter(isMessage).map((message) => `  ${message}`);
    return found.length === 0 ? [] : [[path, ...new Set(found)].join("\n")];
  }).join("\n\n") + "\n";
}

/** Whether a text is for people: two words at least, one of them of letters alone. */
function isMessage(text: string): boolean {
  return /\S \S/.test(text) &&
    /(?:^|[\s("{}])[A-Za-z]{2,}(?:[\s.,:;!?)"{}]|$)/.test(text.replace(/\{[^}]*\}/g, "{}"));
}

/** Texts that are added to each other are one. */
function joined(all: readonly Literal[], source: string): string[] {
  const texts: string[] = [];
  let last = { index: -1, end: -1 };
  for (const { start, end, text } of all.toSorted((one, other) => one.start - other.start)) {
    const isWithin = start < last.end; // in the braces of a template
    const isAdded = last.index !== -1 && !isWithin && /^\s*\+\s*$/.test(source.slice(last.end, start));
    if (isAdded) texts[last.index] += text;
    else texts.push(text);
    if (!isWithin) last = { index: isAdded ? last.index : texts.length - 1, end };
  }
  // A text over several lines is a program in another language.
  return texts.filter((text) => !text.includes("\n"));
}

// Comments, regular expressions and what is not a text are passed over. A slash begins an expression where no value
// stands before it.
const TOKEN =
  /\/\/[^\n]*|\/\*[\s\S]*?\*\/|"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'|`|[{}]|(?<=[(,=:[!&|?{};\n]\s*|return )\/(?![*/])(?:[^/\\[\n]|\\.|\[(?:[^\]\\\n]|\\.)*\])+\/[a-z]*/g;

/** The texts of a source in their order; those within a template's braces come before it. */
export function literals(source: string): Literal[] {
  const found: Literal[] = [];
  addTexts(source, 0, found);
  return found;
}

/** Adds texts to `found` up to the brace that closes what begins there. @returns where it ends */
function addTexts(source: string, from: number, found: Literal[]): number {
  let depth = 1;
  TOKEN.lastIndex = from;
  for (let match = TOKEN.exec(source); match !== null; match = TOKEN.exec(source)) {
    const { 0: token, index: start } = match;
    const end = TOKEN.lastIndex;
    if (token === "`") TOKEN.lastIndex = addTemplate(source, start, found);
    else if (/^["']/.test(token)) found.push({ start, end, text: unescape(token.slice(1, -1)) });
    else if (token === "{") depth++;
    else if (token === "}" && --depth === 0) return end;
  }
  return source.length;
}

/** Adds a template to `found`, after the texts within its braces. @returns where it ends */
function addTemplate(source: string, start: number, found: Literal[]): number {
  let text = "";
  for (let at = start + 1; at < source.length;) {
    const [part = ""] = /^(?:[^`\\$]|\\[\s\S]|\$(?!\{))*/.exec(source.slice(at)) ?? [];
    text += unescape(part);
    at += part.length;
    if (source[at] === "`") {
      found.push({ start, end: at + 1, text });
      return at + 1;
    }
    const end = addTexts(source, at + 2, found);
    const expression = source.slice(at + 2, end - 1).trim();
    text += /^[\w.?()[\]!#]{1,40}$/.test(expression) ? `{${expression}}` : "{...}";
    at = end;
  }
  throw new Error(`A text is open: ${source.slice(start, start + 40)}`);
}

/** A text as it is shown; a line's end is a sign, for that each message has one line. */
function unescape(text: string): string {
  return text.replace(
    /\\([nrt"'`\\$\n])/g,
    (_, code: string) => code === "n" ? "⏎" : /[rt\n]/.test(code) ? "" : code,
  );
}
