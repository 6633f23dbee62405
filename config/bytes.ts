/**
 * Text to bytes and back, and bytes joined.
 *
 * @module
 */

export const NEWLINE = 10;

/** Bytes that are not UTF-8 become U+FFFD. For whole texts only: one that comes in pieces needs a decoder of its own. */
export const decoder = new TextDecoder();

export const encoder = new TextEncoder();

export function concat(parts: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}
