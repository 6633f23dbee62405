/**
 * How states and services are painted, and whether this process may paint at all.
 *
 * @module
 */

// @ts-types="../config/std.d.ts"
import * as colors from "@std/fmt/colors";
import { readProcess } from "../process/procfs.ts";
import type { ServiceState } from "../supervisor/model.ts";
import type { Viewport } from "./text.ts";

export type Paint = (text: string) => string;

/** How each state is shown; `docs/supervision.md` says what moves a service between them. */
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

/** The colour of each service's prefix, in turn. */
const PREFIX_PAINTS: readonly Paint[] = [
  colors.cyan,
  colors.magenta,
  colors.blue,
  colors.green,
  colors.yellow,
];

export function alignName(
  name: string,
  rows: readonly { name: string }[],
  widthOf: Viewport["widthOf"],
): string {
  const widest = Math.max(...rows.map((row) => widthOf(row.name)));
  return " ".repeat(widest - widthOf(name)) + name;
}

export function prefixPaint(rows: readonly { name: string }[], name: string): Paint {
  return PREFIX_PAINTS[rows.findIndex((row) => row.name === name) % PREFIX_PAINTS.length] ?? colors.gray;
}

/** Whether what is printed may have colours. */
export function useColors(): boolean {
  return Deno.stdout.isTerminal() && !Deno.noColor;
}

/** Whether this process may draw: a shell's background job that touched the terminal would be stopped by it. */
export function ownsTerminal(): boolean {
  if (!Deno.stdout.isTerminal() || Deno.env.get("TERM") === "dumb" || Deno.env.get("CI")) return false;
  const own = readProcess(Deno.pid);
  return own === null || own.group === own.terminalGroup || own.terminalGroup === -1;
}
