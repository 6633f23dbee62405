/**
 * Durations as users write them, and spans as messages show them.
 *
 * @module
 */

/**
 * Milliseconds of a duration: a number (or a text of digits) is seconds; otherwise `500ms`, `2m`, `1h30m`, `1.5s`, `2d`.
 * `null` for what is none of these.
 */
export function spanOf(duration: string | number): number | null {
  const parts = DURATION.exec(String(duration).trim());
  if (!parts?.[0]) return null;
  const [, seconds, ...amounts] = parts;
  const spanMs = seconds !== undefined
    ? 1000 * Number(seconds)
    : UNITS.reduce((sum, { ms }, index) => sum + ms * Number(amounts[index] ?? 0), 0);
  return Number.isFinite(spanMs) ? Math.round(spanMs) : null;
}

export const DURATION_FORMS = "seconds (10 or 1.5) or a text such as 500ms, 2m or 1h30m";

const UNITS = [
  { unit: "d", ms: 86_400_000 },
  { unit: "h", ms: 3_600_000 },
  { unit: "m", ms: 60_000 },
  { unit: "s", ms: 1000 },
  { unit: "ms", ms: 1 },
];

const AMOUNT = "(\\d+(?:\\.\\d+)?)";

export const DURATION = new RegExp(
  `^(?:${AMOUNT}|${UNITS.map(({ unit }) => `(?:${AMOUNT}${unit} ?)?`).join("")})$`,
);

/** A span in words: `450 ms`, `7 s`, `2 min 5 s`, `3 h 4 min`. */
export function formatSpan(ms: number): string {
  if (ms < 1_000) return `${Math.round(ms)} ms`;
  const seconds = ms < 10_000 ? Math.round(ms / 100) / 10 : Math.round(ms / 1_000);
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  const [large, small] = minutes < 60
    ? [`${minutes} min`, `${Math.floor(seconds % 60)} s`]
    : [`${Math.floor(minutes / 60)} h`, `${minutes % 60} min`];
  return small.startsWith("0 ") ? large : `${large} ${small}`;
}
