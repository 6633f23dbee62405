/**
 * How states and services are painted, and whether this process may paint at all.
 *
 * @module
 */

// @ts-types="../config/std.d.ts"
import * as colors from "@std/fmt/colors";
import type { ServiceState } from "../supervisor/model.ts";
import { displayWidth } from "./text.ts";

export type Paint = (text: string) => string;

/** How each state is shown; `docs/supervision.md` shows what moves a service between them. */
export const STATUS: Record<ServiceState["kind"], { mark: string; label: string; paint: Paint }> = {
  pending: { mark: "⏳", label: "PENDING", paint: colors.gray },
  starting: { mark: "🔄", label: "STARTING", paint: colors.yellow },
  running: { mark: "●", label: "RUNNING", paint: colors.green },
  stopping: { mark: "◌", label: "STOPPING", paint: colors.yellow },
  restarting: { mark: "↻", label: "RESTARTING", paint: colors.yellow },
  stopped: { mark: "○", label: "STOPPED", paint: colors.gray },
  crashed: { mark: "✖", label: "CRASHED", paint: colors.red },
  failed: { mark: "✖", label: "FAILED", paint: colors.red },
};

/** The colours of services' prefixes, in turn. */
const PREFIX_PAINTS: readonly Paint[] = [
  colors.cyan,
  colors.magenta,
  colors.blue,
  colors.green,
  colors.yellow,
];

/** What stands before each line of a service: `[  db]`, as wide as the longest of `names`. */
export function namePrefix(name: string, names: readonly string[]): string {
  const widest = Math.max(...names.map(displayWidth));
  return `[${" ".repeat(Math.max(0, widest - displayWidth(name)))}${name}]`;
}

/** The colour of a service's prefix by its place among all; the orchestrator's own is bold. */
export function prefixPaint(name: string, names: readonly string[]): Paint {
  return PREFIX_PAINTS[names.indexOf(name) % PREFIX_PAINTS.length] ?? colors.bold;
}

/** Whether what is printed may have colours. */
export function useColors(): boolean {
  return Deno.stdout.isTerminal() && !Deno.noColor;
}
