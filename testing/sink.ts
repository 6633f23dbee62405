/**
 * Bytes written, as tests look at them.
 *
 * @module
 */

import { decoder } from "../config/bytes.ts";

/** Bytes as a text of as many characters. */
export function binary(bytes: Uint8Array): string {
  let text = "";
  for (let at = 0; at < bytes.length; at += 8_192) {
    text += String.fromCharCode(...bytes.subarray(at, at + 8_192));
  }
  return text;
}

/** A sink that takes what it is allowed to take. */
export class Sink {
  taken = "";
  writes = 0;
  #allowed = Promise.withResolvers<void>();

  constructor(readonly most = Infinity, blocked = false) {
    if (!blocked) this.#allowed.resolve();
  }

  async write(bytes: Uint8Array): Promise<number> {
    await this.#allowed.promise;
    this.writes++;
    const part = bytes.subarray(0, this.most);
    this.taken += decoder.decode(part);
    return part.length;
  }

  unblock(): void {
    this.#allowed.resolve();
  }
}

/** What a text's lines are, each with its newline, when `\n`, `\r\n` and a lone `\r` end one. */
export function wholeLines(text: string): string {
  const unified = text.replaceAll(/\r\n?/g, "\n");
  return unified === "" || unified.endsWith("\n") ? unified : `${unified}\n`;
}
